"""Check a statement with nothing but the file: no database, no configuration, no network.

Every line that is not as it was signed is named by its number, the first line of the file being 1,
even if whoever changed it made its own digest anew: the signed digests of all lines stand in the
last one, whose signature only the key's holder can make.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, BinaryIO

from metering.proof import form, lines, signing
from metering.proof.lines import Change
from metering.proof.tally import ZERO, Tally, number
from pricing.numbers import plain

_MEMBERS = ("algorithm", "keyId", "publicKey", "lines", "sha256", "lineDigests", "signature")
# So many lines are named; more would hide what they have in common.
MOST_NAMED = 20


@dataclass
class Checked:
    """What was found. problems: none where the statement is as it was signed.

    key_id: of the key in the file; None where there is none to be read.
    totals: (metric, aggregation, value, amount and currency or "") as the file states them.
    """

    problems: list[str] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    totals: list[tuple[str, str, str, str]] = field(default_factory=list)
    events: int = 0
    key_id: str | None = None

    @property
    def is_good(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Expected:
    """The key that must have signed: its public key, or its fingerprint."""

    key_id: str

    @classmethod
    def read(cls, told: str) -> "Expected":
        """Raises: ValueError if it is neither."""
        told = told.strip()
        if len(told) == 32 and all(each in "0123456789abcdef" for each in told.lower()):
            return cls(told.lower())
        public = _bytes(told)
        if len(public) != 32:
            raise ValueError("is neither a public key (32 bytes in base64) nor a fingerprint")
        return cls(signing.key_id(public))


def check(file: BinaryIO, expected: Expected | None = None) -> Checked:
    """Check all of a file, which is read once, line by line."""
    checked, digests, whole = Checked(), bytearray(), hashlib.sha256()
    reading, form_name, last = _Reading(checked), "", b""
    for line, is_last in _with_last(file):
        if not form_name:
            # Told by what no head of a CSV holds: its first character may be what was altered.
            form_name = "ndjson" if b'":' in line else "csv"
        if is_last:
            last = line
            break
        whole.update(line)
        line = line.removesuffix(b"\n")
        digests.extend(form.line_digest(line))
        reading.take(form_name, line, len(digests) // form.DIGEST_BYTES)
    try:
        members = form.read_signature(form_name, last.removesuffix(b"\n"))
        signed = _signed(members)
    except ValueError:
        if form_name:
            reading.take(form_name, last.removesuffix(b"\n"), len(digests) // 9 + 1)
        checked.problems.append(_NO_SIGNATURE)
        reading.end(set())
        return checked
    found = []
    if signed != bytes(digests) or members["sha256"] != whole.hexdigest():
        found = lines.changes(signed, bytes(digests))
        checked.problems += _named(found)
    reading.end({number for each in found for number in each.numbers})
    _check_signature(checked, members, expected)
    return checked


def _with_last(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Each line, and whether it is the last one."""
    before = None
    for line in file:
        if before is not None:
            yield before, False
        before = line
    if before is not None:
        yield before, True


class _Reading:
    """What the lines themselves say, one after the other."""

    def __init__(self, checked: Checked) -> None:
        self.checked, self.tally = checked, Tally()
        self.strange: dict[int, str] = {}
        self._totals: list[tuple[int, dict[str, Any]]] = []

    def take(self, form_name: str, line: bytes, at: int) -> None:
        if at == 1 and line == form.head("csv"):
            return
        try:
            record = form.read(form_name, line)
            self._take(record, at)
        except (ValueError, RecursionError) as error:
            self.strange[at] = f"line {at} cannot be read: {error}"

    def _take(self, record: dict[str, Any], at: int) -> None:
        match record.get("type"):
            case "statement":
                self.checked.head = record
            case "total":
                self._totals.append((at, record))
            case "event" | "adjustment":
                self.checked.events += record["type"] == "event"
                self.tally.take(record)
                if record.get("digest") != form.record_digest(record):
                    self.strange[at] = f"line {at}: its own digest does not fit what it says"
            case "error":
                self.strange[at] = f"line {at}: the statement was broken off: {record.get('note')}"
            case _:
                self.strange[at] = f"line {at} is of no known type"

    def end(self, named: set[int]) -> None:
        """Say what is strange of lines that are not named already, and compare the totals."""
        self.checked.problems += [
            text for at, text in sorted(self.strange.items()) if at not in named
        ][:MOST_NAMED]
        missing = self.tally.metrics
        for at, record in self._totals:
            metric = str(record.get("metric"))
            missing.discard(metric)
            self._compare(at, metric, record)
        for metric in sorted(missing):
            self.checked.problems.append(f"there are lines of {metric} that count, and no total")

    def _compare(self, at: int, metric: str, record: dict[str, Any]) -> None:
        aggregation = str(record.get("aggregation"))
        amount = f"{record['amount']} {record.get('currency', '')}" if "amount" in record else ""
        try:
            stated = number(record.get("value"))
            carried = number(record["carried"]) if "carried" in record else ZERO
            found = self.tally.total(metric, aggregation, carried)
        except ValueError as error:
            self.checked.problems.append(f"line {at}: the total of {metric}: {error}")
            return
        self.checked.totals.append((metric, aggregation, plain(stated), amount.strip()))
        if stated != found:
            self.checked.problems.append(_difference(metric, aggregation, stated, found))


def _difference(metric: str, aggregation: str, stated: Decimal, found: Decimal) -> str:
    come = "add up to" if aggregation in ("sum", "count") else f"come to a {aggregation} of"
    return f"the total of {metric} is {plain(stated)} but its lines {come} {plain(found)}"


def _signed(members: dict[str, Any]) -> bytes:
    """The digests of the lines as they were signed."""
    if any(name not in members for name in _MEMBERS):
        raise ValueError("is no whole signature")
    digests = _bytes(members["lineDigests"])
    if len(digests) % form.DIGEST_BYTES:
        raise ValueError("holds no whole digests")
    return digests


def _named(found: list[Change]) -> list[str]:
    """The changes in words; of many, the first."""
    if not found:
        return ["the file as a whole is not what was signed"]
    named = [each.text for each in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        named.append(f"and {len(found) - MOST_NAMED:,} more lines are not as they were signed")
    return named


def _check_signature(checked: Checked, members: dict[str, Any], expected: Expected | None) -> None:
    try:
        public, signature = _bytes(members["publicKey"]), _bytes(members["signature"])
    except ValueError:
        checked.problems.append(_ALTERED)
        return
    checked.key_id = signing.key_id(public)
    message = form.canonical({n: value for n, value in members.items() if n != "signature"})
    names_itself = (members["algorithm"], members["keyId"]) == (signing.ALGORITHM, checked.key_id)
    if not names_itself or not signing.fits(public, signature, message):
        checked.problems.append(_ALTERED)
    if expected is not None and expected.key_id != checked.key_id:
        checked.problems.append(
            f"it is signed by another key ({checked.key_id}) than the one that is expected"
            f" ({expected.key_id})"
        )


def _bytes(told: Any) -> bytes:
    if not isinstance(told, str):
        raise ValueError("is no base64")
    try:
        return base64.b64decode(told, validate=True)
    except binascii.Error:
        raise ValueError("is no base64") from None


_NO_SIGNATURE = "the last line is no signature: the statement was cut off, or was never signed"
_ALTERED = "the signature line was altered: its signature does not fit what it says"
