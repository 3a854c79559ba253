"""What terms say of the catalog, held against it: prices, products, classes, offers, states."""

from __future__ import annotations

from collections.abc import Iterator

from iotbill_pipelines.engine.contract.terms import Commitment, ContractPrice, ContractTerms
from iotbill_pipelines.engine.terms import Catalog, Charge, Offer, SharePlan

Path = tuple[str | int, ...]


def check_terms(
    terms: ContractTerms, catalog: Catalog, *, line_item: bool = False
) -> Iterator[tuple[Path, str]]:
    """Yield (key path inside the terms, rule) for everything the catalog does not bear out.

    ``line_item``: the terms are of a contract of one service.
    """
    charges: dict[str, tuple[Offer | SharePlan, Charge]] = {
        charge.id: (offer, charge) for offer in catalog.offers for charge in offer.charges
    }
    charges |= {
        charge.id: (plan, charge) for plan in catalog.share_plans for _, charge in plan.overages()
    }
    for number, price in enumerate(terms.prices):
        path: Path = ("prices", number)
        if price.charge_id not in charges:
            yield (*path, "charge_id"), _unknown("charge", price.charge_id, charges)
            continue
        yield from _price(path, price, *charges[price.charge_id], terms.currency, catalog)
        _, charge = charges[price.charge_id]
        of_account = charge.kind == "overage" or charge.scope == "account"
        if line_item and of_account:
            yield (
                (*path, "charge_id"),
                f"charge {charge.id!r} counts the services of an account together; price it in "
                "a contract of the account",
            )
    products = {product.id for product in catalog.products}
    for number, commitment in enumerate(terms.commitments):
        path = ("commitments", number)
        yield from _commitment(path, commitment, products, catalog)
    yield from _statuses(terms, catalog)
    ending = terms.early_termination
    if ending is not None and ending.product_id not in products:
        yield (
            ("early_termination", "product_id"),
            _unknown("product", ending.product_id, products),
        )
    for number, discount in enumerate(terms.discounts):
        for place, charge_id in enumerate(discount.charges):
            if charge_id not in charges:
                yield (
                    ("discounts", number, "charges", place),
                    _unknown("charge", charge_id, charges),
                )
    successor = terms.renewal.successor
    if successor is not None:
        for inner, rule in check_terms(successor, catalog, line_item=line_item):
            yield ("renewal", "successor", *inner), rule


def _statuses(terms: ContractTerms, catalog: Catalog) -> Iterator[tuple[Path, str]]:
    cores = {each.state: each.core for each in catalog.states}
    for number, status in enumerate(terms.termination_statuses):
        path: Path = ("termination_statuses", number, "state")
        if status.state is not None and status.state not in cores:
            yield path, _unknown("state", status.state, set(cores))
        elif status.state is not None and cores[status.state] != status.core_state:
            yield (
                path,
                f"state {status.state!r} is on core state {cores[status.state].value}, not "
                f"{status.core_state.value}",
            )


def _price(
    path: Path,
    price: ContractPrice,
    owner: Offer | SharePlan,
    charge: Charge,
    currency: str,
    catalog: Catalog,
) -> Iterator[tuple[Path, str]]:
    if charge.counts == "cost":
        yield (
            (*path, "charge_id"),
            f"charge {charge.id!r} marks up what records cost; a contract gives rates for units",
        )
    if owner.currency != currency:
        yield (
            (*path, "charge_id"),
            f"charge {charge.id!r} of {owner.id!r} is in {owner.currency}, these terms are in "
            f"{currency}",
        )
    zones = {each.zone for each in charge.prices if each.zone is not None}
    if price.zone is not None and price.zone not in zones:
        yield (*path, "zone"), _unknown(f"zone of charge {charge.id!r}", price.zone, zones)
    if price.state is not None:
        active = {each.state for each in catalog.states if each.core == "active"}
        states = {each.state for each in charge.prices if each.state} - active
        if price.state not in states:
            yield (
                (*path, "state"),
                _unknown(f"state with a price of its own in {charge.id!r}", price.state, states)
                + "; leave state out for core-active ones",
            )


def _commitment(
    path: Path, commitment: Commitment, products: set[str], catalog: Catalog
) -> Iterator[tuple[Path, str]]:
    penalty = commitment.penalty.product_id
    if penalty not in products:
        yield (*path, "penalty", "product_id"), _unknown("product", penalty, products)
    for key, noun, given, known in (
        ("usage_classes", "usage class", commitment.usage_classes, set(catalog.usage_classes)),
        ("offers", "offer", commitment.offers, {offer.id for offer in catalog.offers}),
        ("products", "product", commitment.products, products),
    ):
        for number, name in enumerate(given):
            if name not in known:
                yield (*path, key, number), _unknown(noun, name, known)


def _unknown(noun: str, name: str, known: object) -> str:
    names = ", ".join(sorted(map(str, known))) if isinstance(known, (set, dict)) else ""
    return f"unknown {noun} {name!r}; known: {names or 'none'}"
