"""What is deferred, what is bundled: revenue policies as rows (RULEBOOK §9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.revenue.bundles import Bundle, Obligation
from iotbill_pipelines.engine.terms import Rate, Terms, TermsError, unit_size

LineAttribute = Literal["entity", "charge", "charge_type", "gl_class", "product", "tax_code"]


class PrepaidQuota(Terms):
    """The units that a prepaid bundle includes, and what its cost follows (RULEBOOK §12).

    ``pace``: ``usage`` of the quota, or the ``faster`` of usage and time.
    """

    usage_class: str
    quantity: Rate = Field(gt=0)
    per: str = "count"
    pace: Literal["usage", "faster"] = "faster"

    @property
    def included_quantity(self) -> int:
        """The quota in class units."""
        return int(self.quantity * unit_size(self.per))

    @model_validator(mode="after")
    def _whole(self) -> PrepaidQuota:
        try:
            exact = self.quantity * unit_size(self.per)
        except KeyError:
            raise ValueError(f"unknown unit {self.per!r}") from None
        if exact != int(exact):
            raise ValueError(f"{self.quantity} {self.per} is {exact} units; give a whole number")
        return self


class DeferralRule(Terms):
    """Charges that are earned, or become cost, over time instead of when they are booked.

    ``when``: every attribute that a charge must have; the first rule that fits takes it. ``over``:
    ``months``, evenly by whole months; ``days``, by the days of ``months`` months (RV-04);
    ``usage_period``, in the month that the charge is for, however early it is billed. ``starts``
    with the charge's usage period, or on the day of it on which the service started
    (``service``). When the service ends, the rest is released, unless ``ends_with_service`` is
    false. Level ``vendor`` prepays cost (RV-06); with a ``quota`` it also goes by what the service
    uses of it, and the rest is cost once that is used up.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    level: Literal["retail", "vendor"] = "retail"
    when: dict[LineAttribute, str] = Field(min_length=1)
    over: Literal["months", "days", "usage_period"]
    months: int | None = Field(default=None, ge=1, le=600)
    starts: Literal["usage_period", "service"] = "usage_period"
    ends_with_service: bool = True
    quota: PrepaidQuota | None = None

    @model_validator(mode="after")
    def _shape(self) -> DeferralRule:
        if self.quota is not None and (self.level, self.over) != ("vendor", "days"):
            raise ValueError("a quota goes with level: vendor and over: days")
        if (self.over == "usage_period") != (self.months is None):
            raise ValueError("give months for over: months and over: days, and only then")
        if self.over != "days" and self.starts == "service":
            raise ValueError("starts: service goes with over: days")
        return self

    def takes(self, level: str, line: Mapping[LineAttribute, str]) -> bool:
        """Whether a charge is deferred by this rule."""
        return level == self.level and self.when.items() <= line.items()


class BundleObligation(Obligation):
    """An obligation, the charges that bill it, and the product it is posted under."""

    charges: tuple[str, ...] = ()
    product: str
    gl_class: str


class BundleRule(Terms):
    """A hybrid bundle as sold in ``[sold_from, sold_to)``, by the service's first charge.

    One price of ``upfront`` and ``monthly`` for ``months``, allocated by the SSPs of this row for
    good: later SSPs are another row for later sales (RULEBOOK §9).
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    bundle: Bundle
    sold_from: date = date(1970, 1, 1)
    sold_to: date | None = None
    obligations: tuple[BundleObligation, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bundle(cls, data: object) -> object:
        if not isinstance(data, dict) or "bundle" in data:
            return data
        own = {
            name: data[name]
            for name in ("upfront", "monthly", "months", "currency")
            if name in data
        }
        rest = {name: value for name, value in data.items() if name not in own}
        plain = [
            {name: value for name, value in obligation.items() if name in Obligation.model_fields}
            if isinstance(obligation, dict)
            else obligation
            for obligation in data.get("obligations", [])
        ]
        return {**rest, "bundle": {"id": data.get("id"), **own, "obligations": plain}}

    @property
    def charges(self) -> frozenset[str]:
        """The charges that bill it."""
        return frozenset(charge for each in self.obligations for charge in each.charges)


class RevenueTerms(Terms):
    """When revenue and prepaid cost are recognised.

    ``vendor_true_up``: what a reconciled vendor invoice does to the cost that was accrued:
    ``none``; ``accepted`` books billed minus claimed minus expected; ``billed`` also what is
    claimed, until it is credited (VR-08).
    """

    deferrals: tuple[DeferralRule, ...] = ()
    bundles: tuple[BundleRule, ...] = ()
    vendor_true_up: Literal["none", "accepted", "billed"] = "none"

    @property
    def is_empty(self) -> bool:
        """Whether everything is recognised as it is booked."""
        return not self.deferrals and not self.bundles and self.vendor_true_up == "none"


def check_revenue(terms: RevenueTerms) -> Iterator[TermsError]:
    """Yield every contradiction in revenue terms."""
    for name, ids in (
        ("deferrals", [rule.id for rule in terms.deferrals]),
        ("bundles", [rule.id for rule in terms.bundles]),
    ):
        for position, each in enumerate(ids):
            if each in ids[:position]:
                yield TermsError((name, position), f"{each!r} is defined twice")
    for position, rule in enumerate(terms.deferrals):
        for earlier in terms.deferrals[:position]:
            if earlier.level == rule.level and earlier.when.items() <= rule.when.items():
                yield TermsError(
                    ("deferrals", position),
                    f"never takes a charge: {earlier.id!r} before it takes them all; put the more "
                    "specific rule first",
                )
                break
    sold: dict[str, list[tuple[date, date | None, int]]] = {}
    for position, bundle in enumerate(terms.bundles):
        for charge in bundle.charges:
            sold.setdefault(charge, []).append((bundle.sold_from, bundle.sold_to, position))
    for charge, periods in sorted(sold.items()):
        for (_, end, _), (start, _, position) in pairwise(sorted(periods, key=lambda p: p[0])):
            if end is None or end > start:
                yield TermsError(
                    ("bundles", position),
                    f"charge {charge!r} is sold in another bundle on {start} too; end that one "
                    "with sold_to",
                )
