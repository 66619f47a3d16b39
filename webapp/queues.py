"""Hints to the workers, through Redis. Rows are the truth: what is lost here is only late.

Keys:
    sm:close:{tenant}   set while a job closes periods of the tenant; expires after 20 s
    sm:look:{mode}:{account}   set while a job reads an account of Stripe's; expires by itself
    sm:push:{tenant}    set while a push job of the tenant is on its way; expires after 20 s
    sm:wake:{shard}     set while a fold job of the shard is on its way; expires after 5 s
    rq:queue:{name}     RQ's queues: `counters`, `stripe`, `bulk`

Jobs are named, not imported: the web knows nothing of `jobs`. A Redis that does not answer costs
a request 100 ms once, and then nothing for a second.
"""

import logging
import time
from collections.abc import Callable

import redis
from rq import Queue, Worker

from metering.installation import SHARDS, shard_of
from webapp import telemetry

log = logging.getLogger(__name__)

COUNTERS, STRIPE, BULK = "counters", "stripe", "bulk"
NAMES = (COUNTERS, STRIPE, BULK)
WAKE_SECONDS = 5
LOOK_SECONDS, LIST_SECONDS = 20, 120
TIMEOUT_SECONDS = 0.1
PAUSE_SECONDS = 1.0
FOLD_JOB = "jobs.counters.fold_shard"
CLOSE_JOB = "jobs.closing.close"
FILL_JOB = "jobs.unique.fill"
WEBHOOK_JOB = "jobs.webhooks.handle"
BACKFILL_JOB = "jobs.backfill.run"
BACKTEST_JOB = "jobs.backtest.run"
PUSH_JOB = "jobs.deltas.push"
LIST_JOB = "jobs.catalogue.full"
EVENTS_JOB = "jobs.catalogue.read_events"
APPLY_JOB = "jobs.catalogue.apply_metric"
PUSH_FLAG_SECONDS = 20
CLOSE_FLAG_SECONDS = 20


def wake_flag(shard: int) -> str:
    """The Redis key that says a fold job of the shard is on its way."""
    return f"sm:wake:{shard}"


def push_flag(tenant_id: str) -> str:
    """The Redis key that says a push job of the tenant is on its way."""
    return f"sm:push:{tenant_id}"


def connect(
    url: str, *, verify_tls: bool = True, timeout_seconds: float | None = TIMEOUT_SECONDS
) -> redis.Redis:
    """A Redis client; workers pass no time-out, for they wait on purpose.

    verify_tls: False for platforms whose Redis shows a certificate of its own making.
    """
    tls = {"ssl_cert_reqs": "none"} if url.startswith("rediss:") and not verify_tls else {}
    return redis.Redis.from_url(
        url,
        **tls,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds or 5,
        retry=None,
    )


class Hints:
    """Enqueues work after a commit; never raises, for the commit has already happened."""

    def __init__(self, url: str, *, verify_tls: bool = True) -> None:
        self._redis = connect(url, verify_tls=verify_tls)
        self._silent_until = 0.0

    def wake_counters(self, tenant_id: str) -> None:
        """See to it that a fold job of the tenant's shard runs soon."""
        self.wake_shard(shard_of(tenant_id))

    def wake_shard(self, shard: int) -> bool:
        """Enqueue a fold of the shard unless one is on its way; False if Redis is away."""
        if not 0 <= shard < SHARDS:
            raise ValueError(f"there is no shard {shard}")

        def wake() -> None:
            if self._redis.set(wake_flag(shard), 1, nx=True, ex=WAKE_SECONDS):
                enqueue(self._redis, COUNTERS, FOLD_JOB, shard)

        return self._try(wake)

    def enqueue_fold(self, shard: int) -> bool:
        """Enqueue a fold whatever the flag says, unless folds are waiting already; False if
        Redis is away."""

        def put() -> None:
            if Queue(COUNTERS, connection=self._redis).count <= SHARDS:
                enqueue(self._redis, COUNTERS, FOLD_JOB, shard)

        return self._try(put)

    def lower_flag(self, shard: int) -> bool:
        """Let the next event of the shard enqueue a fold again; False if Redis is away."""
        return self._try(lambda: self._redis.delete(wake_flag(shard)))

    def push(self, tenant_id: str) -> bool:
        """See to it that a push job of the tenant runs soon; False if Redis is away."""

        def wake() -> None:
            if self._redis.set(push_flag(tenant_id), 1, nx=True, ex=PUSH_FLAG_SECONDS):
                enqueue(self._redis, STRIPE, PUSH_JOB, tenant_id)

        return self._try(wake)

    def lower_push_flag(self, tenant_id: str) -> bool:
        """Let the next hint enqueue a push of the tenant again; False if Redis is away."""
        return self._try(lambda: self._redis.delete(push_flag(tenant_id)))

    def close_periods(self, tenant_id: str) -> bool:
        """Enqueue the closing of a tenant's due periods, not twice at once: the flag goes with
        time. False if Redis is away."""

        def put() -> None:
            if self._redis.set(f"sm:close:{tenant_id}", 1, nx=True, ex=CLOSE_FLAG_SECONDS):
                enqueue(self._redis, COUNTERS, CLOSE_JOB, tenant_id)

        return self._try(put)

    def fill_unique(self, tenant_id: str, metric: str) -> bool:
        """Enqueue the completion of a metric's unique counts; False if Redis is away."""
        return self._try(lambda: enqueue(self._redis, BULK, FILL_JOB, tenant_id, metric))

    def answer_backtest(self, tenant_id: str, backtest_id: str) -> bool:
        """Enqueue the next stretch of a back-test; False if Redis is away."""
        return self._try(lambda: enqueue(self._redis, BULK, BACKTEST_JOB, tenant_id, backtest_id))

    def read_backfill(self, tenant_id: str, backfill_id: str) -> bool:
        """Enqueue the reading of a file of past usage; False if Redis is away."""
        return self._try(lambda: enqueue(self._redis, BULK, BACKFILL_JOB, tenant_id, backfill_id))

    def handle_webhook(self, tenant_id: str, mode: str, event_id: str) -> bool:
        """Enqueue the handling of an event of Stripe's that was taken; False if Redis is away."""
        return self._try(
            lambda: enqueue(self._redis, STRIPE, WEBHOOK_JOB, tenant_id, mode, event_id)
        )

    def look_at_stripe(self, tenant_id: str, mode: str, account_id: str, *, whole: bool) -> bool:
        """Enqueue the reading of an account's events, or of all of it; False if Redis is away.

        Not twice at once: the flag goes with time, whatever becomes of the job.
        """
        job, queue = (LIST_JOB, BULK) if whole else (EVENTS_JOB, STRIPE)
        flag = f"sm:look:{mode}:{account_id}"

        def put() -> None:
            if self._redis.set(flag, 1, nx=True, ex=LIST_SECONDS if whole else LOOK_SECONDS):
                enqueue(self._redis, queue, job, tenant_id, mode, account_id)

        return self._try(put)

    def apply_metric(self, tenant_id: str, metric: str, after: str) -> bool:
        """Enqueue what a mapping means for everyone's billing periods; False if Redis is away."""
        return self._try(lambda: enqueue(self._redis, BULK, APPLY_JOB, tenant_id, metric, after))

    def workers(self) -> dict[str, int]:
        """How many workers serve each queue; empty if Redis is away."""
        try:
            return {name: Worker.count(queue=Queue(name, connection=self._redis)) for name in NAMES}
        except redis.RedisError:
            return {}

    def is_answering(self) -> bool:
        """True if Redis answers a ping right now."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def lag_seconds(self, now_timestamp: float) -> dict[str, float]:
        """Per queue, how long its next job has been waiting; empty if Redis is away."""
        lags = {}
        try:
            for name in NAMES:
                queue = Queue(name, connection=self._redis)
                first = queue.get_job_ids(0, 1)
                job = queue.fetch_job(first[0]) if first else None
                waiting = job.enqueued_at.timestamp() if job and job.enqueued_at else None
                lags[name] = max(0.0, now_timestamp - waiting) if waiting else 0.0
        except redis.RedisError as error:
            self._fall_silent(error)
            return {}
        return lags

    def _try(self, hint: Callable[[], object]) -> bool:
        if time.monotonic() < self._silent_until:
            return False
        try:
            hint()
        except redis.RedisError as error:
            self._fall_silent(error)
            return False
        return True

    def _fall_silent(self, error: redis.RedisError) -> None:
        telemetry.REDIS_ERRORS.inc()
        self._silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("redis is not answering; the sweep will find the work", exc_info=error)


def enqueue(connection: redis.Redis, queue: str, job: str, *arguments: object) -> None:
    """Put a job into a queue by its dotted name.

    Results are not kept and failures only for an hour: a job leaves its outcome in rows.
    """
    Queue(queue, connection=connection).enqueue(
        job, *arguments, result_ttl=0, failure_ttl=3600, job_timeout=120, ttl=600
    )
