"""Whether the port of the web is free, and which ports beside it are."""

import contextlib
import errno
import socket

from sandbox.errors import SandboxError

# A browser and curl try both for "localhost", so a stranger on either would answer in our place.
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

NEAR = 100


def check_free(port: int) -> None:
    """Raises: SandboxError if another program listens on the port, or we may not."""
    for family, address in LOOPBACK:
        try:
            _bind(family, address, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SandboxError(_taken(port)) from error
            if error.errno == errno.EACCES:
                raise SandboxError(
                    f"Port {port} is not open to plain users; run `PORT=3000 make dev`."
                ) from error
            if family == socket.AF_INET:
                raise


def next_free(first: int) -> int:
    """The first free port from this one on. Raises: SandboxError if there is none near it."""
    for port in range(first, min(first + NEAR, 65536)):
        with contextlib.suppress(SandboxError):
            check_free(port)
            return port
    raise SandboxError(
        f"No port from {first} on is free; run `PORT=` of another number `make dev`."
    )


def _bind(family: socket.AddressFamily, address: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As gunicorn does: connections of an earlier run that linger do not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((address, port))


def _taken(port: int) -> str:
    other = port + 1 if port < 65535 else port - 1
    return (
        f"Port {port} is already in use by another program; stop it or run `PORT={other} make dev`."
    )
