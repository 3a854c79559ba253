"""Roaming agreements and usage reports in the JSON that GSMA's public wholesale reference uses.

A contract names its parties' ``discounts`` (condition, service groups, rating plans); a usage
report lists ``inbound`` and ``outbound`` lines; a calculation request holds both. Numbers may be
written as numbers or as text and are read exactly. Errors name file, line and key.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from iotbill_pipelines.config.documents import (
    ConfigError,
    Document,
    parse_yaml,
    to_config_error,
)
from iotbill_pipelines.engine.roaming import (
    Agreement,
    AgreementPart,
    Commitment,
    Direction,
    Rate,
    ServiceGroup,
    ServicePrice,
    Tier,
    UsageLine,
)

M = TypeVar("M", bound=BaseModel)


def _number(value: object) -> object:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float | bool):
        raise ValueError(f"{value!r} is not a number")
    return value


Number = Annotated[Decimal, BeforeValidator(_number), Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Commitment(_Strict):
    value: Annotated[Number, Field(ge=0)]
    currency: str | None = None
    includingTaxes: bool = False


class _Condition(_Strict):
    kind: Literal["Unconditional", "Contract Revenue Commitment", "Deal Revenue Commitment"]
    commitment: _Commitment | None = None

    @model_validator(mode="after")
    def _with_value(self) -> _Condition:
        if (self.commitment is None) != (self.kind == "Unconditional"):
            said = "needs" if self.commitment is None else "has no"
            raise ValueError(f"a condition of kind {self.kind!r} {said} commitment")
        return self


class _Tier(_Strict):
    start: Annotated[Number, Field(ge=0)] = Decimal(0)
    fixedPrice: Number = Decimal(0)
    linearPrice: Number = Decimal(0)


class _Rate(_Strict):
    thresholds: list[_Tier] = []
    fixedPrice: Number | None = None
    linearPrice: Number | None = None

    @model_validator(mode="after")
    def _one_way(self) -> _Rate:
        starts = [tier.start for tier in self.thresholds]
        if starts != sorted(set(starts)):
            raise ValueError("thresholds must start at ascending, different quantities")
        if self.thresholds and not (self.fixedPrice is None and self.linearPrice is None):
            raise ValueError("give thresholds, or fixedPrice and linearPrice, not both")
        return self

    def tiers(self) -> tuple[Tier, ...]:
        if self.thresholds:
            return tuple(
                Tier(tier.start, tier.linearPrice, tier.fixedPrice) for tier in self.thresholds
            )
        if self.fixedPrice is None and self.linearPrice is None:
            return ()
        return (Tier(Decimal(0), self.linearPrice or Decimal(0), self.fixedPrice or Decimal(0)),)


_BACK_TO_FIRST = "back to first"
_KINDS = (
    *("Linear rate", "Flat rate", "Tiered with Thresholds", "Threshold - back to first"),
    *("Balanced/Unbalanced (Linear rate)", "Normal", "Not Charged"),
)
_KIND_WORDS = ("linear", "flat", "tier", "threshold", "balanced", "normal", "not charged")


class _RatingPlan(_Strict):
    kind: str | None = None
    rate: _Rate | None = None
    balancedRate: _Rate | None = None
    unbalancedRate: _Rate | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        told = (kind or "normal").casefold()
        if not any(word in told for word in _KIND_WORDS):
            raise ValueError(f"{kind!r} is no rating plan that is known: {', '.join(_KINDS)}")
        return kind

    @model_validator(mode="after")
    def _one_plan(self) -> _RatingPlan:
        ratio = self.balancedRate is not None or self.unbalancedRate is not None
        if ratio and self.rate is not None:
            raise ValueError("give rate, or balancedRate and unbalancedRate, not both")
        if ratio and (self.balancedRate is None or self.unbalancedRate is None):
            raise ValueError("balancedRate and unbalancedRate belong together; add the other")
        return self


class _Pricing(_Strict):
    unit: str | int | None = None
    ratingPlan: _RatingPlan


class _Service(_Strict):
    service: Annotated[str, Field(min_length=1)]
    includedInCommitment: bool = False
    usagePricing: _Pricing | None = None
    accessPricing: _Pricing | None = None

    @model_validator(mode="after")
    def _one_pricing(self) -> _Service:
        if self.usagePricing is not None and self.accessPricing is not None:
            raise ValueError(
                "give usagePricing or accessPricing, not both: a usage report has one quantity of "
                "a service in a month; settle the other one as an agreement of its own"
            )
        return self

    def price(self) -> ServicePrice:
        pricing = self.usagePricing or self.accessPricing
        plan = pricing.ratingPlan if pricing else _RatingPlan()
        whole = _BACK_TO_FIRST in (plan.kind or "").casefold()
        return ServicePrice(
            service=self.service,
            rate=_rate(plan.rate, whole=whole),
            balanced=_rate(plan.balancedRate, whole=whole),
            unbalanced=_rate(plan.unbalancedRate, whole=whole),
            in_commitment=self.includedInCommitment,
            unit=pricing.unit if pricing and isinstance(pricing.unit, str) else None,
        )


def _rate(rate: _Rate | None, *, whole: bool) -> Rate | None:
    tiers = rate.tiers() if rate is not None else ()
    return Rate(tiers, whole=whole) if tiers else None


class _ServiceGroup(_Strict):
    homeTadigs: Annotated[list[str], Field(min_length=1)]
    visitorTadigs: Annotated[list[str], Field(min_length=1)]
    services: Annotated[list[_Service], Field(min_length=1)]


class _Discounts(_Strict):
    condition: _Condition | None = None
    serviceGroups: list[_ServiceGroup]


class _UsageLine(BaseModel):
    yearMonth: str = ""
    homeTadig: Annotated[str, Field(min_length=1)]
    visitorTadig: Annotated[str, Field(min_length=1)]
    service: Annotated[str, Field(min_length=1)]
    usage: Number
    units: str = ""
    charges: Number = Decimal(0)
    taxes: Number = Decimal(0)
    currency: str | None = None

    def line(self, direction: Direction) -> UsageLine:
        return UsageLine(
            direction=direction,
            month=self.yearMonth,
            home=self.homeTadig,
            visitor=self.visitorTadig,
            service=self.service,
            quantity=self.usage,
            unit=self.units,
            charges=self.charges,
            taxes=self.taxes,
            currency=self.currency,
        )


class _Usage(BaseModel):
    inbound: list[_UsageLine] = []
    outbound: list[_UsageLine] = []


def read_agreement(path: Path) -> Agreement:
    """Read a contract, or the contract inside a calculation request.

    A document with a ``body``, as the platforms keep it, is read like its body; discounts without
    a condition are unconditional. Raises ConfigError for what is not JSON, has no discounts, or
    prices that contradict themselves.
    """
    data = _read(path)
    at: tuple[str, ...] = ()
    if "discounts" not in data and isinstance(data.get("body"), dict):
        data, at = data["body"], ("body",)
    discounts = data.get("discounts")
    if not isinstance(discounts, dict) or not discounts:
        raise ConfigError(
            str(path),
            (*at, "discounts"),
            1,
            "required key is missing; it holds each party's discounts",
        )
    general = _mapping(data, "generalInformation")
    framework = _mapping(data, "framework")
    term = _mapping(framework, "term")
    parts = []
    for party, raw in discounts.items():
        model = _validated(_Discounts, raw, path, (*at, "discounts", party))
        parts.append(_part(party, model, _party_currency(general, framework, party)))
    included = _mapping(framework, "payment").get("taxesIncluded", general.get("taxesIncluded"))
    return Agreement(
        name=str(general.get("name") or _mapping(data, "metadata").get("name") or path.stem),
        parts=tuple(parts),
        taxes_included=included is True,
        start=_day(term.get("start", general.get("startDate")), path, "start"),
        end=_day(term.get("end", general.get("endDate")), path, "end"),
    )


def _part(party: str, model: _Discounts, currency: str | None) -> AgreementPart:
    condition = model.condition
    commitment = None
    if condition is not None and condition.commitment is not None:
        currency = currency or condition.commitment.currency
        commitment = Commitment(
            of="deal" if condition.kind.startswith("Deal") else "contract",
            value=condition.commitment.value,
            including_taxes=condition.commitment.includingTaxes,
            currency=condition.commitment.currency,
        )
    return AgreementPart(
        party=party,
        currency=currency,
        commitment=commitment,
        groups=tuple(
            ServiceGroup(
                tuple(group.homeTadigs),
                tuple(group.visitorTadigs),
                tuple(service.price() for service in group.services),
            )
            for group in model.serviceGroups
        ),
    )


def _party_currency(general: Any, framework: Any, party: str) -> str | None:
    listed = _mapping(_mapping(framework, "partyInformation"), party).get("contractCurrency")
    return listed or _mapping(general, party).get("currencyForAllDiscounts")


def read_usage(path: Path) -> tuple[UsageLine, ...]:
    """Read a usage report, or the usage inside a calculation request: every line, in file order.

    Raises ConfigError for lines that are incomplete, and for a file without any.
    """
    data = _read(path)
    at: tuple[str, ...] = ()
    for key in ("usage", "body"):
        if isinstance(data.get(key), dict):
            data, at = data[key], (*at, key)
    if not ({"inbound", "outbound"} & set(data)):
        raise ConfigError(
            str(path), at, 1, "no usage: add the lists inbound and outbound, empty if need be"
        )
    listed = {side: data.get(side, []) for side in ("inbound", "outbound")}
    usage = _validated(_Usage, listed, path, at)
    return (
        *(line.line("inbound") for line in usage.inbound),
        *(line.line("outbound") for line in usage.outbound),
    )


def has_usage(path: Path) -> bool:
    """Whether a file is a calculation request: a contract with the usage to settle in it."""
    return isinstance(_read(path).get("usage"), dict)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), (), 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), (), 1, f"not UTF-8 text ({error.reason})") from None
    try:
        data = json.loads(text, parse_float=Decimal, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ConfigError(str(path), (), error.lineno, f"not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(str(path), (), 1, str(error)) from None
    if not isinstance(data, dict):
        raise ConfigError(str(path), (), 1, "expected an object of keys and values")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} is written twice in one object; keep one of them")
        found[key] = value
    return found


def _validated(model: type[M], data: Any, path: Path, at: tuple[str | int, ...]) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise to_config_error(error, _located(path), at, model) from None


def _located(path: Path) -> Document:
    """The file with the lines of its keys: JSON is YAML, but for tabs."""
    text = path.read_bytes().decode("utf-8-sig")
    try:
        return parse_yaml(text.replace("\t", "  "), path)
    except ConfigError:
        return Document(path, json.loads(text))


def _mapping(data: Any, key: str) -> dict[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _day(text: Any, path: Path, key: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        raise ConfigError(
            str(path), (key,), 1, f"{text!r} is not a date; write it as in 2026-10-01"
        ) from None
