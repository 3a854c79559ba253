"""What taxes are: jurisdictions, dated rates, certificates, sourcing (RULEBOOK §8).

Rates are rows; a jurisdiction, a rate change or an exemption is never a branch in code.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.terms import Rate, Terms


class Jurisdiction(Terms):
    """A place that taxes, inside ``parent`` (a county in a state); ``country`` is ISO alpha-2."""

    id: str
    name: str
    country: str = Field(pattern="^[A-Z]{2}$")
    parent: str | None = None


class TaxRate(Terms):
    """A tax of a jurisdiction on a tax code, valid in ``[valid_from, valid_to)``.

    ``rate`` is a fraction (0.19 for 19 %). Taxes of one line apply in the order of (``order``,
    jurisdiction, tax); a ``compound`` one also taxes the taxes before it (TX-04). A rate of zero is
    a statement, a missing row is a finding.
    """

    jurisdiction: str
    tax_code: str
    tax: str
    rate: Rate = Field(ge=0)
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None
    compound: bool = False
    order: int = 0

    @model_validator(mode="after")
    def _order(self) -> TaxRate:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        return self

    def valid_on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


class ExemptionCertificate(Terms):
    """A customer's exemption in ``[valid_from, valid_to)`` by tax point.

    Without ``jurisdictions``, ``taxes`` or ``tax_codes`` it covers all of them; with
    ``and_below``, places inside the named jurisdictions too.
    """

    number: str
    customer_id: str
    jurisdictions: tuple[str, ...] = ()
    and_below: bool = True
    taxes: tuple[str, ...] = ()
    tax_codes: tuple[str, ...] = ()
    valid_from: date
    valid_to: date | None = None

    @model_validator(mode="after")
    def _order(self) -> ExemptionCertificate:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        return self


class ReverseCharge(Terms):
    """A zone in which a business customer of another country accounts for the tax itself (TX-05).

    Both countries must be in ``countries`` and differ, and the customer's VAT id be validated.
    ``invoice_note`` is printed on the invoice.
    """

    id: str
    countries: frozenset[str]
    invoice_note: str = "reverse_charge"
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None


Place = Literal["primary_use", "ship_to", "establishment", "seller"]


class Sourcing(Terms):
    """Which place of a line taxes a tax code (TX-09)."""

    tax_code: str
    place: Place


class TaxTable(Terms):
    """All tax reference data of a run, as known at its snapshot.

    ``sourcing`` says which place of a line taxes a tax code; what is not named uses
    ``default_sourcing``. Connectivity is taxed at the place of primary use and goods where they are
    shipped to; where a device roams never matters (TX-09).
    """

    jurisdictions: tuple[Jurisdiction, ...]
    rates: tuple[TaxRate, ...]
    certificates: tuple[ExemptionCertificate, ...] = ()
    reverse_charges: tuple[ReverseCharge, ...] = ()
    sourcing: tuple[Sourcing, ...] = ()
    default_sourcing: Place = "primary_use"

    @model_validator(mode="after")
    def _references(self) -> TaxTable:
        by_id = {place.id: place for place in self.jurisdictions}
        if len(by_id) != len(self.jurisdictions):
            raise ValueError("a jurisdiction is given twice")
        for place in self.jurisdictions:
            seen, above = {place.id}, place.parent
            while above is not None:
                if above not in by_id:
                    raise ValueError(f"jurisdiction {place.id!r} lies in unknown {above!r}")
                if above in seen:
                    raise ValueError(f"jurisdiction {place.id!r} lies inside itself")
                seen.add(above)
                above = by_id[above].parent
        dated: dict[tuple[str, str, str], list[TaxRate]] = {}
        for rate in self.rates:
            if rate.jurisdiction not in by_id:
                raise ValueError(
                    f"rate of tax {rate.tax!r} names unknown jurisdiction {rate.jurisdiction!r}"
                )
            dated.setdefault((rate.jurisdiction, rate.tax_code, rate.tax), []).append(rate)
        for key, versions in dated.items():
            versions.sort(key=lambda rate: rate.valid_from)
            for earlier, later in pairwise(versions):
                if earlier.valid_to is None or earlier.valid_to > later.valid_from:
                    raise ValueError(
                        f"rates of {'/'.join(key)} overlap on {later.valid_from}; "
                        "end the earlier one on that day"
                    )
        return self

    def stack(self, jurisdictions: tuple[str, ...]) -> tuple[Jurisdiction, ...]:
        """Return the named jurisdictions and all that they lie in, each once, by id."""
        by_id = {place.id: place for place in self.jurisdictions}
        found: dict[str, Jurisdiction] = {}
        for name in jurisdictions:
            above: str | None = name
            while above is not None and above in by_id:
                found[above] = by_id[above]
                above = by_id[above].parent
        return tuple(found[name] for name in sorted(found))


class TaxPolicy(Terms):
    """How amounts become taxes.

    ``pricing``: amounts are ``exclusive`` or ``inclusive`` of tax. ``rounding``: each tax item of
    a line on its own (``per_line``, default) or once for the invoice and then parted to its lines
    (``per_invoice``, TX-02). ``inclusive_rounding``: which of net and tax is rounded, the other
    being the rest (TX-01).
    """

    pricing: Literal["exclusive", "inclusive"] = "exclusive"
    rounding: Literal["per_line", "per_invoice"] = "per_line"
    inclusive_rounding: Literal["round_net", "round_tax"] = "round_net"
