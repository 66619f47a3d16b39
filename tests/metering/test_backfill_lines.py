"""Where lines and records begin and end, wherever a file is cut; and what no record can be."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.ledger import chunks, csv_file, ndjson_file
from metering.ledger.chunks import FileError, Place, Reading

READING = Reading("t", datetime(2026, 11, 1, tzinfo=UTC))
HEADER = "metric,customerRef,resourceId,quantity,ts,meta"
TS = "2026-10-01T00:00:00Z"


def good(customer: str = "c", resource: str = "", quantity: object = 1) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(["m", customer, resource, quantity, TS, ""])
    return out.getvalue()


def read(
    body: bytes, sizes: Iterator[int] | None = None, reader: Any = csv_file.read
) -> tuple[list[tuple[int, str]], dict[int, str], Place]:
    """((line, customer) of the entries, refusals by line, where it ended) of a file in parts."""
    place, at, taken, refused = Place(), 0, [], {}
    while True:
        size = next(sizes, 1) if sizes else len(body) or 1
        is_last = at + size >= len(body)
        chunk = reader(READING, place, body[at : at + size], is_last=is_last, parts=1)
        taken += [(n, e.customer_ref) for n, e in zip(chunk.lines, chunk.entries, strict=True)]
        for line, why, _ in chunk.refusals:
            assert line not in refused
            refused[line] = why
        place, at = chunk.after, at + size
        if is_last:
            return taken, refused, place


PIECES = st.sampled_from([
    good(), good("é"), good("two\nlines"), good('a "quoted" one, with a comma'), "\n", "\r\n",
    good().replace("\n", "\r\n"), "m,c\n", 'm,"c\n', '"m",c,"r"x,1,' + TS + ",\n", "m;c;;1;t;\n",
    good(quantity="x"), good(resource="r\n\nr"), ",,,,,\n", '"\n', '""\n', "\u2028\x0b\x0c\n",
    "m,caf\udce9,,1," + TS + ",\n",
])  # fmt: skip


@settings(derandomize=True, database=None, deadline=None, max_examples=400)
@given(
    st.lists(PIECES, max_size=12),
    st.lists(st.integers(1, 60), min_size=1),
    st.booleans(),
    st.booleans(),
)
def test_it_does_not_matter_where_a_file_is_cut(
    pieces: list[str], sizes: list[int], ends_well: bool, has_mark: bool
) -> None:
    text = f"{HEADER}\n{''.join(pieces)}"
    body = b"\xef\xbb\xbf" * has_mark + text.encode(errors="surrogateescape")
    body = body if ends_well else body.removesuffix(b"\n")
    assert read(body, iter(sizes))[:2] == read(body)[:2]
    assert read(body, iter(sizes))[2].lines == read(body)[2].lines


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(['{"metric":1}', "", "\r", "{}", "x"]), max_size=9),
       st.lists(st.integers(1, 9), min_size=1))  # fmt: skip
def test_it_does_not_matter_where_json_lines_are_cut(lines: list[str], sizes: list[int]) -> None:
    body = "\n".join(lines).encode()
    in_parts = read(body, iter(sizes), ndjson_file.read)
    assert in_parts[:2] == read(body, reader=ndjson_file.read)[:2]
    assert sorted(in_parts[1]) == [n for n, line in enumerate(lines, 1) if line.strip()]


def test_a_record_of_many_lines_is_named_by_its_first() -> None:
    body = HEADER + "\n" + good("two\nlines") + good("a") + good("three\n\nl", quantity="x")
    taken, refused, place = read((body + good("b")).encode())
    assert taken == [(2, "two\nlines"), (4, "a"), (8, "b")]
    assert list(refused) == [5]
    assert place.lines == 8


def test_a_record_of_many_lines_is_one_mistake_unless_it_swallowed_others() -> None:
    short = 'm,"two\nlines\nmore"\n'
    taken, refused, _ = read(f"{HEADER}\n{short}{good('a')}".encode())
    assert taken == [(5, "a")]
    assert refused == {2: "has 2 columns where the first line has 6"}
    swallowing = f'm,"c\n{good("b")}m","c"\n'
    taken, refused, _ = read(f"{HEADER}\n{swallowing}{good('a')}".encode())
    assert taken == [(3, "b"), (5, "a")]
    assert sorted(refused) == [2, 4]


def test_a_stray_quote_costs_its_own_line_only() -> None:
    stray = f'm,"c,,1,{TS},\n'
    body = f"{HEADER}\n{good('a')}{stray}{good('b')}{good('c')}"
    taken, refused, _ = read(body.encode())
    assert taken == [(2, "a"), (4, "b"), (5, "c")]
    assert refused == {3: "a quote in this line opens a cell that is never closed"}
    # The same where a later quote seems to close it.
    taken, refused, _ = read((body + good('say "x"')).encode())
    assert [line for line, _ in taken] == [2, 4, 5, 6]
    assert "ends in a later one" in refused[3] or "closing quote" in refused[3]


def test_a_line_too_long_is_an_error_and_no_memory() -> None:
    monster = b"m," + b"x" * (3 * chunks.MAX_LINE_BYTES) + b"\n"
    body = f"{HEADER}\n{good('a')}".encode() + monster + good("b").encode()
    sizes = iter([chunks.MAX_LINE_BYTES // 2] * 9)
    taken, refused, place = read(body, sizes)
    assert taken == [(2, "a"), (4, "b")]
    assert refused == {3: chunks.too_long()}
    assert len(place.rest) == 0
    place = Place(1, 5, b"", HEADER.encode())
    for _ in range(5):
        piece = b"x" * chunks.MAX_LINE_BYTES
        chunk = csv_file.read(READING, place, piece, is_last=False, parts=1)
        place = chunk.after
        assert len(place.rest) <= chunks.MAX_LINE_BYTES + 1
    lines = b'{"a":1}\n' + b"x" * (2 * chunks.MAX_LINE_BYTES) + b"\n"
    _, refused, _ = read(lines, iter([chunks.MAX_LINE_BYTES] * 3), ndjson_file.read)
    assert refused[2] == chunks.too_long()


def test_a_quote_that_never_closes_does_not_swallow_the_file() -> None:
    lines = "".join(good(f"c{i}") for i in range(60_000))
    body = f'{HEADER}\nm,"c,,1,{TS},\n{lines}'.encode()
    assert len(body) > chunks.MAX_LINE_BYTES
    taken, refused, _ = read(body, iter([chunks.MAX_LINE_BYTES // 3] * 9))
    assert len(taken) == 60_000
    assert list(refused) == [2]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"m,c,r,{TS},5,", f"quantity: '{TS}' is not a number; are columns swapped?"),
        (f"m,c,r,{TS},5,", "ts: '5' is not an instant; are columns swapped?"),
        (f'm,c,r,"1,5",{TS},', "quantity: '1,5' has a comma where a decimal point"),
        (f"m;c;r;1;{TS};", "it is divided by semicolons instead of commas"),
        ("m,c", "has 2 columns where the first line has 6"),
        (f"m,c,,1,{TS},,x", "has 7 columns where the first line has 6"),
        (f'm,c,,1,{TS},"{{a"', "meta: is not JSON"),
        (f"m,caf\udce9,,1,{TS},", "customerRef: is not UTF-8: byte 0xE9 at position 4"),
        (f"m,c\x00,,1,{TS},", "customerRef: must not contain a NUL character"),
        (f'm,"c"x,,1,{TS},', "a quoted cell goes on behind its closing quote"),
        (f"m,c,,-1,{TS},", "quantity: must not be negative"),
    ],
)
def test_an_error_says_in_words_what_is_wrong(row: str, words: str) -> None:
    body = f"{HEADER}\n{good('a')}{row}\n{good('b')}".encode(errors="surrogateescape")
    taken, refused, _ = read(body)
    assert taken == [(2, "a"), (4, "b")]
    assert words in refused[3]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"{HEADER}\n".encode("utf-16"), "is UTF-16"),
        (f"{HEADER}\n".encode("utf-16-le"), "iconv"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"PK\x03\x04", "Excel workbook"),
        (b"", "first line is empty"),
        (b"\n", "first line is empty"),
        (b"metric;customerRef;quantity;ts\n", "divided by semicolons"),
        (b"metric,customerRef,quantity,ts,Color\n", "an unknown column 'Color'"),
        (b"metric,customerRef,quantity,ts,\n", "a column without a name"),
        (b"metric,customerRef,quantity\n", "no column ts"),
        (b"metric,customerRef,customer_ref,quantity,ts\n", "customerRef stands twice"),
        (b"metric,customerRef,quantity,ts\rm,c,1,t\r", "carriage returns only"),
        (b"m\xe9tric,customerRef,quantity,ts\n", "first line is not UTF-8"),
        (b"x" * (chunks.MAX_LINE_BYTES + 9), "too long to be the header"),
    ],
)
def test_a_file_that_cannot_be_relied_on_is_refused_as_a_whole(body: bytes, words: str) -> None:
    with pytest.raises(FileError, match=words):
        read(body)


def test_columns_stand_in_any_order_and_under_either_name() -> None:
    body = f"ts,idempotency_key,quantity,customer_ref,metric\n{TS},k,2,c,m\n".encode()
    chunk = csv_file.read(READING, Place(), body, is_last=True, parts=1)
    (entry,) = chunk.entries
    assert (entry.idempotency_key, entry.metric, entry.customer_ref) == ("k", "m", "c")
    assert (bytes(entry.quantity), entry.occurred_at) == (b'"2"', TS)
