"""What an app instance carries besides its database: configuration, clock and hints."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import current_app

from webapp.config import Config
from webapp.queues import Hints


@dataclass(frozen=True)
class Runtime:
    """Built once by `create_app`. clock: returns aware UTC instants."""

    config: Config
    clock: Callable[[], datetime]
    hints: Hints


def current() -> Runtime:
    """The running app's own."""
    runtime: Runtime = current_app.extensions["stripemeter"]
    return runtime
