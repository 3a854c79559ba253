"""Periods from open to closed and back: who may, when, with which signatures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.close import ClosePolicy, SchedulePolicy, read_close_policy
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations import periods, tie_out
from iotbill_pipelines.operations.calendar import cut_off
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.operations.periods import Moved, PeriodError
from iotbill_pipelines.operations.status import status
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.storage.books import Books, Charge

OCTOBER = Month(2026, 10)
BEFORE, AFTER = datetime(2026, 11, 3, 12, tzinfo=UTC), datetime(2026, 11, 4, 12, tzinfo=UTC)


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


@pytest.fixture
def workspace(books: Books, tmp_path: Path) -> Callable[..., Workspace]:
    """The company's books as a person sees them at a moment."""
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)

    def make(actor: str, at: datetime = AFTER) -> Workspace:
        lake = Lake(str(tmp_path / "lake"))
        return Workspace(tmp_path, configs, books.engine, lake, lambda: at, actor=actor)

    return make


def pass_gates(books: Books, **failed: str) -> None:
    """Record every gate of October as passed, but the ones named with a severity."""
    with books.engine.begin() as connection:
        for stage in CLOSE_STAGES:
            for gate in stage.gates:
                severity = failed.get(gate.code)
                connection.execute(
                    sa.text(
                        "insert into gate_result (period, gate, outcome, severity, message,"
                        " recorded_at)"
                        " values ('2026-10', :gate, :outcome, :severity, :title, now())"
                    ),
                    {
                        "gate": gate.code,
                        "outcome": "failed" if severity else "passed",
                        "severity": severity or "info",
                        "title": gate.title,
                    },
                )


def a_posted_month(books: Books, tmp_path: Path) -> None:
    books.book(Charge(amount_minor=100))
    books.invoice()
    books.post()
    books.export(tmp_path / "out")
    pass_gates(books)


def closed(workspace: Callable[..., Workspace]) -> None:
    periods.soft_close(workspace("close.lead"), OCTOBER)
    periods.review(workspace("close.lead"), OCTOBER)
    periods.sign_off(workspace("controller"), OCTOBER, reason="checked")


def test_a_month_goes_from_open_to_closed_and_everything_is_signed_and_logged(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    assert periods.soft_close(workspace("close.lead"), OCTOBER) == [
        Moved("NL01", "2026-10", "open", "soft_closed")
    ]
    assert periods.soft_close(workspace("close.lead"), OCTOBER) == [
        Moved("NL01", "2026-10", "soft_closed", "soft_closed")
    ]
    periods.review(workspace("close.lead"), OCTOBER)
    assert periods.sign_off(workspace("controller"), OCTOBER, reason="variances explained") == [
        Moved("NL01", "2026-10", "in_review", "closed")
    ]
    (held,) = periods.standing(workspace("anybody"), OCTOBER)
    assert (held.state, held.closings, held.past_cut_off) == ("closed", 1, True)
    assert [(m.from_state, m.to_state, m.actor, m.role) for m in held.history] == [
        ("open", "soft_closed", "close.lead", "close_team"),
        ("soft_closed", "in_review", "close.lead", "close_team"),
        ("in_review", "closed", "controller", "controller"),
    ]
    assert books.rows("select action, subject, actor from audit_log order by seq") == [
        ("period", "NL01 2026-10", "close.lead"),
        ("period", "NL01 2026-10", "close.lead"),
        ("sign close", "NL01 2026-10", "controller"),
        ("period", "NL01 2026-10", "controller"),
    ]
    with Session(books.engine) as session:
        assert ledger.verify_audit(session) == []


def test_reopening_takes_two_people_and_counts_again_after_the_next_close(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    closed(workspace)
    (first,) = periods.reopen(workspace("cfo"), OCTOBER, reason="wrong VAT")
    assert (first.to_state, first.signatures, first.needed) == ("closed", 1, 2)
    with pytest.raises(PeriodError, match="cfo signed for reopening NL01 2026-10 already"):
        periods.reopen(workspace("cfo"), OCTOBER, reason="wrong VAT")
    (second,) = periods.reopen(workspace("controller"), OCTOBER, reason="seen")
    assert (second.to_state, second.signatures) == ("reopened", 2)
    (held,) = periods.standing(workspace("cfo"), OCTOBER)
    assert [(s.action, s.actor) for s in held.signatures] == [
        ("close", "controller"),
        ("reopen", "cfo"),
        ("reopen", "controller"),
    ]
    assert books.book(Charge(amount_minor=90)) == [("S1", "adjustment", -10)]
    books.invoice()
    books.post()
    books.export(tmp_path / "out")
    periods.soft_close(workspace("close.lead"), OCTOBER, reason="corrected")
    periods.review(workspace("close.lead"), OCTOBER)
    periods.sign_off(workspace("controller"), OCTOBER, reason="corrected")
    # the signatures of the first time are spent
    (again,) = periods.reopen(workspace("cfo"), OCTOBER, reason="once more")
    assert (again.to_state, again.signatures) == ("closed", 1)


def test_only_the_roles_named_move_a_period(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    with pytest.raises(PeriodError, match=r"mallory may not soft-close a period.*close\.lead"):
        periods.soft_close(workspace("mallory"), OCTOBER)
    periods.soft_close(workspace("close.lead"), OCTOBER)
    with pytest.raises(PeriodError, match="only close_team books in it, and mallory is not"):
        periods.require_close_team(workspace("mallory"), OCTOBER)
    periods.require_close_team(workspace("close.lead"), OCTOBER)
    periods.review(workspace("close.lead"), OCTOBER)
    with pytest.raises(PeriodError, match=r"close\.lead may not sign a period off"):
        periods.sign_off(workspace("close.lead"), OCTOBER, reason="me")
    with pytest.raises(PeriodError, match="a sign-off needs a reason"):
        periods.sign_off(workspace("controller"), OCTOBER, reason="  ")
    assert books.rows("select count(*) from period_signature") == [(0,)]


@pytest.mark.parametrize("state", ["open", "soft_closed"])
def test_steps_are_not_skipped(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path, state: str
) -> None:
    a_posted_month(books, tmp_path)
    if state == "soft_closed":
        periods.soft_close(workspace("close.lead"), OCTOBER)
    with pytest.raises(PeriodError, match=f"is {state}; only a period that is in_review becomes"):
        periods.sign_off(workspace("controller"), OCTOBER, reason="checked")
    with pytest.raises(PeriodError, match=f"is {state}; only a period that is closed becomes"):
        periods.reopen(workspace("cfo"), OCTOBER, reason="why not")


def test_a_soft_close_waits_for_the_cut_off_unless_somebody_says_why(
    books: Books, workspace: Callable[..., Workspace]
) -> None:
    early = workspace("close.lead", BEFORE)
    with pytest.raises(PeriodError, match="cut-off of 2026-10 is 2026-11-03 23:00 UTC"):
        periods.soft_close(early, OCTOBER)
    assert periods.soft_close_due(early) == []
    with pytest.raises(PeriodError, match="early soft close needs a reason"):
        periods.soft_close(early, OCTOBER, early=True)
    books.book(Charge(amount_minor=1))
    assert periods.soft_close_due(workspace("dagster", BEFORE)) == []
    assert periods.soft_close_due(workspace("dagster")) == [
        Moved("NL01", "2026-10", "open", "soft_closed")
    ]
    assert periods.soft_close_due(workspace("dagster")) == []


def test_a_sign_off_lists_what_blocks(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    books.book(Charge(amount_minor=100))
    books.invoice()
    periods.soft_close(workspace("close.lead"), OCTOBER)
    periods.review(workspace("close.lead"), OCTOBER)
    controller = workspace("controller")
    with pytest.raises(PeriodError, match=r"gate suspense .* was never checked") as refused:
        periods.sign_off(controller, OCTOBER, reason="checked")
    assert "revenue journals are EUR 0.00" in str(refused.value)
    books.post()
    pass_gates(books, suspense="block", feeds="warn")
    with pytest.raises(PeriodError) as refused:
        periods.sign_off(controller, OCTOBER, reason="checked")
    assert "gate suspense" in str(refused.value)
    assert "gate feeds" not in str(refused.value)
    assert "journal NL01-2026-10-REVENUE-001 is built" in str(refused.value)
    assert "revenue journals" not in str(refused.value)
    books.export(tmp_path / "out")
    with books.engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into gate_result (period, gate, outcome, severity, message, recorded_at,"
                " waived_by, waive_reason) values ('2026-10', 'suspense', 'waived', 'block', '',"
                " now(), 'cfo', 'test SIMs')"
            )
        )
    (held,) = periods.standing(controller, OCTOBER)
    assert {(f.code, f.severity) for f in held.findings} == {
        ("feeds", "warn"),
        ("acknowledgement", "warn"),
        ("gl_balances", "warn"),
    }
    strict = controller.configs / "close.yaml"
    strict.write_text(strict.read_text().replace("acknowledgement: warn", "acknowledgement: block"))
    with pytest.raises(PeriodError, match="was exported, the ERP has not answered"):
        periods.sign_off(controller, OCTOBER, reason="checked")
    with books.engine.begin() as connection:
        connection.execute(sa.text("update journal set state = 'acknowledged'"))
    strict.write_text(strict.read_text().replace("gl_balances: warn", "gl_balances: block"))
    with pytest.raises(PeriodError, match="no general ledger balances of NL01 were read"):
        periods.sign_off(controller, OCTOBER, reason="checked")
    balances = tmp_path / "tb.csv"
    balances.write_text(
        "entity,account,currency,kind,amount,reference\nNL01,1200,EUR,balance,1.01,\n"
        "NL01,4100,EUR,balance,-1.00,\n"
    )
    assert [f.figure for f in tie_out.read(controller, OCTOBER, balances).findings] == ["EUR 0.01"]
    with pytest.raises(PeriodError, match="of the difference is explained"):
        periods.sign_off(controller, OCTOBER, reason="checked")
    done = tie_out.explain(
        controller,
        OCTOBER,
        entity_id="NL01",
        account="1200",
        amount=Decimal("0.01"),
        currency="EUR",
        reason="bank rounding",
    )
    assert done.findings == []
    assert periods.sign_off(controller, OCTOBER, reason="checked")[0].to_state == "closed"


def test_a_month_in_review_goes_back_with_a_reason_and_takes_charges_again(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    lead = workspace("close.lead")
    periods.soft_close(lead, OCTOBER)
    periods.review(lead, OCTOBER)
    with pytest.raises(PeriodError, match="needs a reason"):
        periods.soft_close(lead, OCTOBER)
    periods.soft_close(lead, OCTOBER, reason="a price was wrong")
    assert books.book(Charge(amount_minor=90)) == [("S1", "adjustment", -10)]


def test_a_month_of_nothing_is_opened_and_unknown_entities_are_named(
    workspace: Callable[..., Workspace],
) -> None:
    lead = workspace("close.lead", datetime(2027, 1, 1, tzinfo=UTC))
    (moved,) = periods.soft_close(lead, Month(2026, 9))
    assert moved.to_state == "soft_closed"
    with pytest.raises(PeriodError, match="no entity 'FR01'; there are NL01"):
        periods.soft_close(lead, OCTOBER, entity_id="FR01")


@pytest.mark.parametrize(
    ("month", "policy", "moment"),
    [
        ("2026-10", {}, "2026-11-03T00:00"),
        ("2026-10", {"grace_days": 0}, "2026-11-01T00:00"),
        # 1 November 2026 is a Sunday: two business days are Monday and Tuesday
        ("2026-10", {"grace_counts": "business_days"}, "2026-11-04T00:00"),
        # a Friday that is New Year, and the weekend after it
        ("2026-12", {"grace_counts": "business_days", "holidays_of": "NL"}, "2027-01-06T00:00"),
        (
            "2026-03",
            {"grace_counts": "business_days", "zone": "Europe/Amsterdam"},
            "2026-04-02T22:00",
        ),
        # Good Friday, a weekend and Easter Monday lie between
        (
            "2026-03",
            {"grace_counts": "business_days", "grace_days": 4, "holidays_of": "NL"},
            "2026-04-09T00:00",
        ),
    ],
)
def test_the_cut_off_is_the_end_of_the_period_plus_the_grace(
    month: str, policy: dict[str, object], moment: str
) -> None:
    terms = dict(policy)
    schedule = SchedulePolicy(
        time_zone=str(terms.pop("zone", "UTC")), holidays_of=terms.pop("holidays_of", None)
    )
    found = cut_off(Month.parse(month), ClosePolicy(schedule=schedule, **terms))  # type: ignore[arg-type]
    assert found == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_two_entries_of_a_person_are_refused(tmp_path: Path) -> None:
    (tmp_path / "close.yaml").write_text(
        "people:\n- {name: a, roles: [x]}\n- {name: a, roles: [y]}\n"
    )
    with pytest.raises(ConfigError, match="people repeat: a"):
        read_close_policy(tmp_path)


def test_without_people_everybody_may_and_two_still_sign(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    ann = workspace("ann")
    (ann.configs / "close.yaml").unlink()
    bea = replace(ann, actor="bea")
    periods.soft_close(ann, OCTOBER)
    periods.review(ann, OCTOBER)
    periods.sign_off(ann, OCTOBER, reason="ok")
    periods.reopen(ann, OCTOBER, reason="no")
    with pytest.raises(PeriodError, match="already"):
        periods.reopen(ann, OCTOBER, reason="no")
    assert periods.reopen(bea, OCTOBER, reason="no")[0].to_state == "reopened"


def signed_for(ws: Workspace) -> str:
    (month,) = status(ws, OCTOBER).months
    return next(one.figure for one in month.checklist if one.gate == "sign_off")


def test_two_people_sign_off_where_it_is_asked_for(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    policy = workspace("x").configs / "close.yaml"
    policy.write_text(
        policy.read_text().replace("sign_off_signatures: 1", "sign_off_signatures: 2")
    )
    lead, controller, cfo = (workspace(name) for name in ("close.lead", "controller", "cfo"))
    periods.soft_close(lead, OCTOBER)
    periods.review(lead, OCTOBER)
    (first,) = periods.sign_off(controller, OCTOBER, reason="checked")
    assert first == Moved("NL01", "2026-10", "in_review", "in_review", 1, 2)
    (held,) = periods.standing(lead, OCTOBER)
    assert [signature.actor for signature in held.signatures] == ["controller"]
    assert signed_for(lead) == "0 of 1 entities closed, 1 signatures"
    with pytest.raises(PeriodError, match="controller signed off NL01 2026-10 already"):
        periods.sign_off(controller, OCTOBER, reason="again")

    # Sent back and changed, it is another period that was signed for: both sign again.
    later = AFTER + timedelta(hours=1)
    periods.soft_close(workspace("close.lead", later), OCTOBER, reason="a late invoice")
    periods.review(workspace("close.lead", later), OCTOBER)
    for actor, state in (("controller", "in_review"), ("cfo", "closed")):
        (moved,) = periods.sign_off(workspace(actor, later), OCTOBER, reason="checked")
        assert moved.to_state == state
    assert signed_for(lead) == "1 of 1 entities closed, 2 signatures"
    assert cfo and [s.actor for s in periods.standing(lead, OCTOBER)[0].signatures][-1] == "cfo"


def test_periods_move_by_the_calendar_unless_something_blocks(
    books: Books, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    a_posted_month(books, tmp_path)
    eve = workspace("dagster", datetime(2026, 11, 8, 12, tzinfo=UTC))
    assert [move.to_state for move in periods.soft_close_due(eve)] == ["soft_closed"]
    assert periods.review_due(eve) == []  # the 6th business day is the 9th of November
    due = workspace("dagster", datetime(2026, 11, 9, 6, tzinfo=UTC))
    pass_gates(books, suspense="block")
    assert periods.review_due(due) == []
    pass_gates(books)
    assert [move.to_state for move in periods.review_due(due)] == ["in_review"]
    assert periods.review_due(due) == []
