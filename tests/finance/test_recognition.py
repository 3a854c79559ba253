"""Deferrals, contract assets, commissions and true-ups, booked by difference (RULEBOOK §§7, 9)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.config.revenue import read_commissions, read_revenue
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.commission import (
    CommissionTerms,
    EarningLine,
    SoldService,
    commissions,
)
from iotbill_pipelines.engine.revenue import (
    DeferralRule,
    PrepaidQuota,
    RevenueLine,
    RevenueTerms,
    ServiceLife,
    recognise,
)
from iotbill_pipelines.operations import recognition
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, taxes
from iotbill_pipelines.storage.derived import Desired
from iotbill_pipelines.storage.ledger import LedgerError
from iotbill_pipelines.storage.payments import PaymentsRead, collected
from tests.conftest import ROOT
from tests.finance.test_taxed_invoices import TAXES, saying
from tests.storage.books import NOVEMBER, NOW, OCTOBER, Books, Charge

D = Decimal
EXAMPLES = ROOT / "configs" / "examples"


def line(amount: str, month: str = "2026-01", **changes: Any) -> RevenueLine:
    values: dict[str, Any] = {
        "charge_no": 1,
        "level": "retail",
        "entity_id": "NL01",
        "account_id": "A",
        "service_id": "S1",
        "charge_id": "fee",
        "product_id": "activation",
        "kind": "transition",
        "gl_class": "one_time",
        "tax_code": "standard",
        "currency": "EUR",
        "usage_period": Month.parse(month),
        "booked_in": Month.parse(month),
        "amount": D(amount),
    }
    return RevenueLine(**{**values, **changes})


def posted(
    terms: RevenueTerms, lines: list[RevenueLine], through: str, **lives: ServiceLife
) -> dict[tuple[str, str], Decimal]:
    return {
        (entry.purpose, entry.item): entry.amount
        for entry in recognise(terms, lines, lives, Month.parse(through))
    }


def test_rv_04_a_year_in_advance_is_earned_by_days_from_the_day_it_started() -> None:
    rule = DeferralRule(
        id="year", when={"product": "annual"}, over="days", months=12, starts="service"
    )
    terms = RevenueTerms(deferrals=(rule,))
    annual = line("1200.00", product_id="annual")
    life = ServiceLife(date(2026, 1, 15))
    releases = [
        posted(terms, [annual], month, S1=life)["release", "year:1"]
        for month in ("2026-01", "2026-02", "2026-03", "2027-01")
    ]
    assert releases == [D("55.89"), D("147.95"), D("249.86"), D("1200.00")]
    ended = ServiceLife(date(2026, 1, 15), date(2026, 3, 2))
    assert posted(terms, [annual], "2026-03", S1=ended)["release", "year:1"] == D("1200.00")


def test_rv_05_an_activation_fee_is_earned_over_the_term_or_until_the_service_ends() -> None:
    terms = read_revenue(EXAMPLES)
    fee = line("25.00")
    for month, expected in (("2026-01", "1.04"), ("2026-12", "12.50"), ("2027-12", "25.00")):
        assert posted(terms, [fee], month)["release", "activation_fees:1"] == D(expected)
    ended = ServiceLife(date(2026, 1, 1), date(2026, 4, 1))
    released = [
        posted(terms, [fee], month, S1=ended)["release", "activation_fees:1"]
        for month in ("2026-02", "2026-03", "2026-04")
    ]
    assert released == [D("2.08"), D("25.00"), D("25.00")]


def test_a_prepaid_bundle_is_cost_by_time_or_by_use_whichever_is_faster() -> None:
    """10.00 for 500 MB in ten years: 31 of 3652 days, then 60 % used, then the rest used up."""
    quota = {"usage_class": "data", "quantity": 500, "per": "MB"}
    when: Any = {"product": "prepaid_sim"}
    terms = RevenueTerms(
        deferrals=(
            DeferralRule(
                id="sims", level="vendor", when=when, over="days", months=120,
                quota=PrepaidQuota.model_validate(quota),
            ),
        )
    )  # fmt: skip
    bought = line("10.00", level="vendor", account_id="V", product_id="prepaid_sim")
    used = {("sims", "S1"): {Month(2026, 2): 300 * 10**6, Month(2026, 3): 201 * 10**6}}

    def released(through: str, life: ServiceLife | None = None) -> Decimal | None:
        lives = {"S1": life or ServiceLife(date(2026, 1, 1))}
        entries = recognise(terms, [bought], lives, Month.parse(through), used)
        found = {entry.purpose: entry.amount for entry in entries}
        assert found["deferral"] == D("10.00")
        return found["release"]

    assert [released(month) for month in ("2026-01", "2026-02", "2026-03", "2030-01")] == [
        D("0.08"), D("6.00"), D("10.00"), D("10.00"),
    ]  # fmt: skip
    assert released("2026-02", ServiceLife(date(2026, 1, 1), date(2026, 2, 10))) == D("10.00")
    credit = line("-10.00", level="vendor", account_id="V", product_id="prepaid_sim")
    assert [
        (entry.purpose, entry.amount)
        for entry in recognise(terms, [credit], {}, Month(2026, 2), used)
    ] == [("deferral", D("-10.00")), ("release", D("-6.00"))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": "retail"}, "level: vendor"),
        ({"over": "months"}, "over: days"),
        ({"quota": {"usage_class": "data", "quantity": "0.5", "per": "B"}}, "whole number"),
        ({"quota": {"usage_class": "data", "quantity": 5, "per": "bottle"}}, "unknown unit"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    rule = {
        "id": "sims", "level": "vendor", "when": {"product": "sim"}, "over": "days", "months": 120,
        "quota": {"usage_class": "data", "quantity": 500, "per": "MB"},
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        DeferralRule.model_validate(rule | changes)


def test_what_is_earned_when_it_is_booked_is_not_deferred() -> None:
    terms = read_revenue(EXAMPLES)
    sold = {"product_id": "subscription", "gl_class": "recurring", "kind": "recurring"}
    now = line("5.00", "2026-03", **sold)
    ahead = line("5.00", "2026-04", booked_in=Month(2026, 3), **sold)
    assert posted(terms, [now], "2026-03") == {}
    assert posted(terms, [ahead], "2026-03") == {("deferral", "billed_in_advance:1"): D("5.00")}
    assert posted(terms, [ahead], "2026-04")["release", "billed_in_advance:1"] == D("5.00")


def test_rv_02_a_free_device_is_a_contract_asset_that_unwinds_to_nothing() -> None:
    terms = read_revenue(EXAMPLES)
    months = [Month(2026, 1) + number for number in range(24)]
    bills = [
        line("9.00", str(month), charge_id="tracker_monthly", charge_no=number)
        for number, month in enumerate(months)
    ]

    def asset(through: Month) -> Decimal:
        own = [bill for bill in bills if bill.usage_period <= through]
        return sum(posted(terms, own, str(through)).values(), D(0))

    first = posted(terms, bills[:1], "2026-01")
    assert first["allocation", "tracker_24:S1:device"] == D("96.00")
    assert first["allocation", "tracker_24:S1:install"] == D("24.00")
    assert first["allocation", "tracker_24:S1:connectivity"] == D("-5.00")  # earned 4, billed 9
    assert [asset(month) for month in months[:3]] == [D("115.00"), D("110.00"), D("105.00")]
    assert asset(months[-1]) == 0
    gone = ServiceLife(date(2026, 1, 1), date(2026, 3, 10))
    assert posted(terms, bills[:3], "2026-03", S1=gone) == {}


def earned(month: str, revenue: str, **changes: Any) -> EarningLine:
    values: dict[str, Any] = {
        "month": Month.parse(month),
        "account_id": "C0001",
        "customer_group": None,
        "service_id": "S1",
        "product_id": "subscription",
        "kind": "recurring",
        "gl_class": "recurring",
        "currency": "EUR",
        "usage_period": Month.parse(month),
        "first_month": Month.parse(month),
        "is_correction": False,
        "revenue": D(revenue),
    }
    return EarningLine(**{**values, **changes})


def test_partners_earn_by_tiers_and_corrections_take_back_what_was_earned() -> None:
    terms = read_commissions(EXAMPLES)
    lines = [
        earned("2026-01", "20000.00"),
        earned("2026-01", "500.00", gl_class="usage"),  # does not earn
        earned("2026-02", "100.00"),
        earned("2026-02", "-1000.00", usage_period=Month(2026, 1), is_correction=True),
    ]
    entries = commissions(terms, lines, [], Month(2026, 2))
    # 10,000 at 5 % and 10,000 at 8 % make 6.5 % of January, also of what is taken back of it
    assert [(entry.month, entry.amount) for entry in entries] == [
        (Month(2026, 1), D("1300.00")),
        (Month(2026, 2), D("5.00")),
        (Month(2026, 2), D("-65.00")),
    ]
    assert {entry.partner_id for entry in entries} == {"P-BERLIN"}
    assert {entry.version for entry in entries} == {"residual 2026"}


def test_cm_03_upfront_commissions_are_taken_back_by_months() -> None:
    terms = read_commissions(EXAMPLES)
    sold = SoldService("S1", "C0001", None, date(2026, 1, 10), date(2026, 6, 20), 30)
    amounts = {entry.kind: entry.amount for entry in commissions(terms, [], [sold], Month(2026, 6))}
    assert amounts == {"upfront": D("12.00"), "clawback": D("-8.00")}  # four full months served
    assert [e.kind for e in commissions(terms, [], [sold], Month(2026, 5))] == ["upfront"]
    assert commissions(CommissionTerms(), [], [sold], Month(2026, 5)) == []


BROKEN = [
    ("revenue.yaml", "over: usage_period", "over: days", "give months for over: months"),
    (
        "revenue.yaml",
        "when: {product: annual_plan}",
        "when: {product: activation, gl_class: one_time}",
        "never takes a charge: 'activation_fees' before it takes them all",
    ),
    ("commissions.yaml", "above: P-NORTH", "above: P-SOUTH", "'P-SOUTH' is no partner"),
    (
        "commissions.yaml",
        "account: C0001",
        'account: "group:fleet"',
        "'group:fleet' earns for 'P-NORTH' in some of the same months",
    ),
    (
        "commissions.yaml",
        "recognised: invoiced ",
        "recognised: paid ",
        "use 'invoiced' or 'collected'",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), BROKEN)
def test_mistakes_name_file_and_line(
    tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    text = (EXAMPLES / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        read_revenue(tmp_path)
        read_commissions(tmp_path)
    assert caught.value.line > 1


# ------------------------------------------------------------------------------ in the ledger


Booked = dict[tuple[str, str], int]


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


REVENUE = """
deferrals:
  - {id: sub_over_a_quarter, when: {product: sub}, over: months, months: 3}
  - {id: sims, level: vendor, when: {product: buy}, over: months, months: 2}
vendor_true_up: accepted
"""
COMMISSIONS = """
partners: [{id: P1, name: Partner, entity: NL01}]
plans:
  - {partner: P1, plan: {id: flat, version: "1", percent: "10", basis: margin,
     payout: {minimum: "1.00"}}}
customers: [{partner: P1, account: A}]
"""


def closing(books: Books, folder: Path) -> tuple[Workspace, Callable[[Month], Booked]]:
    """A workspace with rules of its own, and what its close books of a month."""
    configs = folder / "configs"
    shutil.copytree(ROOT / "configs" / "catalog", configs / "catalog")
    (configs / "revenue.yaml").write_text(REVENUE)
    (configs / "commissions.yaml").write_text(COMMISSIONS)
    ws = cast(
        Workspace,
        SimpleNamespace(
            configs=configs,
            catalog_digest=None,
            run_id="run",
            clock=lambda: NOW,
            engine=books.engine,
            actor="ann",
        ),
    )
    terms = read_ledger(ROOT / "configs" / "ledger")

    def close(period: Month) -> Booked:
        books.invoice(period)
        with Session(books.engine) as session, session.begin():
            booked = recognition.book_derived(ws, session, period, terms)
        books.post(period, terms)
        books.export(folder / str(period), period, terms)
        assert books.findings(period) == []
        return booked

    return ws, close


def test_what_cancels_out_needs_no_journal(books: Books, tmp_path: Path) -> None:
    _, close = closing(books, tmp_path)
    december = Month(2026, 12)
    charge = Charge("S9", 1000, charge_id="sub", product_id="sub", usage_period="2026-12",
                    billing_period="2026-12")  # fmt: skip
    books.book(charge, period=december, scope=("2026-12",))
    books.book(period=december, scope=("2026-12",))
    assert close(december)["deferral", "EUR"] == 0
    assert close(december) == {}


def test_derived_entries_are_booked_by_difference_and_posted(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, close = closing(books, tmp_path)
    configs = ws.configs

    def balances(period: Month) -> dict[str, int]:
        return dict(
            books.rows(  # type: ignore[arg-type]
                "select account, sum(debit_minor - credit_minor)::int from journal_line"
                " join journal using (journal_id)"
                f" where accounting_period <= '{period}' group by 1 order by 1"
            )
        )

    subscription = Charge(amount_minor=1000, charge_id="sub", product_id="sub", kind="recurring")
    cost = Charge(amount_minor=301, charge_id="buy", product_id="buy", level="vendor")
    books.book(subscription, cost.but(account_id="V"))
    _reconciled(books, expected=301, invoiced=350, disputed=30)
    assert close(OCTOBER) == {
        ("commission", "EUR"): 70,  # 10 % of 10.00 - 3.01
        ("deferral", "EUR"): 1301,
        ("release", "EUR"): 333 + 151,
        ("true_up", "EUR"): 19,
    }
    assert close(OCTOBER) == {}
    assert balances(OCTOBER) == {
        "1200": 1000,
        "1400": 150,
        "2100": -301 - 19,
        "2400": -667,
        "2500": -70,
        "4000": -333,
        "5000": 151,
        "5200": 19,
        "6100": 70,
    }
    # A correction in November: the whole is earned over the same quarter, so it catches up.
    books.book(subscription.but(amount_minor=700), cost.but(account_id="V"), period=NOVEMBER)
    assert close(NOVEMBER) == {
        ("commission", "EUR"): -30,
        ("deferral", "EUR"): -300,
        ("release", "EUR"): 334 - 200 + 150,
    }
    assert balances(NOVEMBER)["2400"] == -(700 - 467)
    assert balances(NOVEMBER)["1400"] == 0
    rows = recognition.roll_forward(ws, NOVEMBER)
    assert [(r.kind, r.opening, r.additions, r.releases, r.closing) for r in rows] == [
        ("deferred", D("6.67"), D("-3.00"), D("1.34"), D("2.33")),
        ("prepaid", D("1.50"), D(0), D("1.50"), D(0)),
    ]
    (statement,) = recognition.statements(ws, NOVEMBER)
    assert (statement.opening, statement.earned, statement.paid, statement.carried) == (
        D("0.70"),
        D("-0.30"),
        D(0),
        D("0.40"),
    )
    say = saying(books, tmp_path, monkeypatch)
    assert "2.33" in say("revenue", "deferred", "2026-11")
    ((number,),) = books.rows(
        "select id from booked_charge where level = 'retail' and entry_no = 1"
    )
    assert "over 3 months" in say("revenue", "charge", str(number))
    assert "nobody earned" in say("commission", "statement", "2026-11")  # no partner in configs
    # Without the rules everything is recognised as it was booked: what was deferred is taken back.
    terms = read_ledger(ROOT / "configs" / "ledger")
    (configs / "revenue.yaml").unlink()
    with Session(books.engine) as session:
        taken = recognition.book_derived(ws, session, NOVEMBER, terms)
    assert taken["deferral", "EUR"] == -1001
    with Session(books.engine) as session:
        ledger.set_period_state(session, "NL01", NOVEMBER, "soft_closed", actor="x", at=NOW)
        ledger.set_period_state(session, "NL01", NOVEMBER, "in_review", actor="x", at=NOW)
        ledger.set_period_state(session, "NL01", NOVEMBER, "closed", actor="x", at=NOW)
        assert recognition.book_derived(ws, session, NOVEMBER, terms) == {}


COLLECTED = COMMISSIONS.replace("basis: margin,", "basis: revenue, recognised: collected,")


def test_partners_earn_as_far_as_their_customers_have_paid(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, close = closing(books, tmp_path)
    (ws.configs / "revenue.yaml").unlink()
    (ws.configs / "commissions.yaml").write_text(COLLECTED)
    books.book(Charge(amount_minor=1000), Charge("S2", 500), Charge("S3", -100))
    with Session(books.engine) as session, session.begin():
        ledger.issue_invoices(
            session, OCTOBER, run_id="run", issue_date=date(2026, 10, 31), issued_at=NOW
        )
        taxes.tax_invoices(session, TAXES)  # 19 % of 14.00 are 2.66
    assert close(OCTOBER) == {}

    def read(*rows: str) -> PaymentsRead:
        file = tmp_path / "payments.csv"
        file.write_text("\n".join(("invoice,reference,received_on,amount,currency", *rows)) + "\n")
        return recognition.read_payments(ws, file)

    half = "NL01-2026-10-000001,B-1,2026-11-04,8.33,EUR"
    assert read(half) == PaymentsRead(1, 0)
    assert read(half) == PaymentsRead(0, 1)
    with Session(books.engine) as session:
        assert collected(session, OCTOBER) == {1: 0, 2: 0, 3: 0}  # it came in November
        assert collected(session, NOVEMBER) == {1: 500, 2: 250, 3: -50}
    assert close(NOVEMBER) == {("commission", "EUR"): 70}
    say = saying(books, tmp_path, monkeypatch)
    assert json.loads(say("payments", "open", "2026-11", "--json"))[0]["open"] == "8.33"

    december = Month(2026, 12)
    read(half, "NL01-2026-10-000001,B-2,2026-12-01,9.00,EUR")  # more than is due
    assert close(december) == {("commission", "EUR"): 70}
    read("NL01-2026-10-000001,B-2 back,2027-01-02,-9.00,EUR")
    assert close(Month(2027, 1)) == {("commission", "EUR"): -70}
    assert "append-only" in books.refused("delete from payment")

    for row, said in (
        ("X-1,B-9,2026-12-01,1.00,EUR", "payments.csv:2: 'X-1' is no invoice here"),
        (half.replace("EUR", "USD"), "is in EUR, not USD"),
        (half.replace("8.33", "8.34"), "B-1 paid 8.3300 of NL01-2026-10-000001"),
        (half.replace("8.33", "8.333"), "payments.csv:2: .*8.333"),
        (half.replace("8.33", "much"), "amount"),
    ):
        with pytest.raises((LedgerError, ConfigError), match=said):
            read(row)


def _reconciled(books: Books, *, expected: int, invoiced: int, disputed: int) -> None:
    with books.engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into vendor_reconciliation (entity_id, accounting_period, vendor_id,"
                " currency, expected_minor, invoiced_minor, variance_minor, tolerated_minor,"
                " disputed_minor, unexplained_minor, lines, matched_lines, status, run_id,"
                " reconciled_at) values ('NL01', '2026-10', 'V', 'EUR', :e, :i, :i - :e, 0, :d, 0,"
                " 1, 0, 'disputed', 'run', now())"
            ),
            {"e": expected, "i": invoiced, "d": disputed},
        )


def test_nothing_is_derived_without_terms() -> None:
    assert read_revenue(ROOT / "configs").is_empty
    assert read_commissions(ROOT / "configs").plans == ()


def test_what_goes_on_beyond_a_month_is_accrued_and_taken_back(
    books: Books, tmp_path: Path
) -> None:
    ws, _ = closing(books, tmp_path)
    terms = read_ledger(ROOT / "configs" / "ledger")

    def close(period: Month, *found: Desired) -> Booked:
        books.book(period=period)
        with Session(books.engine) as session, session.begin():
            booked = recognition.book_derived(ws, session, period, terms, found)
        books.post(period, terms)
        assert books.findings(period) == []
        return booked

    def open_window(since: str, amount: str) -> Desired:
        return Desired(
            purpose="cut_off", item=f"V:buy:usage:{since}", level="vendor", entity_id="NL01",
            account_id="V", service_id="", product_id="buy", kind="usage", gl_class="cost_usage",
            tax_code="", currency="EUR", amount=D(amount), version="", explanation="of windows",
        )  # fmt: skip

    assert close(OCTOBER, open_window("2026-10-19", "13.00"))["cut_off", "EUR"] == 13_00
    assert close(OCTOBER, open_window("2026-10-19", "13.00")) == {}
    assert close(NOVEMBER, open_window("2026-11-19", "12.00"))["cut_off", "EUR"] == -1_00
    assert books.rows(
        "select accounting_period, account, sum(debit_minor - credit_minor)::int"
        " from journal_line join journal using (journal_id) where journal_type = 'COST_CUTOFF'"
        " group by 1, 2 order by 1, 2"
    ) == [
        ("2026-10", "2100", -13_00),
        ("2026-10", "5000", 13_00),
        ("2026-11", "2100", 1_00),
        ("2026-11", "5000", -1_00),
    ]
