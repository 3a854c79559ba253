"""Every published example of contracts, straight from the files, through the public functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from published_examples import matches, worked_example, worked_ids

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.contract import (
    CommitLine,
    Commitment,
    Contract,
    ContractPrice,
    ContractTerms,
    DatedRate,
    EarlyTermination,
    Penalty,
    PenaltyTier,
    Presence,
    RampStep,
    Renewal,
    Season,
    SeasonalRate,
    Shortfall,
    Suspension,
    alert_dates,
    commitment_windows,
    evaluate,
    extended_end,
    price_period,
    price_segments,
    renewal_pipeline,
    term_at,
    terms_of,
    true_up_adjustment,
    whatif,
)

Facts = dict[str, Any]
D = Decimal
PENALTY = Penalty(product_id="shortfall")


def contract(
    start: date, end: date, months: int, *, service_id: str | None = None, **terms: Any
) -> Contract:
    return Contract(
        id="line" if service_id else "account",
        account_id="a",
        service_id=service_id,
        start=start,
        end=end,
        signed_terms=ContractTerms(currency="EUR", term_months=months, **terms),
    )


def minimum(amount: str | D, **changes: Any) -> Commitment:
    fields: Facts = {
        "id": "min",
        "kind": "invoice_amount",
        "amounts": (RampStep(from_month=1, value=D(amount)),),
        "penalty": PENALTY,
    }
    return Commitment(**(fields | changes))


def line(amount: str | D, day: date = date(2026, 1, 10), key: str = "usage") -> CommitLine:
    return CommitLine(key=key, day=day, currency="EUR", amount=D(amount))


def shortfall(commitment: Commitment, *lines: CommitLine, month: int = 1) -> Shortfall:
    """Evaluate a month of a contract of 2026."""
    signed = contract(date(2026, 1, 1), date(2027, 1, 1), 12, commitments=(commitment,))
    windows = list(commitment_windows(signed, commitment.id, date(2027, 1, 1)))
    return evaluate(signed, commitment, windows[month - 1], lines)


def ramp(facts: Facts) -> Facts:
    steps = tuple(
        RampStep(from_month=first, to_month=last, value=D(value))
        for first, last, value in facts["ramp"]
    )
    day = date(2026, facts["month"], 5)
    found = shortfall(
        minimum("0", amounts=steps), line(facts["eligible_billed"], day), month=facts["month"]
    )
    return {"commit": D(int(found.committed)), "shortfall": found.penalty}


def minimum_spend(facts: Facts) -> Facts:
    found = [shortfall(minimum(facts["minimum"]), line(used)) for used in facts["usage"]]
    return {
        "true_up": [one.penalty for one in found],
        "pre_tax": [one.penalty + D(used) for one, used in zip(found, facts["usage"], strict=True)],
    }


def minimum_with_fee(facts: Facts) -> Facts:
    lines = [line(facts["fee"], key="fee"), line(D(facts["unit"]) * facts["units"])]
    found = shortfall(minimum(facts["minimum"]), *lines)
    before = sum((one.amount for one in lines), D(0))
    return {"before": before, "true_up": found.penalty, "total": before + found.penalty}


def connections(facts: Facts) -> Facts:
    promised = minimum(
        facts["min_connections"],
        kind="connections",
        unit="quantity",
        penalty=Penalty(product_id="shortfall", unit_price=D(facts["unit_price"])),
    )
    signed = contract(date(2026, 1, 1), date(2027, 1, 1), 12, commitments=(promised,))
    presences, windows = [], list(commitment_windows(signed, "min", date(2026, 4, 1)))
    for window, active in zip(windows, facts["active"], strict=True):
        presences += [
            Presence(f"sim{number}", window.end - timedelta(days=1), window.end)
            for number in range(active)
        ]
    return {
        "penalty": [evaluate(signed, promised, w, presences=presences).penalty for w in windows]
    }


def late_usage(facts: Facts) -> Facts:
    billed, promised = D(facts["billed_true_up"]), minimum(facts["minimum"])
    on_time = line(D(facts["minimum"]) - billed)
    rows = []
    for late in facts["late_usage"]:
        found = shortfall(promised, on_time, line(late, key="late"))
        change = true_up_adjustment(found, billed)
        rows.append({"usage": D(late), "true_up": change, "net": D(late) + change})
    return {"adjustment": rows}


def early_termination(facts: Facts) -> Facts:
    start, end = (date.fromisoformat(day) for day in facts["term"])
    fees = EarlyTermination(
        product_id="etf",
        kind="pct_of_remaining",
        monthly_value=(RampStep(from_month=1, value=D(facts["monthly_commit"])),),
        tiers=tuple(
            PenaltyTier(from_month=low, to_month=high, percent=D(percent.rstrip("%")))
            for low, high, percent in facts["tiers_by_contract_month"]
        ),
    )
    signed = contract(start, end, 36, early_termination=fees)
    days = [date.fromisoformat(day) for day in facts["whatif_dates"]]
    return {str(fee.ends_on): fee.amount for fee in whatif(signed, days)}


def seasonal(facts: Facts) -> Facts:
    month = Month.parse(facts["period"])
    signed = contract(
        date(2026, 1, 1),
        date(2027, 1, 1),
        12,
        seasons=(Season(id="high", starts=facts["season_high_from"], ends_before="10-01"),),
        prices=(
            ContractPrice(
                charge_id="fee",
                rate=D(facts["low"]),
                seasonal=(SeasonalRate(season="high", rate=D(facts["high"])),),
            ),
        ),
    )
    segments = price_segments("fee", month.start, month.end, contracts=[signed])
    priced = price_period(segments, month.start, month.end, currency="EUR")
    return {"segments": [part.amount for part in priced.segments], "total": priced.amount}


def uplift(facts: Facts) -> Facts:
    end = date.fromisoformat(facts["term_end"]) + timedelta(days=1)
    july = Month.of(end)
    signed = contract(
        date(2025, 7, 1),
        end,
        12,
        prices=(ContractPrice(charge_id="fee", rate=D(facts["price"])),),
        renewal=Renewal(kind="auto_renew", uplift_percent=D(facts["uplift_pct"])),
    )
    (before, after) = price_segments("fee", end - timedelta(days=1), july.end, contracts=[signed])
    assert before.rate == D(facts["price"])
    priced = price_period([after], july.start, july.end, currency="EUR", quantity=facts["devices"])
    return {"price_from_2026-07-01": after.rate, "july": priced.amount}


def pipeline(facts: Facts) -> Facts:
    last_day = date.fromisoformat(facts["end_inclusive"])
    signed = contract(
        date(2026, 1, 1),
        last_day + timedelta(days=1),
        12,
        notice_days=facts["notice_days"],
        alert_days=tuple(facts["alerts"]),
    )
    (row,) = renewal_pipeline([signed], as_of=date(2026, 9, 1), until=date(2027, 2, 1))
    assert alert_dates(last_day, facts["alerts"]) == tuple(day for _, day in row.alerts)
    return {
        "notice_deadline": str(row.notice_deadline),
        "alert_dates": [str(day) for _, day in row.alerts],
    }


def precedence(facts: Facts) -> Facts:
    ((month, rate),) = facts["seasonal_on_line"].items()
    account = contract(
        date(2026, 1, 1),
        date(2027, 1, 1),
        12,
        prices=(ContractPrice(charge_id="fee", rate=D(facts["account_contract"])),),
    )
    item = contract(
        date(2026, 1, 1),
        date(2027, 1, 1),
        12,
        service_id="s",
        seasons=(Season(id="s", starts=f"{month}-01", ends_before="01-01"),),
        prices=(
            ContractPrice(
                charge_id="fee",
                rate=D(facts["line_item_contract"]),
                seasonal=(SeasonalRate(season="s", rate=D(rate)),),
            ),
        ),
    )
    catalog = [DatedRate(D(facts["catalog"]))]

    def price(month: str, *contracts: Contract) -> D | None:
        span = Month.parse(month)
        (segment,) = price_segments(
            "fee", span.start, span.end, catalog=catalog, contracts=contracts
        )
        return segment.rate

    return {
        "prices": {
            "2026-11": price("2026-11", item, account),
            "2026-12": price("2026-12", item, account),
            "other_service": price("2026-12", account),
            "no_contract": price("2026-12"),
        }
    }


def renewal_terms(facts: Facts) -> Facts:
    start, end = (date.fromisoformat(day) for day in facts["term"])
    promised = minimum("100")
    successor = ContractTerms(currency="EUR", term_months=12)
    renewals = {
        "expire": Renewal(kind="expire"),
        "new_contract": Renewal(kind="new_contract", successor=successor),
        "auto_renew": Renewal(kind="auto_renew"),
    }
    found: Facts = {}
    for kind, renewal in renewals.items():
        signed = contract(start, end, 36, commitments=(promised,), renewal=renewal)
        term = term_at(signed, end)
        if term is None:
            (segment,) = price_segments(
                "fee", end, end + timedelta(days=1), contracts=[signed], catalog=[DatedRate(D(1))]
            )
            found[kind] = f"no contract, {segment.source} price"
            continue
        assert term.terms.commitments == (() if kind == "new_contract" else (promised,))
        found[kind] = [str(term.start), str(term.end)]
    return {str(end): found}


def suspension(facts: Facts) -> Facts:
    last_day = date.fromisoformat(facts["contract_end"])
    start, end = date(2026, 7, 1), last_day + timedelta(days=1)
    stood = Suspension(
        start=date(2026, 9, 3), end=date(2026, 9, 3) + timedelta(days=facts["suspended_days"])
    )
    signed = contract(start, end, 12, suspension_extends_term=True).model_copy(
        update={"suspensions": (stood,)}
    )
    (term,) = terms_of(signed, date(2030, 1, 1))
    assert term.end == extended_end(start, end, [stood])
    return {"new_end": str(term.end - timedelta(days=1))}


WORKED: dict[str, Callable[[Facts], Facts]] = {
    "CT-01": ramp,
    "CT-02": minimum_spend,
    "CT-03": minimum_with_fee,
    "CT-05": connections,
    "CT-07": late_usage,
    "CT-09": early_termination,
    "CT-11": seasonal,
    "CT-12": uplift,
    "CT-13": pipeline,
    "CT-16": precedence,
    "CT-17": renewal_terms,
    "ST-23": suspension,
}


@pytest.mark.parametrize("case_id", WORKED)
def test_worked_example(shared: Path, case_id: str) -> None:
    case = worked_example(shared, case_id)
    found = WORKED[case_id](case["facts"])
    expected = {key: value for key, value in case["expected"].items() if key != "policy"}
    assert matches(found, expected), (found, expected, case["arithmetic"])


def test_no_worked_example_of_contracts_is_left_out(shared: Path) -> None:
    through_the_flow = {"CT-15"}  # tests/proof/contracts.py
    assert worked_ids(shared, "contract") == set(WORKED) | through_the_flow
