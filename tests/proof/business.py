"""A case's numbers as a small business: terms, services and usage in, settled charges out.

Everything passes :func:`operations.scenarios.run_tables`, the runner of scenario files; what many
cases ask for at once passes it in one run, each case a company of its own (:mod:`tests.together`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.documents import Document
from iotbill_pipelines.config.scenarios import Scenario
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits, round_money
from iotbill_pipelines.engine.post.booking import booking
from iotbill_pipelines.engine.schemas import BOOKED_CHARGE
from tests.together import Company, run_together

D = Decimal
PERIOD = Month(2026, 3)
MEGA = 10**6


@dataclass(frozen=True)
class Settled:
    """What came out of a business."""

    tables: dict[str, pa.Table]
    products: pa.Table
    _rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def rows(self, relation: str = "desired_charge", **where: str | int) -> list[dict[str, Any]]:
        if relation not in self._rows:
            self._rows[relation] = self.tables[relation].to_pylist()
        return [
            dict(row)
            for row in self._rows[relation]
            if all(row[name] == value for name, value in where.items())
        ]

    def amount(self, **where: str | int) -> Decimal:
        """The sum of desired charges."""
        rows = self.rows("desired_charge", **where)
        if not rows:
            return D(0)
        digits = minor_digits(rows[0]["currency"])
        return D(sum(row["amount_minor"] for row in rows)).scaleb(-digits)


class _Waiting(BaseException):
    """What the case asks for is run with what others ask for; nobody else may catch this."""


@dataclass
class _Runs:
    settled: dict[str, Settled] = field(default_factory=dict)
    asked: dict[str, Company] = field(default_factory=dict)
    collecting: bool = False

    def of(self, all_data: Sequence[Mapping[str, Any]]) -> list[Settled]:
        keys = [json.dumps(data, default=repr, sort_keys=True) for data in all_data]
        for key, data in zip(keys, all_data, strict=True):
            if key not in self.settled and key not in self.asked:
                self.asked[key] = _company(data)
        if any(key not in self.settled for key in keys):
            if self.collecting:
                raise _Waiting
            self.answer()
        return [self.settled[key] for key in keys]

    def answer(self) -> None:
        """Run what was asked for."""
        asked, self.asked = self.asked, {}
        found = run_together(list(asked.values()))
        for (key, company), tables in zip(asked.items(), found, strict=True):
            self.settled[key] = Settled(tables, company.tables.catalog["product"])


_RUNS = _Runs()


def business(**parts: Any) -> Settled:
    """Run a scenario given as data; the keys are those of a scenario file."""
    return businesses([parts])[0]


def businesses(listed: Sequence[Mapping[str, Any]]) -> list[Settled]:
    """Run several that do not depend on each other."""
    asked = []
    for parts in listed:
        data = {"scenario": "case", "source": "case", "expected": {}, **parts}
        if "periods" not in data:
            data.setdefault("period", str(PERIOD))
        asked.append(data)
    return _RUNS.of(asked)


def foresee(calls: Sequence[Callable[[], object]]) -> None:
    """Call each until it needs no run that is not done, and do what they need together.

    They can be called again afterwards and find everything there. What a call raises is left for
    that time.
    """
    waiting = list(calls)
    _RUNS.collecting = True
    try:
        while waiting:
            waiting = [call for call in waiting if _waits(call)]
            _RUNS.answer()
    finally:
        _RUNS.collecting = False


def _waits(call: Callable[[], object]) -> bool:
    try:
        call()
    except _Waiting:
        return True
    except Exception:  # noqa: BLE001 - told when the case is run
        return False
    return False


def _company(data: Mapping[str, Any]) -> Company:
    scenario = Scenario.model_validate(data)
    scenario._document = Document(Path("case.yaml"), data)
    return Company(scenario.tables(), tuple(scenario.months))


def catalog(
    charges: Sequence[Mapping[str, Any]], currency: str = "EUR", **more: Any
) -> dict[str, Any]:
    """A catalog of one offer."""
    offer = {"id": "deal", "name": "Deal", "currency": currency, "charges": list(charges)}
    offer.update(more.pop("offer", {}))
    return {"offers": [offer], **more}


def usage_charge(**terms: Any) -> dict[str, Any]:
    """A usage charge in MB, so that units may be fractions."""
    return {"id": "use", "product": "data", "kind": "usage", "per": "MB", **terms}


def whole(units: object) -> int:
    """Units as class units of which a priced unit has a million."""
    exact = D(str(units)) * MEGA
    assert exact == int(exact), f"{units} is finer than a millionth"
    return int(exact)


def each(
    charge: Mapping[str, Any],
    uses: Sequence[Sequence[int]],
    currency: str = "EUR",
    *,
    start: datetime | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[Decimal]:
    """What each list of records (quantities, an hour apart) costs, as a service's whole month."""
    start = start or datetime(2026, 3, 2)  # noqa: DTZ001 - UTC, naive
    names = {f"S{number}": quantities for number, quantities in enumerate(uses)}
    usage_class = "data" if charge["product"] == "data" else charge["product"]
    found = business(
        period=f"{start:%Y-%m}",
        catalog=catalog([charge], currency, **(more or {})),
        services={name: {"offer": "deal"} for name in names},
        usage=[
            {
                "service": name,
                "at": (start + timedelta(hours=hour)).isoformat(),
                "class": usage_class,
                "quantity": quantity,
            }
            for name, quantities in names.items()
            for hour, quantity in enumerate(quantities)
        ],
    )
    return [found.amount(service_id=name) for name in names]


def currency_for(*amounts: object) -> str:
    """EUR, or a currency of four decimals where an amount has more than cents."""
    exponents = [D(str(amount)).normalize().as_tuple().exponent for amount in amounts]
    return "CLF" if any(isinstance(e, int) and e < -2 for e in exponents) else "EUR"


def rounded(amount: object, currency: str) -> Decimal:
    """An expected amount to the currency's minor unit."""
    exact = amount if isinstance(amount, Fraction) else D(str(amount))
    return round_money(exact, currency)


def tiers(listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tiers as any of the sources writes them; the last one is open here."""
    found = []
    for tier in listed:
        rate = tier.get("per_unit", tier.get("unit", tier.get("rate", "0")))
        if "rate_percent" in tier:
            rate = str(D(tier["rate_percent"]) / 100)
        upper = tier.get("up_to", tier.get("to"))
        flat = tier.get("flat", tier.get("price", "0"))
        found.append({"up_to": upper, "rate": rate, "flat": flat})
    found[-1].pop("up_to")
    return [
        {key: D(str(value)) for key, value in tier.items() if value is not None} for tier in found
    ]


@dataclass
class Ledger:
    """Bookings in memory: what a sequence of runs books, in the order of its runs."""

    products: pa.Table
    rows: list[dict[str, Any]]

    @classmethod
    def empty(cls, products: pa.Table) -> Ledger:
        return cls(products, [])

    def book(self, desired: pa.Table, period: Month) -> list[dict[str, Any]]:
        """Book the difference to what is held; return the new rows."""
        with DuckDbCompute(threads=1) as compute:
            compute.load("desired_charge", desired)
            compute.load("booked_charge", self._held())
            compute.load("product", self.products)
            booking(compute, period)
            new: list[dict[str, Any]] = compute.fetch("booking").to_pylist()
        self.rows += new
        return new

    def _held(self) -> pa.Table:
        key = list(BOOKED_CHARGE.key)
        sums: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.rows:
            held = sums.setdefault(
                tuple(row[name] for name in key),
                {name: row[name] for name in key}
                | {"records": 0, "quantity": 0, "amount_minor": 0, "entries": 0},
            )
            for name in ("records", "quantity", "amount_minor"):
                held[name] += row[name]
            held["entries"] += 1
            held["price_ids"] = row["price_ids"]
        return pa.Table.from_pylist(list(sums.values()), schema=BOOKED_CHARGE.arrow_schema)


def day(text: str) -> date:
    return date.fromisoformat(text[:10])
