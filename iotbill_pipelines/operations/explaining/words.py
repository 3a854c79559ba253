"""What an explanation is made of, and how it writes numbers, units and dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from iotbill_pipelines.engine.money import RATE_SCALE, of_minor, round_half_up

Row = Mapping[str, Any]
RATE_UNIT = 10**RATE_SCALE


class Unexplained(LookupError):
    """The stored data do not hold what the explanation needs; the message says what is missing."""


@dataclass(frozen=True)
class Unit:
    """What is rounded once: a charge of a service in a usage period (RULEBOOK §0.2)."""

    usage_period: str
    level: str
    account_id: str
    service_id: str
    charge_id: str


@dataclass(frozen=True)
class Step:
    """A line of an explanation: what was done, and the amount it gave, where it gave one."""

    text: str
    amount: str = ""


@dataclass(frozen=True)
class Result:
    """The steps of a charge and the amount that they lead to, in minor units."""

    steps: list[Step]
    amount_minor: int
    currency: str


def price_terms(price: Row) -> str:
    until = price["valid_to"]
    since = None if price["valid_from"] <= date(1970, 1, 1) else price["valid_from"]
    dates = " ".join(
        [*([f"from {since}"] if since else []), *([f"to before {until}"] if until else [])]
    )
    return f"{price['model']} price {price['price_id']} ({dates or 'no end'})"


def counted(units: int, charge: Row, per: str) -> str:
    if charge["unit_size"] == 1:
        return f"{units:,} {per}"
    return f"{units:,} units = {in_units(units, charge)} {per}"


def in_units(units: int, charge: Row) -> str:
    return exactly(Fraction(units, charge["unit_size"]))


def tier_bounds(tier: Row, charge: Row, per: str) -> str:
    lower = in_units(tier["lower_quantity"], charge)
    if tier["upper_quantity"] is None:
        return f"tier {tier['tier_no']}, above {lower} {per}"
    upper = in_units(tier["upper_quantity"], charge)
    return f"tier {tier['tier_no']}, above {lower} up to {upper} {per}"


def exactly(value: Fraction) -> str:
    """Write a fraction exactly where it ends within 12 decimals, else rounded and marked."""
    rounded = round_half_up(value, RATE_SCALE)
    text = f"{rounded:f}".rstrip("0").rstrip(".") if rounded else "0"
    return text if Fraction(rounded) == value else f"{text}…"


def in_money(minor: int, currency: str) -> str:
    return f"{of_minor(minor, currency):f}"
