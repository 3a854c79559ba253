"""Commitments and their shortfall (RULEBOOK §4; CT-01 to CT-08, CT-15).

A window's shortfall is a function of the contract and of everything that happened in the window.
It is not a running total: evaluating again with a late charge gives the new penalty, and what is
booked moves by the difference, up or down (CT-07).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from iotbill_pipelines.engine.calendars import Month, add_months
from iotbill_pipelines.engine.contract.lifecycle import ContractTerm, terms_of
from iotbill_pipelines.engine.contract.prices import plain, ramp_value, step_starts
from iotbill_pipelines.engine.contract.terms import FLOW_KINDS, Commitment, Contract, RampStep
from iotbill_pipelines.engine.money import (
    apportion,
    minor_digits,
    round_half_up,
    round_money,
    to_minor,
)
from iotbill_pipelines.engine.terms import UNIT_SIZES


@dataclass(frozen=True)
class CommitLine:
    """A charge that may count: its amount after discounts and before tax.

    ``day`` is a day of its usage period (not of the invoice), ``discount`` what discounts took off
    (positive), ``quantity`` class units. ``commit_eligible`` is the product's flag.
    """

    key: str
    day: date
    currency: str
    amount: Decimal
    discount: Decimal = Decimal(0)
    quantity: int = 0
    usage_class: str | None = None
    service_id: str | None = None
    offer_id: str | None = None
    product_id: str | None = None
    commit_eligible: bool = True
    hardware: bool = False
    charge_id: str = ""


@dataclass(frozen=True)
class Presence:
    """Days ``[start, end)`` on which a service is there to be counted (active, for connections)."""

    service_id: str
    start: date
    end: date
    offer_id: str | None = None
    product_id: str | None = None


@dataclass(frozen=True)
class CommitmentWindow:
    """A span over which a commitment is measured once.

    ``[start, end)`` is the whole span, of which the contract covers
    ``[covered_from, covered_until)``. Charges count when their day is in
    ``[counts_from, counts_until)``: the whole span, except where one term follows another in it.
    """

    start: date
    end: date
    covered_from: date
    covered_until: date
    counts_from: date
    counts_until: date
    term: ContractTerm


_Reason = Literal["not_eligible", "hardware", "outside_window"]


@dataclass(frozen=True)
class Excluded:
    """Charges that did not count, by reason."""

    reason: _Reason
    lines: int
    amount: Decimal


@dataclass(frozen=True)
class Shortfall:
    """A commitment against what was measured in one window.

    ``committed``, ``measured`` and ``missing`` are exact, in money or in units of the commitment;
    ``penalty`` is rounded once, in ``currency``, and is the desired charge of ``product_id``.
    """

    contract_id: str
    commitment_id: str
    window: CommitmentWindow
    committed: Fraction
    measured: Fraction
    missing: Fraction
    penalty: Decimal
    currency: str
    product_id: str
    excluded: tuple[Excluded, ...]
    explanation: tuple[str, ...]


def commitment_windows(
    contract: Contract, commitment_id: str, until: date
) -> Iterator[CommitmentWindow]:
    """Yield the commitment's windows that start before ``until``, over all terms that have it.

    Calendar windows start in January and every ``frequency_months`` after; anniversary windows on
    the term's first day. A window never spans two terms.
    """
    for term in terms_of(contract, until):
        for commitment in term.terms.commitments:
            if commitment.id == commitment_id:
                yield from (
                    window for window in _windows(term, commitment) if window.covered_from < until
                )


def _windows(term: ContractTerm, commitment: Commitment) -> Iterator[CommitmentWindow]:
    for start, end in _spans(term, commitment.alignment, commitment.frequency_months):
        yield CommitmentWindow(
            start=start,
            end=end,
            covered_from=max(start, term.start),
            covered_until=min(end, term.covered_until),
            counts_from=start if term.number == 1 else max(start, term.start),
            counts_until=min(end, term.end) if term.renews else end,
            term=term,
        )


def _spans(term: ContractTerm, alignment: str, months: int | None) -> Iterator[tuple[date, date]]:
    """Yield the whole spans of ``months`` that hold a served day of the term; None is the term."""
    if months is None:
        yield term.start, term.end
        return
    anchor = term.start
    if alignment == "calendar":
        anchor = Month(term.start.year, (term.start.month - 1) // months * months + 1).start
    number = 0
    while (start := add_months(anchor, number * months)) < term.covered_until:
        yield start, add_months(anchor, (number + 1) * months)
        number += 1


def committed_amount(
    commitment: Commitment, window: CommitmentWindow
) -> tuple[Fraction, tuple[str, ...]]:
    """Return what the window's covered days commit to, exactly, and how it comes about.

    Every period of ``period_months`` gives its ramp value x covered days / days of the period; a
    ramp step that changes inside a period cuts it, so nothing depends on where windows are cut
    (CT-01, CT-06).
    """
    return ramped(
        commitment.amounts, window.term, window.covered_from, window.covered_until,
        alignment=commitment.alignment, months=commitment.period_months,
    )  # fmt: skip


def ramped(
    steps: Sequence[RampStep],
    term: ContractTerm,
    first_day: date,
    until: date,
    *,
    alignment: str = "calendar",
    months: int = 1,
) -> tuple[Fraction, tuple[str, ...]]:
    """Return what a ramp per ``months`` adds up to over days ``[first_day, until)``, and how."""
    cuts = sorted(starts for starts, _ in step_starts(steps, term.ramp_anchor))
    last = steps[-1].to_month
    if last is not None:
        cuts.append(add_months(term.ramp_anchor, last))
    total, told = Fraction(0), []
    for start, end in _spans(term, alignment, months):
        first, stop = max(start, first_day), min(end, until)
        if first >= stop:
            continue
        edges = [first, *(cut for cut in cuts if first < cut < stop), stop]
        for piece_start, piece_end in pairwise(edges):
            value = ramp_value(steps, term.ramp_anchor, piece_start)
            days, whole = (piece_end - piece_start).days, (end - start).days
            total += Fraction(value) * days / whole
            told.append(f"{piece_start}..{piece_end}: {value} x {days}/{whole} days")
    return total, tuple(told)


def evaluate(
    contract: Contract,
    commitment: Commitment,
    window: CommitmentWindow,
    lines: Sequence[CommitLine] = (),
    presences: Sequence[Presence] = (),
) -> Shortfall:
    """Return the shortfall of one window: max(0, committed - measured), and its penalty.

    ``lines`` and ``presences`` are all of the contract's, in any order; those that do not count are
    told by reason. Whoever has met the commitment exactly has no shortfall. Raises ValueError for a
    line in another currency: convert before.
    """
    currency = window.term.terms.currency
    for line in lines:
        if line.currency != currency:
            raise ValueError(
                f"charge {line.key} is in {line.currency}, contract {contract.id} in {currency}; "
                "convert the charge before measuring the commitment"
            )
    weight = Fraction(1)
    excluded: tuple[Excluded, ...] = ()
    if commitment.kind in FLOW_KINDS:
        committed, told = committed_amount(commitment, window)
        measured, excluded = _sum_lines(commitment, window, lines)
        if commitment.kind == "average_per_service":
            services = len(_keys_present(commitment, window, presences))
            told = (*told, f"{_show(committed)} per service x {services} services")
            committed *= services
        told = (*told, f"committed {_show(committed)}, measured {_show(measured)}")
    else:
        committed, measured, weight = _count(commitment, window, presences)
        told = (
            f"committed {_show(committed)}, {_show(measured)} at {commitment.count_at} "
            f"of {window.covered_from}..{window.covered_until}",
            f"{_show(weight)} of the period is under contract",
        )
    return shortfall_of(
        contract, commitment, window, committed, measured,
        weight=weight, excluded=excluded, told=told,
    )  # fmt: skip


def shortfall_of(
    contract: Contract,
    commitment: Commitment,
    window: CommitmentWindow,
    committed: Fraction,
    measured: Fraction,
    *,
    weight: Fraction = Fraction(1),
    excluded: tuple[Excluded, ...] = (),
    told: tuple[str, ...] = (),
) -> Shortfall:
    """Return the shortfall of ``measured`` against ``committed`` and its penalty.

    ``weight`` is the share of the period under contract, of commitments on how many.
    """
    currency = window.term.terms.currency
    missing = max(Fraction(0), committed - measured)
    penalty, penalty_told = _penalty(commitment, missing, weight, currency)
    return Shortfall(
        contract_id=contract.id,
        commitment_id=commitment.id,
        window=window,
        committed=committed,
        measured=measured,
        missing=missing,
        penalty=penalty,
        currency=currency,
        product_id=commitment.penalty.product_id,
        excluded=excluded,
        explanation=(*told, penalty_told),
    )


def true_up_adjustment(shortfall: Shortfall, booked: Decimal) -> Decimal:
    """Return desired minus booked: what to book now, a credit if negative (CT-07)."""
    return shortfall.penalty - booked


def _sum_lines(
    commitment: Commitment, window: CommitmentWindow, lines: Sequence[CommitLine]
) -> tuple[Fraction, tuple[Excluded, ...]]:
    before = commitment.eligibility.discounts == "before"
    total = Fraction(0)
    out: dict[_Reason, list[Decimal]] = {}
    for line in lines:
        amount = line.amount + (line.discount if before else 0)
        reason = _left_out(commitment, window, line)
        if reason is not None:
            out.setdefault(reason, []).append(amount)
        elif commitment.unit == "quantity":
            total += Fraction(line.quantity, UNIT_SIZES[commitment.per])
        else:
            total += Fraction(amount)
    return total, tuple(
        Excluded(reason, len(amounts), sum(amounts, Decimal(0)))
        for reason, amounts in sorted(out.items())
    )


def _counted_lines(
    commitment: Commitment, window: CommitmentWindow, lines: Sequence[CommitLine]
) -> Iterator[CommitLine]:
    before = commitment.eligibility.discounts == "before"
    for line in lines:
        if _left_out(commitment, window, line) is None:
            yield replace(line, amount=line.amount + line.discount) if before else line


def _left_out(commitment: Commitment, window: CommitmentWindow, line: CommitLine) -> _Reason | None:
    """Return why a charge does not count, or None if it does."""
    policy = commitment.eligibility
    if not _matches(commitment, line) or not line.commit_eligible:
        return "not_eligible"
    if line.hardware and not policy.include_hardware:
        return "hardware"
    inside = window.counts_from <= line.day < window.counts_until
    if not inside and not (policy.include_prior_periods and line.day < window.counts_from):
        return "outside_window"
    return None


def _matches(commitment: Commitment, line: CommitLine) -> bool:
    return all(
        not wanted or value in wanted
        for wanted, value in (
            (commitment.usage_classes, line.usage_class),
            (commitment.offers, line.offer_id),
            (commitment.products, line.product_id),
        )
    )


def _counted_key(commitment: Commitment, presence: Presence) -> tuple[str, ...] | None:
    """Return what the presence counts as, or None where the commitment's filters leave it out."""
    if commitment.offers and presence.offer_id not in commitment.offers:
        return None
    if commitment.products and presence.product_id not in commitment.products:
        return None
    match commitment.kind:
        case "package_volume":
            return presence.service_id, presence.offer_id or ""
        case "package_service":
            return presence.service_id, presence.offer_id or "", presence.product_id or ""
        case _:
            return (presence.service_id,)


def _keys_present(
    commitment: Commitment, window: CommitmentWindow, presences: Sequence[Presence]
) -> set[tuple[str, ...]]:
    return {
        key
        for presence in presences
        if presence.start < window.covered_until and presence.end > window.covered_from
        if presence.start < presence.end
        if (key := _counted_key(commitment, presence)) is not None
    }


def _count(
    commitment: Commitment, window: CommitmentWindow, presences: Sequence[Presence]
) -> tuple[Fraction, Fraction, Fraction]:
    """Return (committed, counted, covered share of the period) for a commitment on how many.

    A level cannot be prorated, half a month of 500 connections being 500 connections, so a partial
    period prorates what a missing one costs instead (CT-06).
    """
    last_day = window.covered_until - timedelta(days=1)
    days = [last_day]
    if commitment.count_at == "peak":
        # Counts only rise on a day on which some presence starts.
        starts = {max(p.start, window.covered_from) for p in presences}
        days = sorted(day for day in starts if day < window.covered_until) or [last_day]
    counted = max(_count_on(commitment, presences, day) for day in days)
    weight = Fraction(
        (window.covered_until - window.covered_from).days, (window.end - window.start).days
    )
    committed = ramp_value(commitment.amounts, window.term.ramp_anchor, last_day)
    return Fraction(committed), Fraction(counted), weight


def _count_on(commitment: Commitment, presences: Sequence[Presence], day: date) -> int:
    keys = {_counted_key(commitment, p) for p in presences if p.start <= day < p.end}
    return len(keys - {None})


def _penalty(
    commitment: Commitment, missing: Fraction, weight: Fraction, currency: str
) -> tuple[Decimal, str]:
    terms = commitment.penalty
    if not missing:
        return round_money(Decimal(0), currency), "met: nothing to charge"
    if terms.flat is not None:
        return round_money(terms.flat, currency), f"short: flat {terms.flat} {currency}"
    price = Fraction(1) if terms.unit_price is None else Fraction(terms.unit_price)
    percent = Decimal(100) if terms.percent is None else terms.percent
    penalty = round_money(missing * price * weight * Fraction(percent) / 100, currency)
    told = f"short by {_show(missing)}"
    if terms.unit_price is not None:
        told += f" x {terms.unit_price}"
    if weight != 1:
        told += f" x {weight}"
    if percent != 100:
        told += f" x {percent} %"
    return penalty, f"{told} = {penalty} {currency}"


def _show(value: Fraction) -> str:
    """Return a fraction for people: up to 6 decimals, without trailing zeros."""
    return f"{plain(round_half_up(value, 6)):f}"


@dataclass(frozen=True)
class Excess:
    """What exceeds a commitment, at the overage factor: the surcharge on its charges.

    ``amount`` is rounded once, in the contract's currency; ``parts`` are (charge, exceeding amount,
    surcharge), the surcharges by largest remainder.
    """

    amount: Decimal
    parts: tuple[tuple[str, Fraction, Decimal], ...]


def excess_of(
    commitment: Commitment, window: CommitmentWindow, lines: Sequence[CommitLine]
) -> Excess | None:
    """Return what the charges of a window owe beyond their price, or None where nothing exceeds.

    The commitment is drawn by the charges in order of their ids, and by usage periods; a credit
    gives back what its charge has drawn.
    """
    if commitment.overage_factor is None:
        return None
    currency = window.term.terms.currency
    left, _ = committed_amount(commitment, window)
    counted: dict[str, Fraction] = {}
    for line in sorted(_counted_lines(commitment, window, lines), key=lambda each: each.key):
        name = line.charge_id
        counted[name] = counted.get(name, Fraction(0)) + Fraction(line.amount)
    over: list[tuple[str, Fraction]] = []
    for name in sorted(counted):
        used = min(left, counted[name])
        left -= used
        if counted[name] > used:
            over.append((name, counted[name] - used))
    if not over:
        return None
    more = Fraction(commitment.overage_factor) - 1
    total = round_money(sum((amount for _, amount in over), Fraction(0)) * more, currency)
    scale = 10 ** minor_digits(currency)
    parts = apportion(
        to_minor(total, currency), [amount for _, amount in over], [name for name, _ in over]
    )
    return Excess(
        total,
        tuple(
            (name, amount, round_money(Fraction(part, scale), currency))
            for (name, amount), part in zip(over, parts, strict=True)
        ),
    )
