"""The renewal desk: what ends when, what to do by when, and the numbers behind each flag.

RULEBOOK §4; CT-13, CT-14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.contract.lifecycle import ContractTerm, terms_of
from iotbill_pipelines.engine.contract.terms import Contract
from iotbill_pipelines.engine.money import round_half_up
from iotbill_pipelines.engine.terms import Terms


class FlagPolicy(Terms):
    """When a flag is raised (RULEBOOK §4, decision)."""

    upsell_used_percent: Decimal = Decimal(80)
    upsell_months: int = 2
    upsell_of_months: int = 3
    churn_down_percent: Decimal = Decimal(20)
    churn_months: int = 3


@dataclass(frozen=True)
class AccountHistory:
    """Month by month figures of a contract, oldest first, the last one being the latest month.

    ``included_quantity`` and ``used_quantity`` are class units of the same months;
    ``active_devices`` are counts at month ends. ``devices_now`` are active on the day asked about.
    """

    included_quantity: tuple[int, ...] = ()
    used_quantity: tuple[int, ...] = ()
    active_devices: tuple[int, ...] = ()
    devices_now: int = 0


@dataclass(frozen=True)
class Flag:
    """A flag and the figures that raised it."""

    code: Literal["upsell", "churn_risk", "lapse"]
    evidence: str


@dataclass(frozen=True)
class RenewalRow:
    """A contract's term that ends in view, with its dates and flags.

    ``last_day`` is the last day of the term, ``notice_deadline`` that day minus the notice days,
    ``alerts`` the (days before, day) still to come or due today, ``alerts_passed`` the others.
    ``next_kind`` is what follows by itself; ``next_term`` its ``[start, end)``.
    """

    contract_id: str
    account_id: str
    service_id: str | None
    term_number: int
    last_day: date
    notice_deadline: date
    notice_days_left: int
    alerts: tuple[tuple[int, date], ...]
    alerts_passed: tuple[tuple[int, date], ...]
    next_kind: Literal["expire", "new_contract", "auto_renew", "terminated"]
    next_term: tuple[date, date] | None
    flags: tuple[Flag, ...]


def alert_dates(last_day: date, alert_days: Sequence[int]) -> tuple[date, ...]:
    """Return the days on which to alert: so many days before the last day (CT-13)."""
    return tuple(last_day - timedelta(days=days) for days in alert_days)


def usage_flags(history: AccountHistory, policy: FlagPolicy) -> tuple[Flag, ...]:
    """Return the upsell and churn-risk flags of a history (CT-14).

    Upsell: at least ``upsell_used_percent`` of what is included was used in ``upsell_months`` of
    the last ``upsell_of_months``. Churn: active devices fell by at least ``churn_down_percent``
    within the last ``churn_months``. Months without anything included, and histories too short to
    compare, raise nothing.
    """
    flags: list[Flag] = []
    recent = list(zip(history.used_quantity, history.included_quantity, strict=True))
    recent = recent[-policy.upsell_of_months :]
    shares = [Fraction(100 * used, included) for used, included in recent if included]
    high = [share for share in shares if share >= Fraction(policy.upsell_used_percent)]
    if len(high) >= policy.upsell_months:
        shown = ", ".join(f"{round_half_up(share, 1)} %" for share in shares)
        flags.append(Flag("upsell", f"used of included, last {len(recent)} months: {shown}"))
    devices = history.active_devices
    if len(devices) > policy.churn_months:
        then, now = devices[-1 - policy.churn_months], devices[-1]
        if then and (fall := Fraction(100 * (then - now), then)) >= Fraction(
            policy.churn_down_percent
        ):
            down = round_half_up(fall, 1)
            flags.append(
                Flag(
                    "churn_risk",
                    f"active devices {then} -> {now} in {policy.churn_months} months: -{down} %",
                )
            )
    return tuple(flags)


def renewal_pipeline(
    contracts: Sequence[Contract],
    *,
    as_of: date,
    until: date,
    histories: Mapping[str, AccountHistory] | None = None,
    policy: FlagPolicy | None = None,
) -> tuple[RenewalRow, ...]:
    """Return the terms in force on ``as_of`` that end before ``until``, and lapsed contracts.

    A contract that has ended without successor while devices are still active is a ``lapse``. A
    line item whose account, or service, has another contract in force has a successor. Ordered by
    last day and contract id.
    """
    rules = policy or FlagPolicy()
    known = histories or {}
    rows: list[RenewalRow] = []
    for contract in contracts:
        terms = list(terms_of(contract, max(until, as_of + timedelta(days=1))))
        if not terms or terms[0].start > as_of:
            continue
        term = next((t for t in terms if t.holds(as_of)), None)
        history = known.get(contract.id, AccountHistory())
        if term is not None and term.covered_until >= until:
            continue
        flags = usage_flags(history, rules)
        if term is None:
            term = [t for t in terms if t.start <= as_of][-1]
            if not history.devices_now or _has_successor(contract, contracts, as_of):
                continue
            last_day = term.covered_until - timedelta(days=1)
            lapse = f"ended {last_day}, {history.devices_now} devices still active"
            flags = (*flags, Flag("lapse", lapse))
        rows.append(_row(contract, term, as_of, flags))
    return tuple(sorted(rows, key=lambda row: (row.last_day, row.contract_id)))


def _has_successor(contract: Contract, contracts: Sequence[Contract], as_of: date) -> bool:
    """Say whether another contract covers the same account, and service if any, on the day."""
    return any(
        other.id != contract.id
        and other.account_id == contract.account_id
        and (other.service_id is None or other.service_id == contract.service_id)
        and any(term.holds(as_of) for term in terms_of(other, as_of + timedelta(days=1)))
        for other in contracts
    )


def _row(
    contract: Contract, term: ContractTerm, as_of: date, flags: tuple[Flag, ...]
) -> RenewalRow:
    last_day = term.covered_until - timedelta(days=1)
    notice = last_day - timedelta(days=term.terms.notice_days)
    alerts = sorted(
        zip(term.terms.alert_days, alert_dates(last_day, term.terms.alert_days), strict=True),
        key=lambda alert: alert[1],
    )
    kind: Literal["expire", "new_contract", "auto_renew", "terminated"] = "terminated"
    following = None
    if contract.terminated_on is None or contract.terminated_on > term.end:
        kind = term.terms.renewal.kind
        later = terms_of(contract, term.end + timedelta(days=1))
        following = next(((t.start, t.end) for t in later if t.number == term.number + 1), None)
    return RenewalRow(
        contract_id=contract.id,
        account_id=contract.account_id,
        service_id=contract.service_id,
        term_number=term.number,
        last_day=last_day,
        notice_deadline=notice,
        notice_days_left=(notice - as_of).days,
        alerts=tuple(alert for alert in alerts if alert[1] >= as_of),
        alerts_passed=tuple(alert for alert in alerts if alert[1] < as_of),
        next_kind=kind,
        next_term=following,
        flags=flags,
    )
