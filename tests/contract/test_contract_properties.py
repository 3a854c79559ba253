"""What holds for every contract: parts, order, cuts, reversals (RULEBOOK §§0, 4)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.engine.calendars import add_months, months_elapsed
from iotbill_pipelines.engine.contract import (
    CommitLine,
    Commitment,
    Contract,
    ContractPrice,
    ContractTerms,
    DatedRate,
    Discount,
    DiscountableLine,
    EarlyTermination,
    Penalty,
    Presence,
    PriceSegment,
    RampStep,
    Renewal,
    Season,
    SeasonalRate,
    Suspension,
    commitment_windows,
    committed_amount,
    discount_lines,
    evaluate,
    extended_end,
    price_period,
    price_segments,
    termination_fee,
    terms_of,
    whatif,
)
from iotbill_pipelines.engine.money import apportion_signed

PROPERTY = settings(max_examples=60, deadline=None)

D = Decimal
days = st.dates(min_value=date(2023, 1, 1), max_value=date(2028, 12, 31))
spans = st.tuples(days, st.integers(1, 500)).map(lambda s: (s[0], s[0] + timedelta(days=s[1])))
month_days = st.dates(date(2024, 1, 1), date(2024, 12, 31)).map(lambda day: f"{day:%m-%d}")
rates = st.decimals(0, 50, places=4)
cents = st.decimals(-500, 500, places=2)


@st.composite
def ramps(draw: st.DrawFn) -> tuple[RampStep, ...]:
    lengths = draw(st.lists(st.integers(1, 5), max_size=3))
    steps, first = [], 1
    for length in lengths:
        steps.append(RampStep(from_month=first, to_month=first + length - 1, value=draw(rates)))
        first += length
    steps.append(RampStep(from_month=first, value=draw(rates)))
    return tuple(steps)


@st.composite
def contracts(draw: st.DrawFn, service_id: str | None = None, **terms: Any) -> Contract:
    start, months = draw(days), draw(st.integers(1, 24))
    edges = draw(st.tuples(month_days, month_days).filter(lambda edge: edge[0] != edge[1]))
    price = ContractPrice(
        charge_id="fee",
        ramp=draw(ramps()),
        seasonal=(SeasonalRate(season="s", rate=draw(rates)),),
    )
    renewal = draw(st.sampled_from(["expire", "auto_renew"]))
    fields: dict[str, Any] = {
        "currency": "EUR",
        "term_months": months,
        "seasons": (Season(id="s", starts=edges[0], ends_before=edges[1]),),
        "prices": (price,),
        "renewal": Renewal(kind=renewal, uplift_percent=D(3) if renewal == "auto_renew" else D(0)),
    }
    return Contract(
        id=f"contract-{service_id}",
        account_id="a",
        service_id=service_id,
        start=start,
        end=add_months(start, months),
        signed_terms=ContractTerms(**(fields | terms)),
    )


@PROPERTY
@given(days, st.integers(0, 60), st.integers(0, 60))
def test_months_grow_with_every_day_and_whole_months_are_whole(
    anchor: date, months: int, step: int
) -> None:
    day = add_months(anchor, months)
    assert months_elapsed(anchor, day) >= months
    assert months_elapsed(anchor, day + timedelta(days=step)) >= months_elapsed(anchor, day)
    if anchor.day <= 28:
        assert months_elapsed(anchor, day) == months


@PROPERTY
@given(st.lists(cents, min_size=1, max_size=12), st.randoms())
def test_signed_parts_add_up_whatever_the_order_and_cancel_when_reversed(
    shares: list[Decimal], random: Any
) -> None:
    exact = [Fraction(share) * 7 / 3 for share in shares]
    total = round(sum(exact))
    keys = list(range(len(exact)))
    parts = apportion_signed(total, exact, keys)
    assert sum(parts) == total
    assert apportion_signed(-total, [-share for share in exact], keys) == [-p for p in parts]
    order = random.sample(keys, len(keys))
    shuffled = apportion_signed(total, [exact[key] for key in order], order)
    assert dict(zip(order, shuffled, strict=True)) == dict(zip(keys, parts, strict=True))
    assert all(abs(part - share) < 2 for part, share in zip(parts, exact, strict=True))


@PROPERTY
@given(contracts("s"), contracts(), spans)
def test_segments_price_every_day_as_that_day_alone(
    line_item: Contract, account: Contract, span: tuple[date, date]
) -> None:
    """Cutting the span anywhere changes no price."""
    sources: dict[str, Any] = {
        "contracts": [line_item, account],
        "catalog": [DatedRate(D(9), valid_from=date(2025, 6, 1))],
    }
    segments = price_segments("fee", *span, **sources)
    assert segments[0].start == span[0]
    assert segments[-1].end == span[1]
    assert all(one.end == two.start for one, two in pairwise(segments))
    for segment in segments:
        for day in {segment.start, segment.end - timedelta(days=1)}:
            (alone,) = price_segments("fee", day, day + timedelta(days=1), **sources)
            assert (alone.rate, alone.source, alone.season, alone.term_number) == (
                segment.rate,
                segment.source,
                segment.season,
                segment.term_number,
            )


@PROPERTY
@given(st.lists(st.tuples(rates, st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 999))
def test_a_period_is_the_sum_of_its_segments_and_cancels_when_reversed(
    pieces: list[tuple[Decimal, int]], quantity: int
) -> None:
    start = day = date(2026, 3, 1)
    segments = []
    for rate, length in pieces:
        segments.append(PriceSegment(day, day + timedelta(days=length), "catalog", rate))
        day += timedelta(days=length)
    found = price_period(segments, start, day, currency="EUR", quantity=quantity)
    assert sum(part.amount for part in found.segments) == found.amount
    back = price_period(segments, start, day, currency="EUR", quantity=-quantity)
    assert [part.amount for part in back.segments] == [-part.amount for part in found.segments]
    cut = [
        piece
        for segment in segments
        for piece in (
            PriceSegment(segment.start, segment.start + timedelta(days=1), "catalog", segment.rate),
            PriceSegment(segment.start + timedelta(days=1), segment.end, "catalog", segment.rate),
        )
    ]
    assert price_period(cut, start, day, currency="EUR", quantity=quantity).amount == found.amount
    turned = price_period(segments[::-1], start, day, currency="EUR", quantity=quantity)
    assert turned.segments == found.segments[::-1]


def promise(steps: tuple[RampStep, ...], **changes: Any) -> Commitment:
    fields: dict[str, Any] = {
        "id": "m",
        "kind": "invoice_amount",
        "amounts": steps,
        "penalty": Penalty(product_id="p"),
    }
    return Commitment(**(fields | changes))


@PROPERTY
@given(
    ramps(),
    days,
    st.integers(1, 30),
    st.sampled_from(["calendar", "anniversary"]),
    st.integers(1, 9),
)
def test_how_often_a_commitment_is_measured_does_not_change_what_is_committed(
    steps: tuple[RampStep, ...], start: date, months: int, alignment: Any, cut_at: int
) -> None:
    """Nor does cutting a ramp step in two equal ones."""
    first, *rest = steps
    halves = steps
    if first.to_month is None or cut_at < first.to_month:
        halves = (
            RampStep(from_month=1, to_month=cut_at, value=first.value),
            RampStep(from_month=cut_at + 1, to_month=first.to_month, value=first.value),
            *rest,
        )
    totals = set()
    for amounts, frequency in ((steps, 1), (steps, 3), (steps, 12), (steps, None), (halves, 1)):
        promised = promise(amounts, frequency_months=frequency, alignment=alignment)
        signed = Contract(
            id="c",
            account_id="a",
            start=start,
            end=add_months(start, months),
            signed_terms=ContractTerms(currency="EUR", term_months=months, commitments=(promised,)),
        )
        windows = list(commitment_windows(signed, "m", date.max))
        covered = sum((w.covered_until - w.covered_from).days for w in windows)
        assert covered == (signed.end - start).days
        totals.add(sum(committed_amount(promised, window)[0] for window in windows))
    assert len(totals) == 1


lines_ = st.lists(
    st.builds(
        CommitLine,
        key=st.uuids().map(str),
        day=st.dates(date(2025, 12, 20), date(2026, 2, 10)),
        currency=st.just("EUR"),
        amount=cents,
        discount=st.decimals(0, 50, places=2),
        quantity=st.integers(0, 10**6),
        service_id=st.sampled_from(["s1", "s2"]),
        commit_eligible=st.booleans(),
        hardware=st.booleans(),
    ),
    max_size=12,
)


@PROPERTY
@given(lines_, st.decimals(0, 2000, places=2), st.randoms())
def test_a_shortfall_is_never_negative_and_forgets_the_order(
    lines: list[CommitLine], committed: Decimal, random: Any
) -> None:
    promised = promise((RampStep(from_month=1, value=committed),))
    signed = Contract(
        id="c",
        account_id="a",
        start=date(2026, 1, 1),
        end=date(2027, 1, 1),
        signed_terms=ContractTerms(currency="EUR", term_months=12, commitments=(promised,)),
    )
    window = next(commitment_windows(signed, "m", date(2026, 2, 1)))
    found = evaluate(signed, promised, window, lines)
    assert found.penalty >= 0
    assert found.missing >= 0
    assert found.measured + found.missing >= found.committed
    assert evaluate(signed, promised, window, random.sample(lines, len(lines))) == found
    late = CommitLine("late", date(2026, 1, 31), "EUR", D("10.00"))
    # Late usage only ever lowers a shortfall, and by no more than itself.
    again = evaluate(signed, promised, window, [*lines, late])
    assert found.penalty - D("10.00") <= again.penalty <= found.penalty


@PROPERTY
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), spans), max_size=10),
    st.sampled_from(["peak", "last_day"]),
)
def test_a_count_equals_the_count_of_every_day(
    stays: list[tuple[str, tuple[date, date]]], count_at: Any
) -> None:
    promised = promise(
        (RampStep(from_month=1, value=D(5)),),
        kind="connections",
        unit="quantity",
        count_at=count_at,
        penalty=Penalty(product_id="p", unit_price=D(1)),
    )
    signed = Contract(
        id="c",
        account_id="a",
        start=date(2025, 1, 1),
        end=date(2026, 1, 1),
        signed_terms=ContractTerms(currency="EUR", term_months=12, commitments=(promised,)),
    )
    presences = [Presence(service, *span) for service, span in stays]
    for window in commitment_windows(signed, "m", date(2025, 4, 1)):
        active = [
            len({p.service_id for p in presences if p.start <= day < p.end})
            for day in (
                window.start + timedelta(days=n) for n in range((window.end - window.start).days)
            )
        ]
        expected = max(active) if count_at == "peak" else active[-1]
        assert evaluate(signed, promised, window, presences=presences).measured == expected


@PROPERTY
@given(contracts(), st.lists(days, max_size=5))
def test_terms_follow_each_other_without_gap_and_asking_again_gives_the_same(
    signed: Contract, ends: list[date]
) -> None:
    until = date(2031, 1, 1)
    terms = list(terms_of(signed, until))
    assert terms[0].start == signed.start
    assert all(one.end == two.start for one, two in pairwise(terms))
    assert list(terms_of(signed, until)) == terms
    for end in ends:
        if end > signed.start:
            ended = signed.model_copy(update={"terminated_on": end})
            assert max(t.covered_until for t in terms_of(ended, until)) <= end


@PROPERTY
@given(contracts(), st.lists(spans, max_size=5), st.integers(1, 400))
def test_a_suspension_in_two_pieces_extends_as_much_as_in_one(
    signed: Contract, stops: list[tuple[date, date]], cut: int
) -> None:
    whole = [Suspension(start=start, end=end) for start, end in stops]
    pieces = []
    for stop in whole:
        middle = min(stop.start + timedelta(days=cut), stop.end)
        pieces.append(Suspension(start=stop.start, end=middle))
        if middle < stop.end:
            pieces.append(Suspension(start=middle, end=stop.end))
    end = extended_end(signed.start, signed.end, whole)
    assert end >= signed.end
    assert extended_end(signed.start, signed.end, pieces[::-1]) == end


@PROPERTY
@given(days, st.integers(1, 48), ramps(), st.lists(st.integers(0, 1500), min_size=1, max_size=6))
def test_a_remainder_falls_day_by_day_and_what_if_books_nothing_else(
    start: date, months: int, steps: tuple[RampStep, ...], offsets: list[int]
) -> None:
    signed = Contract(
        id="c",
        account_id="a",
        start=start,
        end=add_months(start, months),
        signed_terms=ContractTerms(
            currency="EUR",
            term_months=months,
            early_termination=EarlyTermination(
                product_id="e", kind="remainder", monthly_value=steps
            ),
        ),
    )
    asked = [start + timedelta(days=offset) for offset in sorted(offsets)]
    fees = whatif(signed, asked)
    assert fees == tuple(termination_fee(signed, day) for day in asked)
    assert all(one.amount >= two.amount for one, two in pairwise(fees))
    for fee in fees:
        if fee.product_id is not None:
            elapsed = months_elapsed(start, fee.ends_on)
            assert elapsed + fee.remaining_months == months_elapsed(start, signed.end)


@PROPERTY
@given(
    st.lists(cents, max_size=8),
    st.lists(st.tuples(st.booleans(), st.decimals(0, 100, places=3)), max_size=3),
    st.randoms(),
)
def test_discounts_are_exactly_what_is_missing(
    amounts: list[Decimal], offs: list[tuple[bool, Decimal]], random: Any
) -> None:
    lines = [DiscountableLine(f"{n}", "c", amount) for n, amount in enumerate(amounts)]
    discounts = [
        Discount(id=f"d{n}", percent=value) if percent else Discount(id=f"d{n}", amount=value)
        for n, (percent, value) in enumerate(offs)
    ]
    found = {line.key: line for line in discount_lines(lines, discounts, "EUR")}
    for line in lines:
        assert found[line.key].amount + found[line.key].discount == line.amount
    shuffled = discount_lines(random.sample(lines, len(lines)), discounts, "EUR")
    assert {line.key: line for line in shuffled} == found
