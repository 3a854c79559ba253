"""Accounting periods: who moves them from open to closed, and back (RULEBOOK §11).

``open`` -> ``soft_closed`` (the cut-off passed: the close team only) -> ``in_review`` (frozen) ->
``closed`` (immutable, in the database itself) -> ``reopened`` (two people signed). Every move and
signature is written to the audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.calendar import business_day, cut_off
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.operations.stages import Finding, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import gl_balances, ledger
from iotbill_pipelines.storage.models import (
    GateResult,
    Journal,
    LegalEntity,
    Period,
    PeriodEvent,
    PeriodSignature,
)


class PeriodError(RuntimeError):
    """A move of a period that is not allowed as it stands; the message says what to do."""


@dataclass(frozen=True)
class Signature:
    """A person's signature that counts for the period as it stands."""

    action: str
    actor: str
    role: str
    reason: str
    signed_at: datetime


@dataclass(frozen=True)
class Move:
    """A change of state in a period's history."""

    from_state: str
    to_state: str
    at: datetime
    actor: str
    role: str | None
    reason: str | None


@dataclass(frozen=True)
class Standing:
    """A period of an entity: its state, its cut-off (UTC), who signed, what blocks its sign-off."""

    entity_id: str
    period: str
    state: str
    changed_at: datetime
    cut_off: datetime
    past_cut_off: bool
    closings: int
    signatures: list[Signature]
    history: list[Move]
    findings: list[Finding]

    @property
    def blocking(self) -> list[Finding]:
        """What keeps the period from being signed off."""
        return [finding for finding in self.findings if finding.severity == "block"]


@dataclass(frozen=True)
class Moved:
    """What a command did to a period: ``from_state`` and ``to_state`` are alike if only a
    signature was added, of which ``signatures`` of ``needed`` are there."""

    entity_id: str
    period: str
    from_state: str
    to_state: str
    signatures: int = 0
    needed: int = 0


def standing(ws: Workspace, period: Month | None = None) -> list[Standing]:
    """Return how periods stand, newest first; all of them if none is named."""
    policy = read_close_policy(ws.configs)
    select = sa.select(Period).order_by(Period.period.desc(), Period.entity_id)
    if period is not None:
        select = select.where(Period.period == str(period))
    with Session(ws.engine) as session:
        return [_standing(ws, session, policy, held) for held in session.scalars(select).all()]


def soft_close(
    ws: Workspace,
    period: Month,
    *,
    entity_id: str | None = None,
    reason: str | None = None,
    early: bool = False,
) -> list[Moved]:
    """Close a period for everybody but the close team; also sends one in review back.

    Raises PeriodError before the cut-off unless ``early`` with a reason, for a person without the
    role, and for a period that is closed.
    """
    policy = read_close_policy(ws.configs)
    role = _role(ws, policy, policy.periods.soft_close, "soft-close a period")
    until = cut_off(period, policy)

    def check(_session: Session, held: Period) -> None:
        if held.state == "open" and ws.clock() < until:
            if not early:
                raise PeriodError(
                    f"the cut-off of {period} is {_moment(until)}; usage may still come. Wait, or "
                    "soft-close it early with a reason"
                )
            _need_reason(reason, "an early soft close")
        if held.state in ("in_review", "reopened"):
            _need_reason(reason, f"sending {held.state} back to soft_closed")

    return _move(
        ws, period, entity_id, ("open", "in_review", "reopened"), "soft_closed", role, reason, check
    )


def soft_close_due(ws: Workspace) -> list[Moved]:
    """Soft-close every open period whose cut-off passed; what a schedule runs every day."""
    policy = read_close_policy(ws.configs)
    with Session(ws.engine) as session:
        due = [
            (held.entity_id, Month.parse(held.period))
            for held in session.scalars(
                sa.select(Period)
                .where(Period.state == "open")
                .order_by(Period.period, Period.entity_id)
            )
            if cut_off(Month.parse(held.period), policy) <= ws.clock()
        ]
    moved = []
    for entity_id, period in due:
        moved += soft_close(ws, period, entity_id=entity_id, reason="cut-off passed")
    return moved


def review(
    ws: Workspace, period: Month, *, entity_id: str | None = None, reason: str | None = None
) -> list[Moved]:
    """Freeze a soft-closed period for review: it takes no charges and no invoices any more."""
    policy = read_close_policy(ws.configs)
    role = _role(ws, policy, policy.periods.review, "take a period into review")
    return _move(ws, period, entity_id, ("soft_closed",), "in_review", role, reason)


def review_due(ws: Workspace) -> list[Moved]:
    """Take soft-closed periods into review whose business day for it has come.

    One that something blocks stays where it is, so that it can still be closed again. Nothing is
    done unless ``schedule.review_business_day`` of configs/close.yaml says when.
    """
    policy = read_close_policy(ws.configs)
    number = policy.schedule.review_business_day
    if number is None:
        return []
    zone = ZoneInfo(policy.schedule.time_zone)
    today = ws.clock().astimezone(zone).date()
    with Session(ws.engine) as session:
        held = session.scalars(
            sa.select(Period)
            .where(Period.state == "soft_closed")
            .order_by(Period.period, Period.entity_id)
        ).all()
        due = [
            (each.entity_id, Month.parse(each.period))
            for each in held
            if business_day(Month.parse(each.period) + 1, number, policy.schedule.holidays_of)
            <= today
            and not _standing(ws, session, policy, each).blocking
        ]
    moved = []
    for entity_id, period in due:
        reason = f"business day {number}, nothing blocks"
        moved += review(ws, period, entity_id=entity_id, reason=reason)
    return moved


def sign_off(
    ws: Workspace, period: Month, *, reason: str, entity_id: str | None = None
) -> list[Moved]:
    """Sign for closing a reviewed period for good; the last signature needed closes it.

    Raises PeriodError naming what blocks (a gate that failed and was not waived, a gate that never
    ran, journals that were not exported or were rejected, sums that differ), and for a second
    signature of the same person.
    """
    policy = read_close_policy(ws.configs)
    role = _role(ws, policy, policy.periods.sign_off, "sign a period off")
    _need_reason(reason, "a sign-off")
    needed = policy.periods.sign_off_signatures
    moved = []
    with Session(ws.engine) as session, session.begin():
        ledger.lock_ledger(session)
        for held in _chosen(ws, session, period, entity_id):
            if held.state == "closed":
                moved.append(Moved(held.entity_id, str(period), "closed", "closed"))
                continue
            if held.state != "in_review":
                raise PeriodError(_not_from(held, ("in_review",), "closed"))
            blocking = [f for f in _findings(session, policy, held) if f.severity == "block"]
            if blocking:
                listed = "\n".join(
                    f"- {f.message}" + (f"; {f.what_to_do}" if f.what_to_do else "")
                    for f in blocking
                )
                raise PeriodError(f"{held.entity_id} {period} cannot be signed off:\n{listed}")
            signers = _since_review(session, held)
            if ws.actor in signers:
                raise PeriodError(
                    f"{ws.actor} signed off {held.entity_id} {period} already; another person "
                    f"with the role {' or '.join(policy.periods.sign_off)} has to"
                )
            _sign(ws, session, held, "close", role, reason)
            count = len(signers) + 1
            state = "closed" if count >= needed else "in_review"
            _set_state(ws, session, held, state, role, reason)
            # one signature closes: that it was one of one says nothing
            told = (count, needed) if needed > 1 else (0, 0)
            moved.append(Moved(held.entity_id, str(period), "in_review", state, *told))
    return moved


def _since_review(session: Session, held: Period) -> set[str]:
    """Who signed the period off since it was last taken into review: earlier ones saw others."""
    taken = session.scalar(
        sa.select(sa.func.max(PeriodEvent.at)).where(
            PeriodEvent.entity_id == held.entity_id,
            PeriodEvent.period == held.period,
            PeriodEvent.to_state == "in_review",
        )
    )
    select = sa.select(PeriodSignature.actor).where(
        PeriodSignature.entity_id == held.entity_id,
        PeriodSignature.period == held.period,
        PeriodSignature.action == "close",
        PeriodSignature.closings == held.closings,
    )
    if taken is not None:
        select = select.where(PeriodSignature.signed_at >= taken)
    return set(session.scalars(select))


def reopen(
    ws: Workspace, period: Month, *, reason: str, entity_id: str | None = None
) -> list[Moved]:
    """Sign for reopening a closed period; the last signature needed opens it.

    Raises PeriodError for a second signature of the same person.
    """
    policy = read_close_policy(ws.configs)
    role = _role(ws, policy, policy.periods.reopen, "reopen a period")
    _need_reason(reason, "reopening a period")
    needed = policy.periods.reopen_signatures
    moved = []
    with Session(ws.engine) as session, session.begin():
        ledger.lock_ledger(session)
        for held in _chosen(ws, session, period, entity_id):
            if held.state != "closed":
                raise PeriodError(_not_from(held, ("closed",), "reopened"))
            signed = [s for s in _signatures(session, held) if s.action == "reopen"]
            if any(s.actor == ws.actor for s in signed):
                raise PeriodError(
                    f"{ws.actor} signed for reopening {held.entity_id} {period} already; another "
                    f"person with the role {' or '.join(policy.periods.reopen)} has to"
                )
            _sign(ws, session, held, "reopen", role, reason)
            count = len(signed) + 1
            state = "reopened" if count >= needed else "closed"
            _set_state(ws, session, held, state, role, reason)
            moved.append(Moved(held.entity_id, str(period), "closed", state, count, needed))
    return moved


def require_close_team(ws: Workspace, period: Month) -> None:
    """Raise PeriodError if the period is soft-closed and the actor is not of the close team."""
    policy = read_close_policy(ws.configs)
    if policy.role_of(ws.actor, policy.periods.soft_close) is not None:
        return
    with Session(ws.engine) as session:
        states = ledger.period_states(session, period)
    held = [
        entity_id for entity_id, state in states.items() if state in ("soft_closed", "reopened")
    ]
    if held:
        raise PeriodError(
            f"{period} is {states[held[0]]} for {', '.join(held)}: only "
            f"{' or '.join(policy.periods.soft_close)} books in it, and {ws.actor} is not of them "
            "(people in configs/close.yaml; --actor says who you are)"
        )


# --------------------------------------------------------------------------------- moving


def _move(
    ws: Workspace,
    period: Month,
    entity_id: str | None,
    allowed: Sequence[str],
    to_state: str,
    role: str,
    reason: str | None,
    check: Callable[[Session, Period], None] = lambda _session, _held: None,
) -> list[Moved]:
    moved = []
    with Session(ws.engine) as session, session.begin():
        ledger.lock_ledger(session)
        for held in _chosen(ws, session, period, entity_id):
            before = held.state
            if before == to_state:
                moved.append(Moved(held.entity_id, str(period), before, to_state))
                continue
            if before not in allowed:
                raise PeriodError(_not_from(held, allowed, to_state))
            check(session, held)
            _set_state(ws, session, held, to_state, role, reason)
            moved.append(Moved(held.entity_id, str(period), before, to_state))
    return moved


def _chosen(ws: Workspace, session: Session, period: Month, entity_id: str | None) -> list[Period]:
    """The period's rows, made for configured entities that have none: an empty month closes too."""
    terms = read_ledger(ws.configs / "ledger")
    ledger.ensure_entities(session, terms.entities)
    known = set(session.scalars(sa.select(LegalEntity.entity_id)))
    if entity_id is not None and entity_id not in known:
        raise PeriodError(f"no entity {entity_id!r}; there are {', '.join(sorted(known))}")
    wanted = [entity_id] if entity_id else sorted(known)
    ledger.ensure_periods(session, period, wanted, ws.clock())
    return list(
        session.scalars(
            sa.select(Period)
            .where(Period.period == str(period), Period.entity_id.in_(wanted))
            .order_by(Period.entity_id)
            .with_for_update()
        )
    )


def _set_state(
    ws: Workspace, session: Session, held: Period, state: str, role: str, reason: str | None
) -> None:
    """Move a period as the actor; a state that it has already leaves it and its log alone."""
    ledger.set_period_state(
        session,
        held.entity_id,
        Month.parse(held.period),
        state,
        actor=ws.actor,
        at=ws.clock(),
        reason=reason,
        role=role,
    )


def _sign(
    ws: Workspace, session: Session, held: Period, action: str, role: str, reason: str
) -> None:
    session.add(
        PeriodSignature(
            entity_id=held.entity_id,
            period=held.period,
            action=action,
            closings=held.closings,
            actor=ws.actor,
            role=role,
            reason=reason,
            signed_at=ws.clock(),
        )
    )
    ledger.audit(
        session,
        at=ws.clock(),
        actor=ws.actor,
        action=f"sign {action}",
        subject=f"{held.entity_id} {held.period}",
        detail={"role": role, "reason": reason, "closings": held.closings},
    )
    session.flush()


def _role(ws: Workspace, policy: ClosePolicy, roles: Sequence[str], what: str) -> str:
    role = policy.role_of(ws.actor, roles)
    if role is None:
        may = sorted(p.name for p in policy.people if set(p.roles) & set(roles))
        raise PeriodError(
            f"{ws.actor} may not {what}: that takes the role {' or '.join(roles)}, which "
            f"{', '.join(may) or 'nobody'} has (people in configs/close.yaml; --actor says who "
            "you are)"
        )
    return role


def _need_reason(reason: str | None, what: str) -> None:
    if not (reason or "").strip():
        raise PeriodError(f"{what} needs a reason; it is kept with your name")


def _not_from(held: Period, allowed: Sequence[str], to_state: str) -> str:
    return (
        f"{held.entity_id} {held.period} is {held.state}; only a period that is "
        f"{' or '.join(allowed)} becomes {to_state}"
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# -------------------------------------------------------------------------------- reading


def _standing(ws: Workspace, session: Session, policy: ClosePolicy, held: Period) -> Standing:
    until = cut_off(Month.parse(held.period), policy)
    events = session.scalars(
        sa.select(PeriodEvent)
        .where(PeriodEvent.entity_id == held.entity_id, PeriodEvent.period == held.period)
        .order_by(PeriodEvent.event_id)
    )
    return Standing(
        entity_id=held.entity_id,
        period=held.period,
        state=held.state,
        changed_at=held.changed_at,
        cut_off=until,
        past_cut_off=until <= ws.clock(),
        closings=held.closings,
        signatures=_signatures(session, held),
        history=[Move(e.from_state, e.to_state, e.at, e.actor, e.role, e.reason) for e in events],
        findings=[] if held.state == "closed" else _findings(session, policy, held),
    )


def _signatures(session: Session, held: Period) -> list[Signature]:
    rows = session.scalars(
        sa.select(PeriodSignature)
        .where(
            PeriodSignature.entity_id == held.entity_id,
            PeriodSignature.period == held.period,
            # the closing itself is counted after it was signed
            PeriodSignature.closings
            == sa.case(
                (
                    PeriodSignature.action == "close",
                    held.closings if held.state == "in_review" else held.closings - 1,
                ),
                else_=held.closings,
            ),
        )
        .order_by(PeriodSignature.signature_id)
    )
    return [Signature(s.action, s.actor, s.role, s.reason, s.signed_at) for s in rows]


def _findings(session: Session, policy: ClosePolicy, held: Period) -> list[Finding]:
    """What stands against a sign-off, warnings included."""
    newest = session.execute(
        sa.select(GateResult)
        .distinct(GateResult.gate)
        .where(
            GateResult.period == held.period,
            sa.or_(GateResult.entity_id.is_(None), GateResult.entity_id == held.entity_id),
        )
        .order_by(GateResult.gate, GateResult.gate_result_id.desc())
    ).scalars()
    gates = {result.gate: result for result in newest}
    found = [
        Finding(
            gate.code,
            "block",
            f"gate {gate.code} ({gate.title}) was never checked",
            "",
            f"run `iotbill close {held.period}`",
        )
        for stage in CLOSE_STAGES
        for gate in stage.gates
        if gate.code not in gates
    ]
    for result in gates.values():
        if result.outcome == "failed" and result.gate != gl_balances.GATE:
            found.append(
                Finding(
                    result.gate,
                    "block" if result.severity == "block" else "warn",
                    f"gate {result.gate}: {result.message}",
                    result.figure or "",
                    result.what_to_do or "",
                )
            )
    found += _journal_findings(session, policy, held)
    found += _balance_findings(session, policy, held, gates.get(gl_balances.GATE))
    found += [
        finding(f)
        for f in ledger.tie_out_findings(
            tie
            for tie in ledger.tie_out(session, Month.parse(held.period))
            if tie.entity_id == held.entity_id
        )
    ]
    return found


def _balance_findings(
    session: Session, policy: ClosePolicy, held: Period, gate: GateResult | None
) -> list[Finding]:
    """Computed now: a journal that was exported since the balances were read counts."""
    if gate is not None and gate.outcome == "waived":
        return []
    month = Month.parse(held.period)
    if gl_balances.was_read(session, month, held.entity_id):
        return [finding(f) for f in gl_balances.balance_findings(session, month, held.entity_id)]
    return [
        Finding(
            gl_balances.GATE,
            policy.periods.gl_balances,
            f"no general ledger balances of {held.entity_id} were read for {held.period}",
            "",
            f"export them and run `iotbill gl read {held.period} FILE`",
        )
    ]


def _journal_findings(session: Session, policy: ClosePolicy, held: Period) -> list[Finding]:
    journals = session.execute(
        sa.select(Journal.external_id, Journal.state, Journal.answer)
        .where(
            Journal.entity_id == held.entity_id,
            Journal.accounting_period == held.period,
            Journal.state != "acknowledged",
        )
        .order_by(Journal.external_id)
    )
    found = []
    for journal in journals:
        if journal.state == "exported":
            found.append(
                Finding(
                    "acknowledgement",
                    policy.periods.acknowledgement,
                    f"journal {journal.external_id} was exported, the ERP has not answered",
                    journal.external_id,
                    "import it and read the answer back with `iotbill journal ack FILE`",
                )
            )
            continue
        said = f": {journal.answer}" if journal.answer else ""
        found.append(
            Finding(
                "exports",
                "block",
                f"journal {journal.external_id} is {journal.state}{said}",
                journal.external_id,
                f"run `iotbill close {held.period}`"
                if journal.state == "built"
                else f"correct its cause and run `iotbill journal retry {journal.external_id}`",
            )
        )
    return found
