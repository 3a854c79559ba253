"""The rules of contracts in small cases (RULEBOOK §4)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from iotbill_pipelines.engine.contract import (
    AccountHistory,
    CommitLine,
    Commitment,
    Contract,
    ContractPrice,
    ContractTemplate,
    ContractTerms,
    DatedRate,
    Discount,
    DiscountableLine,
    EarlyTermination,
    EligibilityPolicy,
    FlagPolicy,
    Penalty,
    PenaltyTier,
    Presence,
    RampStep,
    Renewal,
    Season,
    SeasonalRate,
    Suspension,
    TerminationStatus,
    co_terminated_share,
    commitment_windows,
    discount_lines,
    evaluate,
    extended_end,
    price_period,
    price_segments,
    project,
    renewal_pipeline,
    sign,
    term_at,
    termination_fee,
    termination_status,
    terms_of,
    usage_flags,
)
from iotbill_pipelines.engine.money import apportion_signed
from iotbill_pipelines.engine.terms import CoreState

D = Decimal
YEAR = (date(2026, 1, 1), date(2027, 1, 1))


def signed(
    span: tuple[date, date] = YEAR,
    *,
    months: int = 12,
    contract_id: str = "c",
    service_id: str | None = None,
    suspensions: tuple[Suspension, ...] = (),
    terminated_on: date | None = None,
    termination_status: str | None = None,
    **terms: Any,
) -> Contract:
    return Contract(
        id=contract_id,
        account_id="a",
        service_id=service_id,
        start=span[0],
        end=span[1],
        suspensions=suspensions,
        terminated_on=terminated_on,
        termination_status=termination_status,
        signed_terms=ContractTerms(currency="EUR", term_months=months, **terms),
    )


def flat(value: str | int) -> tuple[RampStep, ...]:
    return (RampStep(from_month=1, value=D(value)),)


def commitment(kind: str = "invoice_amount", value: str | int = 1000, **changes: Any) -> Commitment:
    fields: dict[str, Any] = {
        "id": "m",
        "kind": kind,
        "amounts": flat(value),
        "penalty": Penalty(product_id="shortfall"),
    }
    return Commitment(**(fields | changes))


def spend(amount: str, day: date = date(2026, 1, 10), **changes: Any) -> CommitLine:
    fields: dict[str, Any] = {"key": f"{amount}@{day}", "currency": "EUR", "amount": D(amount)}
    return CommitLine(day=day, **(fields | changes))


def first_shortfall(promised: Commitment, contract: Contract | None = None, **facts: Any) -> Any:
    contract = contract or signed(commitments=(promised,))
    window = next(commitment_windows(contract, "m", date(2030, 1, 1)))
    return evaluate(contract, promised, window, **facts)


# -- seasons ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "inside"),
    [
        (date(2023, 2, 28), True),
        (date(2024, 2, 28), True),
        (date(2024, 2, 29), False),
        (date(2023, 3, 1), False),
        (date(2023, 11, 1), True),
        (date(2023, 10, 31), False),
    ],
)
def test_a_season_over_new_year_ends_before_the_leap_day(day: date, inside: bool) -> None:
    winter = Season(id="w", starts="11-01", ends_before="02-29")
    rest = Season(id="r", starts="02-29", ends_before="11-01")
    assert winter.holds(day) is inside
    assert rest.holds(day) is not inside


@pytest.mark.parametrize(("year", "day"), [(2023, date(2023, 3, 1)), (2024, date(2024, 2, 29))])
def test_the_boundary_of_the_leap_day_is_the_first_of_march_in_a_common_year(
    year: int, day: date
) -> None:
    assert Season(id="s", starts="02-29", ends_before="11-01").boundaries(year)[0] == day


@pytest.mark.parametrize("text", ["2-1", "13-01", "02-30", "04-31"])
def test_a_day_that_no_year_has_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="not a day of the year"):
        Season(id="s", starts=text, ends_before="12-01")


# -- prices ----------------------------------------------------------------------------------------


def test_unpriced_days_are_told_and_never_priced_at_zero() -> None:
    contract = signed(
        (date(2026, 1, 11), date(2027, 1, 11)), prices=(ContractPrice(charge_id="f", rate=D(31)),)
    )
    segments = price_segments("f", date(2026, 1, 1), date(2026, 2, 1), contracts=[contract])
    found = price_period(segments, date(2026, 1, 1), date(2026, 2, 1), currency="EUR")
    assert [(s.start, s.end) for s in found.unpriced] == [(date(2026, 1, 1), date(2026, 1, 11))]
    assert found.amount == D("21.00")


def test_a_price_ramps_by_contract_month() -> None:
    steps = (
        RampStep(from_month=1, to_month=2, value=D(1)),
        RampStep(from_month=3, value=D(2)),
    )
    contract = signed(
        (date(2026, 1, 15), date(2027, 1, 15)), prices=(ContractPrice(charge_id="f", ramp=steps),)
    )
    segments = price_segments("f", date(2026, 3, 1), date(2026, 4, 1), contracts=[contract])
    assert [(s.start.day, s.rate) for s in segments] == [(1, D(1)), (15, D(2))]


def test_uplifts_compound_and_reach_seasons() -> None:
    contract = signed(
        seasons=(Season(id="dec", starts="12-01", ends_before="01-01"),),
        prices=(
            ContractPrice(
                charge_id="f", rate=D(100), seasonal=(SeasonalRate(season="dec", rate=D(10)),)
            ),
        ),
        renewal=Renewal(kind="auto_renew", uplift_percent=D(10)),
    )
    segments = price_segments("f", date(2028, 11, 30), date(2028, 12, 2), contracts=[contract])
    assert [s.rate for s in segments] == [D(121), D("12.1")]
    assert segments[0].term_number == 3


def test_the_catalog_prices_what_the_contract_does_not_name() -> None:
    contract = signed(prices=(ContractPrice(charge_id="f", rate=D(1)),))
    old_and_new = [
        DatedRate(D(5), valid_to=date(2026, 1, 11)),
        DatedRate(D(6), valid_from=date(2026, 1, 11)),
    ]
    segments = price_segments(
        "other", date(2026, 1, 1), date(2026, 2, 1), contracts=[contract], catalog=old_and_new
    )
    assert [(s.source, s.rate, s.days) for s in segments] == [
        ("catalog", D(5), 10),
        ("catalog", D(6), 21),
    ]


# -- signing ---------------------------------------------------------------------------------------


def test_an_edited_template_leaves_signed_contracts_alone() -> None:
    terms = ContractTerms(
        currency="EUR", term_months=12, prices=(ContractPrice(charge_id="f", rate=D(1)),)
    )
    template = ContractTemplate(id="t", name="T", terms=terms)
    contract = sign(template, contract_id="c", account_id="a", start=YEAR[0])
    raised = terms.model_copy(update={"prices": (ContractPrice(charge_id="f", rate=D(2)),)})
    edited = template.model_copy(update={"terms": raised})
    assert edited.terms.prices[0].rate == D(2)
    assert contract.signed_terms.prices[0].rate == D(1)
    assert contract.end == YEAR[1]


def test_a_line_added_later_ends_with_the_account_contract_and_costs_its_share() -> None:
    """CT-10: 275 of 365 days are left on 1 April."""
    account = signed(contract_id="account")
    template = ContractTemplate(
        id="t", name="T", terms=ContractTerms(currency="EUR", term_months=24)
    )
    line = sign(
        template,
        contract_id="line",
        account_id="a",
        service_id="s",
        start=date(2026, 4, 1),
        account_contract=account,
    )
    assert line.end == account.end
    assert line.level == "line_item"
    assert co_terminated_share(account, line.start) == Fraction(275, 365)
    assert co_terminated_share(account, YEAR[1]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": date(2028, 1, 1)}, "not in force on 2028-01-01"),
        ({"account_id": "b"}, "belongs to account a, not b"),
        ({"currency": "USD"}, "USD differs from account contract account's EUR"),
    ],
)
def test_a_line_that_does_not_fit_its_account_contract_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    terms = ContractTerms(currency=changes.pop("currency", "EUR"), term_months=12)
    asked: dict[str, Any] = {"account_id": "a", "start": date(2026, 4, 1)} | changes
    with pytest.raises(ValueError, match=message):
        sign(
            ContractTemplate(id="t", name="T", terms=terms),
            contract_id="line",
            service_id="s",
            account_contract=signed(contract_id="account"),
            **asked,
        )


# -- terms -----------------------------------------------------------------------------------------


def test_renewals_from_the_last_of_january_do_not_drift() -> None:
    contract = signed(
        (date(2026, 1, 31), date(2026, 2, 28)), months=1, renewal=Renewal(kind="auto_renew")
    )
    ends = [term.end for term in terms_of(contract, date(2026, 5, 1))]
    assert ends[:4] == [
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
        date(2026, 5, 31),
    ]


def test_a_co_terminated_contract_renews_for_its_full_term() -> None:
    contract = signed((date(2026, 4, 1), YEAR[1]), renewal=Renewal(kind="auto_renew"))
    term = term_at(contract, YEAR[1])
    assert term is not None
    assert (term.start, term.end) == (YEAR[1], date(2028, 1, 1))


def test_a_successor_brings_its_own_prices_and_its_own_renewal() -> None:
    later = ContractTerms(
        currency="EUR",
        term_months=6,
        prices=(ContractPrice(charge_id="f", rate=D(3)),),
        renewal=Renewal(kind="auto_renew", uplift_percent=D(100)),
    )
    contract = signed(
        prices=(ContractPrice(charge_id="f", rate=D(1)),),
        renewal=Renewal(kind="new_contract", successor=later),
    )
    segments = price_segments("f", YEAR[0], date(2028, 1, 1), contracts=[contract])
    assert [(s.start, s.rate) for s in segments] == [
        (YEAR[0], D(1)),
        (YEAR[1], D(3)),
        (date(2027, 7, 1), D(6)),
    ]


def test_suspensions_count_once_and_only_while_the_term_runs() -> None:
    overlapping = (
        Suspension(start=date(2025, 12, 20), end=date(2026, 1, 11)),
        Suspension(start=date(2026, 1, 5), end=date(2026, 1, 21)),
        Suspension(start=date(2027, 1, 30), end=date(2027, 2, 9)),
    )
    assert extended_end(*YEAR, overlapping[:2]) == date(2027, 1, 21)
    assert extended_end(*YEAR, overlapping) == date(2027, 1, 21)
    at_the_end = Suspension(start=YEAR[1], end=date(2027, 1, 9))
    assert extended_end(*YEAR, [at_the_end]) == YEAR[1]
    within_the_extension = Suspension(start=date(2027, 1, 20), end=date(2027, 1, 25))
    assert extended_end(*YEAR, (*overlapping, within_the_extension)) == date(2027, 1, 26)


def test_a_renewed_term_starts_where_the_extended_one_ended() -> None:
    contract = signed(
        suspensions=(Suspension(start=date(2026, 3, 1), end=date(2026, 3, 11)),),
        suspension_extends_term=True,
        renewal=Renewal(kind="auto_renew"),
    )
    first, second = terms_of(contract, date(2028, 1, 1))
    assert (first.end, first.extended_days) == (date(2027, 1, 11), 10)
    assert (second.start, second.end) == (date(2027, 1, 11), date(2028, 1, 11))


def test_a_ramp_starts_again_on_renewal_unless_it_continues() -> None:
    steps = (
        RampStep(from_month=1, to_month=12, value=D(10)),
        RampStep(from_month=13, value=D(20)),
    )
    promised = commitment(amounts=steps)
    for ramp, expected in (("restart", 10), ("continue", 20)):
        contract = signed(commitments=(promised,), renewal=Renewal(kind="auto_renew", ramp=ramp))
        windows = list(commitment_windows(contract, "m", date(2027, 2, 1)))
        assert evaluate(contract, promised, windows[-1]).committed == expected


# -- commitments -----------------------------------------------------------------------------------


def test_a_partial_first_month_prorates_the_commitment_by_days() -> None:
    """CT-06: 17 of 31 days from 15 January."""
    promised = commitment(value=1000)
    contract = signed((date(2026, 1, 15), date(2027, 1, 15)), commitments=(promised,))
    found = first_shortfall(promised, contract)
    assert found.committed == Fraction(17000, 31)
    assert found.penalty == D("548.39")
    last = list(commitment_windows(contract, "m", date(2030, 1, 1)))[-1]
    assert (last.covered_from, last.covered_until) == (date(2027, 1, 1), date(2027, 1, 15))


def test_early_termination_ends_the_commitment_on_that_day() -> None:
    promised = commitment(value=3100)
    contract = signed(commitments=(promised,), terminated_on=date(2026, 1, 11))
    (window,) = commitment_windows(contract, "m", date(2030, 1, 1))
    assert evaluate(contract, promised, window).penalty == D("1000.00")


def test_a_ramp_step_inside_a_calendar_month_cuts_it_by_days() -> None:
    steps = (
        RampStep(from_month=1, to_month=1, value=D(31)),
        RampStep(from_month=2, to_month=2, value=D(62)),
    )
    promised = commitment(amounts=steps)
    contract = signed((date(2025, 12, 16), date(2026, 12, 16)), commitments=(promised,))
    months = list(commitment_windows(contract, "m", date(2026, 4, 1)))
    committed = [evaluate(contract, promised, window).committed for window in months]
    assert committed == [16, 15 + 16 * 2, Fraction(62 * 15, 28), 0]


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (Penalty(product_id="p"), D("200.00")),
        (Penalty(product_id="p", method="percent", percent=D("12.5")), D("25.00")),
        (Penalty(product_id="p", method="flat", flat=D(75)), D("75.00")),
    ],
)
def test_penalties_are_charges_of_their_own_product(penalty: Penalty, expected: D) -> None:
    """CT-08."""
    promised = commitment(penalty=penalty)
    found = first_shortfall(promised, lines=[spend("800.00")])
    assert (found.penalty, found.product_id) == (expected, "p")
    met = first_shortfall(promised, lines=[spend("1000.00")])
    assert met.penalty == 0


def test_what_counts_is_a_policy_and_what_does_not_is_told() -> None:
    """After discounts, without hardware and other periods, unless the policy says so (CT-04)."""
    lines = [
        spend("600.00", discount=D(60)),
        spend("50.00", hardware=True),
        spend("40.00", day=date(2025, 12, 31)),
        spend("30.00", commit_eligible=False),
    ]
    strict = first_shortfall(commitment(), lines=lines)
    assert strict.measured == 600
    assert {(e.reason, e.amount) for e in strict.excluded} == {
        ("hardware", D(50)),
        ("outside_window", D(40)),
        ("not_eligible", D(30)),
    }
    policy = EligibilityPolicy(
        discounts="before", include_hardware=True, include_prior_periods=True
    )
    assert first_shortfall(commitment(eligibility=policy), lines=lines).measured == 750


def test_a_usage_commitment_is_measured_in_its_own_unit() -> None:
    promised = commitment(
        "usage_class",
        100,
        unit="quantity",
        per="GB",
        usage_classes=("data",),
        penalty=Penalty(product_id="p", unit_price=D("0.50")),
    )
    lines = [
        spend("1.00", usage_class="data", quantity=90_500_000_000),
        spend("2.00", usage_class="sms", quantity=10**12),
    ]
    found = first_shortfall(promised, lines=lines)
    assert found.missing == Fraction("9.5")
    assert found.penalty == D("4.75")


def test_an_average_is_promised_for_every_service_of_the_window() -> None:
    promised = commitment("average_per_service", 10)
    presences = [
        Presence("s1", date(2025, 1, 1), date(2026, 1, 2)),
        Presence("s2", date(2026, 1, 31), date(2026, 3, 1)),
        Presence("s3", date(2026, 2, 1), date(2026, 3, 1)),
    ]
    found = first_shortfall(promised, lines=[spend("15.00")], presences=presences)
    assert (found.committed, found.penalty) == (20, D("5.00"))
    assert first_shortfall(promised).penalty == 0


@pytest.mark.parametrize(
    ("kind", "filters", "counted"),
    [
        ("service_volume", {}, 2),
        ("package_volume", {"offers": ("gold", "silver")}, 3),
        ("package_volume", {"offers": ("gold",)}, 2),
        ("package_service", {"offers": ("gold",), "products": ("data",)}, 2),
        ("package_service", {}, 4),
        ("connections", {}, 2),
    ],
)
def test_each_kind_counts_its_own_thing(kind: str, filters: dict[str, Any], counted: int) -> None:
    promised = commitment(
        kind,
        10,
        unit="quantity",
        penalty=Penalty(product_id="p", unit_price=D(1)),
        **filters,
    )
    presences = [
        Presence(service, *YEAR, offer_id=offer, product_id=product)
        for service, offer, product in (
            ("s1", "gold", "data"),
            ("s1", "gold", "sms"),
            ("s1", "silver", "data"),
            ("s2", "gold", "data"),
        )
    ]
    assert first_shortfall(promised, presences=presences).measured == counted


def test_connections_count_at_the_peak_or_on_the_last_day() -> None:
    presences = [
        Presence("s1", date(2026, 1, 1), date(2026, 1, 20)),
        Presence("s2", date(2026, 1, 10), date(2026, 1, 31)),
        Presence("s3", date(2026, 1, 20), date(2026, 2, 5)),
    ]
    price = Penalty(product_id="p", unit_price=D(1))
    for count_at, counted in (("peak", 2), ("last_day", 1)):
        promised = commitment("connections", 5, unit="quantity", count_at=count_at, penalty=price)
        assert first_shortfall(promised, presences=presences).measured == counted


def test_a_partial_month_of_connections_costs_its_days() -> None:
    promised = commitment(
        "connections", 10, unit="quantity", penalty=Penalty(product_id="p", unit_price=D(31))
    )
    contract = signed(commitments=(promised,), terminated_on=date(2026, 1, 11))
    found = first_shortfall(promised, contract)
    assert (found.missing, found.penalty) == (10, D("100.00"))


def test_a_charge_of_a_month_that_renews_counts_in_one_term_only() -> None:
    promised = commitment(value=310)
    contract = signed(
        (date(2026, 1, 11), date(2027, 1, 11)),
        commitments=(promised,),
        renewal=Renewal(kind="auto_renew"),
    )
    january = [
        window
        for window in commitment_windows(contract, "m", date(2027, 2, 1))
        if window.start == date(2027, 1, 1)
    ]
    lines = [spend("50.00", day=date(2027, 1, 1)), spend("20.00", day=date(2027, 1, 11))]
    found = [evaluate(contract, promised, window, lines) for window in january]
    assert [(one.committed, one.measured) for one in found] == [(100, 50), (210, 20)]


def test_a_charge_in_another_currency_is_refused() -> None:
    with pytest.raises(ValueError, match="is in USD, contract c in EUR"):
        first_shortfall(commitment(), lines=[spend("1.00", currency="USD")])


def test_the_result_says_how_it_came_about() -> None:
    found = first_shortfall(
        commitment(penalty=Penalty(product_id="p", method="percent", percent=D(50))),
        lines=[spend("800.00")],
    )
    assert found.explanation == (
        "2026-01-01..2026-02-01: 1000 x 31/31 days",
        "committed 1000, measured 800",
        "short by 200 x 50 % = 100.00 EUR",
    )


def test_a_forecast_uses_the_run_rate_or_what_is_expected() -> None:
    steps = (
        RampStep(from_month=1, to_month=6, value=D(100)),
        RampStep(from_month=7, value=D(200)),
    )
    promised = commitment(amounts=steps, frequency_months=12)
    contract = signed(commitments=(promised,))
    (window,) = commitment_windows(contract, "m", YEAR[1])
    so_far = evaluate(contract, promised, window, [spend("20.00", day=date(2026, 1, 5))])
    found = project(contract, promised, window, so_far, date(2026, 1, 11))
    assert (found.committed, found.measured, found.penalty) == (D(1800), D(730), D("1070.00"))
    none_passed = project(contract, promised, window, so_far, YEAR[0])
    assert none_passed.measured == D(20)
    expected = (
        RampStep(from_month=1, to_month=2, value=D(31)), RampStep(from_month=3, value=D(10))
    )  # fmt: skip
    planned = promised.model_copy(update={"expected": expected})
    found = project(contract, planned, window, so_far, date(2026, 1, 11))
    assert found.measured == D(20) + D(21) + D(31) + D(100)  # 21/31 days, February, ten months


# -- ends ------------------------------------------------------------------------------------------


def test_flat_fees_may_be_tiered_and_a_status_may_charge_none() -> None:
    contract = signed(
        early_termination=EarlyTermination(
            product_id="etf",
            kind="flat",
            tiers=(
                PenaltyTier(from_month=1, to_month=6, flat=D(300)),
                PenaltyTier(from_month=7, flat=D(100)),
            ),
        ),
        termination_statuses=(
            TerminationStatus(status="moved_away", core_state=CoreState.CANCELLED),
            TerminationStatus(
                status="insolvent", core_state=CoreState.CANCELLED, charges_fee=False
            ),
        ),
        termination_status="insolvent",
    )
    assert termination_fee(contract, date(2026, 7, 1)).amount == D(300)
    assert termination_fee(contract, date(2026, 7, 2), status="moved_away").amount == D(100)
    waived = termination_fee(contract, date(2026, 7, 2), status="insolvent")
    assert (waived.amount, waived.explanation) == (D(0), ("status insolvent charges no fee",))
    status = termination_status(contract)
    assert status is not None
    assert status.core_state is CoreState.CANCELLED
    with pytest.raises(ValueError, match="unknown termination status 'lost'; known: insolvent"):
        termination_fee(contract, date(2026, 7, 2), status="lost")


def test_the_remainder_follows_the_ramp_and_the_extension() -> None:
    fees = EarlyTermination(
        product_id="etf",
        kind="remainder",
        monthly_value=(
            RampStep(from_month=1, to_month=6, value=D(10)),
            RampStep(from_month=7, to_month=12, value=D(20)),
        ),
    )
    contract = signed(early_termination=fees)
    assert termination_fee(contract, date(2026, 4, 1)).amount == D(150)
    assert termination_fee(contract, date(2026, 1, 1)).amount == D(180)
    assert termination_fee(contract, date(2025, 11, 1)).amount == D(180)
    assert termination_fee(contract, date(2027, 1, 1)).amount == 0
    # A last step that is closed at month 12 commits to nothing in the extension.
    longer = signed(
        early_termination=fees,
        suspension_extends_term=True,
        suspensions=(Suspension(start=date(2026, 2, 1), end=date(2026, 3, 4)),),
    )
    assert termination_fee(longer, date(2027, 1, 1)).amount == 0
    assert termination_fee(longer, date(2027, 1, 1)).remaining_months == 1


def test_a_renewed_term_has_months_of_its_own_and_its_first_day_costs_nothing() -> None:
    contract = signed(
        early_termination=EarlyTermination(
            product_id="etf", kind="remainder", monthly_value=flat(10)
        ),
        renewal=Renewal(kind="auto_renew"),
    )
    assert termination_fee(contract, YEAR[1]).amount == 0
    assert termination_fee(contract, date(2027, 2, 1)).amount == D(110)


# -- renewal desk ----------------------------------------------------------------------------------


def test_flags_are_raised_at_the_edge_and_carry_their_figures() -> None:
    """CT-14: 80 % in two of three months; 20 % fewer devices in three months."""
    history = AccountHistory(
        included_quantity=(100, 100, 0, 100),
        used_quantity=(99, 80, 50, 80),
        active_devices=(100, 95, 90, 80),
    )
    flags = {flag.code: flag.evidence for flag in usage_flags(history, FlagPolicy())}
    assert flags["upsell"] == "used of included, last 3 months: 80.0 %, 80.0 %"
    assert flags["churn_risk"] == "active devices 100 -> 80 in 3 months: -20.0 %"
    calm = AccountHistory(
        included_quantity=(100, 100, 100),
        used_quantity=(79, 80, 79),
        active_devices=(100, 95, 90, 81),
    )
    assert usage_flags(calm, FlagPolicy()) == ()
    assert usage_flags(AccountHistory(active_devices=(0, 0, 0, 0)), FlagPolicy()) == ()


def test_the_pipeline_shows_what_ends_and_what_has_lapsed() -> None:
    ended = (date(2024, 1, 1), date(2025, 1, 1))
    contracts = [
        signed(contract_id="renews", renewal=Renewal(kind="auto_renew"), notice_days=30),
        signed((date(2026, 6, 1), date(2028, 6, 1)), months=24, contract_id="later"),
        signed(contract_id="ended-early", terminated_on=date(2026, 12, 1)),
    ]
    lapsed = Contract(
        id="lapsed", account_id="b", start=ended[0], end=ended[1],
        signed_terms=ContractTerms(currency="EUR", term_months=12),
    )  # fmt: skip
    replaced = Contract(
        id="replaced", account_id="a", start=ended[0], end=ended[1],
        signed_terms=ContractTerms(currency="EUR", term_months=12),
    )  # fmt: skip
    rows = renewal_pipeline(
        [*contracts, lapsed, replaced],
        as_of=date(2026, 11, 15),
        until=date(2027, 3, 1),
        histories={name: AccountHistory(devices_now=7) for name in ("lapsed", "replaced")},
    )
    assert [(row.contract_id, row.next_kind) for row in rows] == [
        ("lapsed", "expire"),
        ("ended-early", "terminated"),
        ("renews", "auto_renew"),
    ]
    assert renewal_pipeline(contracts[:1], as_of=date(2026, 11, 15), until=YEAR[1]) == ()
    assert rows[0].flags[0].evidence == "ended 2024-12-31, 7 devices still active"
    assert rows[2].next_term == (YEAR[1], date(2028, 1, 1))
    assert (rows[2].notice_deadline, rows[2].notice_days_left) == (date(2026, 12, 1), 16)
    assert [days for days, _ in rows[2].alerts] == [30]
    assert [days for days, _ in rows[2].alerts_passed] == [90, 60]


# -- discounts -------------------------------------------------------------------------------------


def test_credits_among_the_parts_are_rounded_with_their_side() -> None:
    shares = [Fraction(8, 5), Fraction(-1, 5)]
    assert apportion_signed(1, shares, ["a", "b"]) == [2, -1]
    assert apportion_signed(0, [Fraction(1, 2), Fraction(-1, 2)], ["a", "b"]) == [1, -1]


def test_discounts_apply_one_after_the_other_to_what_is_left() -> None:
    lines = [
        DiscountableLine("1", "a", D("10.00")),
        DiscountableLine("2", "b", D("10.01")),
        DiscountableLine("3", "a", D("-4.00")),
    ]
    discounts = [
        Discount(id="half", percent=D(50), charges=("a",)),
        Discount(id="fixed", amount=D(100)),
    ]
    found = discount_lines(lines, discounts, "EUR")
    assert [line.amount for line in found] == [D(0), D(0), D("-2.00")]
    assert found[0].discounts == (("half", D("5.00")), ("fixed", D("5.00")))


# -- terms that contradict themselves --------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: commitment(amounts=(RampStep(from_month=2, value=D(1)),)), "expected 1"),
        (lambda: commitment("connections", 5), "penalty.unit_price is needed"),
        (
            lambda: commitment("connections", 5, penalty=Penalty(product_id="p", unit_price=D(1))),
            "write unit: quantity",
        ),
        (lambda: commitment(frequency_months=5), "calendar frequency"),
        (lambda: commitment(period_months=3, frequency_months=4), "multiple"),
        (lambda: commitment("usage_class"), "name the usage_classes"),
        (lambda: commitment(per="GiBB"), "unknown unit 'GiBB'"),
        (lambda: Penalty(product_id="p", method="percent"), "give percent"),
        (lambda: ContractPrice(charge_id="f"), "either rate or ramp"),
        (lambda: ContractPrice(charge_id="f", rate=1.5), "binary fraction"),
        (lambda: Renewal(kind="new_contract"), "give successor"),
        (
            lambda: signed(
                renewal=Renewal(
                    kind="new_contract", successor=ContractTerms(currency="USD", term_months=1)
                )
            ),
            "the successor is in USD, these terms in EUR",
        ),
        (lambda: Renewal(uplift_percent=D(3)), "belongs to auto_renew"),
        (
            lambda: EarlyTermination(product_id="e", kind="pct_of_remaining", percent=D(5)),
            "needs monthly_value",
        ),
        (lambda: EarlyTermination(product_id="e", kind="flat"), "either flat or tiers"),
        (
            lambda: signed(
                prices=(
                    ContractPrice(
                        charge_id="f",
                        rate=D(1),
                        seasonal=(SeasonalRate(season="x", rate=D(1)),),
                    ),
                )
            ),
            "unknown season 'x'; known: none",
        ),
        (
            lambda: signed(prices=(ContractPrice(charge_id="f", rate=D(1)),) * 2),
            "price of charge 'f' is given twice",
        ),
        (lambda: signed(termination_status="gone"), "unknown termination status 'gone'"),
        (lambda: signed((YEAR[1], YEAR[0])), "end must be after start"),
    ],
)
def test_terms_that_contradict_themselves_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_an_anniversary_window_starts_on_the_contract_day() -> None:
    promised = commitment(alignment="anniversary", frequency_months=None)
    contract = signed((date(2026, 1, 15), date(2027, 1, 15)), commitments=(promised,))
    (window,) = commitment_windows(contract, "m", date(2030, 1, 1))
    assert (window.start, window.end) == (contract.start, contract.end)
    assert evaluate(contract, promised, window).committed == 12000
    assert window.covered_until - timedelta(days=1) == date(2027, 1, 14)
