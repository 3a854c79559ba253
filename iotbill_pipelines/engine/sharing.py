"""Share plans compiled: buckets, who shares them, and in which order use draws from them.

The second half of :mod:`engine.terms` for RULEBOOK §3. What an offer's service uses of a class
draws from a *chain* of buckets: by the plans' ``tie_break``, then their id, then the place of the
bucket in its plan. Since every chain follows that one order, buckets can be settled in *layers*: a
bucket's layer is behind those of all buckets that may spill into it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from iotbill_pipelines.engine.calendars import Cycle
from iotbill_pipelines.engine.problems import TermsError

if TYPE_CHECKING:
    from decimal import Decimal

    from iotbill_pipelines.engine.terms import BucketTerms, Catalog, Offer, SharePlan

Path = tuple[str | int, ...]
Rows = dict[str, list[dict[str, object]]]
Units = Callable[[Path, "Decimal", str], int]
"""Class units of an amount in a named unit; raises TermsError where it is no whole number."""


def _cycle(plan: SharePlan) -> Cycle:
    return Cycle() if plan.cycle is None else plan.cycle.cycle


class Sharing:
    """The pools of a catalog. Raises TermsError for what cannot hold."""

    def __init__(self, catalog: Catalog, units: Units) -> None:
        self._catalog = catalog
        self._units = units
        self._plans = {plan.id: plan for plan in catalog.share_plans}
        self._buckets: dict[str, BucketTerms] = {}
        self._plan_of: dict[str, SharePlan] = {}
        for number, plan in enumerate(catalog.share_plans):
            for bucket_id, path, bucket in plan.each_bucket():
                if bucket_id in self._buckets:
                    raise TermsError(
                        ("share_plans", number, *path, "id"), f"{bucket_id!r} is defined twice"
                    )
                self._check_bucket(("share_plans", number, *path), plan, bucket)
                self._buckets[bucket_id] = bucket
                self._plan_of[bucket_id] = plan
        ranked = sorted(
            enumerate(self._buckets),
            key=lambda item: (self._plan_of[item[1]].tie_break, self._plan_of[item[1]].id, item[0]),
        )
        self._order = [bucket_id for _, bucket_id in ranked]
        self._brings = self._contributions()

    def shared_classes(self, offer_id: str) -> list[str]:
        """Usage classes that an offer's services draw from pools."""
        brought = self._brings.get(offer_id, {})
        return sorted({name for bucket in brought for name in self._buckets[bucket].classes})

    def plans_of(self, offer_id: str) -> list[SharePlan]:
        """The plans that an offer's services share, in the order in which they draw."""
        brought = self._brings.get(offer_id, {})
        plans = {self._plan_of[b].id: self._plan_of[b] for b in self._order if b in brought}
        return list(plans.values())

    def grade(self, offer: Offer) -> int:
        """What tells an upgrade from a downgrade: the offer's contribution, in class units."""
        return sum(self._brings.get(offer.id, {}).values())

    # ------------------------------------------------------------------------------- tables

    def rows(self) -> Rows:
        """Rows of ``share_plan``, ``share_bucket``, ``share_participant``, ``share_draw`` and
        ``share_seller``."""
        chains = self._chains()
        layers = self._layers(chains)
        sellers: list[dict[str, object]] = [
            {"offer_id": offer.id, "share_plan_id": plan_id}
            for offer in self._catalog.offers
            for plan_id in offer.sells
        ]
        return {
            "share_plan": [
                {
                    "share_plan_id": plan.id,
                    "currency": plan.currency,
                    "share_level": plan.share_level,
                    "levels_up": plan.levels_up,
                    "cycle": str(_cycle(plan)),
                    "activation": plan.activation,
                    "join_policy": plan.join_policy,
                    "billable": plan.billable,
                    "attribution": plan.attribution,
                }
                for plan in self._catalog.share_plans
            ],
            "share_bucket": list(self._bucket_rows(chains)),
            "share_participant": [
                {"offer_id": offer_id, "bucket_id": bucket_id, "contribution_quantity": quantity}
                for offer_id, brought in self._brings.items()
                for bucket_id, quantity in brought.items()
            ],
            "share_draw": [
                {
                    "offer_id": offer_id,
                    "usage_class": usage_class,
                    "place": place,
                    "bucket_id": bucket_id,
                    "layer": layers[bucket_id],
                }
                for (offer_id, usage_class), chain in chains.items()
                for place, bucket_id in enumerate(chain, 1)
            ],
            "share_seller": sellers,
        }

    def _bucket_rows(self, chains: dict[tuple[str, str], list[str]]) -> Iterator[dict[str, object]]:
        spilling = {bucket for chain in chains.values() if len(chain) > 1 for bucket in chain}
        for number, plan in enumerate(self._catalog.share_plans):
            for bucket_id, below, bucket in plan.each_bucket():
                path: Path = ("share_plans", number, *below)
                sized, rollover = bucket.sized_by, bucket.rollover
                maximum = None if rollover is None else rollover.maximum
                assert bucket.overage is not None
                yield {
                    "bucket_id": bucket_id,
                    "share_plan_id": plan.id,
                    "growth": bucket.growth,
                    "fixed_quantity": self._units((*path, "fixed"), bucket.fixed, bucket.per),
                    "minimum_quantity": self._units((*path, "minimum"), bucket.minimum, bucket.per),
                    "step_quantity": self._units((*path, "step"), bucket.step, bucket.per),
                    "extra_quantity": 0
                    if bucket.extra_pool is None
                    else self._units((*path, "extra_pool"), bucket.extra_pool, bucket.per),
                    "sized_by_class": None if sized is None else sized.usage_class,
                    "sized_quantity": 0
                    if sized is None
                    else self._units((*path, "sized_by", "quantity"), sized.quantity, bucket.per),
                    "sized_each": 1
                    if sized is None
                    else self._units(
                        (*path, "sized_by", "per"), type(sized.quantity)(1), sized.per
                    ),
                    "rollover_periods": 0 if rollover is None else rollover.periods,
                    "rollover_maximum": None
                    if maximum is None
                    else self._units((*path, "rollover", "maximum"), maximum, bucket.per),
                    "by_unit": bucket_id in spilling
                    or plan.attribution == "chronological"
                    or plan.activation == "selling_service",
                    "overage_charge_id": bucket.overage.id,
                }

    def _chains(self) -> dict[tuple[str, str], list[str]]:
        chains: dict[tuple[str, str], list[str]] = defaultdict(list)
        for offer_id, brought in self._brings.items():
            for bucket_id in self._order:
                if bucket_id in brought:
                    for usage_class in self._buckets[bucket_id].classes:
                        chains[offer_id, usage_class].append(bucket_id)
        return dict(chains)

    def check_cycles(self, path: Path, offer_id: str) -> None:
        """Refuse plans that one use draws from and that are not settled for the same days."""
        plans = self.plans_of(offer_id)
        for plan in plans[1:]:
            first, other = _cycle(plans[0]), _cycle(plan)
            by_bill_day = first.months > 0 and first.day is None
            levels = {(one.share_level, one.levels_up) for one in (plans[0], plan)}
            if first != other or (by_bill_day and len(levels) > 1):
                raise TermsError(
                    (*path, "share_plan"),
                    f"offer {offer_id!r} draws from {plans[0].id!r} and {plan.id!r}, whose pools "
                    "may begin on different days; give both the same cycle, with a day",
                )

    def _layers(self, chains: dict[tuple[str, str], list[str]]) -> dict[str, int]:
        before: dict[str, set[str]] = defaultdict(set)
        for chain in chains.values():
            for number, bucket_id in enumerate(chain):
                before[bucket_id] |= set(chain[:number])
        layers: dict[str, int] = {}
        for bucket_id in self._order:
            layers[bucket_id] = 1 + max((layers[other] for other in before[bucket_id]), default=0)
        return layers

    # ------------------------------------------------------------------------------- who shares

    def _contributions(self) -> dict[str, dict[str, int]]:
        """Bucket -> class units that a service brings, for each offer that shares any."""
        offers = {offer.id: offer for offer in self._catalog.offers}
        found: dict[str, dict[str, int]] = {offer_id: {} for offer_id in offers}
        for number, offer in enumerate(self._catalog.offers):
            path: Path = ("offers", number)
            for place, plan_id in enumerate(offer.sells):
                self._plan((*path, "sells", place), plan_id)
            if offer.share_plan is not None:
                plan = self._plan((*path, "share_plan"), offer.share_plan)
                self._join(path, found, offer, plan, offer.contribution, offer.contributions)
            elif offer.contributions:
                raise TermsError((*path, "contributions"), "the offer names no share_plan")
        for number, plan in enumerate(self._catalog.share_plans):
            for place, rule in enumerate(plan.participants):
                path = ("share_plans", number, "participants", place)
                if rule.offer is not None and rule.offer not in offers:
                    known = ", ".join(sorted(offers)) or "none"
                    raise TermsError(
                        (*path, "offer"), f"unknown offer {rule.offer!r}; known: {known}"
                    )
                meant = [
                    offer
                    for offer in self._catalog.offers
                    if offer.id == rule.offer
                    or (rule.service_type is not None and offer.service_type == rule.service_type)
                ]
                if not meant:
                    raise TermsError(
                        (*path, "service_type"), f"no offer is of type {rule.service_type!r}"
                    )
                for offer in meant:
                    self._join(path, found, offer, plan, rule.contribution, rule.contributions)
        return {offer_id: brought for offer_id, brought in found.items() if brought}

    def _join(
        self,
        path: Path,
        found: dict[str, dict[str, int]],
        offer: Offer,
        plan: SharePlan,
        contribution: Decimal,
        contributions: dict[str, Decimal],
    ) -> None:
        if plan.currency != offer.currency:
            number = self._catalog.offers.index(offer)
            raise TermsError(
                ("offers", number, "currency"),
                f"{offer.currency} differs from share plan {plan.id}'s {plan.currency}",
            )
        names = [bucket.id for bucket in plan.buckets]
        for name in contributions:
            if name not in names:
                known = ", ".join(names) or "none"
                raise TermsError(
                    (*path, "contributions", name), f"unknown bucket {name!r}; known: {known}"
                )
        for number, (bucket_id, _, bucket) in enumerate(plan.each_bucket()):
            if bucket_id in found[offer.id]:
                raise TermsError(
                    path, f"offer {offer.id!r} shares plan {plan.id!r} already; say it once"
                )
            key: Path = (*path, "contribution")
            brought = contribution if number == 0 else contribution * 0
            if number < len(names) and names[number] in contributions:
                key = (*path, "contributions", names[number])
                brought = contributions[names[number]]
            found[offer.id][bucket_id] = self._units(key, brought, bucket.per)

    # ------------------------------------------------------------------------------- checks

    def _plan(self, path: Path, plan_id: str) -> SharePlan:
        if plan_id not in self._plans:
            known = ", ".join(sorted(self._plans)) or "none"
            raise TermsError(path, f"unknown share plan {plan_id!r}; known: {known}")
        return self._plans[plan_id]

    def _check_bucket(self, path: Path, plan: SharePlan, bucket: BucketTerms) -> None:
        known = self._catalog.usage_classes
        self._units((*path, "fixed"), bucket.fixed, bucket.per)
        if bucket.overage is None or not bucket.classes:
            raise TermsError(path, "a bucket needs usage_class (or usage_classes) and overage")
        for usage_class in bucket.classes:
            if usage_class not in known:
                raise TermsError(
                    (*path, "usage_class"),
                    f"unknown usage class {usage_class!r}; known: {', '.join(sorted(known))}",
                )
        units = sorted({known[usage_class] for usage_class in bucket.classes})
        if len(units) > 1:
            raise TermsError(
                (*path, "usage_classes"),
                f"one bucket cannot hold {' and '.join(units)}; give each unit its own bucket",
            )
        if bucket.overage.kind != "overage":
            raise TermsError((*path, "overage", "kind"), "a share plan's charge has kind overage")
        if bucket.sized_by is not None and bucket.sized_by.usage_class not in known:
            raise TermsError(
                (*path, "sized_by", "usage_class"),
                f"unknown usage class {bucket.sized_by.usage_class!r}; "
                f"known: {', '.join(sorted(known))}",
            )
        if bucket.extra_pool is not None and bucket.overage.per != "count":
            raise TermsError(
                (*path, "overage", "per"), "extra pools are sold one by one; write per: count"
            )
        if plan.activation == "selling_service" and not any(
            plan.id in offer.sells for offer in self._catalog.offers
        ):
            raise TermsError(
                (*path[:2], "activation"),
                f"no offer sells {plan.id!r}; name it in the sells of an offer",
            )
