"""The secret that the sandbox signs statements with: made once, kept in the home."""

import base64
import secrets
from collections.abc import Mapping

from sandbox.settings import Settings

NAME = "STATEMENT_SIGNING_KEY"


def environment(settings: Settings) -> Mapping[str, str]:
    """The user's own where there is one; else the home's, the same at every start."""
    given = settings.environment.get(NAME)
    if given:
        return {NAME: given}
    path = settings.home / "statement-key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    return {NAME: path.read_text().strip()}
