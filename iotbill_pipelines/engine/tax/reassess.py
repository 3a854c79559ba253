"""Taxes of issued invoices under corrected tables: what each should carry, less what it carries.

Rates, certificates and customers' facts may turn out to have been wrong on an invoice's date. An
issued invoice stays as it is; the difference goes on a note to it (RULEBOOK §§8, 11). All invoices
are gone through in their order under today's tables, each at its own tax point, so that what later
invoices took back of a unit is taken back at its corrected taxes too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from iotbill_pipelines.engine.tax.adjust import TaxPart, assess_difference, layers_of
from iotbill_pipelines.engine.tax.documents import TaxDocument, UntaxedLine
from iotbill_pipelines.engine.tax.engine import TaxEngine

Pricing = Literal["exclusive", "inclusive"]


@dataclass(frozen=True)
class IssuedDocument:
    """An invoice that was taxed, and what it carries by now.

    ``units`` names the unit (service, charge, usage period ...) of each line by its key;
    ``charged`` the parts taxed on the line, those of earlier notes included. ``document`` is None
    where nothing is known any more of the customer or the seller. A ``fixed`` one is not corrected.
    """

    id: str
    document: TaxDocument | None
    units: Mapping[str, Hashable]
    charged: Mapping[str, Sequence[TaxPart]]
    fixed: bool = False

    @property
    def pricing(self) -> Pricing:
        """Whether its prices hold the tax."""
        parts = [part for of_line in self.charged.values() for part in of_line]
        return parts[-1].policy.pricing if parts else "exclusive"


@dataclass(frozen=True)
class TaxCorrection:
    """What an invoice's taxes are to be changed by, as parts of its lines by their keys.

    A part takes back what was charged under one set of taxes, or adds what is due under another.
    ``unresolved`` are lines that today's tables cannot tax: they keep what was charged.
    """

    id: str
    parts: Mapping[str, tuple[TaxPart, ...]]
    unresolved: tuple[UntaxedLine, ...]
    fixed: bool

    @property
    def tax(self) -> Decimal:
        """The tax that is added, or taken back (negative)."""
        return sum((p.tax for parts in self.parts.values() for p in parts), Decimal(0))


def reassess(
    engine: Callable[[Pricing], TaxEngine], issued: Iterable[IssuedDocument]
) -> Iterator[TaxCorrection]:
    """Yield what differs of issued invoices, given in the order in which they were issued.

    ``engine`` gives today's engine for prices with or without tax: an invoice keeps its own. An
    invoice whose lines are taxed by the same taxes as today keeps its cents, however they were
    rounded. Booking what is yielded and asking again yields nothing.
    """
    so_far: dict[Hashable, list[TaxPart]] = {}
    for each in issued:
        wanted, unresolved = _wanted(engine(each.pricing), each, so_far)
        differs = any(
            _by_taxes(wanted[key]) != _by_taxes(each.charged.get(key, ())) for key in wanted
        )
        if unresolved or differs:
            parts = {
                key: _difference(each.charged.get(key, ()), wanted[key]) if differs else ()
                for key in wanted
            }
            yield TaxCorrection(
                each.id, {key: told for key, told in parts.items() if told}, unresolved, each.fixed
            )
        for key, unit in each.units.items():
            kept = each.charged.get(key, ()) if each.fixed or not differs else wanted[key]
            so_far.setdefault(unit, []).extend(kept)


def _wanted(
    engine: TaxEngine, each: IssuedDocument, so_far: Mapping[Hashable, Sequence[TaxPart]]
) -> tuple[dict[str, Sequence[TaxPart]], tuple[UntaxedLine, ...]]:
    """The parts that each line should carry; of what cannot be taxed, those that it carries."""
    if each.document is None:
        lost = UntaxedLine("", "no_facts", "nothing is known of its customer or seller for taxes")
        return {key: each.charged.get(key, ()) for key in each.units}, (lost,)
    before = {key: so_far.get(unit, ()) for key, unit in each.units.items()}
    taxed = assess_difference(engine, each.document, before)
    unresolved = {line.key for line in taxed.unresolved}
    return {
        key: each.charged.get(key, ()) if key in unresolved else taxed.parts.get(key, ())
        for key in each.units
    }, taxed.unresolved


def _by_taxes(parts: Sequence[TaxPart]) -> dict[tuple[object, ...], Decimal]:
    """How much is taxed by which taxes, whatever note says why."""
    found: dict[tuple[object, ...], Decimal] = {}
    for part in parts:
        items = tuple(replace(item, note="") for item in part.items)
        key = replace(part, items=items).taxes
        found[key] = found.get(key, Decimal(0)) + part.amount
    return {key: amount for key, amount in found.items() if amount}


def _difference(charged: Sequence[TaxPart], wanted: Sequence[TaxPart]) -> tuple[TaxPart, ...]:
    """The parts that turn what is charged into what is wanted: takings first."""
    changes = layers_of((*(part.negated for part in charged), *wanted))
    return tuple(
        part
        for part in changes
        if part.amount or any(item.base or item.amount for item in part.items)
    )
