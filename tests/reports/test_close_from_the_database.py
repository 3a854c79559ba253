"""A sample month closed in a real workspace: reconciliation and report from what was stored."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from openpyxl import load_workbook

from iotbill_pipelines.operations import disputes
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.reconciliation import reconcile_vendors
from iotbill_pipelines.operations.report import load_figures, write_report
from iotbill_pipelines.operations.sample import SampleSummary
from iotbill_pipelines.operations.stages import StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import Dispute
from tests import months
from tests.months import PERIOD
from tests.shelf import Shelf


@dataclass
class Closed:
    ws: Workspace
    sample: SampleSummary
    reconciled: StageResult


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("close") / "month"
    ws = months.opened(folder, shelf.copy(months.BOOKED, folder))
    yield Closed(ws, months.summary(folder), reconcile_vendors(ws, PERIOD))
    ws.close()


def causes(ws: Workspace, vendor: str) -> Counter[tuple[str, str, str]]:
    select = sa.text(
        "select l.uid_value, l.charge_code, c.cause, c.amount_minor"
        " from vendor_reconciliation r join vendor_reconciliation_line l using (reconciliation_id)"
        " join vendor_reconciliation_cause c using (reconciliation_id, line_no)"
        " where r.vendor_id = :vendor"
    )
    with ws.engine.connect() as connection:
        return Counter(
            {
                ((row[0] or "")[:19], row[1], row[2]): row[3]
                for row in connection.execute(select, {"vendor": vendor})
            }
        )


CAUSES = {
    "vendor_wrong_price": {"rate"},
    "vendor_quantity_variance": {"usage"},
    "vendor_duplicate_line": {"duplicate"},
    "vendor_rounding": {"rounding"},
    "vendor_lines_rounded_apart": {"rounding"},
    "vendor_wrong_period": {"wrong_period"},
    "vendor_billed_inactive": {"billed_inactive"},
    "vendor_unknown_sim": {"unknown_sim"},
    "vendor_missing_sim": {"unbilled_sim"},
    "vendor_proration": {"proration"},
}


@pytest.mark.parametrize("vendor", ["emnify", "bics"])
def test_every_planted_deviation_is_found_with_its_cause_and_its_cents(
    closed: Closed, vendor: str
) -> None:
    found = causes(closed.ws, vendor)
    found.pop(("", "(invoice rounding)", "rounding"), None)
    planted: Counter[tuple[str, str]] = Counter()
    kinds: dict[tuple[str, str], set[str]] = {}
    for fault in closed.sample.planted:
        if fault.kind in CAUSES and fault.file.startswith(vendor):
            key = (fault.identifier[:19], fault.detail.partition(":")[0])
            planted[key] += int((fault.amount or Decimal(0)) * 100)
            kinds.setdefault(key, set()).update(CAUSES[fault.kind])
    per_line: Counter[tuple[str, str]] = Counter()
    for (sim, code, cause), minor in found.items():
        per_line[sim, code] += minor
        assert cause in kinds[sim, code] | {"rounding"}, (sim, code, cause)
    assert per_line == planted


def test_the_vendors_totals_are_the_samples(closed: Closed) -> None:
    figures = {v.vendor: v for v in load_figures(closed.ws, PERIOD).vendors}
    for total in closed.sample.vendor_totals:
        assert figures[total.vendor].expected_minor == int(total.expected * 100)
        assert (figures[total.vendor].invoiced_minor is None) == (total.invoiced is None)
    assert figures["emnify"].unexplained_minor == figures["bics"].unexplained_minor == 0


def test_the_workbooks_agree_with_the_ledger(closed: Closed) -> None:
    figures = {v.vendor: v for v in load_figures(closed.ws, PERIOD).vendors}
    assert len(closed.reconciled.files) == 2
    for path in closed.reconciled.files:
        vendor = figures[path.name.split("_")[1]]
        book = load_workbook(path, data_only=True)
        rows = {row[0]: row for row in book["Summary"].iter_rows(values_only=True) if row[0]}
        cents = {
            "Expected by our records": vendor.expected_minor,
            "Invoiced": vendor.invoiced_minor,
            "Variance": vendor.variance_minor,
            "Please credit": vendor.claimed_minor,
        }
        for name, minor in cents.items():
            assert Decimal(str(rows[name][2])) * 100 == minor, name
        assert rows["Please credit"][1] == vendor.claims


def test_reconciling_again_changes_nothing(closed: Closed) -> None:
    before = {path: path.read_bytes() for path in closed.reconciled.files}
    again = reconcile_vendors(closed.ws, PERIOD)
    assert not again.changed
    assert again.files == closed.reconciled.files
    assert again.rows == closed.reconciled.rows
    assert {path: path.read_bytes() for path in again.files} == before


def test_a_lost_workbook_is_written_again_and_claims_keep_their_life(closed: Closed) -> None:
    path = closed.reconciled.files[0]
    content = path.read_bytes()
    path.unlink()
    assert reconcile_vendors(closed.ws, PERIOD).changed
    assert path.read_bytes() == content
    answer = sa.text(
        "update dispute set status = 'credited', credit_reference = 'CN-1' where dispute_id ="
        " (select min(dispute_id) from dispute where vendor_id = 'bics') returning dispute_id"
    )
    with closed.ws.engine.begin() as connection:
        claim = connection.execute(answer).scalar_one()
    path.unlink()
    reconcile_vendors(closed.ws, PERIOD)
    with closed.ws.engine.connect() as connection:
        kept = connection.execute(
            sa.text("select status, credit_reference from dispute where dispute_id = :id"),
            {"id": claim},
        ).one()
    assert tuple(kept) == ("credited", "CN-1")
    cells = [
        cell for row in load_workbook(path)["Disputes"].iter_rows(values_only=True) for cell in row
    ]
    assert {"credited", "CN-1"} <= set(cells)


def test_the_report_adds_up_and_counts_what_the_sample_wrote(closed: Closed) -> None:
    figures = load_figures(closed.ws, PERIOD)
    assert figures.adds_up
    feeds = {feed.feed: feed.records for feed in figures.feeds}
    for file in closed.sample.files:
        assert file.feed_id in feeds
    for feed in ("emnify_usage", "bics_usage", "telfix_usage", "xl_usage"):
        fates = closed.sample.outcomes(feed)
        got = feeds[feed]
        assert (got.ignored, got.duplicate, got.rejected, got.suspended) == (
            fates["ignored"],
            fates["duplicate"],
            fates["rejected"],
            fates["suspended"],
        )
        # A file of a day beside the month counts only if some of it is October's on some calendar.
        of_the_month = sum(
            file.records
            for file in closed.sample.files
            if file.feed_id == feed and ("2026-10-" in file.name or "202610" in file.name)
        )
        assert of_the_month <= got.arrived <= closed.sample.records(feed)
    assert figures.booking.new_rows > 0


def test_the_report_of_a_later_run_says_nothing_new(closed: Closed) -> None:
    first = write_report(closed.ws, PERIOD)
    assert first.changed
    assert not write_report(closed.ws, PERIOD).changed
    later = closed.ws.for_run("another-run")
    result = write_report(later, PERIOD)
    assert result.changed
    assert result.rows["rows booked now"] == 0
    page = next(path for path in result.files if path.suffix == ".html")
    assert "nothing new to post" in page.read_text("utf-8")


def test_margins_are_revenue_less_cost_in_every_view(closed: Closed) -> None:
    figures = load_figures(closed.ws, PERIOD)
    views = {view.title: view for view in figures.statements}
    customers, vendors = views["Customers with the lowest margin"], views["Margin by vendor"]
    revenue = sum(row.amount_minor for row in figures.revenue)
    cost = sum(row.expected_minor for row in figures.vendors)
    for view in (customers, vendors):
        sums = [sum(amounts[place] for _, _, amounts in view.rows) for place in range(3)]
        assert sums == [revenue, cost, revenue - cost]
    margins = [amounts[2] for _, _, amounts in customers.rows]
    assert margins == sorted(margins)
    assert "SIMs that cost more than they earn" not in views  # the sample sells above cost
    page = next(p for p in write_report(closed.ws, PERIOD).files if p.suffix == ".html").read_text()
    assert page.count("<svg") >= 4 and "<script" not in page


def test_a_claim_has_steps_an_age_and_a_deadline(closed: Closed) -> None:
    ws = closed.ws
    claims = disputes.list_claims(ws, vendor="emnify", statuses=("open",))
    first, second = claims[0].dispute_id, claims[1].dispute_id

    assert disputes.step(ws, [first, second, first], "sent", note="mailed") == [first, second]
    assert disputes.step(ws, [first], "sent") == []
    disputes.step(ws, [second], "rejected", note="was active")
    with pytest.raises(disputes.DisputeError, match="is rejected; from there it can become sent"):
        disputes.step(ws, [first, second], "credited", credit_reference="CN-9")
    with pytest.raises(disputes.DisputeError, match="--reference"):
        disputes.step(ws, [first], "credited")

    history = disputes.show_claim(ws, second)
    assert [step.status for step in history.steps] == ["open", "sent", "rejected"]
    assert history.claim.outstanding == 0
    shown = disputes.show_claim(ws, first).claim
    assert (shown.status, shown.age_days, shown.age_bucket) == ("sent", 0, "0-30")
    assert shown.days_left == (shown.deadline - ws.today).days if shown.deadline else False
    everything = disputes.list_claims(ws)
    assert sum(row.claims for row in disputes.ageing(everything)) == len(everything)
    assert disputes.list_claims(ws, overdue=True) == []
    past = replace(ws, clock=lambda: datetime(2027, 9, 1, tzinfo=UTC))
    assert {claim.status for claim in disputes.list_claims(past, overdue=True)} == {"open"}


def test_claims_go_out_in_the_vendors_layout(closed: Closed, tmp_path: Path) -> None:
    written = disputes.export_claims(closed.ws, "bics", tmp_path / "claims.csv")
    disputes.export_claims(closed.ws, "bics", tmp_path / "claims.xlsx")

    header, *rows = (tmp_path / "claims.csv").read_text().splitlines()
    assert header.startswith("Claim ID,Invoice,Row,ICCID,Period,Tariff,Charged amount")
    assert len(rows) == len(written) > 0
    sheet = load_workbook(tmp_path / "claims.xlsx")["Claims"]
    assert sheet["A2"].value == rows[0].split(",")[0]


def test_claims_in_two_currencies_are_added_up_apart(closed: Closed, tmp_path: Path) -> None:
    columns = [column for column in Dispute.__table__.columns if column.computed is None]
    in_yen = {"dispute_id": "in yen", "currency": "JPY", "difference_minor": 700}
    with closed.ws.engine.begin() as connection:
        is_open = (Dispute.vendor_id == "bics", Dispute.status == "open")
        one = sa.select(*columns).where(*is_open).limit(1)
        row = connection.execute(one).mappings().one()
        connection.execute(sa.insert(Dispute), {**row, **in_yen})
    try:
        disputes.export_claims(closed.ws, "bics", tmp_path / "claims.xlsx")
    finally:
        with closed.ws.engine.begin() as connection:
            connection.execute(sa.text("delete from dispute where dispute_id = 'in yen'"))

    book = load_workbook(tmp_path / "claims.xlsx")
    assert book.sheetnames == ["Claims in EUR", "Claims in JPY"]
    titles = [cell.value for cell in book["Claims in JPY"][1]]
    column = titles.index("Claimed")
    (claim, total) = list(book["Claims in JPY"].iter_rows(min_row=2))
    assert claim[column].value == total[column].value == 700
    assert claim[column].number_format.startswith('#,##0" JPY"')
    assert all("EUR" in row[column].number_format for row in book["Claims in EUR"].iter_rows(2))


def test_a_credit_of_the_next_month_is_matched_back_and_no_part_of_its_comparison(
    closed: Closed, tmp_path: Path
) -> None:
    ws = closed.ws.for_run("credits")
    sent = [
        claim
        for claim in disputes.list_claims(ws, vendor="bics", statuses=("open",))
        if claim.sim is not None and claim.charge_code == "BICS-SIM"
    ]
    claim = sent[0]
    columns = (
        "DATE,AccountId,CustomerName,iccid,msisdn,ServiceName,TariffName,RatezoneName,"
        "DynamicBenefitName,ChargedCount,ChargedVolume,ChargedAmount,CostCurrency,CategoryName,"
        "FeeCategory,FeeType"
    )
    amount = claim.difference + Decimal("0.30")
    file = tmp_path / "bics_billing_2026-11-CN1.csv"
    file.write_text(
        f"{columns}\n2026-10-01,1,Us,{claim.sim},,SIM,T,,,1,,-{amount},EUR,c,f,Recurring\n"
    )
    land(ws, [file])
    ingest(ws)

    reconcile_vendors(ws, PERIOD + 1)

    found = disputes.show_claim(ws, claim.dispute_id)
    assert (found.claim.status, found.claim.outstanding) == ("credited", 0)
    assert found.claim.credit_reference == "bics_billing_2026-11-CN1"
    assert [(c.amount, c.matched_by) for c in found.credits] == [(claim.difference, "line")]
    with ws.engine.connect() as connection:
        select = sa.text(
            "select invoiced_minor from vendor_reconciliation"
            f" where accounting_period = '{PERIOD + 1}' and vendor_id = 'bics'"
        )
        assert connection.execute(select).scalar_one() == -30
    reconcile_vendors(ws, PERIOD + 1)
    assert disputes.show_claim(ws, claim.dispute_id) == found


def test_a_plan_that_was_not_agreed_is_warned_of_and_on_a_sheet_of_its_own(
    closed: Closed, tmp_path: Path
) -> None:
    """The carrier names a plan without a version: any version of it is meant, another plan not."""
    configs = tmp_path / "configs"
    shutil.copytree(closed.ws.configs, configs)
    ws = replace(closed.ws.for_run("plans"), configs=configs)
    vendor = configs / "vendors" / "emnify.yaml"
    text = vendor.read_text()

    def reconciled(plan: str, offer: str = "emnify_standard") -> tuple[StageResult, list[str]]:
        vendor.write_text(f'{text}plans: [{{plan: {plan}, version: "2", offer: {offer}}}]\n')
        result = reconcile_vendors(ws, PERIOD)
        return result, [f"{f.severity} {f.message}" for f in result.findings if "plan" in f.message]

    def plans(result: StageResult) -> list[tuple[object, ...]]:
        book = load_workbook(next(p for p in result.files if "emnify" in p.name), data_only=True)
        summary = {row[0]: row[2] for row in book["Summary"].iter_rows(values_only=True) if row[0]}
        total = [cell.value for cell in book["Plans"][2]][4:]
        assert total == [
            summary["Expected by our records"],
            summary["Invoiced"],
            summary["Variance"],
        ]
        return [row[:3] for row in book["Plans"].iter_rows(min_row=4, values_only=True)]

    result, warned = reconciled("emnify_standard")
    assert warned == []
    assert ("emnify_standard", "emnify_standard version 2", "As agreed") in plans(result)

    result, warned = reconciled("emnify_pro")
    (warning,) = warned
    assert warning.startswith("warn emnify: ")
    assert warning.endswith(
        "another plan than agreed: emnify_standard instead of emnify_pro version 2"
    )
    assert ("emnify_standard", "emnify_pro version 2", "Another plan") in plans(result)

    result, warned = reconciled("emnify_pro", offer="emnify_lite")
    assert result.blocking and "which is no offer of level vendor" in warned[0]
    assert "emnify_standard" in result.blocking[0].what_to_do
