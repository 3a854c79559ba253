"""A month closes by the command line, as a stranger would do it, and stays closed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from iotbill_pipelines.operations.close import stage_named
from tests.e2e.conftest import MONTH, RECEIVED, Company
from tests.shelf import State


def test_a_month_closes_and_every_amount_can_be_traced(company: Company) -> None:
    done = json.loads((company.home.parent / "close.json").read_text())
    assert done["returncode"] == 0, done["stdout"] + done["stderr"]
    assert " charges booked, " in done["stdout"]
    assert f"NL01 {MONTH} is open" in done["stdout"]  # nobody signed it off
    progress = done["stderr"].splitlines()
    assert len(progress) == 10 and all(" done " in line for line in progress), done["stderr"]
    assert all(adds_up for (adds_up,) in company.rows(_FILES_ADD_UP))
    assert company.rows(_SUMS_DIFFER) == []
    written = {path.name for path in (company.home / "out" / MONTH).rglob("*") if path.is_file()}
    assert {"close_report.html", "close_report.xlsx"} <= written
    assert {f"NL01-{MONTH}-COST-001.csv", f"NL01-{MONTH}-REVENUE-001.xlsx"} <= written
    assert company.rows("select count(*) from marts.revenue_by_product_account") != [(0,)]
    assert company.rows(_DAILY_USAGE) == company.rows(_BOOKED_USAGE) != []
    _every_mart_shows_rows_amounts_and_a_preview(company)

    _trace_leads_to_a_line_of_a_file(company)
    told = json.loads(company.run("status", MONTH, "--json").stdout)
    assert {gate["outcome"] for gate in told["months"][0]["gates"]} <= {"passed", "failed"}
    assert told["months"][0]["run_status"] == "succeeded"


def _every_mart_shows_rows_amounts_and_a_preview(company: Company) -> None:
    shown = {
        json.loads(str(key))[0]: json.loads(str(event))["dagster_event"]["event_specific_data"]
        for key, event in company.rows(
            "select asset_key, event from dagster.event_logs"
            " where dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
    }
    for mart in ("marts", *stage_named("publish_marts").tables):
        entries = shown[mart]["materialization"]["metadata_entries"]
        metadata = {entry["label"]: entry["entry_data"] for entry in entries}
        assert "| --- |" in metadata["preview"]["md_str"], mart
        assert mart == "marts" or metadata["dagster/row_count"]["value"] >= 0
        if mart.startswith("margin_by"):
            ((margin,),) = company.rows(
                f"select sum(margin) from marts.{mart} where usage_period = '{MONTH}'"
            )
            assert f"| margin | EUR | {margin} |" in metadata["amounts"]["md_str"]


def _trace_leads_to_a_line_of_a_file(company: Company) -> None:
    ((charge_id,),) = company.rows(
        "select id from booked_charge where kind = 'usage' and level = 'vendor'"
        " and account_id = 'emnify' and records > 2 order by amount_minor desc limit 1"
    )
    traced = json.loads(company.run("trace", str(charge_id), "--json").stdout)
    (charge,) = traced["charges"]
    components = sum(Decimal(part["amount"]) for part in charge["components"])
    assert components == Decimal(charge["charge"]["amount"])
    assert charge["records_total"] == charge["charge"]["records"]
    record = charge["records"][0]
    assert record["file_name"].startswith("emnify_")
    assert json.loads(record["raw_text"])["volume"]["total"] is not None
    by_journal = company.run("trace", f"NL01-{MONTH}-COST-001:1", "--charges", "1")
    assert by_journal.returncode == 0 and "line " in by_journal.stdout


_DAILY_USAGE = f"""
select level, sum(records), sum(quantity) from marts.usage_by_account_day
where usage_period = '{MONTH}' group by level order by level
"""

_BOOKED_USAGE = f"""
select level, sum(records), sum(quantity) from booked_charge
where usage_period = '{MONTH}' and kind = 'usage' group by level order by level
"""

_FILES_ADD_UP = """
select f.records_in = coalesce(sum(o.records), 0) + f.ignored + f.rejected
from feed_file f left join feed_file_outcome o using (file_key)
where f.feed_id like '%usage%' and f.state = 'ingested'
group by f.file_key, f.records_in, f.ignored, f.rejected
"""

_SUMS_DIFFER = """
with sums as (
  select currency,
    (select sum(amount_minor) from booked_charge b where b.level = 'retail'
       and b.currency = c.currency) as charges,
    (select sum(total_minor) from invoice i where i.currency = c.currency) as invoices,
    (select sum(debit_minor) from journal_line l join journal j using (journal_id)
       where j.journal_type = 'REVENUE' and l.currency = c.currency) as journals,
    (select sum(amount_minor) from booked_charge b where b.level = 'vendor'
       and b.currency = c.currency) as costs,
    (select sum(credit_minor) from journal_line l join journal j using (journal_id)
       where j.journal_type = 'COST' and l.currency = c.currency) as cost_journals
  from (select distinct currency from booked_charge) c)
select * from sums where charges <> invoices or invoices <> journals or costs <> cost_journals
"""


def test_closing_again_and_landing_again_post_nothing_and_late_usage_posts_the_difference(
    company: Company, received: Company, tmp_path: Path
) -> None:
    posted = company.ledger()

    # The same bytes under other names, half of them, and then the same command.
    again = tmp_path / "again"
    again.mkdir()
    files = sorted((received.home.parent / "files").iterdir())
    for number, path in enumerate(files):
        if number % 2:
            stem, dot, ending = path.name.partition(".")
            shutil.copy(path, again / f"{stem}_resent{dot}{ending}")
    landed = json.loads(company.run("land", str(again), "--json").stdout)
    assert landed and not any(file["new"] for file in landed)
    assert "nothing to ingest" in company.run("ingest").stdout
    second = company.run("close", MONTH)
    assert second.returncode == 0, second.stderr
    assert f"{MONTH}: all of it was booked before; nothing was posted." in second.stdout
    assert company.ledger() == posted

    # A file that comes late, among some that nobody can read.
    late = tmp_path / "late"
    late.mkdir()
    source = next(path for path in files if path.match("emnify_2026-10-1*.ndjson"))
    lines = source.read_text().splitlines()[:5]
    records = [json.loads(line) for line in lines]
    for number, record in enumerate(records):
        record["id"] = 990_000_000 + number  # other events than those delivered before
    (late / "emnify_late.ndjson").write_text("".join(json.dumps(r) + "\n" for r in records))
    (late / "emnify_torn.ndjson.gz").write_bytes(b"\x1f\x8b\x08\x00torn")
    (late / "bics_usage_empty.csv").write_bytes(b"")
    (late / "telfix_utf16.dat").write_bytes("HDR".encode("utf-16"))
    (late / "whatever.bin").write_bytes(b"\x00\x01")
    assert company.run("land", str(late)).returncode == 0
    assert company.run("ingest").returncode == 0
    states = dict(company.rows("select original_name, state from feed_file"))
    assert states["emnify_late.ndjson"] == "ingested"
    for broken in ("emnify_torn.ndjson.gz", "bics_usage_empty.csv", "telfix_utf16.dat"):
        assert states[broken] == "quarantined", broken
    assert states["whatever.bin"] == "unrecognised"
    third = company.run("close", MONTH)
    assert third.returncode == 0, third.stderr
    after = company.ledger()
    assert after["charges"][: len(posted["charges"])] == posted["charges"]
    assert after["journals"][: len(posted["journals"])] == posted["journals"]
    added = after["charges"][len(posted["charges"]) :]
    assert added and company.rows(_SUMS_DIFFER) == []
    assert sum(int(str(row[13])) for row in added) == 2 * len(records)  # retail and vendor


def test_a_gate_that_fails_stops_the_close_before_anything_is_booked(
    copy_of: Callable[[str, State], Company], tmp_path: Path
) -> None:
    strict = tmp_path / "configs"
    company = copy_of("strict", RECEIVED)
    shutil.copytree(company.configs, strict)
    policy = strict / "close.yaml"
    policy.write_text(
        policy.read_text().replace("max_share_of_records: 0.05", "max_share_of_records: 0")
    )
    company = Company(company.home, company.database_url, strict)
    done = company.run("close", MONTH)
    assert done.returncode == 1
    assert f"The close of {MONTH} is blocked by:" in done.stdout
    assert "suspense" in done.stdout and "complete inventory" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert company.rows("select count(*) from booked_charge") == [(0,)]
    assert company.rows("select status from run where kind = 'close'") == [("failed",)]

    broken = strict / "catalog" / "products.yaml"
    broken.write_text(broken.read_text() + "\nno_such_key: 1\n")
    done = company.run("close", MONTH)
    assert done.returncode == 2
    assert "no_such_key" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
