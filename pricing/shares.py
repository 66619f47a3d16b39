"""Splitting an amount among lines so that nothing is lost and nothing invented."""

from collections.abc import Sequence

RESIDUES = ("largest_remainder", "last_line")


def split(total: int, weights: Sequence[int], step: int, residue: str) -> list[int]:
    """Shares of `total` in proportion to the weights, in multiples of `step`.

    total: 0 <= total <= sum(weights); both multiples of `step`, as are the weights.
    residue: who takes what rounding leaves over, which Stripe leaves undocumented:
             largest_remainder, the lines that rounding down took most from; last_line, the last
             lines that can take it.
    Returns: one share per weight, none above it; they sum to `total`.
    """
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    units, parts = total // step, [weight // step for weight in weights]
    whole //= step
    found = [units * part // whole for part in parts]
    left = units - sum(found)
    order = list(range(len(parts)))
    if residue == "largest_remainder":
        order.sort(key=lambda i: (-(units * parts[i] % whole), i))
    else:
        order.reverse()
    for i in order:
        room = parts[i] - found[i]
        taken = min(room, left if residue == "last_line" else 1, left)
        found[i] += taken
        left -= taken
    return [share * step for share in found]
