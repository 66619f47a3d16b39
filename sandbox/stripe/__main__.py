"""`python -m sandbox.stripe`: the stand-in as a process of its own."""

import argparse
import os
import signal
import threading
from pathlib import Path

from sandbox.stripe.server import serving
from sandbox.stripe.store import Store
from sandbox.stripe.world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--store", type=Path, help="the SQLite file; without it nothing is kept")
    parser.add_argument("--calm", action="store_true", help="no lag, no limits, no latency")
    given = parser.parse_args()
    clock_file = os.environ.get("STRIPEMETER_CLOCK_FILE")
    world = World(
        store=Store(given.store) if given.store else None,
        calm=given.calm,
        clock_file=Path(clock_file) if clock_file else None,
        webhook_secret=os.environ.get("STRIPE_WEBHOOK_SECRET_TEST") or None,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with serving(world, given.host, given.port) as url:
        print(f"Stripe's stand-in answers on {url}", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
