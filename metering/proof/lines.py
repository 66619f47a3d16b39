"""Which lines of a statement are not as they were signed: altered, missing, added, moved."""

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

from metering.proof.form import DIGEST_BYTES

# Longer stretches are compared place by place: finding what moved in them takes too long.
MOST_COMPARED = 4_000


@dataclass(frozen=True)
class Change:
    """numbers: the lines of the file that it names."""

    text: str
    numbers: tuple[int, ...]


def changes(signed: bytes, found: bytes) -> list[Change]:
    """What changed, by line; lines are counted from 1, as in the file.

    signed, found: the digests of all lines, one after the other.
    """
    old, new = _split(signed), _split(found)
    first = _common(old, new)
    last = min(_common(old[::-1], new[::-1]), len(old) - first, len(new) - first)
    old, new = old[first : len(old) - last], new[first : len(new) - last]
    if len(old) == len(new) and len(old) > 1 and Counter(old) == Counter(new):
        return [_moved([first + i + 1 for i in range(len(old)) if old[i] != new[i]])]
    if max(len(old), len(new)) > MOST_COMPARED:
        return _by_place(old, new, first)
    return _by_matching(old, new, first)


def _split(digests: bytes) -> list[bytes]:
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]


def _common(old: list[bytes], new: list[bytes]) -> int:
    """How many lines are the same at the beginning."""
    for i, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return i
    return min(len(old), len(new))


def _by_matching(old: list[bytes], new: list[bytes], first: int) -> list[Change]:
    found = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            continue
        both = min(old_to - old_from, new_to - new_from)
        found += [_altered(first + new_from + i + 1) for i in range(both)]
        found += [_missing(first + i + 1) for i in range(old_from + both, old_to)]
        found += [_added(first + i + 1) for i in range(new_from + both, new_to)]
    return found


def _by_place(old: list[bytes], new: list[bytes], first: int) -> list[Change]:
    both = min(len(old), len(new))
    found = [_altered(first + i + 1) for i in range(both) if old[i] != new[i]]
    found += [_missing(first + i + 1) for i in range(both, len(old))]
    return found + [_added(first + i + 1) for i in range(both, len(new))]


def _moved(numbers: list[int]) -> Change:
    if len(numbers) == 2:
        text = f"lines {numbers[0]} and {numbers[1]} were swapped"
    else:
        text = f"lines {numbers[0]} to {numbers[-1]} are not in the order that was signed"
    return Change(text, tuple(numbers))


def _altered(number: int) -> Change:
    return Change(f"line {number} was altered", (number,))


def _missing(number: int) -> Change:
    return Change(f"line {number} of what was signed is missing", ())


def _added(number: int) -> Change:
    return Change(f"line {number} was added", (number,))
