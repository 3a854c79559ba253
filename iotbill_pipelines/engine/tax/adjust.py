"""Taxes of what comes after an invoice: the difference to what was charged (RULEBOOK §§8, 11).

A unit (service, charge, usage period) that was invoiced before carries layers: what was taxed of it
under one set of taxes. More of it is a supply of the new invoice's tax point; less of it takes
back from the newest layers, at their taxes, whatever is valid now (TX-07). A layer's taxes are
recomputed on all of it, less what was charged: cents never drift, and a layer that is emptied
returns exactly what it charged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from iotbill_pipelines.engine.tax.assess import assess_lines
from iotbill_pipelines.engine.tax.documents import TaxDocument, TaxItem, UntaxedLine
from iotbill_pipelines.engine.tax.engine import TaxEngine
from iotbill_pipelines.engine.tax.terms import TaxPolicy


@dataclass(frozen=True)
class TaxPart:
    """A part of a line's amount and its taxes, all of one set.

    ``amount`` is what is taxed: net, or gross where ``policy`` says that prices include tax.
    """

    amount: Decimal
    items: tuple[TaxItem, ...]
    policy: TaxPolicy

    @property
    def tax(self) -> Decimal:
        return sum((item.amount for item in self.items), Decimal(0))

    @property
    def negated(self) -> TaxPart:
        """What takes the part back."""
        items = tuple(replace(i, base=-i.base, amount=-i.amount) for i in self.items)
        return replace(self, amount=-self.amount, items=items)

    @property
    def taxes(self) -> tuple[object, ...]:
        """What makes parts of one set: their taxes without amounts, inside prices or not."""
        zero = Decimal(0)
        items = tuple(replace(item, base=zero, amount=zero) for item in self.items)
        return (self.policy.pricing, items)


@dataclass(frozen=True)
class TaxedParts:
    """The taxes of a document: parts of each line, and lines that could not be taxed."""

    parts: Mapping[str, tuple[TaxPart, ...]]
    unresolved: tuple[UntaxedLine, ...]


def assess_difference(
    engine: TaxEngine, document: TaxDocument, charged: Mapping[str, Sequence[TaxPart]]
) -> TaxedParts:
    """Return the taxes of a document whose lines may change what earlier documents carried.

    ``charged`` maps a line's key to the parts that earlier documents taxed of the same unit, oldest
    first. Lines without such parts are taxed as the engine says.
    """
    layers = {key: layers_of(parts) for key, parts in charged.items() if parts}
    less = {
        line.key: _taken(line.amount, layers[line.key])
        for line in document.lines
        if line.key in layers
    }
    left = {
        line.key: line.amount - sum(less.get(line.key, []), Decimal(0)) for line in document.lines
    }
    fresh = engine.assess(
        replace(
            document,
            lines=tuple(
                replace(line, amount=left[line.key]) for line in document.lines if left[line.key]
            ),
        )
    )
    assessed = {line.key: TaxPart(left[line.key], line.items, fresh.policy) for line in fresh.lines}
    parts: dict[str, tuple[TaxPart, ...]] = {}
    for line in document.lines:
        held = layers.get(line.key, [])
        changes = dict(enumerate(less.get(line.key, [])))
        added = assessed.get(line.key)
        if added is not None:
            same = next((n for n, layer in enumerate(held) if layer.taxes == added.taxes), None)
            if same is not None:
                changes[same] = changes.get(same, Decimal(0)) + added.amount
                added = None
        told = [
            _change(held[number], amount, line.tax_code, document.currency)
            for number, amount in sorted(changes.items())
            if amount
        ]
        parts[line.key] = (*told, *([added] if added is not None else []))
    return TaxedParts(parts, fresh.unresolved)


def layers_of(parts: Sequence[TaxPart]) -> list[TaxPart]:
    """Sum the parts of each set of taxes, in the order in which the sets appeared."""
    layers: dict[tuple[object, ...], TaxPart] = {}
    for part in parts:
        held = layers.get(part.taxes)
        layers[part.taxes] = part if held is None else _sum(held, part)
    return list(layers.values())


def _sum(one: TaxPart, other: TaxPart) -> TaxPart:
    return replace(
        one,
        amount=one.amount + other.amount,
        items=tuple(
            replace(a, base=a.base + b.base, amount=a.amount + b.amount)
            for a, b in zip(one.items, other.items, strict=True)
        ),
    )


def _taken(amount: Decimal, layers: Sequence[TaxPart]) -> list[Decimal]:
    """Take an amount of the other sign out of the layers, newest first; 0 for an untouched one."""
    taken = [Decimal(0)] * len(layers)
    left = amount
    for number in range(len(layers) - 1, -1, -1):
        held = layers[number].amount
        if left * held < 0:
            part = max(left, -held) if left < 0 else min(left, -held)
            taken[number] = part
            left -= part
    return taken


def _change(layer: TaxPart, amount: Decimal, tax_code: str, currency: str) -> TaxPart:
    policy = layer.policy.model_copy(update={"rounding": "per_line"})
    after = layer.amount + amount
    (target,) = assess_lines([("", tax_code, after, layer.items)], policy, currency)
    return TaxPart(
        amount,
        tuple(
            replace(new, base=new.base - old.base, amount=new.amount - old.amount)
            for new, old in zip(target.items, layer.items, strict=True)
        ),
        layer.policy,
    )
