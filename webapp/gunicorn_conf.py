"""How gunicorn serves the app, in the sandbox as in production."""

import gc
import sys
from typing import Any

from webapp import config as configuration

configuration.share_metrics()

from prometheus_client import multiprocess  # noqa: E402  (after its directory is known)

from webapp import logs  # noqa: E402

_config = configuration.load()
logs.configure(_config.log_level)

bind = [f"{_config.bind_host}:{_config.port}"]
workers = _config.web_concurrency
worker_class = "gthread"
threads = _config.web_threads
# Longer than any statement may take; a worker that is stuck beyond it is replaced.
timeout = 60
graceful_timeout = 20
# Clients keep connections open between batches; a platform's router reuses them for a minute.
keepalive = 75
# A simulation is its address: four prices with their tiers need more than the usual 4 KiB.
limit_request_line = 8190
# Our own log line per request says more.
accesslog = None
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"gunicorn.error": {"level": _config.log_level, "propagate": True}},
}


def post_worker_init(worker: Any) -> None:
    """Spare the collector what lives for ever, and the thousands of small objects of a batch
    several of its rounds: a tenth of a batch's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # A request waits for Postgres and Redis some seven times, and after each for the interpreter:
    # at the usual 5 ms a turn, ten requests at once would wait for each other most of the time.
    sys.setswitchinterval(0.0005)


def child_exit(server: Any, worker: Any) -> None:
    """Forget the gauges of a worker that is gone; its counts stay counted."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
