"""The worker entry: `python -m jobs.worker [kind …]`, by default all three kinds.

    counters    folds; no fork per job, so that a fold starts within a millisecond
    stripe      pushes to Stripe; no fork either, so that its connections to Stripe stay open
    bulk        replays, backfills, fills and back-tests, in resumable chunks

One process per kind, watched by this one: a kind that dies is started again, and a stop signal
is passed on. A slow back-test so never stalls a fold. Scaled apart, each kind takes a Procfile
entry of its own.
"""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import redis
from rq import Queue, SimpleWorker, Worker
from rq.job import Job

from jobs.runtime import config
from webapp import logs, queues
from webapp.config import ConfigError

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
STOP_SECONDS = 25.0
# Given to a worker whose parent wants it to end with itself.
WATCHED = "--watched"
# RQ waits for a job for this long less 15 s before it looks whether Redis is there at all.
WORKER_TTL = 45


class _QuietWorker(SimpleWorker):
    """Runs jobs in this process; a job that fails is logged by us, once."""

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        log.error("job failed", extra={"job": job.func_name}, exc_info=exc_info[1])
        super().handle_exception(job, *exc_info)


def run_kind(kind: str) -> None:
    """Serve one queue in this process until told to stop; wait out a Redis that is away."""
    logs.configure(config().log_level)
    logging.getLogger("rq").setLevel(logging.WARNING)
    connection = queues.connect(
        config().redis_url, verify_tls=config().redis_tls_verify, timeout_seconds=None
    )
    worker_class = Worker if kind == queues.BULK else _QuietWorker
    # What lives for ever is looked through no more: each fork would make its own copy of it.
    gc.collect()
    gc.freeze()
    while True:
        try:
            worker = worker_class(
                [Queue(kind, connection=connection)], connection=connection, worker_ttl=WORKER_TTL
            )
            worker.work(logging_level="WARNING")
        except redis.RedisError as error:
            log.warning("redis is away; trying again", exc_info=error)
            time.sleep(RESTART_SECONDS)
        else:
            return


def _end_with_parent() -> None:
    """Stop this worker once the process that started it is gone: an orphan is nobody's to stop.

    The parent holds the other end of our standard input and never writes: the end of input is
    the end of the parent, however it died.
    """
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
    # RQ hears a stop between jobs, but not while it waits for a Redis that is away.
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


class _Supervisor:
    """Keeps one process per kind alive until told to stop."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self.stopping:
            for kind in self.kinds:
                child = self.children.get(kind)
                if child is None or child.poll() is not None:
                    if child is not None:
                        log.warning("worker died", extra={"kind": kind, "code": child.returncode})
                    self.children[kind] = self._start(kind)
            time.sleep(RESTART_SECONDS)
        self._end_children()

    def _start(self, kind: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "jobs.worker", kind, WATCHED]
        return subprocess.Popen(arguments, stdin=subprocess.PIPE)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _end_children(self) -> None:
        for child in self.children.values():
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def main(arguments: list[str]) -> None:
    """Serve the kinds named, all where none is."""
    if WATCHED in arguments:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    kinds = [word for word in arguments if word != WATCHED] or list(queues.NAMES)
    unknown = [kind for kind in kinds if kind not in queues.NAMES]
    if unknown:
        sys.exit(f"There is no kind of worker {unknown[0]!r}; kinds are {', '.join(queues.NAMES)}.")
    if len(kinds) == 1:
        run_kind(kinds[0])
        return
    logs.configure(config().log_level)
    log.info("workers started", extra={"kinds": kinds, "pid": os.getpid()})
    _Supervisor(kinds).run()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(str(error))
