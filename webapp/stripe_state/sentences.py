"""Where a tenant stands with Stripe, in words."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from metering.stripe.shadow import Compared, Side
from metering.stripe.stakes import together
from metering.stripe.standing import Standing
from metering.stripe.stuck import Stuck
from webapp import shown

NOTHING_YET = "Nothing goes to Stripe yet."
# Kinds that somebody must do something about, each of one customer.
DECISIONS = ("held", "blocked", "unsendable")
_HALTS = {
    "auth": "Stripe does not accept the {mode} key: nothing of {account} is sent",
    "unreachable": "Stripe does not answer: nothing of {account} is sent",
}
_HALT = "Nothing of {account} is sent in {mode} mode"


def whole(standings: Sequence[Standing], every: Sequence[Stuck]) -> str:
    """The mode that bills people, where there is one."""
    used = [each for each in standings if each.is_used]
    return of_mode(used[0], every) if used else NOTHING_YET


def of_mode(standing: Standing, every: Sequence[Stuck]) -> str:
    """Whether anything is wrong with the money of one mode."""
    if not standing.is_used:
        return "Nothing goes to Stripe in this mode."
    of = [each for each in every if each.finding.mode == standing.mode]
    troubles = [*_halts(of), *_decisions(standing, of), *_doubts(of), *_drifts(of)]
    return " ".join([*_confirmed(standing), *troubles] or [_calm(standing)])


def is_cut(standing: Standing, every: Sequence[Stuck]) -> bool:
    """True if more is stuck in this mode than was looked at (`findings.MOST` of each kind)."""
    found = Counter[str]()
    for each in every:
        if each.finding.mode == standing.mode:
            is_grouped = each.finding.kind == "unsendable"
            found[each.finding.kind] += each.finding.pushes if is_grouped else 1
    counts = {
        "held": standing.held,
        "blocked": standing.blocked,
        "unsendable": standing.unsendable,
    }
    return any(count > found[kind] for kind, count in counts.items())


def at_stake(every: Sequence[Stuck], *, is_cut: bool = False) -> str:
    """`$212.00 at stake`; empty where no amount is known. is_cut: there are more of them."""
    amounts = together(each.stake for each in every)
    if not amounts:
        return ""
    known = " and ".join(shown.amount(amount, currency) for currency, amount in amounts)
    is_open = is_cut or any(each.stake.amount is None for each in every)
    at_least = "at least " if is_open else ""
    return f"{at_least}{known} at stake"


def _halts(every: Sequence[Stuck]) -> list[str]:
    said = []
    for each in every:
        finding = each.finding
        if finding.kind == "halted":
            text = _HALTS.get(finding.cause, _HALT)
            sentence = text.format(mode=finding.mode, account=finding.account_id)
            said.append(f"{sentence}{_in_brackets([each])}.")
    return said


def _decisions(standing: Standing, every: Sequence[Stuck]) -> list[str]:
    open_ = [each for each in every if each.finding.kind in DECISIONS]
    cut = is_cut(standing, every)
    count = max(len({_customer(each) for each in open_}), standing.held_customers if cut else 0)
    if not count:
        return []
    who = "1 customer needs" if count == 1 else f"{count:,} customers need"
    who = f"At least {who}" if cut else who
    amount = at_stake(open_, is_cut=cut)
    return [f"{who} a decision{f' ({amount})' if amount else ''}."]


def _doubts(every: Sequence[Stuck]) -> list[str]:
    doubtful = [each for each in every if each.finding.kind == "doubtful"]
    count = sum(each.finding.pushes for each in doubtful)
    if not count:
        return []
    pushes = "1 push" if count == 1 else f"{count:,} pushes"
    has = "it" if count == 1 else "them"
    return [f"Of {pushes} only Stripe's own total will tell whether it has {has}."]


def _drifts(every: Sequence[Stuck]) -> list[str]:
    drifting = [each for each in every if each.finding.kind == "drift"]
    count = len({_customer(each) for each in drifting})
    if not count:
        return []
    return [f"Stripe's total is not ours for {_counted(count, 'customer')}."]


def _confirmed(standing: Standing) -> list[str]:
    open_ = standing.unconfirmed or standing.on_the_way or standing.doubtful
    if standing.confirmed and not open_:
        return ["All pushed usage is confirmed."]
    return []


def _calm(standing: Standing) -> str:
    waiting = [
        f"{_counted(standing.unsent, 'segment')} to be sent" if standing.unsent else "",
        f"{_counted(standing.on_the_way, 'push', 'pushes')} to be answered"
        if standing.on_the_way
        else "",
        f"{_counted(standing.unconfirmed, 'push', 'pushes')} to be confirmed"
        if standing.unconfirmed
        else "",
    ]
    waiting = [each for each in waiting if each]
    if not waiting:
        return "Nothing was pushed yet, and nothing waits."
    verb = "waits" if waiting[0].startswith("1 ") else "wait"
    listed, last = ", ".join(waiting[:-1]), waiting[-1]
    text = f"{listed} and {last}" if listed else last
    return f"Nothing is stuck; {text.replace(' to be', f' {verb} to be', 1)}."


def _counted(count: int, one: str, several: str = "") -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {several or f'{one}s'}"


def _in_brackets(every: Sequence[Stuck]) -> str:
    amount = at_stake(every)
    return f" ({amount})" if amount else ""


def _customer(each: Stuck) -> str:
    sources = each.finding.sources
    return sources[0].customer_ref if sources else each.finding.name


def side(of: Side) -> str:
    """One mode of a compared period."""
    if of.unbilled and of.state != "unbilled":
        return f"{_side(of)}, and {_unbilled(of)}"
    return _side(of)


def _unbilled(of: Side) -> str:
    return f"took {shown.quantity(of.unbilled)} after the invoice was final: no invoice bills that"


def _side(of: Side) -> str:
    match of.state:
        case "off":
            return "is not sent"
        case "shared":
            return "shares its place with others"
        case "unknown":
            return "cannot be compared"
        case "equal" if of.confirmed == of.pushed:
            return "holds all of it, confirmed"
        case "equal":
            return "holds all of it"
        case "unbilled":
            return f"holds all of it, but {_unbilled(of)}"
        case "held":
            return f"is held{_by(of.difference)}"
        case "waiting":
            return f"waits{_by(of.difference)}"
    return f"differs{_by(of.difference)}"


def _by(difference: Decimal | None) -> str:
    if not difference:
        return ""
    lacks = "lacks" if difference < 0 else "has too much by"
    return f": {lacks} {shown.quantity(abs(difference))}"


def compared(row: Compared) -> str:
    """A row of the comparison in one sentence."""
    live, shadow = side(row.live), side(row.shadow)
    if live == shadow and row.live.state == "equal":
        tail = ", confirmed" if live.endswith("confirmed") else ""
        return f"Live and shadow hold all of it{tail}."
    return f"Live {live}; shadow {shadow}."
