"""What a key or a signed-in person may do: areas × read or write, and the roles made of them."""

from collections.abc import Iterable

from metering.errors import InvalidInputError

AREAS = (
    "events",
    "usage",
    "mappings",
    "reconciliation",
    "adjustments",
    "alerts",
    "simulations",
    "widget",
    "admin",
)
ALL = frozenset(f"{area}:{right}" for area in AREAS for right in ("read", "write"))
_READ = frozenset(f"{area}:read" for area in AREAS if area != "admin")

# What a person may do in the console. Support looks, finance decides about money and prices,
# the operator may do everything.
ROLES: dict[str, frozenset[str]] = {
    "operator": ALL,
    "finance": _READ | {"simulations:write", "adjustments:write", "alerts:write"},
    "support": _READ,
}


def parse(wanted: Iterable[str]) -> frozenset[str]:
    """Check the scopes by name; `all` stands for every one of them."""
    names = {name.strip() for name in wanted if name.strip()}
    if names == {"all"}:
        return ALL
    unknown = sorted(names - ALL)
    if unknown or not names:
        raise InvalidInputError(
            f"unknown scope {unknown[0]!r}; scopes are <area>:read or <area>:write with an area of "
            + ", ".join(AREAS)
            if unknown
            else "a key needs at least one scope, such as events:write",
            pointer="/scopes",
        )
    return frozenset(names)


def role(name: str) -> frozenset[str]:
    """The scopes of a role, or InvalidInputError naming the roles there are."""
    if name not in ROLES:
        raise InvalidInputError(f"unknown role {name!r}; roles are {', '.join(sorted(ROLES))}")
    return ROLES[name]
