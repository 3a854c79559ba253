"""What a roaming partner bills event by event (TAP) is compared per SIM, charge code and month."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from iotbill_pipelines.config.documents import read_yaml
from iotbill_pipelines.config.feeds import load_feed
from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import VendorTerms
from iotbill_pipelines.engine.schemas import VENDOR_INVOICE_LINE
from tests.conftest import ROOT
from tests.feeds.harness import Outcome as Ingested
from tests.feeds.harness import ingest_bytes

from .market import Market, Outcome

EXAMPLE = ROOT / "configs" / "examples" / "tap"
PUBLIC = ROOT.parent / "shared" / "feeds" / "tap3"


def events(*, lines: Any = "events") -> Market:
    """A thousand messages of S1 at 0.004, alike and on two days, in two files; and data of S2."""
    made = Market(terms=[VendorTerms("carrier", "EUR", lines=lines)])
    made.charge("SMS", "usage", "0.004")
    made.charge("DATA", "usage", "0.000003")
    for sim, code, minor, quantity in (("S1", "SMS", 4_00, 1000), ("S2", "DATA", 75, 250_000)):
        made.sim(sim)
        made.expect(sim, code, minor, quantity=quantity, kind="usage")
    for number in range(1000):
        made.bill("S1", "SMS", "0.004", quantity=1, start=f"2026-03-{2 + number % 2:02d}")
        made.rows["vendor_invoice_line"][-1]["file_key"] = 7 + number % 2
    for day in range(1, 26):
        made.bill("S2", "DATA", "0.03", quantity=10_000, start=f"2026-03-{day:02d}")
    return made


def told(result: Outcome) -> list[tuple[Any, ...]]:
    result.check_sums()
    return sorted((x["charge_code"], x["invoiced_minor"], x["status"]) for x in result.lines)


def test_events_are_added_up_before_anything_is_rounded_and_are_no_copies() -> None:
    result = events().reconcile()
    assert told(result) == [("DATA", 75, "matched"), ("SMS", 4_00, "matched")]
    assert result.by_cause() == {}
    assert sum(t["invoice_lines"] for t in result.totals) == 2
    as_charges = events(lines="charges").reconcile().by_cause()
    assert as_charges != {}  # a charge that comes a thousand times would be a copy


def test_the_order_and_the_files_of_events_change_nothing() -> None:
    made = events()
    plain = told(made.reconcile())
    Random(7).shuffle(made.rows["vendor_invoice_line"])
    assert told(made.reconcile()) == plain


def test_events_of_another_month_an_unknown_sim_and_too_many_of_them() -> None:
    made = events()
    for _ in range(2):
        made.bill("S1", "SMS", "1.00", quantity=250, start="2026-02-27")
    for _ in range(3):
        made.bill(None, "SMS", "0.50", quantity=125, start="2026-03-05", uid="8949999999999999999")
    for _ in range(50):
        made.bill("S2", "DATA", "0.03", quantity=10_000, start="2026-03-31")
    made.bill("S2", "DATA", "0.0300", quantity=10_000, start="2026-03-31", invoice="INV-2")
    result = made.reconcile()
    result.check_sums()
    differing = {"wrong_period": 2_00, "unknown_sim": 1_50, "usage": 1_53}
    assert result.by_cause() == differing
    assert {c["cause"]: c["difference_minor"] for c in result.disputes} == differing


@pytest.fixture(scope="module")
def ingested() -> Ingested:
    """The public TAP file through the example's feed; its audit block does not fit its events."""
    if not PUBLIC.is_dir():
        pytest.skip("the public TAP files are not here")
    text = (EXAMPLE / "tap_invoice.yaml").read_text()
    only_events = text.replace("{type: tap}", "{type: tap, checked_totals: [call_events]}")
    file = (PUBLIC / "tap_3_12_valid.ber").read_bytes()
    return ingest_bytes(only_events, {"CDWERFDXLKJE31707": file})


def test_the_example_reads_a_tap_file_as_what_a_partner_bills(ingested: Ingested) -> None:
    assert [
        (m["invoice_no"], m["uid_value"], m["charge_code"], m["service_start"], m["quantity"],
         m["currency"], m["amount"])
        for m in ingested.accepted
    ] == [
        ("WERFD2014-03", "133713371337133", "MTC", date(2014, 3, 1), 153, "XDR", Decimal("2.3")),
        ("WERFD2014-03", "232323232323232", "MOC", date(2014, 3, 1), 213, "XDR", Decimal("2.3")),
        ("WERFD2014-03", "232323232323232", "DATA", date(2014, 3, 1), 3_400_000_000, "XDR",
         Decimal("66.6")),
    ]  # fmt: skip
    assert len(ingested.rejected) == 1  # the supplementary service, which costs nothing


def test_the_totals_that_a_tap_file_states_are_checked(ingested: Ingested) -> None:
    spec = load_feed(EXAMPLE / "tap_invoice.yaml")
    file = (PUBLIC / "tap_3_12_valid.ber").read_bytes()
    out = ingest_bytes(spec, {"CDWERFDXLKJE31707": file})
    assert [result.state for result in out.results] == ["quarantined"]
    assert "declares" in out.rejected[0]["message"] and out.accepted == []


def test_what_a_partner_bills_by_tap_is_reconciled(ingested: Ingested, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "partner.yaml", tmp_path)
    vendor = read_vendors(tmp_path)["partner"]
    assert read_yaml(EXAMPLE / "tap_invoice.yaml").data["id"] == vendor.invoice_feed
    made = Market(terms=[vendor.terms()])
    made.charge("DATA", "usage", "0.0195", unit_size=1_000_000)
    made.charge("MOC", "usage", "0.6", unit_size=60)
    made.sim(
        "S1",
        states=[("2010-01-01", "active")],
        vendor="partner",
        uid_type="imsi",
        uid_value="232323232323232",
        valid_from=datetime.fromisoformat("2010-01-01"),
    )
    period = Month(2014, 3)
    for code, minor, quantity in (("DATA", 66_30, 3_400_000_000), ("MOC", 2_13, 213)):
        made.expect("S1", code, minor, quantity=quantity, kind="usage", period=str(period))
        made.rows["desired_charge"][-1] |= {
            "account_id": "partner", "billing_period": str(period), "currency": "XDR",
        }  # fmt: skip
    made.rows["vendor_invoice_line"] = [
        {name: line.get(name) for name in VENDOR_INVOICE_LINE.column_names}
        for line in ingested.accepted
    ]
    result = made.reconcile(period)
    result.check_sums()
    assert result.by_cause() == {"rate": 30 + 17, "unknown_sim": 2_30}
    assert {c["uid_value"] for c in result.disputes} == {"232323232323232", "133713371337133"}
