"""Margins as earned, by SIM, customer, product and partner, in the command and in the marts; and
usage in marts.

Prepaid cost counts as it is used up, deferred revenue as it is earned, a vendor's month day by day.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal as D
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from openpyxl import load_workbook
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import RATED_USAGE
from iotbill_pipelines.operations.margins import (
    GRAINS,
    Grain,
    Margin,
    margins,
    publish_product_costs,
    write_margins,
)
from iotbill_pipelines.operations.marts import make_views, show_marts
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.derived import Desired, book_derived
from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.storage.books import NOVEMBER, NOW, OCTOBER, Books, Charge

PURPOSES = ("deferral", "release", "allocation", "true_up", "cut_off", "commission")
CARRIERS = {"o_usage": "o'neill", "o_sms": "o'neill"}
MARTS = ("margin_by_service", "margin_by_customer", "margin_by_product", "margin_by_partner")


def moved(
    purpose: str,
    amount: str,
    level: str = "vendor",
    account: str = "V",
    service: str = "",
    product: str = "buy",
) -> Desired:
    return Desired(
        purpose=purpose,
        item=f"{purpose}:{level}:{account}:{service}:{product}",
        level=level,
        entity_id="NL01",
        account_id=account,
        service_id=service,
        product_id=product,
        kind="recurring",
        gl_class="cost_usage" if level == "vendor" else "recurring",
        tax_code="",
        currency="EUR",
        amount=D(amount),
        version="",
        explanation="",
    )


@pytest.fixture(scope="module")
def books(module_postgres_url: str) -> Iterator[Books]:
    """S1 of A costs 120.00 for a year, paid in October; S2 of B pays 60.00 for half a year in
    advance and costs a little; the vendor's month goes on beyond October."""
    books = Books(module_postgres_url)
    cost = Charge(level="vendor", account_id="V", product_id="buy", kind="recurring")
    october = (
        Charge("S1", 8_00, charge_id="sub", product_id="sub", kind="recurring"),
        Charge("S1", 4_00),
        Charge("S2", 60_00, account_id="B", charge_id="sub", product_id="sub", kind="recurring"),
        cost.but(service_id="S1", amount_minor=120_00, charge_id="year"),
        cost.but(service_id="S2", amount_minor=3_00, charge_id="line"),
        cost.but(service_id="S9", amount_minor=1_00, charge_id="line", account_id="W"),
    )
    november = (
        Charge("S1", 8_00, charge_id="sub", product_id="sub", kind="recurring",
               usage_period="2026-11", billing_period="2026-11"),
    )  # fmt: skip
    books.book(*october, period=OCTOBER, scope=("2026-10",))
    books.book(*november, period=NOVEMBER, scope=("2026-11",))
    prepaid = moved("deferral", "110.00", service="S1")
    advance = moved("deferral", "50.00", "retail", "B", "S2", "sub")
    payout = moved("commission", "7.00", "retail", "P", "S1", "sub")
    wanted = {
        OCTOBER: [prepaid, advance, payout, moved("cut_off", "13.00")],
        NOVEMBER: [
            prepaid,
            advance,
            payout,
            moved("release", "10.00", service="S1"),
            moved("release", "10.00", "retail", "B", "S2", "sub"),
            moved("true_up", "0.50", product=""),
        ],
    }
    for period, desired in wanted.items():
        with Session(books.engine) as session, session.begin():
            book_derived(session, period, PURPOSES, desired, run_id="run", booked_at=NOW)
    yield books
    books.engine.dispose()


@pytest.fixture(scope="module")
def ws(books: Books) -> Workspace:
    return cast(
        Workspace,
        SimpleNamespace(
            engine=books.engine,
            clock=lambda: NOW,
            compute=lambda rows: DuckDbCompute(expected_rows=rows),
        ),
    )


def shown(found: list[Margin]) -> dict[str, tuple[str, str, str]]:
    return {one.key: (str(one.revenue), str(one.cost), str(one.margin)) for one in found}


def test_cost_that_is_prepaid_counts_as_it_is_used_up(ws: Workspace) -> None:
    assert shown(margins(ws, OCTOBER, "sim")) == {
        "": ("0.00", "13.00", "-13.00"),  # the days of the vendor's month until the end of October
        "S9": ("0.00", "1.00", "-1.00"),
        "S1": ("12.00", "10.00", "2.00"),
        "S2": ("10.00", "3.00", "7.00"),
    }
    assert shown(margins(ws, NOVEMBER, "sim")) == {
        "": ("0.00", "-12.50", "12.50"),  # taken back, and what the vendor billed beyond
        "S1": ("8.00", "10.00", "-2.00"),
        "S2": ("10.00", "0.00", "10.00"),
    }


def test_whose_and_which_margins(ws: Workspace) -> None:
    assert shown(margins(ws, OCTOBER, "customer")) == {
        "(nobody)": ("0.00", "14.00", "-14.00"),
        "A": ("12.00", "10.00", "2.00"),
        "B": ("10.00", "3.00", "7.00"),
    }
    assert shown(margins(ws, OCTOBER, "partner")) == {
        "W": ("0.00", "1.00", "-1.00"),
        "V": ("22.00", "26.00", "-4.00"),
    }
    assert shown(margins(ws, OCTOBER, "product")) == {
        "(no revenue)": ("0.00", "14.00", "-14.00"),
        "data": ("4.00", "3.33", "0.67"),
        "sub": ("18.00", "9.67", "8.33"),
    }
    assert list(shown(margins(ws, NOVEMBER, "sim", negative=True))) == ["S1"]
    assert list(shown(margins(ws, OCTOBER, "sim", customer="B"))) == ["S2"]
    assert list(shown(margins(ws, OCTOBER, "product", vendor="W"))) == ["(no revenue)"]


@pytest.mark.parametrize("by", GRAINS)
def test_every_view_adds_up_and_is_written(ws: Workspace, by: Grain, tmp_path: Path) -> None:
    found = margins(ws, OCTOBER, by)
    assert (sum(m.revenue for m in found), sum(m.cost for m in found)) == (D("22.00"), D("27.00"))
    write_margins(ws, found, by, tmp_path / "m.xlsx")
    rows = list(load_workbook(tmp_path / "m.xlsx").active.iter_rows(values_only=True))
    assert rows[-1][-3:] == (22, 27, -5)


# -------------------------------------------------------------------------------------- marts


def mart(connection: duckdb.DuckDBPyConnection, path: str) -> list[tuple[Any, ...]]:
    """Run a model or a data test of the dbt project on tables in memory."""
    project = ROOT / "dbt_project"
    environment = Environment(
        loader=FileSystemLoader(project), undefined=StrictUndefined, keep_trailing_newline=True
    )
    text = environment.from_string((project / path).read_text()).render(
        source=lambda schema, name: f"lake.{name}" if schema == "lake" else name,
        ref=lambda name: name,
        var={
            "carriers": CARRIERS,
            "units": {"data": "byte", "voice": "second"},
            "daily_usage_periods": ["2026-10", "2026-11"],
        }.get,
    )
    if path.startswith("tests"):
        return connection.execute(text).fetchall()
    connection.execute(f"create or replace table {Path(path).stem} as {text}")
    return []


@pytest.fixture(scope="module")
def marts(books: Books, ws: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """The marts of the ledger above, computed in memory as dbt computes them."""
    publish_product_costs(ws)
    publish_product_costs(ws)  # again: it replaces
    with duckdb.connect() as connection, books.engine.connect() as ledger:
        for name in ("booked_charge", "derived_entry", "earned_amount", "product_cost"):
            table = ledger.exec_driver_sql(f"select * from {name}")
            frame = {key: [row[i] for row in rows] for rows in [table.all()]
                     for i, key in enumerate(table.keys())}  # fmt: skip
            columns = ", ".join(
                f"unnest(?){'::decimal(20,4)' if key == 'amount' else ''} as {key}" for key in frame
            )
            connection.execute(f"create table {name} as select {columns}", list(frame.values()))
        connection.execute(
            "create table reference_service (service_id text, account_id text, known_to timestamp);"
            "create table reference_account (account_id text, name text, customer_group text,"
            " known_to timestamp)"
        )
        for name in MARTS:
            mart(connection, f"models/marts/{name}.sql")
        yield connection


def test_the_marts_tell_what_was_booked_and_what_was_earned(
    marts: duckdb.DuckDBPyConnection,
) -> None:
    rows = marts.execute(
        "select usage_period, service_id, booked_revenue, booked_cost, revenue, vendor_cost,"
        " margin, margin_flag from margin_by_service order by 1, 2"
    ).fetchall()
    told = [(*row[:2], *map(float, row[2:7]), row[7]) for row in rows]
    assert told == [
        ("2026-10", "", 0, 0, 0, 13, -13, "cost_without_revenue"),
        ("2026-10", "S1", 12, 120, 12, 10, 2, "ok"),
        ("2026-10", "S2", 60, 3, 10, 3, 7, "ok"),
        ("2026-10", "S9", 0, 1, 0, 1, -1, "cost_without_revenue"),
        ("2026-11", "", 0, 0, 0, -12.5, 12.5, "ok"),
        ("2026-11", "S1", 8, 0, 8, 10, -2, "negative"),
        ("2026-11", "S2", 0, 0, 10, 0, 10, "revenue_without_cost"),
    ]


def test_the_marts_agree_with_the_command(marts: duckdb.DuckDBPyConnection, ws: Workspace) -> None:
    for by, name, key in (
        ("customer", "margin_by_customer", "account_id"),
        ("product", "margin_by_product", "product_id"),
        ("partner", "margin_by_partner", "vendor_id"),
    ):
        for period in (OCTOBER, NOVEMBER):
            rows = marts.execute(
                f"select {key}, revenue, vendor_cost from {name} where usage_period = '{period}'"
            ).fetchall()
            found = margins(ws, period, cast(Grain, by))
            assert {row[0]: (row[1], row[2]) for row in rows} == {
                one.key: (one.revenue, one.cost) for one in found
            }, (by, period)


def test_the_data_test_of_the_marts_finds_a_cent(marts: duckdb.DuckDBPyConnection) -> None:
    test = "tests/margin_ties_to_the_ledger.sql"
    assert mart(marts, test) == []
    marts.begin()
    marts.execute("update margin_by_partner set vendor_cost = vendor_cost + 0.01")
    assert len(mart(marts, test)) == 2  # a month each
    marts.rollback()
    marts.begin()
    marts.execute("delete from derived_entry where purpose = 'release'")
    assert len(mart(marts, test)) == 4
    marts.rollback()


def test_late_usage_is_told_by_carrier(marts: duckdb.DuckDBPyConnection) -> None:
    """Two feeds of one carrier and one that no configuration names any more."""
    marts.execute(
        "create table feed_file as select * from (values (1, 'o_usage', '2026-11-01 00:00:00+00'),"
        " (2, 'o_sms', '2026-11-09 12:00:00+00'), (3, 'gone', '2026-10-30 00:00:00+00'))"
        " as t(file_key, feed_id, landed_at)"
    )
    marts.execute("alter table feed_file alter landed_at type timestamptz")
    marts.execute(
        "create table feed_file_outcome as select i as file_key, '2026-10' as usage_month,"
        " 'kept' as outcome, '' as reason_code, 10 * i as records, 100 * i as quantity"
        " from range(1, 4) as t(i)"
    )
    mart(marts, "models/marts/late_usage_ageing.sql")
    rows = marts.execute(
        "select carrier, feed_id, age_bucket, records, quantity::bigint from late_usage_ageing"
        " order by all"
    ).fetchall()
    assert rows == [
        ("gone", "gone", "0 within the month", 30, 300),
        ("o'neill", "o_sms", "3 up to 30 days", 20, 200),
        ("o'neill", "o_usage", "0 within the month", 10, 100),
    ]


def test_a_mart_shows_amounts_and_a_preview_of_the_month_by_level_and_currency(
    books: Books, ws: Workspace
) -> None:
    with books.engine.begin() as connection:
        connection.exec_driver_sql(
            "create schema marts; create table marts.commit_cockpit as select * from (values"
            " ('2026-10', 'retail', 'EUR', 150::bigint), ('2026-10', 'retail', 'EUR', 50),"
            " ('2026-10', 'vendor', 'EUR', 7), ('2026-10', 'retail', 'JPY', 9),"
            " ('2026-11', 'retail', 'EUR', 1)) as t(usage_period, level, currency, projected_minor)"
        )
    shown = show_marts(ws, OCTOBER, changed=False).tables["commit_cockpit"]
    assert shown.rows == {"of all months": 5, "of the month": 4}
    assert shown.amounts == [
        ("retail projected", "EUR", D("2.00")),
        ("retail projected", "JPY", D("9")),
        ("vendor projected", "EUR", D("0.07")),
    ]
    assert shown.preview is not None and shown.preview.num_rows == 4


_RATED = """
select n as file_key, 1 as line_no, part_no, 'f' as feed_id, '2026-10' as usage_month, usage_period,
  timestamp '2026-10-31 22:30:00' as event_start, local_date, level, account_id, 'S1' as service_id,
  'o' as offer_id, 'c' as charge_id, 'p' as price_id, usage_class, '' as session_key, quantity,
  quantity as rated_quantity, pooled, flags
from (values
  (1, 1, '2026-10', date '2026-10-31', 'retail', 'A', 'data', 100, true, null),
  (2, 1, '2026-10', date '2026-10-31', 'retail', 'A', 'data', 10, false, 'late counter_reset'),
  (3, 1, '2026-11', date '2026-11-01', 'retail', 'A', 'voice', 60, false, 'timeout_release'),
  (3, 2, '2026-11', date '2026-11-01', 'retail', 'A', 'voice', 30, false, 'timeout_release'),
  (1, 1, '2026-10', date '2026-10-31', 'vendor', 'V', 'data', 100, false, null),
  (4, 1, '2026-10', date '2026-10-31', 'retail', 'A', 'gone', 7, false, null),
  (5, 1, '2026-09', date '2026-09-30', 'retail', 'A', 'data', 1, false, null)
) as t(n, part_no, usage_period, local_date, level, account_id, usage_class, quantity, pooled,
  flags)
"""


def test_usage_by_day_is_what_the_lake_holds(
    marts: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """One month of UTC holds days of three usage periods; only two of them are shown."""
    lake = Lake(tmp_path / "lake")
    tie = "tests/daily_usage_ties_to_the_lake.sql"
    for rated in (None, _RATED):
        if rated is not None:
            with DuckDbCompute() as compute:
                lake.replace(RATED_USAGE, compute, rated, {"usage_month": "2026-10"})
        views = tmp_path / f"{lake.version(RATED_USAGE)}.duckdb"
        make_views(views, {RATED_USAGE: lake.files(RATED_USAGE)})
        marts.execute(f"attach '{views}' as lake (read_only)")
        mart(marts, "models/marts/usage_by_account_day.sql")
        shown = marts.execute(
            "select usage_period, usage_day::text, level, account_id, usage_class, unit, records,"
            " quantity::bigint, pooled_quantity::bigint, late_records"
            " from usage_by_account_day order by all"
        ).fetchall()
        assert mart(marts, tie) == []
        if rated is not None:
            marts.execute("delete from usage_by_account_day where usage_class = 'voice'")
            assert len(mart(marts, tie)) == 1
        else:
            assert shown == []
        marts.execute("detach lake")
    assert shown == [
        ("2026-10", "2026-10-31", "retail", "A", "data", "byte", 2, 110, 100, 1),
        ("2026-10", "2026-10-31", "retail", "A", "gone", None, 1, 7, 0, 0),
        ("2026-10", "2026-10-31", "vendor", "V", "data", "byte", 1, 100, 0, 0),
        ("2026-11", "2026-11-01", "retail", "A", "voice", "second", 1, 90, 0, 0),
    ]
