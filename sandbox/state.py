"""Root's place for what Postgres, which then runs as somebody else, cannot reach elsewhere."""

from pathlib import Path

PLACE = Path("/var/lib/stripemeter")


def folder(*names: str) -> Path:
    """Return a folder below `PLACE` that everybody may enter, made if need be.

    The modes of folders which exist already are left alone, whatever they are.
    """
    path = PLACE
    for name in ("", *names):
        path = path / name
        try:
            path.mkdir()
        except FileExistsError:
            continue
        path.chmod(0o755)  # mkdir's own mode is cut by the umask
    return path
