"""`python -m sandbox`, which is `make dev`. The only reader of the environment in this package."""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from sandbox.errors import SandboxError
from sandbox.programs import counters_are_served
from sandbox.settings import Settings
from sandbox.standin import StandIn, why_none
from sandbox.supervisor import Supervisor


def main() -> int:
    from_file = {name: value for name, value in dotenv_values(Path(".env")).items() if value}
    try:
        environment = {**from_file, **os.environ}
        settings = Settings.read(environment)
        no_stand_in = why_none(environment)
        if no_stand_in is not None:
            print(no_stand_in, flush=True)
        beside = StandIn.beside if no_stand_in is None else None
        return Supervisor(settings, are_served=counters_are_served, beside=beside).run()
    except SandboxError as error:
        print(error, file=sys.stderr)
    except OSError as error:  # a folder that may not be written to, a disk that is full
        print(f"StripeMeter cannot run: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
