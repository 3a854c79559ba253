"""What two operators agreed on wholesale roaming, and the usage lines it is applied to.

Quantities and prices are :class:`~decimal.Decimal` as written; prices are per the unit that the
usage lines (or the service) name. Tier bounds are quantities in that unit, start inclusive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

Direction = Literal["inbound", "outbound"]
"""Inbound: the partner's subscribers on our network (they pay us); outbound: ours on theirs."""

Bearer = Literal["MOC", "MTC", "SMS", "Data", "Access"]

SERVICES: Mapping[str, Bearer] = {
    "MOC Back Home": "MOC",
    "MOC Local": "MOC",
    "MOC Premium": "MOC",
    "MOC International": "MOC",
    "MOC RoW": "MOC",
    "MOC EU": "MOC",
    "MOC EEA": "MOC",
    "MOC Special Destinations": "MOC",
    "MOC Satellite": "MOC",
    "MOC Video Telephony": "MOC",
    "MTC": "MTC",
    "SMSMO": "SMS",
    "SMSMT": "SMS",
    "GPRS": "Data",
    "M2M": "Data",
    "NB-IOT": "Data",
    "LTE-M": "Data",
    "VoLTE": "Data",
    "ViLTE": "Data",
    "IMS Signalling": "Data",
    "Network Access": "Access",
}
"""Services that bilateral agreements price, and the bearer under which they are added up."""

_UNITS: Mapping[str, tuple[str, Fraction]] = {
    "s": ("time", Fraction(1, 60)),
    "sec": ("time", Fraction(1, 60)),
    "second": ("time", Fraction(1, 60)),
    "min": ("time", Fraction(1)),
    "minute": ("time", Fraction(1)),
    "h": ("time", Fraction(60)),
    "hour": ("time", Fraction(60)),
    "b": ("volume", Fraction(1, 10**6)),
    "byte": ("volume", Fraction(1, 10**6)),
    "kb": ("volume", Fraction(1, 10**3)),
    "mb": ("volume", Fraction(1)),
    "gb": ("volume", Fraction(10**3)),
    "kib": ("volume", Fraction(2**10, 10**6)),
    "mib": ("volume", Fraction(2**20, 10**6)),
    "gib": ("volume", Fraction(2**30, 10**6)),
    "sms": ("count", Fraction(1)),
    "#": ("count", Fraction(1)),
    "event": ("count", Fraction(1)),
    "imsi": ("subscriber", Fraction(1)),
}


class AgreementError(ValueError):
    """An agreement or a usage line that cannot be settled; the message says what to change."""


def service_name(name: str) -> str:
    """Return the common spelling: ``SMS MO``, ``smsmo`` and ``SMSMO`` are one service."""
    return _SPELLINGS.get(_squeezed(name), name.strip())


def bearer_of(service: str) -> Bearer | None:
    """Return the bearer of a service by its common spelling; None for one that is not listed."""
    return SERVICES.get(service_name(service))


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_SPELLINGS = {_squeezed(name): name for name in SERVICES}


def unit_factor(unit: str, into: str) -> Fraction:
    """Return how many of unit ``into`` one ``unit`` is; decimal and binary units are different.

    Raises AgreementError if one cannot be turned into the other.
    """
    if unit.casefold() == into.casefold():
        return Fraction(1)
    known, wanted = _UNITS.get(unit.casefold()), _UNITS.get(into.casefold())
    if known is None or wanted is None or known[0] != wanted[0]:
        raise AgreementError(f"a quantity in {unit!r} cannot be priced per {into!r}")
    return known[1] / wanted[1]


@dataclass(frozen=True)
class Tier:
    """From quantity ``start`` on: ``linear`` a unit, and ``fixed`` once it is entered."""

    start: Decimal
    linear: Decimal = Decimal(0)
    fixed: Decimal = Decimal(0)


@dataclass(frozen=True)
class Rate:
    """Tiers by ascending start. ``whole``: the reached tier prices everything ("back to first");
    otherwise each tier prices what lies in it (graduated)."""

    tiers: tuple[Tier, ...]
    whole: bool = False

    def value(self, quantity: Fraction) -> Fraction:
        """Price a quantity, exactly. Nothing costs nothing, fixed parts included; a correction
        below zero gives back what its amount would cost."""
        if quantity < 0:
            return -self.value(-quantity)
        total = Fraction(0)
        for tier, end in zip(self.tiers, (*self.tiers[1:], None), strict=True):
            start = Fraction(tier.start)
            limit = None if end is None else Fraction(end.start)
            if self.whole:
                if start <= quantity and (limit is None or quantity < limit) and quantity:
                    return Fraction(tier.fixed) + Fraction(tier.linear) * quantity
            elif quantity > start:
                inside = (quantity if limit is None else min(quantity, limit)) - start
                total += Fraction(tier.fixed) + Fraction(tier.linear) * inside
        return total


@dataclass(frozen=True)
class ServicePrice:
    """How one service is priced: by ``rate``; or ``balanced`` up to what flows back, and
    ``unbalanced`` beyond it. Without any of them it costs nothing."""

    service: str
    rate: Rate | None = None
    balanced: Rate | None = None
    unbalanced: Rate | None = None
    in_commitment: bool = False
    unit: str | None = None

    @property
    def priced(self) -> bool:
        """Whether there is a price at all."""
        return bool(self.rate or self.balanced or self.unbalanced)

    def value(self, quantity: Fraction, returned: Fraction) -> Fraction:
        """Price ``quantity`` when ``returned`` flowed the other way."""
        if self.rate is not None:
            return self.rate.value(quantity)
        even = min(quantity, returned)
        parts = ((self.balanced, even), (self.unbalanced, quantity - even))
        return sum((rate.value(amount) for rate, amount in parts if rate is not None), Fraction(0))


@dataclass(frozen=True)
class ServiceGroup:
    """Prices for subscribers of ``homes`` on networks ``visitors`` (TADIG codes)."""

    homes: tuple[str, ...]
    visitors: tuple[str, ...]
    services: tuple[ServicePrice, ...]


@dataclass(frozen=True)
class Commitment:
    """Least revenue: of all charges as invoiced (``contract``), or of the discounted value of the
    services that count towards it (``deal``)."""

    of: Literal["contract", "deal"]
    value: Decimal
    including_taxes: bool = False
    currency: str | None = None
    """None: the party's own."""


@dataclass(frozen=True)
class AgreementPart:
    """One party's discounts, in ``currency`` (None: the one of the usage lines)."""

    party: str
    groups: tuple[ServiceGroup, ...]
    currency: str | None = None
    commitment: Commitment | None = None


@dataclass(frozen=True)
class Agreement:
    """A bilateral discount agreement. ``taxes_included``: its prices contain taxes."""

    name: str
    parts: tuple[AgreementPart, ...]
    taxes_included: bool = False
    start: date | None = None
    end: date | None = None


@dataclass(frozen=True)
class UsageLine:
    """Usage of a month, as one of the two operators counted and charged it by TAP.

    ``charges`` and ``taxes`` are in ``currency``; ``month`` is YYYYMM as written.
    """

    direction: Direction
    month: str
    home: str
    visitor: str
    service: str
    quantity: Decimal
    unit: str
    charges: Decimal = Decimal(0)
    taxes: Decimal = Decimal(0)
    currency: str | None = None
