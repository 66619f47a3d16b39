"""A statement is checked with nothing but the file, and what was changed is named by its line."""

import base64
import hashlib
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.proof import form, signing
from metering.proof.checking import Expected
from tests.metering.proof.statements import (
    FOREIGN,
    HEAD,
    KEY,
    adjustment,
    check,
    event,
    seal,
    ten,
    total,
)

FORMS = pytest.mark.parametrize("form_name", form.FORMATS)
# The head of a CSV is a line of its own.
FIRST = {"ndjson": 2, "csv": 3}


@FORMS
def test_a_statement_as_it_was_signed_is_good(form_name: str) -> None:
    checked = check(seal(ten(), form_name))
    assert checked.problems == []
    assert checked.events == 10
    assert checked.head["customerRef"] == "cus_1"
    assert checked.totals == [("api_calls", "sum", "1000", "8.00 usd")]
    assert checked.key_id == KEY.key_id


@FORMS
def test_an_altered_quantity_is_named_by_its_line(form_name: str) -> None:
    lines = seal(ten(), form_name)
    at = FIRST[form_name] + 4
    assert b"100" in lines[at - 1]
    lines[at - 1] = lines[at - 1].replace(b"100", b"110", 1)
    assert check(lines).problems == [
        f"line {at} was altered",
        "the total of api_calls is 1000 but its lines add up to 1010",
    ]


@FORMS
def test_digests_made_anew_do_not_hide_it(form_name: str) -> None:
    """Neither the line's own digest, nor those of the last line and its sum over the file."""
    lines = seal(ten(), form_name)
    at = FIRST[form_name] + 4
    lines[at - 1] = form.write(form_name, event(5, "110")) + b"\n"
    problems = check(lines).problems
    assert problems[0] == f"line {at} was altered"
    members = form.read_signature(form_name, lines[-1].rstrip(b"\n"))
    digests = b"".join(form.line_digest(line.rstrip(b"\n")) for line in lines[:-1])
    members["lineDigests"] = base64.b64encode(digests).decode()
    members["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    lines[-1] = form.write_signature(form_name, members) + b"\n"
    assert check(lines).problems == [
        "the total of api_calls is 1000 but its lines add up to 1010",
        "the signature line was altered: its signature does not fit what it says",
    ]


def test_a_line_whose_own_digest_is_wrong_is_named() -> None:
    """Even where it was signed so: each line stands for itself."""
    records = ten()
    records[3] = records[3] | {"digest": "AAAAAAAAAAAA"}
    assert check(seal(records)).problems == ["line 4: its own digest does not fit what it says"]


@FORMS
def test_removed_added_and_moved_lines_are_named(form_name: str) -> None:
    at = FIRST[form_name] + 4
    lines = seal(ten(), form_name)
    del lines[at - 1]
    assert check(lines).problems == [
        f"line {at} of what was signed is missing",
        "the total of api_calls is 1000 but its lines add up to 900",
    ]
    lines = seal(ten(), form_name)
    lines.insert(at - 1, form.write(form_name, event(99 % 60, "1")) + b"\n")
    assert check(lines).problems == [
        f"line {at} was added",
        "the total of api_calls is 1000 but its lines add up to 1001",
    ]
    lines = seal(ten(), form_name)
    lines[at - 1], lines[at + 1] = lines[at + 1], lines[at - 1]
    assert check(lines).problems == [f"lines {at} and {at + 2} were swapped"]


def test_several_changes_are_all_named() -> None:
    lines = seal(ten())
    lines[2] = lines[2].replace(b"100", b"101")
    lines[6] = lines[6].replace(b"counted", b"voided")
    del lines[9]
    named = check(lines).problems[:3]
    assert named == [
        "line 3 was altered",
        "line 7 was altered",
        "line 10 of what was signed is missing",
    ]


def test_of_very_many_changes_the_first_are_named() -> None:
    lines = seal(ten())
    lines = [line.replace(b"\n", b"\r\n") for line in lines[:-1]] * 3 + lines[-1:]
    problems = check(lines).problems
    assert problems[0] == "line 1 was altered"
    assert any("more lines are not as they were signed" in each for each in problems)


@FORMS
def test_an_altered_total_is_named(form_name: str) -> None:
    lines = seal(ten(), form_name)
    at = FIRST[form_name] + 10
    lines[at - 1] = lines[at - 1].replace(b"1000", b"100")
    assert check(lines).problems == [
        f"line {at} was altered",
        "the total of api_calls is 100 but its lines add up to 1000",
    ]


def test_a_total_that_never_fitted_is_named_though_it_is_signed() -> None:
    assert check(seal(ten(value="1001"))).problems == [
        "the total of api_calls is 1001 but its lines add up to 1000"
    ]
    assert check(seal(ten()[:-1])).problems == [
        "there are lines of api_calls that count, and no total"
    ]


@pytest.mark.parametrize("member", ["sha256", "lines", "keyId", "algorithm", "signature"])
def test_an_altered_signature_line_says_so(member: str) -> None:
    lines = seal(ten())
    members = json.loads(lines[-1])
    told = members[member]
    members[member] = told + 1 if isinstance(told, int) else told.swapcase()
    lines[-1] = json.dumps(members).encode()
    assert "the signature line was altered" in " ".join(check(lines).problems)


@pytest.mark.parametrize("cut", [1, 3, 12])
@FORMS
def test_a_statement_that_was_cut_off_is_none(form_name: str, cut: int) -> None:
    lines = seal(ten(), form_name)[:-cut]
    [first, *_] = check(lines).problems
    assert first.startswith("the last line is no signature")


def test_a_statement_that_was_broken_off_says_why() -> None:
    lines = seal(ten())[:5]
    lines.append(form.write("ndjson", {"type": "error", "note": "ask again"}) + b"\n")
    assert "line 6: the statement was broken off: ask again" in check(lines).problems


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b"hello\nthere", b"\xff\xfe\x00", b'{"type":"signature"}', b"[" * 100_000,
     b'{"type":"signature","algorithm":1,"keyId":1,"publicKey":1,"lines":1,"sha256":1,'
     b'"lineDigests":"AA==","signature":1}'],
)  # fmt: skip
def test_what_is_no_statement_is_refused(content: bytes) -> None:
    assert not check([content]).is_good


def test_a_foreign_key_is_found_where_a_key_is_expected() -> None:
    """Without one, only the fingerprint tells who signed: anybody can make a key."""
    forged = seal(ten(), key=FOREIGN)
    assert check(forged).is_good
    assert check(forged).key_id == FOREIGN.key_id
    for told in (base64.b64encode(KEY.public).decode(), KEY.key_id, KEY.key_id.upper()):
        expected = Expected.read(told)
        assert check(seal(ten()), expected).is_good
        assert check(forged, expected).problems == [
            f"it is signed by another key ({FOREIGN.key_id}) than the one that is expected"
            f" ({KEY.key_id})"
        ]
    for wrong in ("", "AAAA", "not a key", KEY.key_id[:-1]):
        with pytest.raises(ValueError, match="is n"):
            Expected.read(wrong)


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("sum", "10.5"), ("count", "4"), ("max", "7"), ("last", "1"), ("unique", "2")],
)
@FORMS
def test_five_aggregations_are_reckoned_anew(form_name: str, aggregation: str, value: str) -> None:
    """Voided, set aside, unfolded and dead events count nowhere."""
    records = [
        HEAD,
        event(1, "7", resourceId="a"),
        event(2, "2", resourceId="b"),
        # Later by time, and by its key of two at once; in which order they stand says nothing.
        event(5, "1", resourceId="b", ts="2026-11-10T12:05:00.000001Z"),
        event(4, "0.5", resourceId=None, ts="2026-11-10T12:05:00Z"),
        event(3, "100", counts=False, status="voided", resourceId="c"),
        event(6, "100", counts=False, status="set_aside", resourceId="d"),
        total(value, aggregation),
    ]
    assert check(seal(records, form_name)).problems == []
    wrong = [*records[:-1], total("99", aggregation)]
    [problem] = check(seal(wrong, form_name)).problems
    assert problem.startswith("the total of api_calls is 99 but its lines ")
    assert problem.endswith(value)


@FORMS
def test_deltas_are_part_of_every_total(form_name: str) -> None:
    """What was approved of the set aside counts by its lines, what is settled outside nowhere."""
    records = [
        HEAD,
        event(1, "7"),
        event(2, "5", status="set_aside", counts=True),
        adjustment(3, "-2.5"),
        adjustment(4, None, kind="events"),
        adjustment(5, None, disposition="credit_note"),
    ]
    for aggregation, value in (("sum", "9.5"), ("count", "-0.5"), ("max", "4.5"), ("last", "2.5")):
        made = seal([*records, total(value, aggregation)], form_name)
        assert check(made).problems == []


def test_a_level_that_is_carried_over_needs_no_line() -> None:
    assert check(seal([HEAD, total("50", "last", carried="50")])).problems == []
    assert check(seal([HEAD, total("50", "last")])).problems != []


def test_many_digits_are_added_exactly() -> None:
    many = "99999999999999999999.999999999999"
    records = [
        HEAD,
        *(event(n, many) for n in range(1, 11)),
        total("999999999999999999999.99999999999"),
    ]
    assert check(seal(records)).problems == []


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=0, max_size=30
)


@settings(max_examples=200, deadline=None)
@given(key=TEXTS, resource=st.none() | TEXTS, quantity=st.decimals(0, 10**20, places=12))
def test_any_text_survives_both_forms(key: str, resource: str | None, quantity: Decimal) -> None:
    record = event(1, f"{quantity:f}", id=key, resourceId=resource)
    wanted = {name: form.text(value) for name, value in record.items() if value is not None}
    for form_name in form.FORMATS:
        line = form.write(form_name, record)
        assert b"\n" not in line
        found = form.read(form_name, line)
        assert found == wanted
        assert form.record_digest(found) == record["digest"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    form_name = data.draw(st.sampled_from(form.FORMATS))
    whole = bytearray(b"".join(seal(ten(), form_name)))
    at = data.draw(st.integers(0, len(whole) - 2))
    whole[at] ^= 1 << data.draw(st.integers(0, 6))
    assert not check([bytes(whole)]).is_good


def test_spreadsheets_take_no_text_for_a_formula() -> None:
    line = form.write("csv", event(1, "1", id="=1+1")).decode()
    assert ",'=1+1," in line
    assert ",-5," in form.write("csv", adjustment(1, "-5")).decode()


def test_the_key_is_the_same_at_every_start_and_another_of_another_secret() -> None:
    assert signing.SigningKey.derived(b"k" * 32).public == KEY.public
    assert FOREIGN.public != KEY.public
