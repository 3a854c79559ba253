"""The arithmetic of taxes: from lines with their rates to rounded tax items (RULEBOOK §§0.2, 8).

Knows no tables: given which taxes apply to which line, it computes. Rounding happens once per tax
item, of a line or of the whole document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.money import (
    apportion,
    apportion_signed,
    minor_digits,
    round_money,
    to_minor,
)
from iotbill_pipelines.engine.tax.documents import TaxedLine, TaxItem
from iotbill_pipelines.engine.tax.terms import TaxPolicy

LineTaxes = tuple[str, str, Decimal, tuple[TaxItem, ...]]
"""(line key, tax code, amount, its taxes in order, their amounts still open)."""

_Same = tuple[int, str, str, Decimal, bool, str, str, str]
"""What tax items of several lines share when they are one printed amount."""


def assess_lines(
    lines: Sequence[LineTaxes], policy: TaxPolicy, currency: str
) -> tuple[TaxedLine, ...]:
    """Return the lines with their tax amounts, in the given order."""
    if policy.pricing == "inclusive":
        return _inclusive(lines, policy, currency)
    return _exclusive(lines, policy, currency)


def _exclusive(
    lines: Sequence[LineTaxes], policy: TaxPolicy, currency: str
) -> tuple[TaxedLine, ...]:
    """Tax on top: each tax item is rate x base, rounded per line or once per document.

    TX-02, TX-03. A compound tax's base holds the rounded taxes before it, so that the invoice can
    be recomputed from what it prints (TX-04).
    """
    amounts = {key: amount for key, _, amount, _ in lines}
    done: dict[tuple[str, int], TaxItem] = {}
    groups: dict[_Same, list[tuple[str, int, TaxItem]]] = {}
    for key, _, _, items in lines:
        for number, item in enumerate(items):
            own = key if policy.rounding == "per_line" else ""
            same = (*item.rank, item.rate, item.compound, item.treatment, item.note, own)
            groups.setdefault(same, []).append((key, number, item))
    before: dict[str, Decimal] = dict.fromkeys(amounts, Decimal(0))
    for _, members in sorted(groups.items(), key=lambda group: group[0][:3]):
        bases = [amounts[key] + (before[key] if item.compound else 0) for key, _, item in members]
        taxes = _parted(
            [
                Fraction(base) * _charged(item)
                for base, (_, _, item) in zip(bases, members, strict=True)
            ],
            [key for key, _, _ in members],
            currency,
        )
        for base, tax, (key, number, item) in zip(bases, taxes, members, strict=True):
            done[key, number] = replace(item, base=base, amount=tax)
            before[key] += tax
    return tuple(
        TaxedLine(key, code, amount, tuple(done[key, number] for number in range(len(items))))
        for key, code, amount, items in lines
    )


def _charged(item: TaxItem) -> Fraction:
    return Fraction(item.rate) if item.treatment == "taxed" else Fraction(0)


def _parted(shares: Sequence[Fraction], keys: Sequence[str], currency: str) -> list[Decimal]:
    """Round the shares' sum once and part it (RULEBOOK §0.2)."""
    if len(shares) == 1:
        return [round_money(shares[0], currency)]
    total = to_minor(round_money(sum(shares, Fraction(0)), currency), currency)
    return _money(total, shares, keys, currency)


def _money(
    total_minor: int, shares: Sequence[Fraction], keys: Sequence[object], currency: str
) -> list[Decimal]:
    scale = 10 ** minor_digits(currency)
    parts = apportion_signed(total_minor, [share * scale for share in shares], keys)
    return [round_money(Fraction(part, scale), currency) for part in parts]


def _effective(items: Sequence[TaxItem]) -> list[Fraction]:
    """Return each tax as a fraction of the net amount; a compound one also taxes those before."""
    rates: list[Fraction] = []
    for item in items:
        rates.append(_charged(item) * (1 + sum(rates, Fraction(0)) if item.compound else 1))
    return rates


def _inclusive(
    lines: Sequence[LineTaxes], policy: TaxPolicy, currency: str
) -> tuple[TaxedLine, ...]:
    """Tax inside the amount: net = round(gross / (1 + sum of rates)), tax = gross - net.

    TX-01, TX-06, TX-08. The tax is split over the taxes by their rates. Per document, lines with
    the same taxes are one parent, and each tax is parted to them. A tax that is not charged
    (exempt, reverse charge) is not taken out: the price stays what was agreed.
    """
    groups: dict[tuple[object, ...], list[LineTaxes]] = {}
    for line in lines:
        own = line[0] if policy.rounding == "per_line" else ""
        taxes = tuple((*i.rank, i.rate, i.compound, i.treatment, i.note) for i in line[3])
        groups.setdefault((*taxes, own), []).append(line)
    done: dict[str, TaxedLine] = {}
    for members in groups.values():
        items = members[0][3]
        rates = _effective(items)
        whole = 1 + sum(rates, Fraction(0))
        gross = sum((Fraction(amount) for _, _, amount, _ in members), Fraction(0))
        if policy.inclusive_rounding == "round_net":
            tax_total = gross - Fraction(round_money(gross / whole, currency))
        else:
            tax_total = Fraction(round_money(gross - gross / whole, currency))
        tax_minor = to_minor(round_money(tax_total, currency), currency)
        split = apportion(tax_minor, rates, [item.rank for item in items]) if any(rates) else []
        taxes_by_line: dict[str, list[Decimal]] = {key: [] for key, _, _, _ in members}
        for number, rate in enumerate(rates):
            shares = [Fraction(amount) * rate / whole for _, _, amount, _ in members]
            parts = _money(
                split[number] if split else 0, shares, [key for key, _, _, _ in members], currency
            )
            for part, (key, _, _, _) in zip(parts, members, strict=True):
                taxes_by_line[key].append(part)
        for key, code, amount, own_items in members:
            done[key] = _inclusive_line(key, code, amount, own_items, taxes_by_line[key])
    return tuple(done[key] for key, _, _, _ in lines)


def _inclusive_line(
    key: str, code: str, gross: Decimal, items: Sequence[TaxItem], taxes: Sequence[Decimal]
) -> TaxedLine:
    net = gross - sum(taxes, Decimal(0))
    before, told = Decimal(0), []
    for item, tax in zip(items, taxes, strict=True):
        told.append(replace(item, base=net + (before if item.compound else 0), amount=tax))
        before += tax
    return TaxedLine(key, code, net, tuple(told))


def sum_items(lines: Sequence[TaxedLine]) -> Mapping[tuple[int, str, str], Decimal]:
    """Return the tax amounts of a line over several documents, by tax."""
    sums: dict[tuple[int, str, str], Decimal] = {}
    for line in lines:
        for item in line.items:
            sums[item.rank] = sums.get(item.rank, Decimal(0)) + item.amount
    return sums
