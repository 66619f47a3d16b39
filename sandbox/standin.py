"""The stand-in for Stripe and the demo, as programs beside our own.

Owns `stripe/` in the home: what the stand-in holds (`world.sqlite`) and the secret that its
webhooks are signed with. Its clock is said in `run/clock.json`, which the product follows.
"""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import ports
from sandbox.programs import Command
from sandbox.settings import Settings

KEY = "sk_test_standin000000000001"
ACCOUNT = "acct_standin0000001"
# A user who names any of these means a Stripe of his own, or none.
OWN = ("STRIPE_LIVE_KEY", "STRIPE_TEST_KEY", "STRIPE_API_BASE")


@dataclass(frozen=True)
class StandIn:
    """Where the stand-in and the demo's page are; the web is at `web_port`."""

    home: Path
    web_port: int
    port: int
    demo_port: int
    webhook_secret: str

    @classmethod
    def beside(cls, settings: Settings) -> "StandIn":
        """Choose the ports next to the web's. Raises: SandboxError if none is free."""
        port = ports.next_free(settings.port + 1)
        demo_port = ports.next_free(port + 1)
        secret = _secret(settings.home / "stripe" / "webhook-secret")
        return cls(settings.home, settings.port, port, demo_port, secret)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What our own programs are told of it, as if it were Stripe."""
        return {
            "STRIPE_API_BASE": self.address,
            "STRIPE_TEST_KEY": KEY,
            "STRIPE_ACCOUNT": ACCOUNT,
            "STRIPE_WEBHOOK_SECRET_TEST": self.webhook_secret,
            "STRIPEMETER_DEMO_URL": f"http://localhost:{self.demo_port}",
            "STRIPEMETER_CLOCK_FILE": str(self.home / "run" / "clock.json"),
        }

    @property
    def command(self) -> Command:
        store = self.home / "stripe" / "world.sqlite"
        return self._command("stripe", "sandbox.stripe", "--port", str(self.port), "--store", store)

    @property
    def demo_data(self) -> Command:
        """Makes the demo's data and ends; again does no harm."""
        return self._command("demo-data", "sandbox.demo.data", *self._places)

    @property
    def demo_page(self) -> Command:
        return self._command(
            "demo", "sandbox.demo.site", *self._places, "--port", str(self.demo_port)
        )

    @property
    def _places(self) -> list[str]:
        return [
            "--web",
            f"http://127.0.0.1:{self.web_port}",
            "--stripe",
            self.address,
            "--key",
            KEY,
        ]

    def _command(self, name: str, module: str, *arguments: str | Path) -> Command:
        return Command(name, [sys.executable, "-m", module, *map(str, arguments)])


def why_none(environment: Mapping[str, str]) -> str | None:
    """Why there is no stand-in for Stripe; None if there is to be one."""
    for name in OWN:
        if environment.get(name):
            return f"{name} is set: no stand-in for Stripe is started, and no demo."
    return None


def _secret(path: Path) -> str:
    """The same at every start of a home: endpoints of the run before are signed with it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"whsec_{secrets.token_hex(16)}\n")
    return path.read_text().strip()
