"""Contracts in a workspace and in the flow: read, signed once, booked, corrected by differences."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.contracts import (
    contract_schema,
    read_contract_book,
    template_copies,
)
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.contract.documents import read_contracts
from iotbill_pipelines.engine.schemas import REFERENCE
from iotbill_pipelines.engine.terms import Product
from iotbill_pipelines.operations import booking, charges, contracts
from iotbill_pipelines.operations.explaining import explain_period
from iotbill_pipelines.operations.report import load_figures
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.reference import ReferenceDataError
from tests.proof.business import Ledger, Settled, business

ROOT = Path(__file__).resolve().parents[2]
D = Decimal
CATALOG = """
usage_classes: {data: byte}
states:
  - {state: active, core: active, to: [cancelled]}
  - {state: cancelled, core: cancelled}
initial_states: [active]
products:
  - {id: subscription, name: Fee, charge_type: recurring, gl_class: recurring}
  - {id: data, name: Data, charge_type: usage, usage_class: data, gl_class: usage}
  - {id: min_commit, name: Minimum commitment, charge_type: one_time, gl_class: one_time}
offers:
  - id: fleet
    name: Fleet
    currency: EUR
    charges:
      - {id: fee, product: subscription, kind: recurring, prices: [{rate: "10.00"}]}
"""
TEMPLATE = """
templates:
  - id: quarterly
    name: So much a quarter
    terms:
      currency: EUR
      term_months: 12
      commitments:
        - id: spend
          kind: invoice_amount
          amounts: [{from_month: 1, value: "VALUE"}]
          period_months: 3
          frequency_months: 3
          penalty: {product_id: min_commit}
"""
CONTRACT = """
contracts:
  - {id: K, account: C1, template: quarterly, start: 2026-01-01}
"""


@pytest.fixture
def ws(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    configs = tmp_path / "configs"
    for name in ("catalog", "contracts", "feeds"):
        (configs / name).mkdir(parents=True)
    shutil.copytree(ROOT / "configs" / "ledger", configs / "ledger")
    shutil.copy(ROOT / "configs" / "close.yaml", configs)
    (configs / "catalog" / "all.yaml").write_text(CATALOG)
    (configs / "contracts" / "a.yaml").write_text(TEMPLATE.replace("VALUE", "100.00") + CONTRACT)
    now = datetime(2026, 4, 2, tzinfo=UTC)
    space = Workspace.open(tmp_path / "home", configs, postgres_url, lambda: now, migrate=True)
    known(space, "account", account_id="C1", name="C1", kind="customer", entity_id="NL01",
          billing_zone="UTC", currency="EUR")  # fmt: skip
    add_service(space, "S1", date(2026, 1, 1))
    yield space
    space.close()


def known(ws: Workspace, table_name: str, **row: Any) -> None:
    table = pa.Table.from_pylist([row], schema=REFERENCE[table_name].arrow_schema)
    with Session(ws.engine) as session, session.begin():
        reference.load(session, table_name, table, ws.clock(), "test")


def add_service(ws: Workspace, service: str, start: date, account: str = "C1") -> None:
    known(ws, "service", service_id=service, account_id=account)
    known(ws, "service_state", service_id=service, state="active",
          changed_at=datetime(start.year, start.month, start.day))  # noqa: DTZ001  # fmt: skip
    known(ws, "service_offer", service_id=service, level="retail", payer_account_id=account,
          offer_id="fleet", valid_from=start)  # fmt: skip


def close(ws: Workspace, month: int) -> None:
    run = ws.for_run(str(uuid.uuid4()))
    period = Month(2026, month)
    assert not charges.settle_charges(run, period).blocking
    assert not booking.book_charges(run, period).blocking


def shortfalls(ws: Workspace) -> list[tuple[Any, ...]]:
    select = (
        "select accounting_period, usage_period, charge_id, gl_class, amount, reason"
        " from booked_charge where kind = 'shortfall' order by id"
    )
    with ws.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(select))]


def test_a_shortfall_is_booked_once_and_moves_with_what_comes_late(ws: Workspace) -> None:
    for month in (1, 2):
        close(ws, month)
    assert shortfalls(ws) == []
    (cockpit,) = [
        each for each in load_figures(ws, Month(2026, 2)).statements if each.title == "Commitments"
    ]
    # 20.00 in 59 of 90 days: 30.51 at this pace, of 100.00
    assert cockpit.rows == (
        (
            ("C1", "K spend", "2026-01-01 to before 2026-04-01", "EUR", "100", "20", "30.51",
             "69.49", "100", "", ""),
            "EUR",
            (6949,),
        ),
    )  # fmt: skip
    (ws.configs / "contracts" / "b.yaml").write_text(
        TEMPLATE.replace("quarterly", "other").replace("VALUE", "999.00")
    )
    edited = ws.configs / "contracts" / "a.yaml"
    edited.write_text(edited.read_text().replace("100.00", "500.00"))
    close(ws, 3)
    # 30.00 of 100.00 promised at signing: the template was edited afterwards
    first = ("2026-03", "2026-03", "K/spend/2026-01-01", "one_time", D("70.0000"), "initial")
    assert shortfalls(ws) == [first]
    close(ws, 3)
    assert shortfalls(ws) == [first]
    add_service(ws, "S2", date(2026, 2, 1))
    close(ws, 4)
    assert shortfalls(ws) == [
        first,
        ("2026-04", "2026-03", "K/spend/2026-01-01", "one_time", D("-20.0000"), "adjustment"),
    ]
    assert [c.id for c in contracts.read_known(ws)] == ["K"]
    edited.write_text(TEMPLATE.replace("VALUE", "500.00") + "contracts: []\n")
    close(ws, 4)
    assert sum(row[4] for row in shortfalls(ws)) == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"template_id": "nothing"}, "names template 'nothing'"),
        ({}, "has no terms"),
        ({"own_terms": '{"currency": "EUR"}'}, "term_months"),
        ({"template_id": "quarterly", "account_contract_id": "none"}, "account contract 'none'"),
        (
            {"template_id": "quarterly", "own_terms": '{"prices":[{"charge_id":"x","rate":"1"}]}'},
            "prices.0.charge_id: unknown charge 'x'",
        ),
    ],
)
def test_a_landed_contract_that_does_not_hold_is_told(
    ws: Workspace, row: dict[str, Any], said: str
) -> None:
    known(ws, "contract", contract_id="L", account_id="C1", start_date=date(2026, 1, 1), **row)
    with pytest.raises(ReferenceDataError, match="contract L") as error:
        contracts.read_known(ws)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "line", "key", "said"),
    [
        (("product_id: min_commit", "product_id: nothing"), 14, "penalty.product_id", "unknown"),
        (("template: quarterly", "template: weekly"), 17, "template", "unknown template 'weekly'"),
        (("kind: invoice_amount", "kind: money"), 10, "commitments[0].kind", "not allowed"),
        (("start: 2026-01-01", "starts: 2026-01-01"), 17, "start", "required key is missing"),
    ],
)
def test_errors_name_file_line_and_key(
    ws: Workspace, change: tuple[str, str], line: int, key: str, said: str
) -> None:
    folder = ws.configs / "contracts"
    (folder / "a.yaml").write_text((folder / "a.yaml").read_text().replace(*change))
    with pytest.raises(ConfigError) as error:
        read_contract_book(folder, read_catalog(ws.configs / "catalog").catalog)
    told = str(error.value)
    assert f"a.yaml:{line}: " in told and key in told and said in told


def minimum(value: str, **changes: Any) -> dict[str, Any]:
    commitment = {
        "id": "spend", "kind": "invoice_amount", "penalty": {"product_id": "activation"},
        "amounts": [{"from_month": 1, "value": value}], **changes,
    }  # fmt: skip
    terms = {"currency": "EUR", "term_months": 24, "commitments": [commitment]}
    return {"contracts": [{"id": "K", "account": "C1", "start": "2026-01-01", "terms": terms}]}


def used(quantities: list[int], **more: Any) -> Settled:
    charge = {"id": "use", "product": "sms", "kind": "usage", "prices": [{"rate": "1.00"}]}
    offer = {"id": "deal", "name": "Deal", "currency": "EUR", "charges": [charge]}
    usage = [
        {"service": "S", "at": f"2026-03-{number + 1:02}", "class": "sms", "quantity": quantity}
        for number, quantity in enumerate(quantities)
    ]
    data: dict[str, Any] = {
        "catalog": {"offers": [offer]}, "services": {"S": {"offer": "deal"}}, "usage": usage,
    }  # fmt: skip
    return business(**{**data, **more})


@pytest.mark.parametrize(("late", "credit"), [(150, "-150.00"), (260, "-200.00")])
def test_late_usage_credits_the_shortfall_that_was_billed(late: int, credit: str) -> None:
    """CT-07: only the difference is booked, and never below nothing."""
    terms = minimum("1000.00")
    before, after = used([800], contracts=terms), used([800, late], contracts=terms)
    ledger = Ledger.empty(before.products)
    first = ledger.book(before.tables["desired_charge"], Month(2026, 3))
    assert sum(row["amount_minor"] for row in first) == 100_000
    second = ledger.book(after.tables["desired_charge"], Month(2026, 4))
    moved = {row["kind"]: row["amount_minor"] for row in second}
    assert moved == {"usage": late * 100, "shortfall": int(D(credit) * 100)}


def test_an_open_window_shows_where_it_will_end(status: Callable[..., dict[str, Any]]) -> None:
    found = status(
        [310],
        contracts=minimum("1200", period_months=12, frequency_months=12),
        periods=["2026-03"],
    )
    assert not found["closes"]
    assert (found["committed"], found["measured"], found["penalty_minor"]) == (1200, 310, 0)
    assert found["projected"] == D("1257.222222222222")  # 310 in 90 days, 365 days in the window
    assert found["projected_minor"] == 0


def test_hardware_and_exempt_products_do_not_count(status: Callable[..., dict[str, Any]]) -> None:
    for flag in ({"hardware": True}, {"commit_eligible": False}):
        product = {"id": "sms", "name": "SMS", "charge_type": "usage", "usage_class": "sms",
                   "gl_class": "usage", **flag}  # fmt: skip
        charge = {"id": "use", "product": "sms", "kind": "usage", "prices": [{"rate": "1.00"}]}
        offer = {"id": "deal", "name": "Deal", "currency": "EUR", "charges": [charge]}
        found = status(
            [80], contracts=minimum("100"), catalog={"products": [product], "offers": [offer]}
        )
        assert (found["measured"], found["penalty_minor"]) == (0, 10_000)
        assert (found["excluded_lines"], found["excluded_amount"]) == (1, 80)


@pytest.fixture
def status() -> Callable[..., dict[str, Any]]:
    def run(quantities: list[int], **more: Any) -> dict[str, Any]:
        (row,) = used(quantities, **more).rows("commitment_status")
        return row

    return run


def test_the_commented_example_loads_and_signs() -> None:
    catalog = read_catalog(ROOT / "configs" / "catalog").catalog
    extra = [
        Product(id=name, name=name, charge_type="one_time", gl_class="one_time")
        for name in ("min_commit", "termination")
    ]
    catalog = catalog.model_copy(update={"products": [*catalog.products, *extra]})
    book = read_contract_book(ROOT / "configs" / "examples" / "contracts", catalog)
    signed = read_contracts(
        book.contracts, template_copies(book.contracts, book.templates), book.suspensions
    )
    account, line = signed
    assert (account.end, line.end) == (date(2028, 7, 1), date(2028, 7, 1))
    assert account.signed_terms.notice_days == 90


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs" / "contract.schema.json").read_text() == contract_schema()


def test_discounts_are_booked_beside_their_charges_and_explained(ws: Workspace) -> None:
    add_service(ws, "S2", date(2026, 1, 1))
    document = ws.configs / "contracts" / "a.yaml"
    document.write_text(
        document.read_text().replace("start: 2026-01-01}", "start: 2026-01-01, terms: {discounts:"
            " [{id: third, percent: '33.333'}, {id: one, amount: '1.00', charges: [fee]}]}}")
    )  # fmt: skip
    close(ws, 1)
    close(ws, 1)
    with ws.engine.connect() as connection:
        booked = connection.execute(
            sa.text("select service_id, charge_id, product_id, gl_class, amount from booked_charge"
                    " where kind = 'discount' order by service_id, charge_id")
        ).fetchall()  # fmt: skip
    # 33.333 % of 20.00 is 6.67, parted 3.34 and 3.33; then 1.00 off 13.33, of 6.66 and 6.67
    assert [tuple(row) for row in booked] == [
        ("S1", "K/one/fee", "subscription", "recurring", D("-0.5000")),
        ("S1", "K/third/fee", "subscription", "recurring", D("-3.3400")),
        ("S2", "K/one/fee", "subscription", "recurring", D("-0.5000")),
        ("S2", "K/third/fee", "subscription", "recurring", D("-3.3300")),
    ]
    told = {(e.unit.service_id, e.unit.charge_id): e for e in explain_period(ws, Month(2026, 1))}
    assert len(told) == 6 and all(each.agrees for each in told.values())
    words = [step.text for step in told["S1", "K/third/fee"].steps]
    assert words == [
        "33.333 % off charges of together EUR 20.00: 6.67", "of 10.00 of this charge 3.34",
    ]  # fmt: skip


def test_contracts_are_told_and_ending_them_is_tried_without_writing(ws: Workspace) -> None:
    (line,) = contracts.list_contracts(ws, "C1")
    assert (line.state, line.term, line.end, line.then) == (
        "in_force", 1, date(2027, 1, 1), "expire",
    )  # fmt: skip
    assert contracts.list_contracts(ws, "C2") == []
    view = contracts.show_contract(ws, "K")
    assert (view.line.contract_id, view.rates, view.commitments) == ("K", [], [])
    with pytest.raises(UnknownId, match="known are K"):
        contracts.show_contract(ws, "X")
    terms = """
    terms:
      early_termination:
        product_id: min_commit
        kind: pct_of_remaining
        tiers: [{from_month: 1, to_month: 6, percent: "100"}, {from_month: 7, percent: "50"}]
        monthly_value: [{from_month: 1, value: "10.00"}]
      termination_statuses: [{status: left, core_state: cancelled}]
"""
    document = ws.configs / "contracts" / "a.yaml"
    document.write_text(
        document.read_text().replace("  - {id: K, account: C1, template: quarterly, "
            "start: 2026-01-01}\n", "  - id: K\n    account: C1\n    template: quarterly\n"
            "    start: 2026-01-01" + terms)
    )  # fmt: skip
    days = [date(2026, 7, 1), date(2026, 8, 1)]
    fees = contracts.termination_whatif(ws, "K", days)
    assert [fee.amount for fee in fees] == [D("60.00"), D("25.00")]
    with pytest.raises(ReferenceDataError, match="unknown termination status 'gone'"):
        contracts.termination_whatif(ws, "K", days, "gone")
    with ws.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from reference_contract")) == 0
    document.write_text(document.read_text() + "    terminated_on: 2026-02-01\n")
    close(ws, 1)
    with ws.engine.connect() as connection:
        booked = connection.execute(
            sa.text("select charge_id, kind, amount from booked_charge where kind <> 'recurring'"
                    " order by charge_id")
        ).fetchall()  # fmt: skip
    # 10.00 of the 100.00 x 31/90 days of the quarter; then 11 months at 10.00
    assert [tuple(row) for row in booked] == [
        ("K/spend/2026-01-01", "shortfall", D("24.4400")),
        ("K/termination_fee", "termination_fee", D("110.0000")),
    ]
    told = {each.unit.charge_id: each for each in explain_period(ws, Month(2026, 1))}
    assert len(told) == 3 and all(each.agrees for each in told.values())
    assert told["K/spend/2026-01-01"].steps[0].text == (
        "2026-01-01..2026-02-01: 100.00 x 31/90 days"
    )
