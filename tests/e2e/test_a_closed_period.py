"""A month is signed off, gets late usage, is reopened by two people: by the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.conftest import MONTH, Company

NEXT = "2026-11"


def told(company: Company, actor: str, *arguments: str, code: int = 0) -> str:
    """What the program says to a person; the last --actor counts."""
    done = company.run("--actor", actor, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def sums(company: Company) -> list[tuple[object, ...]]:
    return company.rows(
        "select usage_period, billing_period, accounting_period, sum(amount_minor)::bigint"
        " from booked_charge where level = 'retail' group by 1, 2, 3 order by 1, 2, 3"
    )


def test_late_usage_of_a_closed_month_is_billed_in_the_next_one_and_two_people_reopen_it(
    company: Company, received: Company, tmp_path: Path
) -> None:
    before = sums(company)
    assert "0 journals" not in told(company, "close.lead", "period", "soft-close", MONTH)
    refused = told(company, "mallory", "period", "review", MONTH, code=2)
    assert "mallory may not take a period into review" in refused
    told(company, "close.lead", "period", "review", MONTH)
    told(company, "controller", "period", "sign-off", MONTH, "--reason", "variances explained")

    late = tmp_path / "late"
    late.mkdir()
    files = sorted((received.home.parent / "files").glob(f"emnify_{MONTH}-1*.ndjson"))
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    for record in records:
        record["id"] += 900_000_000
    (late / "emnify_late.ndjson").write_text(
        "".join(json.dumps(record) + "\n" for record in records)
    )
    told(company, "close.lead", "land", str(late))
    told(company, "close.lead", "ingest")

    # The closed month takes nothing; the difference waits in the next one, and is billed there.
    posted = company.ledger()
    again = told(company, "close.lead", "close", MONTH)
    assert "0 invoices issued, 0 journals built" in again
    now = company.ledger()
    assert now["invoices"] == posted["invoices"]
    assert now["journals"] == posted["journals"]
    assert sums(company)[: len(before)] == before
    (more,) = sums(company)[len(before) :]
    assert more[:3] == (MONTH, NEXT, NEXT)
    assert told(company, "close.lead", "close", MONTH).count("nothing was posted") == 1
    assert company.rows("select distinct accounting_period from invoice") == [(MONTH,)]

    told(company, "cfo", "period", "reopen", MONTH, "--reason", "wrong price for all")
    same = told(company, "cfo", "period", "reopen", MONTH, "--reason", "again", code=2)
    assert "cfo signed for reopening NL01 2026-10 already" in same
    opened = told(company, "controller", "period", "reopen", MONTH, "--reason", "seen")
    assert "closed -> reopened; 2 of 2 signatures" in opened
    (held,) = json.loads(told(company, "cfo", "period", "status", MONTH, "--json"))
    assert (held["state"], held["closings"]) == ("reopened", 1)
    assert "the chain is whole" in told(company, "cfo", "audit", "verify")


def test_the_erp_s_answers_and_balances_are_read_and_the_linter_warns(
    company: Company, tmp_path: Path
) -> None:
    assert "keep the rules of sap" in told(
        company, "ann", "journal", "lint", MONTH, "--target", "sap"
    )
    out = tmp_path / "sap"
    told(company, "ann", "journal", "export", MONTH, "--target", "sap", "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        f"NL01-{MONTH}-COST-001.sap.csv",
        f"NL01-{MONTH}-REVENUE-001.sap.csv",
    ]
    answers = tmp_path / "answers.csv"
    answers.write_text(
        "External ID,Status,Message\n"
        f"NL01-{MONTH}-COST-001,failed,account 5000 is inactive\n"
        f"NL01-{MONTH}-REVENUE-001,imported,\n"
    )
    told(company, "ann", "journal", "ack", str(answers))
    blocked = told(company, "ann", "close", MONTH, code=1)
    assert "the ERP rejected journal" in blocked
    told(company, "ann", "journal", "retry", f"NL01-{MONTH}-COST-001", "--reason", "reactivated")
    told(company, "ann", "close", MONTH)
    states = "select external_id, state from journal order by 1"
    assert company.rows(states) == [
        (f"NL01-{MONTH}-COST-001", "exported"),
        (f"NL01-{MONTH}-REVENUE-001", "acknowledged"),
    ]
    balances = tmp_path / "balances.csv"
    rows = company.rows(
        "select account, sum(debit - credit)::numeric(20, 2) from journal_line"
        " group by 1 order by 1"
    )
    text = "entity,account,currency,kind,amount,reference\n"
    text += "".join(f"NL01,{account},EUR,balance,{amount},\n" for account, amount in rows)
    balances.write_text(text)
    told(company, "ann", "gl", "read", MONTH, str(balances))
    balances.write_text(f"{text}NL01,{rows[0][0]},EUR,opening,0.05,\n")
    off = told(company, "ann", "gl", "read", MONTH, str(balances), code=1)
    assert "EUR" in off and "iotbill gl explain" in off
