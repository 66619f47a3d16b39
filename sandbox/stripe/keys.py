"""API keys and the account and mode that each stands for."""

import re

from sandbox.stripe.core import Json, StripeError

_WELL_FORMED = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]+")


class Keys:
    """`sk_test_…` and `sk_live_…` are keys of the one default account unless told otherwise."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._known: dict[str, tuple[str, bool]] = {}
        self._revoked: set[str] = set()

    def add(self, key: str, account: str, livemode: bool) -> None:
        self._known[key] = (account, livemode)
        self._revoked.discard(key)

    def revoke(self, key: str) -> None:
        self._revoked.add(key)

    def owner(self, key: str | None) -> tuple[str, bool]:
        """The account and mode of a key.

        Raises: StripeError (401) without a key, or for one that is unknown or revoked.
        """
        if key is None:
            raise StripeError(401, _NO_KEY)
        if key in self._revoked:
            raise StripeError(
                401, f"Expired API Key provided: {masked(key)}", code="api_key_expired"
            )
        known = self._known.get(key)
        if known is not None:
            return known
        if not _WELL_FORMED.fullmatch(key):
            raise StripeError(401, f"Invalid API Key provided: {masked(key)}")
        return self._account, key[3:8] == "live_"

    def to_json(self) -> Json:
        return {"known": self._known, "revoked": sorted(self._revoked)}

    def load(self, given: Json) -> None:
        self._known = {key: (owner[0], owner[1]) for key, owner in given["known"].items()}
        self._revoked = set(given["revoked"])


def masked(key: str) -> str:
    return key[:8] + "*" * max(0, len(key) - 12) + key[8:][-4:]


def foreign(key: str, account: str) -> StripeError:
    message = (
        f"The provided key '{masked(key)}' does not have access to account '{account}' (or that "
        f"account does not exist). Application access may have been revoked."
    )
    return StripeError(403, message, code="account_invalid")


_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization "
    "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
)
