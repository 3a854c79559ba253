"""A year of business: late files, corrected rates, moved SIMs, a reopened month, taxes that change.

Every month is closed with what is known by then, into the ledger of a real PostgreSQL; only usage
periods that a change can touch are computed again. At the end the ledger must hold exactly what one
computation of the whole year from scratch comes to: charges, taxes, deferred revenue, and the
balances of the accounts.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.documents import Document
from iotbill_pipelines.config.scenarios import Scenario
from iotbill_pipelines.engine import flow
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.post.terms import GlAccount, GlRule, JournalType, LedgerTerms
from iotbill_pipelines.engine.schemas import CATALOG, DESIRED_CHARGE, RATED_USAGE, REFERENCE
from iotbill_pipelines.engine.tax import (
    Customer,
    ExemptionCertificate,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxCustomer,
    TaxDocument,
    TaxPart,
    TaxTerms,
    assess_difference,
)
from iotbill_pipelines.operations import reach, recognition
from iotbill_pipelines.operations.scenarios import run_tables
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, taxes
from iotbill_pipelines.storage.models import PeriodSignature
from iotbill_pipelines.storage.reference import content_hash
from tests.conftest import ROOT
from tests.finance.test_taxed_invoices import TAX_JOURNALS, TAXES, rate
from tests.storage.books import Books

NOW = datetime(2027, 1, 5, 9, tzinfo=UTC)
MONTHS = [Month(2026, number) for number in range(1, 13)]
LATE = [MONTHS[number] for number in (1, 3, 5, 8, 10)]
"""The months whose files come late or twice; some of the others are only touched by corrections."""
SERVICES = [f"S{number}" for number in range(1, 9)]

# (known from, rate of S1..S4 abroad, surcharge): a cut of the price from May is told in July, and
# that it was wrong since February in October.
RATES = [
    (1, [(1, "0.31")]),
    (7, [(1, "0.31"), (5, "0.27")]),
    (10, [(1, "0.31"), (2, "0.29"), (5, "0.26")]),
]


TERMS = LedgerTerms(
    entities=TAX_JOURNALS.entities,
    accounts=[*TAX_JOURNALS.accounts, GlAccount(number="2400", name="Deferred revenue")],
    suspense_account="9990",
    gl_map=[
        *TAX_JOURNALS.gl_map,
        GlRule(role="deferred", account="2400"),
        GlRule(role="cost", when={"gl_class": "usage"}, account="5000"),
    ],
    journals=[
        *TAX_JOURNALS.journals,
        *(
            JournalType(
                type=source.upper(),
                code=source[:3].upper(),
                level="retail",
                source=source,
                debit=debit,
                credit=credit,
            )
            for source, debit, credit in (
                ("deferral", "revenue", "deferred"),
                ("release", "deferred", "revenue"),
            )
        ),
    ],
    targets=TAX_JOURNALS.targets,
)
REVENUE = "deferrals: [{id: in_advance, when: {charge: fee}, over: usage_period}]"


def taxes_known(month: int) -> TaxTerms:
    """The tax tables as known in a month: A pays VAT, which rises on the 1st of July; B two taxes
    in a county, whose rate since May was wrong until September, and is exempt from one of them from
    March to August, which is told in May."""
    county = rate("KING", "county", "0.036")
    corrected = [
        rate("KING", "county", "0.036", valid_to=date(2026, 5, 1)),
        rate("KING", "county", "0.0385", valid_from=date(2026, 5, 1)),
    ]
    certificate = ExemptionCertificate(
        number="X-1",
        customer_id="B",
        taxes=("sales",),
        valid_from=date(2026, 3, 1),
        valid_to=date(2026, 9, 1),
    )
    return TAXES.model_copy(
        update={
            "customers": (
                TaxCustomer(account="A", country="NL", jurisdictions=("NL",)),
                TaxCustomer(account="B", country="US", jurisdictions=("KING",)),
            ),
            "rates": (
                rate("NL", "VAT", "0.19", valid_to=date(2026, 7, 1)),
                rate("NL", "VAT", "0.21", valid_from=date(2026, 7, 1)),
                rate("WA", "sales", "0.065"),
                *(corrected if month >= 9 else [county]),
            ),
            "certificates": (certificate,) if month >= 5 else (),
        }
    )


def graduated(bound: int, rate: str, rest: str) -> dict[str, Any]:
    return {"model": "graduated", "tiers": [{"up_to": bound, "rate": rate}, {"rate": rest}]}


def catalog(known: int) -> dict[str, Any]:
    rates = next(rates for since, rates in reversed(RATES) if since <= known)
    starts = [month for month, _ in rates]
    versions = [
        {
            "id": f"abroad.{month}",
            "zone": "abroad",
            "rate": rate,
            "valid_from": date(2026, month, 1),
            "valid_to": date(2026, following, 1) if following else None,
        }
        for (month, rate), following in zip(rates, [*starts[1:], None], strict=True)
    ]
    return {
        "zone_sets": [{"id": "z", "rules": [{"zone": "abroad", "mcc": ["310"]}]}],
        "share_plans": [
            {
                "id": "pool",
                "usage_class": "data",
                "currency": "EUR",
                "per": "KB",
                "overage": {
                    "id": "over",
                    "product": "overage",
                    "kind": "overage",
                    "per": "KB",
                    "prices": [graduated(200, "0.07", "0.03")],
                },
            }
        ],
        "offers": [
            {
                "id": "payg",
                "name": "payg",
                "currency": "EUR",
                "zone_set": "z",
                "charges": [
                    {"id": "fee", "product": "subscription", "kind": "recurring",
                     "billing": "advance", "basis": "actual",
                     "prices": [{"rate": "2.35"}, {"rate": "0.99", "state": "suspended"}]},
                    {"id": "kb", "product": "data", "kind": "usage", "per": "KB", "allowance": 40,
                     "prices": [*versions, graduated(300, "0.11", "0.05")]},
                ],
            },
            {
                "id": "fleet",
                "name": "fleet",
                "currency": "EUR",
                "share_plan": "pool",
                "contribution": 150,
                "charges": [
                    {"id": "seat", "product": "subscription", "kind": "recurring",
                     "prices": [{"rate": "1.10"}]},
                    {"id": "pooled", "product": "data", "kind": "usage", "per": "KB",
                     "pooled": True, "prices": [{"rate": "0.07"}]},
                ],
            },
            {
                "id": "carrier",
                "name": "carrier",
                "level": "vendor",
                "currency": "EUR",
                "charges": [
                    {"id": "cost", "product": "data", "kind": "usage", "per": "KB",
                     "prices": [{"rate": "0.013"}]},
                ],
            },
        ],
    }  # fmt: skip


def services(known: int) -> dict[str, Any]:
    """The inventory as known in a month: a SIM moves in April, which is told in July; another is
    suspended from the 11th of August, told in September; one more is sold in October."""
    found: dict[str, Any] = {}
    for number, name in enumerate(SERVICES):
        offer = "payg" if number < 4 else "fleet"
        found[name] = {
            "account": "A" if number % 2 else "B",
            "offers": [offer, "carrier"],
            "identifiers": [{"uid": f"imsi:{name}"}],
            "states": [["2026-01-01", "active"]],
        }
    if known >= 7:
        found["S3"]["identifiers"] = [{"uid": "imsi:S3", "to": "2026-04-12"}]
        found["S9"] = {
            "account": "A",
            "offers": [{"offer": "fleet", "from": date(2026, 4, 12)}, "carrier"],
            "identifiers": [{"uid": "imsi:S3", "from": "2026-04-12"}],
            "states": [["2026-04-12", "active"]],
        }
    if known >= 9:
        found["S2"]["states"].append(["2026-08-11", "suspended"])
    if known >= 10:
        found["S10"] = {
            "account": "B",
            "offers": [
                {"offer": "payg", "from": date(2026, 10, 20)},
                {"offer": "carrier", "from": date(2026, 10, 20)},
            ],
            "identifiers": [{"uid": "imsi:S10", "from": "2026-10-20"}],
            "states": [["2026-10-20", "active"]],
        }
    return found


@dataclass
class Year:
    """The generated usage: events with the month in which their file came."""

    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    def made(cls, seed: int) -> Year:
        chance, year = Random(seed), cls()
        for month in MONTHS:
            for name in [*SERVICES, *(["S10"] if month.month > 10 else [])]:
                for number in range(chance.randrange(2, 5)):
                    at = datetime(2026, month.month, 1) + timedelta(  # noqa: DTZ001
                        seconds=chance.randrange(month.days * 86_400)
                    )
                    late = chance.choice([0] * 9 + [1, 1, 2, 5])
                    if month not in LATE:
                        late = 0
                    came = min(month.month + late, 12)
                    event = {
                        "uid": f"imsi:{name}",
                        "at": at.isoformat() + "Z",
                        "quantity": chance.randrange(1_000, 180_000),
                        "plmn": chance.choice(["26201", "310410"]),
                        "key": f"{month}/{name}/{number}",
                        "file": f"{month}-came-{came}",
                    }
                    year.events.append((came, event))
                    if chance.random() < 0.1 and month in LATE:  # a file that is sent again
                        again = min(came + chance.randrange(0, 3), 12)
                        year.events.append((again, {**event, "file": f"{month}-again-{again}"}))
        return year

    def known(self, month: int) -> Scenario:
        data = {
            "scenario": "a year",
            "source": "generated",
            "periods": [str(m) for m in MONTHS],
            "catalog": catalog(month),
            "accounts": {
                "A": {"entity": "NL01", "zone": "Europe/Amsterdam"},
                "B": {"entity": "NL01", "zone": "America/New_York"},
                "V": {"entity": "NL01", "kind": "vendor"},
            },
            "services": services(month),
            "usage": [event for came, event in self.events if came <= month],
            "expected": {},
        }
        scenario = Scenario.model_validate(data)
        scenario._document = Document(Path("year.yaml"), data)
        return scenario


class Closing:
    """Closes month after month; keeps what was rated and settled, as a lake would."""

    def __init__(self, books: Books, configs: Path) -> None:
        self.books = books
        catalog = configs / "catalog"
        catalog.mkdir(parents=True)
        for name in ("products.yaml", "states.yaml"):
            shutil.copy(ROOT / "configs" / "catalog" / name, catalog)
        (catalog / "offers.yaml").write_text("offers: []")
        (configs / "revenue.yaml").write_text(REVENUE)
        self.workspace = cast(
            Workspace,
            SimpleNamespace(configs=configs, catalog_digest=None, run_id="run", clock=lambda: NOW),
        )
        self.notes: dict[int, int] = {}
        self.rated: dict[Month, tuple[str, pa.Table]] = {}
        self.desired: dict[Month, tuple[str, pa.Table]] = {}
        self.worked: dict[int, list[Month]] = defaultdict(list)

    def settle(self, known: int, scenario: Scenario) -> None:
        tables = scenario.tables()
        schemas = {**REFERENCE, **CATALOG}
        held = {
            name: table.cast(schemas[name].arrow_schema)
            for name, table in (tables.catalog | tables.reference).items()
        }
        with DuckDbCompute(expected_rows=1_000) as compute:
            for name, table in held.items():
                compute.load(name, table)
            utc_months = sorted(set(tables.usage["usage_month"].to_pylist()))
            for month in map(Month.parse, utc_months):
                usage = tables.usage.filter(pc.equal(tables.usage["usage_month"], str(month)))
                token = _token(
                    reach.digest(held, *reach.rating_span(month)), usage["file_key"].to_pylist()
                )
                if self.rated.get(month, ("", None))[0] != token:
                    compute.load("usage_record", usage)
                    flow.rate_month(compute)
                    self.rated[month] = (token, compute.fetch("rated_usage"))
            for period in MONTHS[:known]:
                rated = [
                    self.rated[m][1].filter(pc.field("usage_period") == str(period))
                    for m in (period - 1, period, period + 1)
                    if m in self.rated
                ]
                token = _token(
                    reach.digest(held, None, reach.settling_end(held, period)),
                    [content_hash({"rated": table}) for table in rated],
                )
                if self.desired.get(period, ("", None))[0] == token:
                    continue
                empty = RATED_USAGE.arrow_schema.empty_table()
                compute.load("rated_usage", pa.concat_tables(rated) if rated else empty)
                flow.settle_period(compute, period)
                self.desired[period] = (token, compute.fetch("desired_charge"))
                self.worked[known].append(period)
            self.products = held["product"]

    def book(self, known: int, accounting: Month) -> int:
        last = MONTHS[known - 1]
        own = [
            table.filter(
                pc.is_in(
                    table["usage_period"],
                    pa.array([str(p)] + ([str(p + 1)] if p == last else [])),
                )
            )
            for p, (_, table) in self.desired.items()
        ]
        scope = [str(month) for month in [*MONTHS[:known], last + 1]]
        with DuckDbCompute(expected_rows=1_000) as compute, Session(self.books.engine) as session:
            compute.load(
                "desired_charge", pa.concat_tables(own).select(list(DESIRED_CHARGE.column_names))
            )
            compute.load("product", self.products)
            with session.begin():
                return ledger.book(
                    session, compute, accounting, scope,
                    run_id="run", cause="test", booked_at=NOW,
                ).count  # fmt: skip

    def invoice(self, known: int, period: Month) -> None:
        """Issue invoices with their taxes, and notes to those that are taxed otherwise now."""
        terms = taxes_known(known)
        with Session(self.books.engine) as session, session.begin():
            if known > 1 and terms != taxes_known(known - 1):
                due = taxes.due_tax_notes(session, terms, period, None)
                taxes.issue_tax_notes(
                    session, due, period, run_id="run", issue_date=period.last_day, issued_at=NOW
                )
                self.notes[known] = len(due.notes)
            ledger.issue_invoices(
                session, period, run_id="run", issue_date=period.last_day, issued_at=NOW
            )
            taxes.tax_invoices(session, terms)

    def post(self, period: Month) -> None:
        """Book what is deferred and released by then, and build the journals."""
        with Session(self.books.engine) as session, session.begin():
            recognition.book_derived(self.workspace, session, period, TERMS)
        assert self.books.post(period, TERMS).built

    def move(self, period: Month, *states: str) -> None:
        for state in states:
            with Session(self.books.engine) as session, session.begin():
                ledger.set_period_state(session, "NL01", period, state, actor="t", at=NOW)

    def reopen(self, period: Month) -> None:
        with Session(self.books.engine) as session, session.begin():
            for actor in ("controller", "cfo"):
                session.add(
                    PeriodSignature(
                        entity_id="NL01",
                        period=str(period),
                        action="reopen",
                        closings=1,
                        actor=actor,
                        role=actor,
                        reason="wrong prices",
                        signed_at=NOW,
                    )
                )
        self.move(period, "reopened")


def _token(digest: Mapping[str, str], parts: Sequence[object]) -> str:
    return hashlib.sha256(
        repr((sorted(digest.items()), sorted(map(str, parts)))).encode()
    ).hexdigest()


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


_BY_UNIT = (
    "usage_period", "level", "account_id", "service_id", "charge_id", "product_id", "currency",
)  # fmt: skip


def test_after_a_year_the_ledger_is_what_one_computation_of_the_year_comes_to(
    books: Books, tmp_path: Path
) -> None:
    year = Year.made(7)
    closing = Closing(books, tmp_path / "configs")
    sums: dict[Month, list[tuple[Any, ...]]] = {}
    reopened = Month(2026, 7)
    for month in MONTHS:
        scenario = year.known(month.month)
        closing.settle(month.month, scenario)
        if month.month == 10:  # the rates of the year are wrong: July is opened again for it
            closing.reopen(reopened)
            assert closing.book(month.month, reopened)
            closing.move(reopened, "soft_closed")
            closing.invoice(month.month, reopened)
            closing.post(reopened)
            closing.move(reopened, "in_review", "closed")
            del sums[reopened]
            sums[reopened] = _booked(books, reopened)
        booked = closing.book(month.month, month)
        assert booked or month.month == 10
        assert closing.book(month.month, month) == 0  # a second run books nothing
        closing.invoice(month.month, month)
        closing.post(month)
        closing.move(month, "soft_closed", "in_review", "closed")
        sums[month] = _booked(books, month)
    assert {m: _booked(books, m) for m in sums} == sums  # what is closed stays

    once = _equals_one_computation(books, year)
    _everything_was_invoiced_once(books)
    assert closing.notes == {5: 2, 9: 4}  # of March and April; of May to August
    _is_taxed_as_from_the_start(books, taxes_known(12))
    _accounts_hold_the_year(books, once)
    # Not every month was computed again: only those that something could reach.
    assert closing.worked[1] == MONTHS[:1]
    assert sum(map(len, closing.worked.values())) < sum(range(1, 13))


def _booked(books: Books, accounting: Month) -> list[tuple[Any, ...]]:
    return books.rows(
        "select usage_period, level, currency, count(*), sum(amount_minor)::bigint from"
        f" booked_charge where accounting_period = '{accounting}' group by 1, 2, 3 order by 1, 2, 3"
    )


def _equals_one_computation(books: Books, year: Year) -> list[dict[str, Any]]:
    scenario = year.known(12)
    once = run_tables(scenario.tables(), scenario.months)["desired_charge"].to_pylist()
    expected = {
        tuple(row[name] for name in _BY_UNIT): (
            row["records"],
            row["quantity"],
            row["amount_minor"],
        )
        for row in once
    }
    listed = ", ".join(_BY_UNIT)
    held = {
        row[:-3]: row[-3:]
        for row in books.rows(
            f"select {listed}, sum(records)::bigint, sum(quantity)::bigint,"
            f" sum(amount_minor)::bigint from booked_charge group by {listed}"
        )
        if any(row[-3:])
    }
    assert len(held) > 200
    assert held == {key: value for key, value in expected.items() if any(value)}
    late = "select count(*) from booked_charge where usage_period < accounting_period"
    assert books.rows(late)[0][0] > 50
    return once


_TAXED_UNIT = "account_id, service_id, charge_id, usage_period, product_id"
_OF_UNIT = "b.account_id, b.service_id, b.charge_id, b.usage_period, b.product_id"


def _is_taxed_as_from_the_start(books: Books, terms: TaxTerms) -> None:
    """The taxes of every unit, on invoices and notes together, are those of the tables of the
    year's end, had they been known when each invoice was issued."""
    engine = TableTaxEngine(terms.table, terms.policy)
    places = {customer.account: customer for customer in terms.customers}
    charged: dict[tuple[Any, ...], list[TaxPart]] = defaultdict(list)
    for (_, on, account), lines in groupby(
        books.rows(
            f"select i.invoice_id, i.issue_date, i.account_id, {_OF_UNIT}, b.tax_code,"
            " sum(l.amount_minor)::bigint from invoice i join invoice_line l using (invoice_id)"
            f" join booked_charge b on b.id = l.booked_charge_id"
            f" group by i.invoice_id, {_OF_UNIT}, b.tax_code having sum(l.amount_minor) <> 0"
            f" order by i.invoice_id, {_OF_UNIT}"
        ),
        key=lambda row: row[:3],
    ):
        units = {str(number): row[3:] for number, row in enumerate(lines)}
        place = places[account].jurisdictions
        document = TaxDocument(
            id="again",
            tax_point=on,
            currency="EUR",
            seller=Seller("NL01", "NL", ("NL",)),
            customer=Customer(account, places[account].country, place),
            lines=tuple(
                TaxableLine(key, unit[-2], of_minor(unit[-1], "EUR"), place, place)
                for key, unit in units.items()
            ),
        )
        before = {key: charged[unit[:-2]] for key, unit in units.items()}
        for key, parts in assess_difference(engine, document, before).parts.items():
            charged[units[key][:-2]].extend(parts)
    wanted: dict[tuple[Any, ...], int] = defaultdict(int)
    for unit, parts in charged.items():
        for item in (item for part in parts for item in part.items):
            wanted[(*unit, item.jurisdiction, item.tax)] += to_minor(item.amount, "EUR")
    held = books.rows(
        f"select {_OF_UNIT}, t.jurisdiction, t.tax, sum(t.amount_minor)::bigint"
        " from invoice_tax t join invoice_line l using (invoice_id, line_no)"
        f" join booked_charge b on b.id = l.booked_charge_id group by {_OF_UNIT}, 6, 7"
    )
    assert {key[-1] for key in wanted} == {"VAT", "sales", "county"}
    assert {row[:-1]: row[-1] for row in held if row[-1]} == {
        key: minor for key, minor in wanted.items() if minor
    }


def _accounts_hold_the_year(books: Books, once: list[dict[str, Any]]) -> None:
    """The balances of all journals are those of the one computation, its taxes and its deferral."""
    ((tax, county),) = books.rows(
        "select sum(amount_minor)::bigint, sum(amount_minor) filter (where jurisdiction = 'WA')"
        "::bigint from invoice_tax"
    )
    sums: dict[str, int] = defaultdict(int)
    for row in once:
        if row["level"] == "vendor":
            sums["cost"] += row["amount_minor"]
        elif row["billing_period"] <= "2026-12":
            sums["invoiced"] += row["amount_minor"]
            if row["usage_period"] > "2026-12":  # billed in advance
                sums["deferred"] += row["amount_minor"]
    balances = {
        row[0]: row[1]
        for row in books.rows(
            "select account, sum(debit_minor - credit_minor)::bigint from journal_line group by 1"
        )
    }
    revenue = balances.pop("4000") + balances.pop("4100")
    assert revenue == sums["deferred"] - sums["invoiced"]
    assert sums["deferred"] > 0
    assert balances == {
        "1200": sums["invoiced"] + tax,
        "2100": -sums["cost"],
        "2200": county - tax,
        "2210": -county,
        "2400": -sums["deferred"],
        "5000": sums["cost"],
    }


def _everything_was_invoiced_once(books: Books) -> None:
    ((retail, invoiced),) = books.rows(
        "select (select sum(amount_minor) from booked_charge where level = 'retail'"
        " and billing_period <= '2026-12'), (select sum(total_minor) from invoice)"
    )
    waiting = books.rows(
        "select coalesce(sum(amount_minor), 0) from booked_charge b where level = 'retail' and"
        " billing_period <= '2026-12' and not exists"
        " (select from invoice_line l where l.booked_charge_id = b.id)"
    )
    assert retail == invoiced + waiting[0][0]
    assert books.findings(Month(2026, 12)) == []


def test_a_year_is_generated_with_everything_that_goes_wrong() -> None:
    year = Year.made(7)
    assert any(came > int(event["file"][5:7]) for came, event in year.events)
    keys = [event["key"] for _, event in year.events]
    assert len(keys) > len(set(keys))
