"""What we say and what the stand-in says, side by side, for each customer of the demo."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from sandbox.demo import TENANT
from sandbox.demo.data import REF, listed
from sandbox.demo.http import Api, Json
from sandbox.demo.plan import CUSTOMERS, DemoCustomer, metered

SHOWN_INVOICES = 3


@dataclass(frozen=True)
class Line:
    """A customer's metric in the current period: ours, and Stripe's for the same span."""

    metric: str
    ours: Decimal
    stripes: Decimal


class Comparison:
    """Asks both sides. Stripe's totals come from the stand-in's controls: summaries have a lag,
    and reads are rationed."""

    def __init__(self, web: Api, stripe: Api) -> None:
        self._web = web
        self._stripe = stripe
        self._ids: dict[str, str] = {}
        # What we say of a final invoice's period, by the invoice's id: it does not change.
        self._ours: dict[str, str | None] = {}

    def now(self) -> datetime:
        """The one clock's instant."""
        return datetime.fromtimestamp(self._stripe.get("/_sandbox/clock")["now"], UTC)

    def period_start(self, ref: str) -> datetime:
        return datetime.fromisoformat(self.projection(ref)["periodStart"])

    def closed_period(self, ref: str) -> datetime | None:
        """The end of the customer's latest period that has closed; None: none has."""
        found: Json = self._web.get(
            "/v1/usage/periods", tenantId=TENANT, customerRef=ref, metric="api_calls"
        )
        ends = [each["end"] for each in found["periods"] if each["state"] == "closed"]
        return datetime.fromisoformat(max(ends)) if ends else None

    def projection(self, ref: str, **period: str) -> Json:
        """period: `periodStart` and `periodEnd`; the present one by default."""
        found: Json = self._web.post(
            "/v1/usage/projection", {"tenantId": TENANT, "customerRef": ref, **period}
        )
        return found

    def shown(self) -> Json:
        """Everything the page shows."""
        clock = self._stripe.get("/_sandbox/clock")
        invoices = self._invoices()
        return {
            "now": _iso(clock["now"]),
            "ahead_seconds": clock["offset_seconds"],
            "customers": [self._customer(each, invoices) for each in CUSTOMERS],
        }

    def lines(self, ref: str, projection: Json) -> list[Line]:
        """The metrics that have usage on either side."""
        ours = {each["metric"]: Decimal(each["quantity"]) for each in projection["lineItems"]}
        metrics = next(each.metrics for each in CUSTOMERS if each.ref == ref)
        start, end = (_unix(projection[name]) for name in ("periodStart", "periodEnd"))
        spans = [
            {"event_name": each, "customer": self._id(ref), "start": start, "end": end}
            for each in metrics
        ]
        stripes = self._stripe.post("/_sandbox/totals", {"spans": spans})["totals"]
        return [
            Line(metric, ours.get(metric, Decimal(0)), Decimal(total["accepted"]))
            for metric, total in zip(metrics, stripes, strict=True)
        ]

    def behind(self) -> int:
        """How many totals of the current periods are not the same on both sides yet."""
        count = 0
        for each in CUSTOMERS:
            projection = self.projection(each.ref)
            lines = self.lines(each.ref, projection)
            count += sum(line.ours != line.stripes for line in lines) or bool(
                projection["unfolded"]
            )
        return count

    def _customer(self, customer: DemoCustomer, invoices: Sequence[Json]) -> Json:
        projection = self.projection(customer.ref)
        amounts = {each["metric"]: each for each in projection["lineItems"]}
        lines = []
        for line in self.lines(customer.ref, projection):
            about = metered(line.metric)
            lines.append(
                {
                    "name": about.name,
                    "unit": about.unit,
                    "ours": f"{line.ours:f}",
                    "stripes": f"{line.stripes:f}",
                    "missing": f"{line.ours - line.stripes:f}",
                    "total": amounts.get(line.metric, {}).get("total"),
                }
            )
        mine = [each for each in invoices if each["customer"] == self._id(customer.ref)]
        return {
            "name": customer.name,
            "ref": customer.ref,
            "start": projection["periodStart"],
            "end": projection["periodEnd"],
            "unfolded": projection["unfolded"],
            "total": projection["total"],
            "projected": projection["projectedTotal"] if _says_much(projection) else None,
            "lines": lines,
            "invoices": list(islice(self._bills(mine, customer.ref), SHOWN_INVOICES)),
        }

    def _bills(self, invoices: Iterable[Json], ref: str) -> Iterator[Json]:
        """A customer's invoices beside what we say; without those that are empty on both sides."""
        for each in invoices:
            ours = self._said_of(each, ref)
            if each["total"] or each["status"] == "draft" or Decimal(ours or 0):
                yield _invoice(each) | {"ours": ours}

    def _said_of(self, invoice: Json, ref: str) -> str | None:
        """Our total of the period that an invoice bills."""
        if invoice["id"] in self._ours:
            return self._ours[invoice["id"]]
        period = {"periodStart": invoice["period_start"], "periodEnd": invoice["period_end"]}
        said = self.projection(ref, **{name: _iso(at) for name, at in period.items()})
        total: str | None = said["total"]
        if invoice["status"] != "draft" and not said["unfolded"]:
            self._ours[invoice["id"]] = total
        return total

    def _id(self, ref: str) -> str:
        if ref not in self._ids:
            for customer in listed(self._stripe, "/v1/customers"):
                if REF in customer["metadata"]:
                    self._ids[customer["metadata"][REF]] = customer["id"]
        return self._ids.get(ref, "")

    def _invoices(self) -> list[Json]:
        """The newest first."""
        found: list[Json] = self._stripe.get("/v1/invoices", limit=50)["data"]
        return found


def _says_much(projection: Json) -> bool:
    """False while a pace would be of a few minutes, and its month a fantasy."""
    as_of, start = projection["freshness"]["asOf"], projection["periodStart"]
    return datetime.fromisoformat(as_of) - datetime.fromisoformat(start) >= timedelta(days=1)


def _invoice(invoice: Json) -> dict[str, Any]:
    return {
        "id": invoice["id"],
        "status": invoice["status"],
        "total": f"{Decimal(invoice['total']) / 100:.2f}",
        "end": _iso(invoice["period_end"]),
    }


def _iso(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat()


def _unix(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())
