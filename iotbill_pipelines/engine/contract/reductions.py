"""Discounts of contracts as charges: credits beside the charges they reduce (RULEBOOK §4, order).

A discount is rounded once over all charges of an account that one invoice carries of one usage
period, and parted over them by largest remainder; every part keeps the product of its charge, so
that tax and accounts follow it. Lines of an account's discount come after those of its services'
own contracts, each off what the ones before it left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, literal
from iotbill_pipelines.engine.contract.coverage import Coverage
from iotbill_pipelines.engine.contract.discounts import take_off
from iotbill_pipelines.engine.contract.lifecycle import terms_of
from iotbill_pipelines.engine.contract.prices import plain, precedence
from iotbill_pipelines.engine.contract.terms import Contract, Discount
from iotbill_pipelines.engine.money import of_minor, to_minor

DISCOUNT = "discount"
"""Kind of the charges that reduce others."""

Row = dict[str, Any]
_Line = tuple[str, str]
"""Service and charge."""


def discounts_in(contract: Contract, period: Month) -> dict[Discount, Fraction]:
    """Return the discounts that hold in a month, each with the share of its days under contract."""
    days: dict[Discount, int] = defaultdict(int)
    for term in terms_of(contract, period.end):
        first, stop = max(term.start, period.start), min(term.covered_until, period.end)
        for discount in term.terms.discounts if first < stop else ():
            days[discount] += (stop - first).days
    return {discount: Fraction(count, period.days) for discount, count in days.items()}


def reduce_charges(
    compute: Compute, contracts: Sequence[Contract], levels: Mapping[str, str], period: Month
) -> tuple[list[Row], list[Row], dict[str, set[str]]]:
    """Return rows of ``desired_charge`` and ``charge_component`` for the discounts of a period.

    Covers the charges of ``period`` and those in advance of the next one that are there already.
    ``levels`` says for each account which level its contracts are for. Also returns, by contract,
    the other currencies of charges that are not reduced.
    """
    months = (period, period + 1)
    agreed = {
        (contract.id, str(month)): held
        for contract in contracts
        if contract.account_id in levels
        for month in months
        if (held := discounts_in(contract, month))
    }
    known = {contract_id for contract_id, _ in agreed}
    ranked = sorted(
        (contract for contract in contracts if contract.id in known),
        key=precedence,
    )
    if not ranked:
        return [], [], {}
    charges: list[Row] = []
    components: list[Row] = []
    foreign: dict[str, set[str]] = defaultdict(set)
    coverage = Coverage.of(compute)
    for account_id in sorted({each for contract in ranked for each in coverage.accounts(contract)}):
        near = dict(coverage.covering(ranked, account_id))
        mine = [each for each in sorted(ranked, key=lambda c: near.get(c, 0)) if each in near]
        taken: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
        for rows in _invoices(compute, account_id, levels[account_id], months):
            for found, told in _reduced(rows, mine, agreed, taken, foreign):
                charges.append(found)
                components.append(told)
    return charges, components, foreign


def _invoices(
    compute: Compute, account_id: str, level: str, months: Sequence[Month]
) -> Iterator[list[Row]]:
    """Yield an account's charges together that one invoice carries of one usage period."""
    listed = ", ".join(f"'{month}'" for month in months)
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in compute.fetch(
        "select usage_period, billing_period, level, entity_id, account_id, service_id, charge_id,"
        " product_id, currency, amount_minor from desired_charge"
        f" where account_id = {literal(account_id)} and level = '{level}'"
        f" and usage_period in ({listed}) and amount_minor <> 0"
    ).to_pylist():
        groups[row["usage_period"], row["billing_period"], row["currency"]].append(row)
    for key in sorted(groups):
        yield groups[key]


def _reduced(
    rows: Sequence[Row],
    contracts: Sequence[Contract],
    agreed: Mapping[tuple[str, str], Mapping[Discount, Fraction]],
    taken: dict[tuple[str, str, str], Decimal],
    foreign: dict[str, set[str]],
) -> Iterator[tuple[Row, Row]]:
    period, currency = rows[0]["usage_period"], rows[0]["currency"]
    lines: dict[_Line, Row] = {(row["service_id"], row["charge_id"]): row for row in rows}
    net = {key: of_minor(row["amount_minor"], currency) for key, row in lines.items()}
    for contract in contracts:
        held = agreed.get((contract.id, period), {})
        if held and contract.signed_terms.currency != currency:
            foreign[contract.id].add(currency)
            continue
        for discount, share in held.items():
            covered = {
                key: amount
                for key, amount in net.items()
                if contract.service_id in (None, key[0])
                and (not discount.charges or key[1] in discount.charges)
            }
            used = contract.id, discount.id, period
            parts = take_off(covered, discount, currency, share=share, taken=taken[used])
            base = sum(covered.values(), Decimal(0))
            total = sum(parts.values(), Decimal(0))
            for key, part in parts.items():
                net[key] -= part
                if part:
                    detail = _told(discount, share, base, total, covered[key], part, currency)
                    yield _rows(lines[key], contract, discount, to_minor(part, currency), detail)
            taken[used] += total


def _told(
    discount: Discount,
    share: Fraction,
    base: Decimal,
    total: Decimal,
    amount: Decimal,
    part: Decimal,
    currency: str,
) -> str:
    value = f"{currency} {discount.amount}"
    if discount.percent is not None:
        value = f"{plain(discount.percent)} %"
    held = "" if share == 1 else f" x {share} of the month under contract"
    return (
        f"{value}{held} off charges of together {currency} {base}: {total}; "
        f"of {amount} of this charge {part}"
    )


def _rows(
    line: Row, contract: Contract, discount: Discount, minor: int, detail: str
) -> tuple[Row, Row]:
    shared = {
        "usage_period": line["usage_period"],
        "level": line["level"],
        "account_id": line["account_id"],
        "service_id": line["service_id"],
        "charge_id": f"{contract.id}/{discount.id}/{line['charge_id']}",
        "kind": DISCOUNT,
        "records": 0,
        "quantity": 0,
        "amount_minor": -minor,
    }
    charge = {
        "billing_period": line["billing_period"],
        "entity_id": line["entity_id"],
        "product_id": line["product_id"],
        "linear": True,
        "currency": line["currency"],
        "price_ids": "",
    }
    return shared | charge, shared | {"component_id": DISCOUNT, "detail": detail}
