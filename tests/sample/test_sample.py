"""The sample company: same bytes each time, files that the feeds take, and everything planted."""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatch
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from python_calamine import load_workbook

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import UNIT_SIZES, Charge
from iotbill_pipelines.operations.sample import OUTCOMES, SampleSummary, write_sample
from iotbill_pipelines.operations.sample.invoices import TERMS

ROOT = Path(__file__).resolve().parents[2]
OCTOBER = Month(2026, 10)
Sample = tuple[Path, SampleSummary]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    out = tmp_path_factory.mktemp("landing")
    return out, write_sample(out, OCTOBER, 200, 1)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def text_of(file: Path) -> str:
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()


def sheet(file: Path) -> list[dict[str, object]]:
    header, *rows = load_workbook(str(file)).get_sheet_by_index(0).to_python()
    return [dict(zip(map(str, header), row, strict=True)) for row in rows]


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(text_of(file).splitlines()))


def usage_lines(out: Path, summary: SampleSummary, feed: str) -> Iterator[tuple[str, int, str]]:
    """Yield (file, line number, text) of the records of a text feed."""
    for file in summary.files:
        if file.feed_id == feed:
            for number, line in enumerate(text_of(out / file.name).splitlines(), 1):
                yield file.name, number, line


def test_the_same_arguments_give_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    out, summary = sample
    again = write_sample(tmp_path, OCTOBER, 200, 1)
    assert digests(tmp_path) == digests(out)
    assert again == summary


def test_another_seed_gives_another_company(sample: Sample, tmp_path: Path) -> None:
    other = write_sample(tmp_path, OCTOBER, 200, 2)
    assert other.expected_cost != sample[1].expected_cost


@pytest.mark.parametrize("month", ["2026-02", "2028-02", "2026-03", "2026-12"])
def test_any_month_can_be_written(month: str, tmp_path: Path) -> None:
    summary = write_sample(tmp_path, Month.parse(month), 40, 3)
    assert summary.records() > 1_000


def test_too_small_a_company_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ask for 40 or more"):
        write_sample(tmp_path, OCTOBER, 39, 1)


def test_five_hundred_services_are_a_plausible_month_in_a_few_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    summary = write_sample(tmp_path, OCTOBER, 500, 1)
    assert time.process_time() - started < 10  # 2 s on an idle core; crowded machines are slower
    assert 30_000 <= summary.records() <= 60_000


def test_every_file_belongs_to_exactly_the_feed_that_the_summary_names(sample: Sample) -> None:
    out, summary = sample
    feeds = {
        spec["id"]: spec["files"]
        for spec in map(
            yaml.safe_load, map(Path.read_text, (ROOT / "configs/feeds").glob("*.yaml"))
        )
    }
    for file in summary.files:
        matching = [
            feed for feed, patterns in feeds.items() if any(fnmatch(file.name, p) for p in patterns)
        ]
        assert matching == [file.feed_id], file.name
    assert {file.name for file in summary.files} == {path.name for path in out.iterdir()}


def test_the_records_counted_are_the_records_written(sample: Sample) -> None:
    out, summary = sample
    frame = {"emnify_usage": 0, "bics_usage": 1, "telfix_usage": 2}
    for file in summary.files:
        if file.feed_id in frame:
            lines = len(text_of(out / file.name).splitlines()) - frame[file.feed_id]
            assert lines == file.records == sum(file.outcomes.values())
        elif file.feed_id == "xl_usage":
            assert len(sheet(out / file.name)) == file.records == sum(file.outcomes.values())
    assert set(summary.outcomes()) == set(OUTCOMES)
    assert all(summary.outcomes(feed)["kept"] > 500 for feed in (*frame, "xl_usage"))


def test_everything_is_planted(sample: Sample) -> None:
    kinds = sample[1].kinds()
    assert set(kinds) >= {
        "duplicate_in_file", "duplicate_in_later_file", "conflicting_resend", "malformed",
        "unknown_sim", "after_cancel", "filtered_record_type", "late_record",
        "owner_change_from", "owner_change_to", "plan_change", "suspended", "reactivated",
        "used_while_suspended", "activated", "cancelled", "ended_before", "formula_text",
        "vendor_duplicate_line", "vendor_billed_inactive", "vendor_unknown_sim",
        "vendor_wrong_price", "vendor_missing_sim", "vendor_quantity_variance",
        "vendor_rounding", "vendor_wrong_period", "vendor_proration",
    }  # fmt: skip


def test_planted_lines_stand_where_the_summary_says(sample: Sample) -> None:
    out, summary = sample
    for planted in summary.planted:
        if planted.line_no and planted.file.startswith("bics_usage"):
            line = text_of(out / planted.file).splitlines()[planted.line_no - 1]
            if planted.kind != "malformed":
                assert planted.identifier in line
            if planted.kind == "filtered_record_type":
                assert ",EVENT," in line


def test_copies_are_equal_and_conflicts_differ_only_in_volume(sample: Sample) -> None:
    out, summary = sample
    by_id: dict[object, list[dict[str, object]]] = {}
    for _, _, line in usage_lines(out, summary, "emnify_usage"):
        try:
            record = json.loads(line, parse_float=Decimal)
        except json.JSONDecodeError:
            continue
        by_id.setdefault(record["id"], []).append(record)
    repeated = [records for records in by_id.values() if len(records) > 1]
    equal = [records for records in repeated if all(r == records[0] for r in records)]
    assert (
        sum(len(records) - 1 for records in equal) == summary.outcomes("emnify_usage")["duplicate"]
    )
    conflicts = [p for p in summary.of_kind("conflicting_resend") if p.file.startswith("emnify")]
    differing = [records for records in repeated if records not in equal]
    assert len(conflicts) == 2 * len(differing) > 0
    for first, second in differing:
        assert first["volume"] != second["volume"]
        assert first["imsi"] == second["imsi"]
        assert first["start_timestamp"] == second["start_timestamp"]


def test_telfix_trailers_state_the_lines_and_seconds_of_their_file(sample: Sample) -> None:
    out, summary = sample
    for file in summary.files:
        if file.feed_id == "telfix_usage":
            head, *lines, tail = text_of(out / file.name).splitlines()
            assert head.startswith("HDR") and tail.startswith("TRL")
            assert int(tail[3:12]) == len(lines) == file.records
            seconds = [line[61:67] for line in lines if line[61:67].isdigit()]
            assert int(tail[12:24]) == sum(map(int, seconds))


def test_a_sim_changes_hands_without_a_gap_or_an_overlap(sample: Sample) -> None:
    out, summary = sample
    (after,) = summary.of_kind("owner_change_to")
    rows = [r for r in sheet(out / "inventory.xlsx") if r["uid_value"] == after.identifier]
    first, second = sorted(rows, key=lambda row: str(row["valid_from"]))
    assert first["valid_to"] == second["valid_from"]
    assert second["service_id"] == after.service_id
    accounts = {row["service_id"]: row["account_id"] for row in table(out / "services.csv")}
    assert accounts[str(first["service_id"])] != accounts[str(second["service_id"])]


def test_every_service_has_an_owner_states_and_offers_that_the_catalog_knows(
    sample: Sample,
) -> None:
    out, _ = sample
    catalog = read_catalog(ROOT / "configs" / "catalog").catalog
    offers = {offer.id: offer.level for offer in catalog.offers}
    states = {definition.state: definition.to for definition in catalog.states}
    accounts = {row["account_id"]: row for row in table(out / "accounts.csv")}
    services = {row["service_id"]: row for row in table(out / "services.csv")}
    assert {row["kind"] for row in accounts.values()} == {"customer", "vendor"}
    assert all(row["account_id"] in accounts for row in services.values())
    contracts = sheet(out / "contracts.xlsx")
    levels: dict[str, set[str]] = {service: set() for service in services}
    for row in contracts:
        assert offers[str(row["offer_id"])] == row["level"]
        assert row["payer_account_id"] in accounts
        levels[str(row["service_id"])].add(str(row["level"]))
    assert all(found == {"retail", "vendor"} for found in levels.values())
    history: dict[str, list[str]] = {}
    for row in sorted(table(out / "states.csv"), key=lambda row: row["changed_at"]):
        history.setdefault(row["service_id"], []).append(row["state"])
    for steps in history.values():
        assert steps[0] in catalog.initial_states
        assert all(after in states[before] for before, after in pairwise(steps))


def term_of(charge: Charge) -> dict[str, object]:
    """Say a vendor's usage charge as the generator's own price list does."""
    return {
        "code": charge.external_code,
        "per": UNIT_SIZES[charge.per],
        "rates": {price.zone or "": price.rate for price in charge.prices},
        "first": charge.increment.initial,
        "then": charge.increment.subsequent,
        "monthly": charge.increment.point == "service_period",
    }


def test_the_generators_price_list_is_the_catalogs(sample: Sample) -> None:
    catalog = read_catalog(ROOT / "configs" / "catalog").catalog
    classes = {product.id: product.usage_class for product in catalog.products}
    contracts = sheet(sample[0] / "contracts.xlsx")
    vendors = {r["payer_account_id"]: r["offer_id"] for r in contracts if r["level"] == "vendor"}
    for vendor, terms in TERMS.items():
        offer = next(offer for offer in catalog.offers if offer.id == vendors[vendor])
        usage = {classes[c.product]: term_of(c) for c in offer.charges if c.kind == "usage"}
        assert usage == {
            usage_class: {
                "code": term.code,
                "per": term.per,
                "rates": dict(term.rates),
                "first": term.first,
                "then": term.then,
                "monthly": term.rounded_per_month,
            }
            for usage_class, term in terms.usage.items()
        }
        fees = [c for c in offer.charges if c.kind == "recurring"]
        assert [(c.external_code, c.prices[0].rate, c.basis == "actual") for c in fees] == (
            [(terms.sim_code, terms.sim_price, terms.prorated)] if terms.sim_code else []
        )


def billed(out: Path) -> dict[tuple[str, str, str], Decimal]:
    """Return the cents of both invoices by (vendor, SIM, code), each line rounded."""
    sums: Counter[tuple[str, str, str]] = Counter()
    cent = Decimal("0.01")
    for row in sheet(out / "emnify_invoice_2026-10.xlsx"):
        key = "emnify", str(row["ICCID"]), str(row["Charge Code"])
        sums[key] += Decimal(str(row["Amount"])).quantize(cent, "ROUND_HALF_UP")  # type: ignore[assignment]
    for line in table(out / "bics_billing_2026-10.csv"):
        key = "bics", line["iccid"], "BICS-" + line["ServiceName"]
        sums[key] += Decimal(line["ChargedAmount"]).quantize(cent, "ROUND_HALF_UP")  # type: ignore[assignment]
    return {key: Decimal(amount) for key, amount in sums.items()}


def test_invoices_differ_from_the_terms_by_what_was_planted_and_nothing_else(
    sample: Sample,
) -> None:
    out, summary = sample
    iccids = {str(row["service_id"]): str(row["uid_value"])
              for row in sheet(out / "inventory.xlsx") if row["uid_type"] == "iccid"}  # fmt: skip
    expected: dict[tuple[str, str, str], Decimal] = {}
    for (vendor, service, code), amount in summary.expected_cost.items():
        if vendor in ("emnify", "bics"):
            key = vendor, iccids[service], code
            expected[key] = expected.get(key, Decimal(0)) + amount
    found = billed(out)
    variance = {
        key: found.get(key, Decimal(0)) - expected.get(key, Decimal(0))
        for key in found.keys() | expected.keys()
    }
    planted: dict[tuple[str, str, str], Decimal] = {}
    for item in summary.planted:
        if item.kind.startswith("vendor_"):
            key = item.file.split("_")[0], item.identifier, item.detail.split(":")[0]
            planted[key] = planted.get(key, Decimal(0)) + item.amount
    assert {k: v for k, v in variance.items() if v} == {k: v for k, v in planted.items() if v}
    for total in summary.vendor_totals:
        if total.invoiced is not None:
            assert total.invoiced - total.expected == sum(
                amount for (vendor, _, _), amount in planted.items() if vendor == total.vendor
            )
