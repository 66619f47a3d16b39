"""A file of usage as real ones are: repeated, late, wrong and broken lines among good ones.

The same for the same seed. `python -m tests.generated_usage ROWS [SEED] > usage.csv` writes one.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

HEADER = "metric,customerRef,resourceId,quantity,ts,source,meta,idempotencyKey"
METRICS = ("api_calls", "tokens", "seats")
END = datetime(2026, 10, 20, tzinfo=UTC)
STEP = timedelta(microseconds=1_300_007)
OLDEST = timedelta(days=75)

# What stands in place of a good line, by kind; {…} are the good line's own cells.
BROKEN = {
    "quantity_word": "{metric},{customer},{resource},many,{ts},import,,{key}",
    "quantity_negative": "{metric},{customer},{resource},-3,{ts},import,,{key}",
    "quantity_comma": '{metric},{customer},{resource},"1,5",{ts},import,,{key}',
    "quantity_long": "{metric},{customer},{resource},0.1234567890123,{ts},import,,{key}",
    "quantity_empty": "{metric},{customer},{resource},,{ts},import,,{key}",
    "swapped": "{metric},{customer},{resource},{ts},12.5,import,,{key}",
    "no_offset": "{metric},{customer},{resource},1,2026-10-01T12:00:00,import,,{key}",
    "not_a_day": "{metric},{customer},{resource},1,2026-02-30T12:00:00Z,import,,{key}",
    "ahead": "{metric},{customer},{resource},1,2099-01-01T00:00:00Z,import,,{key}",
    "too_old": "{metric},{customer},{resource},1,1999-12-31T23:59:59Z,import,,{key}",
    "no_metric": ",{customer},{resource},1,{ts},import,,{key}",
    "no_customer": "{metric},,{resource},1,{ts},import,,{key}",
    "long_source": f"{{metric}},{{customer}},{{resource}},1,{{ts}},{'s' * 65},,{{key}}",
    "too_few": "{metric},{customer},{resource},1,{ts}",
    "too_many": "{metric},{customer},{resource},1,{ts},import,,{key},more,and more",
    "semicolons": "{metric};{customer};{resource};1;{ts};import;;{key}",
    "meta_list": "{metric},{customer},{resource},1,{ts},import,[1],{key}",
    "meta_broken": "{metric},{customer},{resource},1,{ts},import,{{a,{key}",
    "not_utf8": "{metric},{customer},caf\udce9,1,{ts},import,,{key}",
}


@dataclass
class Written:
    """What stands in the file.

    broken: kind by line.  conflicts: lines whose key has another content than before.
    """

    lines: int = 1
    fresh: int = 0
    repeated: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    conflicts: set[int] = field(default_factory=set)


def write(file: Path, rows: int, seed: int = 1) -> Written:
    """Write a file of so many records behind its header."""
    written = Written()
    with file.open("wb") as out:
        for text in lines(rows, seed, written):
            out.write(text.encode(errors="surrogateescape"))
    return written


def lines(rows: int, seed: int, written: Written) -> Iterator[str]:
    """The records with their ends, the header first; what they are is noted in `written`."""
    chance = random.Random(seed)
    yield f"{HEADER}\n"
    # Some good records of before, to be repeated or contradicted: (text, cells).
    earlier: list[tuple[str, dict[str, str]]] = []
    kinds = sorted(BROKEN)
    for i in range(rows):
        line, dice = written.lines + 1, chance.random()
        cells = _cells(chance, i)
        if dice < 0.01:
            kind = kinds[i % len(kinds)]
            # A broken line over two lines would be two, or one: that is tests/metering's matter.
            plain = cells["resource"].partition('"')[0]
            text = BROKEN[kind].format(**cells | {"resource": plain})
            written.broken[line] = kind
        elif dice < 0.03 and earlier:
            text, _ = chance.choice(earlier)
            written.repeated += 1
        elif dice < 0.035 and earlier:
            _, before = chance.choice(earlier)
            text = _text(before | {"quantity": f"{before['quantity']}5", "meta": ""})
            written.conflicts.add(line)
        else:
            text = _text(cells)
            written.fresh += 1
            if i % 3 == 0:
                earlier = [*earlier[-200:], (text, cells)]
        written.lines += text.count("\n") + 1
        yield f"{text}\n"


def _cells(chance: random.Random, i: int) -> dict[str, str]:
    # A tenth is late by days; all instants differ, so that derived keys do.
    late = timedelta(days=chance.randrange(1, 40)) if i % 10 == 7 else timedelta(0)
    at = END - OLDEST + (STEP * i) % (OLDEST - timedelta(days=41)) + timedelta(days=41) - late
    resource = f"user_{chance.randrange(500)}" if i % 4 else ""
    if i % 97 == 5:
        resource = f'"rack ""{chance.randrange(9)}"", row\n{chance.randrange(9)}"'
    return {
        "metric": METRICS[chance.randrange(3)],
        "customer": f"cus_{chance.randrange(40):03d}",
        "resource": resource,
        "quantity": f"{chance.randrange(1, 5000)}.{chance.randrange(100):02d}",
        "ts": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "meta": f'"{{""region"":""eu-{i % 7}""}}"' if i % 5 == 0 else "",
        "key": f"req_{chance.getrandbits(96):024x}" if i % 3 else "",
    }


def _text(cells: dict[str, str]) -> str:
    return (
        f"{cells['metric']},{cells['customer']},{cells['resource']},{cells['quantity']},"
        f"{cells['ts']},import,{cells['meta']},{cells['key']}"
    )


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for text in lines(count, seed, Written()):
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
