"""A line of a file is judged as ingest judges an event: the same verdict, words and entry."""

import csv
import io
import json
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from metering.errors import ForbiddenError
from metering.ledger import careful, csv_file, csv_row, literal, ndjson_file
from metering.ledger.append import Entry
from metering.ledger.chunks import Chunk, Place, Reading
from metering.ledger.csv_columns import NAMES, columns
from tests.webapp.test_ingest_lanes import GOOD, NOW, REQUIRED, entry_seen, members
from webapp.ingest import careful as careful_lane
from webapp.problems import ProblemError

READING = Reading("t", NOW)
settings.register_profile("files", derandomize=True, database=None, deadline=None)


def whole(read: Any, body: bytes) -> Chunk:
    chunk: Chunk = read(READING, Place(), body, is_last=True, parts=1)
    return chunk


def ingested(line: bytes) -> str | tuple[object, ...]:
    """What ingest makes of the event: its error or its entry."""
    batch = careful_lane.read(b'{"events":[%b]}' % line, None, None, NOW)
    return batch.errors[0] if 0 in batch.errors else entry_seen(batch.entries[0])


def of_line(line: bytes) -> str | tuple[object, ...] | None:
    """What backfill makes of it, a tenant of its own not being judged."""
    chunk = whole(ndjson_file.read, line + b"\n")
    if chunk.refusals:
        return chunk.refusals[0].message
    return entry_seen(chunk.entries[0]) if chunk.entries else None


@settings(settings.get_profile("files"), max_examples=500)
@given(st.lists(members(), min_size=1, max_size=1), st.sampled_from(["none"] * 9 + ["cut"]))
def test_a_json_line_is_judged_as_ingest_judges_it(texts: list[list[str]], damage: str) -> None:
    line = ("{" + ",".join(texts[0]) + "}").encode(errors="surrogatepass")
    line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    if damage == "cut":
        line = line[: len(line) // 2]
    ours = of_line(line)
    try:
        theirs = ingested(line)
    except (ProblemError, ForbiddenError):
        event("unreadable")
        assert isinstance(ours, str)
        return
    if isinstance(ours, str) and "another tenant" in ours:
        event("another tenant")
        assert line.count(b"tenantId") or b"\\u" in line
        return
    if isinstance(theirs, str) and "tenantId: missing" in theirs:
        event("no tenant, which a file need not name")
        return
    event("refused" if isinstance(ours, str) else "taken")
    assert ours == theirs


def test_the_fast_lane_of_lines_takes_what_is_good() -> None:
    """Else the property would hold of the careful lane alone."""
    for name, values in GOOD.items():
        for value in values:
            written = {other: texts[0] for other, texts in GOOD.items()} | {name: value}
            line = "{" + ",".join(f'"{n}":{v}' for n, v in written.items()) + "}"
            try:
                ndjson_file._plain(line.encode(), "t", NOW.replace(year=2027))
            except ValueError:
                assert "other" in value or "\\" in value or "zo" in value, value


CELLS = {
    "tenantId": ["t", "t", "t", "other", "", "a\nb"],
    "metric": ["api_calls", "größe", "", "m" * 101, "a\x00b", "a,b", 'a "quoted" one'],
    "customerRef": ["cus_1", "😀", "", "é" * 255, "é" * 256],
    "resourceId": ["", "r", "two\nlines", "r" * 256, " "],
    "quantity": ["1", "0.50", "007", "1e3", "1e400", "-1", "", " 1", "1_000", "0.0000000000001",
                 "99999999999999999999", "100000000000000000000", "1.", "x" * 200],
    "ts": ["2026-01-16T14:30:00Z", "2026-01-16T14:30:00.5Z", "2026-01-16T23:30:00-08:00",
           "2026-11-01T14:00:00Z", "1999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "", "now",
           "2100-01-01T00:00:00Z", "2026-01-16T14:30:00"],
    "source": ["", "sdk", "s" * 65],
    "meta": ["", "{}", '{"a":1.50}', '{"a":"é"}', "[]", "null", '{"a":NaN}', '{"a":"\\u0000"}',
             '{"a":"' + "x" * 4096 + '"}', "{" + '"a":{' * 40 + "}" * 41, '{"a":1e999}'],
    "idempotencyKey": ["", "k", "ключ", "k" * 256],
}  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> dict[str, str]:
    """The cells of a row, mostly good, of some of the columns in some order."""
    optional = [name for name in NAMES if name not in REQUIRED or name == "tenantId"]
    left_out = draw(st.lists(st.sampled_from(optional), unique=True))
    names = draw(st.permutations([name for name in NAMES if name not in left_out]))
    wrong = draw(st.lists(st.sampled_from(names), max_size=2))
    return {
        name: draw(st.sampled_from(CELLS[name])) if name in wrong else CELLS[name][1]
        for name in names
    }


@settings(settings.get_profile("files"), max_examples=300)
@given(rows())
def test_a_csv_row_is_judged_as_ingest_judges_its_event(row: dict[str, str]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([row.keys(), row.values()])
    chunk = whole(csv_file.read, out.getvalue().encode())
    ours = chunk.refusals[0].message if chunk.refusals else entry_seen(chunk.entries[0])
    kept = {
        name: cell for name, cell in row.items()
        if cell or name in ("tenantId", "metric", "customerRef", "quantity", "ts")
    }  # fmt: skip
    kept.setdefault("tenantId", "t")
    if kept["tenantId"] == "other":
        assert "tenantId: is another tenant than the file's" in str(ours)
        return
    text = json.dumps({name: cell for name, cell in kept.items() if name != "meta"})
    if "meta" in kept:
        text = f'{text[:-1]}, "meta": {kept["meta"]}}}'
    theirs = ingested(text.encode())
    event("refused" if isinstance(theirs, str) else "taken")
    if isinstance(theirs, str):
        assert sorted(str(ours).split("; ")) == sorted(theirs.split("; "))
    else:
        assert ours == theirs


@settings(settings.get_profile("files"), max_examples=300)
@given(rows())
def test_the_fast_lane_of_rows_agrees_with_the_careful_one(row: dict[str, str]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([row.keys(), row.values()])
    header = out.getvalue().partition("\n")[0].encode()
    chunk = whole(csv_file.read, out.getvalue().encode())
    slow: str | Entry
    try:
        slow = csv_row.read(list(row.values()), columns(header), READING)
    except careful.RefusedError as error:
        slow = str(error)
    if isinstance(slow, str):
        assert [each.message for each in chunk.refusals] == [slow]
    else:
        assert [entry_seen(each) for each in chunk.entries] == [entry_seen(slow)]


@settings(settings.get_profile("files"), max_examples=300)
@given(st.binary(max_size=120), st.sampled_from(["csv", "ndjson"]))
def test_no_bytes_make_a_reader_fall_over(body: bytes, form: str) -> None:
    header = b"metric,customerRef,quantity,ts\n" if form == "csv" else b"{}\n"
    read = csv_file.read if form == "csv" else ndjson_file.read
    chunk = whole(read, header + body.replace(b"\x00", b"\x01"))
    numbers = [each.line for each in chunk.refusals]
    assert len(set(numbers)) == len(numbers)
    assert chunk.after.lines == (header + body).count(b"\n") + (not body.endswith(b"\n")) * bool(
        body
    )


def test_a_member_that_stands_twice_is_refused_as_by_ingest() -> None:
    event_text = literal.compact(literal.loads(b'{"metric":"m","quantity":1}'))
    line = event_text[:-1].encode() + b',"metric":"m"}'
    assert of_line(line) == ingested(line) == "metric: stands twice in this event"
