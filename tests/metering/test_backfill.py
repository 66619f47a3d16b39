"""A file goes into the ledger once, whatever is sent again, contradicted or refused."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.errors import ConflictError, NotFoundError
from metering.ledger import append, uploads
from metering.ledger.backfill import PARTS_A_CHUNK, Reader
from tests.backfills import (
    HEADER,
    TS,
    counts,
    csv_of,
    found,
    line,
    parts_left,
    read,
    received,
    refused,
)
from tests.support import counters, entry, fold_all, put, scalar


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 500)


def test_every_line_is_in_the_ledger_once(session: Session, tenant: str) -> None:
    body = csv_of(100)
    first = received(session, tenant, body)
    assert parts_left(session, tenant, first) == -(-len(body) // 500)
    done = read(session, tenant, first)
    assert (done.state, counts(done)) == ("done", (100, 0, 0))
    assert (done.lines_done, done.bytes_done, done.finished_at is None) == (101, len(body), False)
    assert parts_left(session, tenant, first) == 0
    again = read(session, tenant, received(session, tenant, body))
    assert counts(again) == (0, 100, 0)
    fold_all(session, tenant)
    sums = {customer: row[0] for (customer, _, _), row in counters(session, tenant).items()}
    assert sums == {"cus_0": Decimal(34), "cus_1": Decimal(33), "cus_2": Decimal(33)}


def test_a_key_is_the_first_ones_within_a_file_and_across(session: Session, tenant: str) -> None:
    put(session, tenant, [entry("k1", 7, TS, customer="cus_1")])
    lines = [line(0), line(0), line(0, 2), line(1), line(5), line(5, 3), line(5)]
    backfill_id = received(session, tenant, f"{HEADER}\n{''.join(lines)}".encode())
    done = read(session, tenant, backfill_id)
    assert counts(done) == (2, 2, 3)
    assert refused(session, tenant, backfill_id) == dict.fromkeys((4, 5, 7), append.CONFLICT)


def test_bad_lines_are_named_and_good_ones_count(session: Session, tenant: str) -> None:
    lines = [line(i) for i in range(60)]
    lines[40] = line(40, "many")
    lines[50] = "a\x00b,c,1,,\n"
    backfill_id = received(session, tenant, f"{HEADER}\n{''.join(lines)}".encode())
    done = read(session, tenant, backfill_id)
    assert counts(done) == (58, 0, 2)
    why = refused(session, tenant, backfill_id)
    assert list(why) == [42, 52]
    assert why[42].startswith("quantity: must be a number")
    errors = "SELECT excerpt FROM backfill_errors WHERE tenant_id = :t AND line = 52"
    assert scalar(session, errors, t=tenant) == "a\\0b,c,1,,"


def test_what_the_database_refuses_is_its_lines_error(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A value that validation let pass: a month that Postgres does not know.
    wrong = entry("k1", 1, "2026-13-01T00:00:00Z")
    backfill_id = received(session, tenant, csv_of(5))
    real = append.append

    def spoilt(session: Session, tenant_id: str, entries, **named):  # type: ignore[no-untyped-def]
        return real(session, tenant_id, [*entries[:1], wrong, *entries[2:]], **named)

    monkeypatch.setattr(append, "append", spoilt)
    with Reader(tenant, backfill_id) as reader:
        with pytest.raises(DBAPIError), unit_of_work(session):
            reader.advance(session, now=datetime.now(UTC))
        with unit_of_work(session):
            assert not reader.advance(session, now=datetime.now(UTC), careful=True)
    assert counts(found(session, tenant, backfill_id)) == (4, 0, 1)
    assert refused(session, tenant, backfill_id)[3].startswith("could not be stored: ")


def test_a_file_that_is_none_of_ours_fails_as_a_whole(session: Session, tenant: str) -> None:
    body = csv_of(100).decode().encode("utf-16")
    backfill_id = received(session, tenant, body)
    failed = read(session, tenant, backfill_id)
    assert (failed.state, counts(failed)) == ("failed", (0, 0, 0))
    assert failed.error
    assert "iconv" in failed.error
    assert parts_left(session, tenant, backfill_id) == 0


def test_the_lateness_choice_goes_with_the_events(session: Session, tenant: str) -> None:
    read(session, tenant, received(session, tenant, csv_of(3), late="set_aside"))
    late = "SELECT string_agg(DISTINCT late, ',') FROM unfolded WHERE tenant_id = :t"
    assert scalar(session, late, t=tenant) == "set_aside"


def test_two_readers_do_not_read_the_same_chunk(
    session: Session, tenant: str, engine: Engine
) -> None:
    backfill_id = received(session, tenant, csv_of(400))

    def work(_: int) -> None:
        with Session(engine) as own:
            read(own, tenant, backfill_id)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    while found(session, tenant, backfill_id).state != "done":
        read(session, tenant, backfill_id)
    done = found(session, tenant, backfill_id)
    assert (counts(done), done.lines_done) == ((400, 0, 0), 401)


def test_a_chunk_that_was_rolled_back_is_read_again(session: Session, tenant: str) -> None:
    backfill_id = received(session, tenant, csv_of(200))
    with Reader(tenant, backfill_id) as reader:
        for _ in range(2):
            reader.advance(session, now=datetime.now(UTC))
            session.rollback()
            with unit_of_work(session):
                assert reader.advance(session, now=datetime.now(UTC))
    assert found(session, tenant, backfill_id).parts_done == 2 * PARTS_A_CHUNK
    assert counts(read(session, tenant, backfill_id)) == (200, 0, 0)


def test_a_file_is_continued_at_its_own_byte_only(
    session: Session, tenant: str, stranger: str, now: datetime
) -> None:
    with unit_of_work(session):
        made = uploads.create(session, tenant, uploads.Wanted("csv", "r"), actor="a", now=now)
        uploads.append(session, tenant, made.backfill_id, 0, b"abc", now=now)
        uploads.interrupt(session, tenant, made.backfill_id, now=now)
    backfill_id = made.backfill_id
    assert found(session, tenant, backfill_id).state == "incomplete"
    for offset in (0, 2, 4):
        with pytest.raises(ConflictError, match="offset=3"):
            uploads.append(session, tenant, backfill_id, offset, b"d", now=now)
        session.rollback()
    with pytest.raises(NotFoundError):
        uploads.append(session, stranger, backfill_id, 3, b"d", now=now)
    session.rollback()
    with unit_of_work(session):
        uploads.append(session, tenant, backfill_id, 3, b"def", now=now)
        uploads.complete(session, tenant, backfill_id, 6, now=now)
    with pytest.raises(ConflictError, match="received whole"):
        uploads.append(session, tenant, backfill_id, 6, b"g", now=now)
    session.rollback()
    parts = "SELECT string_agg(convert_from(body, 'UTF8'), '|' ORDER BY number) FROM backfill_parts"
    assert (
        session.execute(text(f"{parts} WHERE tenant_id = :t"), {"t": tenant}).scalar() == "abc|def"
    )
