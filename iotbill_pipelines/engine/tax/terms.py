"""What taxes are: jurisdictions, dated rates, certificates, sourcing (RULEBOOK §8).

Rates are rows; a jurisdiction, a rate change or an exemption is never a branch in code.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from iotbill_pipelines.engine.terms import Rate, Terms, TermsError


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


class TaxSeller(Terms):
    """A legal entity as a taxable person."""

    entity: str
    country: str = Field(pattern="^[A-Z]{2}$")
    jurisdictions: tuple[str, ...] = ()


class TaxCustomer(Terms):
    """A customer account's tax facts, valid in ``[valid_from, valid_to)`` by tax point.

    ``account`` is an account's id, ``group:NAME`` a customer group's, ``*`` everybody else; the
    account's own facts win over its group's. ``jurisdictions`` are where it is established;
    ``primary_use`` and ``ship_to`` are the same unless given. ``vat_id`` counts from
    ``vat_id_validated_on``, the day on which it was found valid.
    """

    account: str = Field(min_length=1)
    country: str = Field(pattern="^[A-Z]{2}$")
    jurisdictions: tuple[str, ...] = ()
    primary_use: tuple[str, ...] = ()
    ship_to: tuple[str, ...] = ()
    vat_id: str | None = None
    vat_id_validated_on: date | None = None
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TaxCustomer:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        if self.vat_id_validated_on is not None and self.vat_id is None:
            raise ValueError("vat_id_validated_on goes with vat_id")
        return self


class TaxedService(Terms):
    """Where a service is used or was shipped to, if not where its account says (TX-09).

    In ``[valid_from, valid_to)`` by tax point: a device that moves has a row for each place.
    """

    service: str = Field(min_length=1)
    primary_use: tuple[str, ...] = ()
    ship_to: tuple[str, ...] = ()
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _order(self) -> TaxedService:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        return self

    def valid_on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


class TaxTerms(Terms):
    """The taxes of invoices. ``mode: none`` charges none, and wants nothing else (RULEBOOK §8)."""

    mode: Literal["none", "table"]
    policy: TaxPolicy = TaxPolicy()
    sellers: tuple[TaxSeller, ...] = ()
    customers: tuple[TaxCustomer, ...] = ()
    services: tuple[TaxedService, ...] = ()
    jurisdictions: tuple[Jurisdiction, ...] = ()
    rates: tuple[TaxRate, ...] = ()
    certificates: tuple[ExemptionCertificate, ...] = ()
    reverse_charges: tuple[ReverseCharge, ...] = ()
    sourcing: tuple[Sourcing, ...] = ()
    default_sourcing: Place = "primary_use"

    @property
    def table(self) -> TaxTable:
        """The rates and what decides between them. Raises ValueError if they contradict."""
        return TaxTable(
            jurisdictions=self.jurisdictions,
            rates=self.rates,
            certificates=self.certificates,
            reverse_charges=self.reverse_charges,
            sourcing=self.sourcing,
            default_sourcing=self.default_sourcing,
        )

    def seller(self, entity_id: str) -> TaxSeller | None:
        """Return an entity's facts, None if they are not given."""
        return next((seller for seller in self.sellers if seller.entity == entity_id), None)

    def customer(self, account_id: str, group: str | None, on: date) -> TaxCustomer | None:
        """Return the facts of an account on a day: its own, its group's, or everybody's."""
        for name in (account_id, f"group:{group}" if group else None, "*"):
            for customer in self.customers if name else ():
                if customer.account == name and (
                    customer.valid_from <= on
                    and (customer.valid_to is None or on < customer.valid_to)
                ):
                    return customer
        return None


def check_tax(terms: TaxTerms) -> Iterator[TermsError]:
    """Yield every contradiction in tax terms: unknown places, overlapping dates."""
    if terms.mode == "none":
        return
    try:
        _ = terms.table
    except ValidationError as error:
        for detail in error.errors():
            yield TermsError(("rates",), str(detail.get("ctx", {}).get("error", detail["msg"])))
        return
    yield from _repeated_facts(terms)
    known = {place.id for place in terms.jurisdictions}
    for path, places in _named_places(terms):
        for place in places:
            if place not in known:
                yield TermsError(
                    path, f"{place!r} is not in jurisdictions; add it with its name and country"
                )


def _repeated_facts(terms: TaxTerms) -> Iterator[TermsError]:
    for position, seller in enumerate(terms.sellers):
        if terms.seller(seller.entity) is not seller:
            yield TermsError(("sellers", position), f"{seller.entity!r} is given twice")
    by_service: dict[str, list[TaxedService]] = {}
    for position, service in enumerate(terms.services):
        others = by_service.setdefault(service.service, [])
        if any(_overlap(other, service) for other in others):
            yield TermsError(
                ("services", position),
                f"{service.service!r} has other places for some of the same days; end one of them "
                "with valid_to",
            )
        others.append(service)
    by_account: dict[str, list[TaxCustomer]] = {}
    for position, customer in enumerate(terms.customers):
        held = by_account.setdefault(customer.account, [])
        if any(_overlap(other, customer) for other in held):
            yield TermsError(
                ("customers", position),
                f"{customer.account!r} has other facts for some of the same days; end one of them "
                "with valid_to",
            )
        held.append(customer)


def _named_places(terms: TaxTerms) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    for key, rows, names in (
        ("sellers", terms.sellers, ("jurisdictions",)),
        ("customers", terms.customers, ("jurisdictions", "primary_use", "ship_to")),
        ("services", terms.services, ("primary_use", "ship_to")),
        ("certificates", terms.certificates, ("jurisdictions",)),
    ):
        for position, row in enumerate(rows):
            for name in names:
                yield (key, position, name), getattr(row, name)


def _overlap(one: TaxCustomer | TaxedService, other: TaxCustomer | TaxedService) -> bool:
    return (one.valid_to is None or other.valid_from < one.valid_to) and (
        other.valid_to is None or one.valid_from < other.valid_to
    )
