"""`python -m sandbox`, which is `make dev`. The only reader of the environment in this package."""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from sandbox.errors import SandboxError
from sandbox.programs import counters_are_served
from sandbox.settings import Settings
from sandbox.supervisor import Supervisor


def main() -> int:
    from_file = {name: value for name, value in dotenv_values(Path(".env")).items() if value}
    try:
        settings = Settings.read({**from_file, **os.environ})
        return Supervisor(settings, are_served=counters_are_served).run()
    except SandboxError as error:
        print(error, file=sys.stderr)
    except OSError as error:  # a folder that may not be written to, a disk that is full
        print(f"StripeMeter cannot run: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
