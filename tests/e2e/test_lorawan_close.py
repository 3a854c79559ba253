"""Months of the Helium recordings are closed by the commands that close any month."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ROOT
from tests.e2e.conftest import QUICK, RUN, Company
from tests.sample.test_lorawan import graduated, uplinks_by_month


def test_months_of_the_recordings_close(shared: Path, tmp_path: Path, postgres_url: str) -> None:
    folder = shared / "feeds" / "lorawan"
    register = folder / "campusiot_helium_endpoints.csv"
    recordings = sorted(folder.glob("campusiot_helium_*.ndjson.gz"))
    expected = uplinks_by_month(register, recordings)
    busiest = max(expected, key=lambda key: expected[key])[1]
    all_months = sorted({month for _, month in expected})
    # Closing each takes seconds; test_lorawan.py bills them all.
    chosen = {all_months[0], busiest, all_months[-1]}
    home, inventory = tmp_path / "home", str(tmp_path / "inventory")
    company = Company(home, postgres_url, ROOT / "configs" / "examples" / "helium")
    _run(company, "init")
    since = ("--month", "2021-01", "--out", inventory)
    _run(company, "sample", "--lorawan-register", str(register), *since)
    _run(company, "land", inventory, str(register), *map(str, recordings))
    _run(company, "ingest")
    for month in sorted(chosen):
        # one of them with Great Expectations and dbt
        _run(company, "close", month, program=RUN if month == busiest else QUICK + RUN)
    booked = company.rows(
        "select service_id, usage_period, sum(quantity)::bigint, sum(amount_minor)::bigint "
        "from booked_charge where charge_id = 'lora_messages' group by 1, 2"
    )
    wanted = {
        (device, month, count, graduated(count))
        for (device, month), count in expected.items()
        if month in chosen
    }
    assert set(booked) == wanted
    assert company.rows(_PUBLISHED) == company.rows(_BOOKED.format(busiest))
    posted = company.ledger()
    assert "nothing was posted" in _run(company, "close", all_months[-1])
    assert company.ledger() == posted


_PUBLISHED = """
select usage_period, sum(ledger_lines)::int, sum(usage_records)::bigint
from marts.revenue_by_product_account group by 1 order by 1
"""
_BOOKED = """
select usage_period, count(*)::int, sum(records)::bigint from booked_charge
where level = 'retail' and accounting_period <= '{}' group by 1 order by 1
"""


def _run(company: Company, *command: str, program: str = QUICK + RUN) -> str:
    done = company.run(*command, program=program)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
