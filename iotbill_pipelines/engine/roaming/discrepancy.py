"""Two operators' views of the same roaming, beside each other: usage and settlement.

What one counted inbound the other must have counted outbound. Differences are own minus partner;
the percentage is of the own figure, 100 where only one side has any, as the public wholesale
roaming reference has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.money import round_half_up
from iotbill_pipelines.engine.roaming.agreement import (
    Direction,
    UsageLine,
    bearer_of,
    service_name,
)
from iotbill_pipelines.engine.roaming.settlement import Settlement

_PERCENT_PLACES = 12
_OTHER: dict[Direction, Direction] = {"inbound": "outbound", "outbound": "inbound"}


def percent_delta(own: Decimal, partner: Decimal) -> Decimal:
    """Return (own - partner) / own x 100, 100 if just one is zero, 0 if both are."""
    if not own and not partner:
        return Decimal(0)
    if not own or not partner:
        return Decimal(100)
    share = (Fraction(own) - Fraction(partner)) / Fraction(own) * 100
    return round_half_up(share, _PERCENT_PLACES).normalize()


@dataclass(frozen=True)
class UsageDifference:
    """A month, network pair and service as both counted it.

    ``own_lines`` and ``partner_lines`` say how many lines were added up; zero: that side is silent.
    """

    direction: Direction
    month: str
    home: str
    visitor: str
    service: str
    unit: str
    own_quantity: Decimal
    partner_quantity: Decimal
    own_lines: int
    partner_lines: int

    @property
    def difference(self) -> Decimal:
        """Own minus partner."""
        return self.own_quantity - self.partner_quantity

    @property
    def percent(self) -> Decimal:
        """Difference in percent of the own quantity."""
        return percent_delta(self.own_quantity, self.partner_quantity)


@dataclass(frozen=True)
class ValueDifference:
    """A service (or bearer) as both settled it, by the same agreement."""

    direction: Direction
    name: str
    currency: str
    own_value: Decimal
    partner_value: Decimal
    own_quantity: Decimal
    partner_quantity: Decimal

    @property
    def difference(self) -> Decimal:
        """Own minus partner."""
        return self.own_value - self.partner_value

    @property
    def percent(self) -> Decimal:
        """Difference in percent of the own value."""
        return percent_delta(self.own_value, self.partner_value)


@dataclass(frozen=True)
class Discrepancies:
    """Everything that two settlements of one agreement differ in, by direction as we see it."""

    usage: tuple[UsageDifference, ...]
    services: tuple[ValueDifference, ...]
    bearers: tuple[ValueDifference, ...]


def compare(own: Settlement, partner: Settlement) -> Discrepancies:
    """Put the partner's settlement of the same agreement beside ours."""
    services = tuple(_values(own, partner))
    return Discrepancies(tuple(_usage(own.lines, partner.lines)), services, _by_bearer(services))


_Key = tuple[str, str, str, str]


def _usage(own: Sequence[UsageLine], partner: Sequence[UsageLine]) -> Iterable[UsageDifference]:
    for direction in ("inbound", "outbound"):
        ours = _by_key(own, direction)
        theirs = _by_key(partner, _OTHER[direction])
        for key in dict.fromkeys((*ours, *theirs)):
            mine, other = ours.get(key, []), theirs.get(key, [])
            month, home, visitor, service = key
            yield UsageDifference(
                direction,
                month,
                home,
                visitor,
                service,
                (mine or other)[0].unit,
                sum((line.quantity for line in mine), Decimal(0)),
                sum((line.quantity for line in other), Decimal(0)),
                len(mine),
                len(other),
            )


def _by_key(lines: Sequence[UsageLine], direction: Direction) -> dict[_Key, list[UsageLine]]:
    found: dict[_Key, list[UsageLine]] = defaultdict(list)
    for line in lines:
        if line.direction == direction:
            found[(line.month, line.home, line.visitor, service_name(line.service))].append(line)
    return found


def _values(own: Settlement, partner: Settlement) -> Iterable[ValueDifference]:
    for direction in ("inbound", "outbound"):
        ours = _by_service(own, direction)
        theirs = _by_service(partner, _OTHER[direction])
        for name, currency in dict.fromkeys((*ours, *theirs)):
            mine = ours.get((name, currency), (Decimal(0), Decimal(0)))
            other = theirs.get((name, currency), (Decimal(0), Decimal(0)))
            yield ValueDifference(direction, name, currency, mine[0], other[0], mine[1], other[1])


def _by_service(
    settlement: Settlement, direction: Direction
) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    found: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for service in settlement.services:
        if service.direction == direction:
            key = (service.service, service.currency)
            value, quantity = found.get(key, (Decimal(0), Decimal(0)))
            found[key] = (value + service.deal_value, quantity + service.quantity)
    return found


def _by_bearer(services: Sequence[ValueDifference]) -> tuple[ValueDifference, ...]:
    sums: dict[tuple[Direction, str, str], list[ValueDifference]] = defaultdict(list)
    for service in services:
        name = bearer_of(service.name) or service.name
        sums[(service.direction, name, service.currency)].append(service)
    return tuple(
        ValueDifference(
            direction,
            name,
            currency,
            sum((item.own_value for item in found), Decimal(0)),
            sum((item.partner_value for item in found), Decimal(0)),
            sum((item.own_quantity for item in found), Decimal(0)),
            sum((item.partner_quantity for item in found), Decimal(0)),
        )
        for (direction, name, currency), found in sums.items()
    )
