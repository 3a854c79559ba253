"""Scenarios: a small business, its usage and what must come out, in one YAML file.

docs/scenarios.md describes the format for people, docs/scenario.schema.json for editors (written
by ``python -m iotbill_pipelines.config.scenarios``). :func:`read_scenario` reads a file,
:meth:`Scenario.tables` makes the very tables that the engine joins in production.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.contracts import ContractFile, book_of, template_copies
from iotbill_pipelines.config.documents import ConfigError, Document, KeyPath, parse, read_yaml
from iotbill_pipelines.config.feeds import load_feed, policy_of, policy_row
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.feeds.spec import Correlate, FeedSpec
from iotbill_pipelines.engine.mediate import PLAIN, Policies
from iotbill_pipelines.engine.schemas import (
    FEED_POLICY,
    FEED_WATERMARK,
    FILE_VERSION,
    LATE_ARRIVAL,
    REFERENCE,
    REJECTED_RECORD,
    USAGE_RECORD,
)
from iotbill_pipelines.engine.terms import (
    UNIT_SIZES,
    Catalog,
    Money,
    Product,
    StateDefinition,
    TermsError,
    compile_catalog,
)

_QUANTITY = re.compile(r"(-?[0-9][0-9_]*(?:\.[0-9]+)?)(?: *([A-Za-z]+))?")
_WHOLE_ICCID = re.compile("iccid:89[0-9]{18}")
_LONG_AGO = date(2000, 1, 1)


def _quantity(value: object) -> object:
    """Read ``250 MB`` or ``1_500`` as class units."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip() if isinstance(value, (str, Decimal)) else ""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{value} is no quantity; write 1500 (class units) or 1.5 KB")
    unit = match[2] or "count"
    if unit not in UNIT_SIZES:
        raise ValueError(f"unknown unit {unit!r}; known: {', '.join(UNIT_SIZES)}")
    units = Decimal(match[1].replace("_", "")) * UNIT_SIZES[unit]
    if units != units.to_integral_value():
        raise ValueError(f"{value} is {units} class units; it must be a whole number")
    return int(units)


def _month(value: object) -> object:
    return str(Month.parse(value)) if isinstance(value, str) else value


def _local(value: object) -> object:
    """Read a date or ``2026-03-17 23:00`` as local time."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    if isinstance(value, str):
        parsed = _timestamp(value)
        if parsed.tzinfo is not None:
            raise ValueError(f"{value!r}: states change in the account's local time; drop the zone")
        return parsed
    return value


def _instant(value: object) -> object:
    """Read a date, or a time with or without offset (without one it is UTC), as naive UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    if isinstance(value, str):
        parsed = _timestamp(value)
        return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
    return value


def _timestamp(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-03-17 or 2026-03-17T23:00:00Z") from None


def _described(description: str, *types: str) -> WithJsonSchema:
    return WithJsonSchema({"type": list(types), "description": description})


Quantity = Annotated[
    int,
    BeforeValidator(_quantity),
    _described("class units, or with a unit: 250 MB", "integer", "string"),
]
Period = Annotated[str, BeforeValidator(_month), _described("a month, YYYY-MM", "string")]
LocalTime = Annotated[
    datetime, BeforeValidator(_local), _described("local date, or 'YYYY-MM-DD HH:MM'", "string")
]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    _described("date, or time with offset; without one it is UTC", "string"),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ScenarioAccount(_Part):
    """A party; everything has a default."""

    kind: Literal["customer", "reseller", "vendor"] = "customer"
    parent: str | None = None
    entity: str = "E1"
    zone: str = "UTC"
    currency: str = "EUR"
    bill_day: int | None = Field(None, ge=1, le=31)

    @model_validator(mode="after")
    def _known_zone(self) -> ScenarioAccount:
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown zone {self.zone!r}; write an IANA name") from None
        return self


class OfferUse(_Part):
    """An offer of a service, by local date; the level is the offer's own."""

    offer: str
    valid_from: date = Field(_LONG_AGO, alias="from")
    valid_to: date | None = Field(None, alias="to")
    payer: str | None = None


class StateChange(_Part):
    at: LocalTime
    state: str


class Identifier(_Part):
    """``imsi:26201...``, from and to in UTC."""

    uid: str
    valid_from: Instant = Field(datetime.combine(_LONG_AGO, time()), alias="from")
    valid_to: Instant | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _as_in_records(self) -> Identifier:
        if _WHOLE_ICCID.fullmatch(self.uid):
            raise ValueError(f"records have the first 19 digits of an ICCID; write {self.uid[:-1]}")
        return self


def _short_forms(schema: dict[str, Any]) -> None:
    """Tell editors of what :meth:`ScenarioService._short` accepts."""
    properties = schema["properties"]
    offer = {"anyOf": [{"type": "string"}, properties["offer"]["items"]]}
    state = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string"}},
            properties["state"]["items"],
        ]
    }
    for name, item in (("offer", offer), ("state", state)):
        either = {"anyOf": [*item["anyOf"], {"type": "array", "items": item}]}
        properties[name] = properties[f"{name}s"] = either
    uid = properties["identifiers"]["items"]
    properties["identifiers"]["items"] = {"anyOf": [{"type": "string"}, uid]}


def _parts_may_be_empty(schema: dict[str, Any]) -> None:
    for name in ("accounts", "services"):
        part = schema["properties"][name]["additionalProperties"]
        schema["properties"][name]["additionalProperties"] = {"anyOf": [{"type": "null"}, part]}


class ScenarioService(_Part):
    """A service; its id is also its identifier of type ``iccid``."""

    model_config = ConfigDict(json_schema_extra=_short_forms)

    account: str | None = None
    count: int | None = Field(None, ge=1, le=100_000)
    offers: list[OfferUse] = Field([], alias="offer")
    states: list[StateChange] = Field(
        [StateChange(at=datetime.combine(_LONG_AGO, time()), state="active")], alias="state"
    )
    identifiers: list[Identifier] = []

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        full = dict(value)
        for key, plural in (("offer", "offers"), ("state", "states")):
            if key in full and plural in full:
                raise ValueError(f"give either {key} or {plural}")
            given = full.pop(plural, full.pop(key, None))
            if given is None:
                continue
            listed = given if isinstance(given, list) else [given]
            full[plural] = [cls._one(key, item) for item in listed]
        if "identifiers" in full and isinstance(full["identifiers"], list):
            full["identifiers"] = [
                {"uid": item} if isinstance(item, str) else item for item in full["identifiers"]
            ]
        return full

    @staticmethod
    def _one(key: str, item: object) -> object:
        """A name alone, or ``[when, state]`` for states."""
        if key == "offer":
            return {"offer": item} if isinstance(item, str) else item
        if isinstance(item, str):
            return {"at": _LONG_AGO, "state": item}
        if isinstance(item, list) and len(item) == 2:
            return {"at": item[0], "state": item[1]}
        return item


class UsageEvent(_Part):
    """One record, or ``times`` of them a second apart."""

    at: Instant
    service: str | None = None
    uid: str | None = None
    usage_class: str = Field("data", alias="class")
    quantity: Quantity
    times: int = Field(1, ge=1, le=5_000_000)
    plmn: str | None = Field(None, pattern=r"^[0-9]{3}(-?[0-9]{2,3})?$")
    region: str | None = None
    apn: str | None = None
    rat: str | None = None
    peer_number: str | None = None
    cost: Money | None = None
    cost_currency: str = "EUR"
    attributes: dict[str, str | int | Decimal] | None = None
    session: str | None = None
    part: Literal["start", "interim", "stop", "whole"] | None = None
    sequence: int | None = Field(None, ge=0)
    key: str | None = None
    feed: str = "feed"
    file: str = "file"

    @model_validator(mode="after")
    def _identified(self) -> UsageEvent:
        if (self.service is None) == (self.uid is None):
            raise ValueError("name either the service or a uid such as imsi:262010000000001")
        return self


class ScenarioCorrelate(Correlate):
    """How parts become one event: the keys of a feed's ``correlate``, without ``key``."""

    key: tuple[str, ...] = ("session",)


class ScenarioFeed(_Part):
    """How a feed's records are mediated (RULEBOOK §5): the policies of configs/feeds.

    ``correlate`` has the keys of a feed's; its parts are joined by ``session`` of the records, or
    the readings of a counter by their identifier. Of a ``restating`` feed the files are given from
    the oldest to the newest version. ``late`` are days by which files came after the close of the
    periods of the scenario.
    """

    scope: str | None = None
    restating: bool = False
    files: list[str] = []
    correlate: ScenarioCorrelate | None = None
    late: dict[str, int] = {}
    hold_after_days: int | None = Field(None, ge=0)


class UsageFiles(_Part):
    """Files of one carrier's feed, read as when they land.

    They are read in this order; of a restating feed whose file names tell no version the last one
    is the newest.
    """

    feed: str = Field(description="the feed's YAML file, seen from this file")
    files: list[str] = Field(min_length=1, description="the carrier's files, seen from this file")
    received: Instant | None = Field(
        None, description="when they came; left out, when the last period ended (UTC)"
    )


class ExpectedCharge(_Part):
    """A desired charge; keys left out are not compared. Of an account as a whole: no service."""

    service: str = ""
    charge: str
    amount: Money
    level: str = "retail"
    period: Period | None = None
    account: str | None = None
    billing_period: Period | None = None
    quantity: Quantity | None = None
    records: int | None = None
    components: list[Money] | None = None


class ExpectedPool(_Part):
    """A pool as ``plan/account``; parts are amounts by service."""

    pool: str
    level: str = "retail"
    period: Period | None = None
    services: int | None = None
    available: Quantity | None = None
    used: Quantity | None = None
    overage: Quantity | None = None
    amount: Money | None = None
    parts: dict[str, Money] | None = None
    accounts: dict[str, Money] | None = None


class ExpectedFile(_Part):
    """Records of a file that validation sets aside, by reason; a whole file counts as one."""

    rejected: dict[str, int] = Field({}, description="complete: left out, none may be")
    ignored: dict[str, int] | None = Field(None, description="left out on purpose, by a filter")


class Expected(_Part):
    """What must come out. A list that is given is complete but for lines of amount zero."""

    charges: list[ExpectedCharge] | None = None
    totals: dict[str, Money] | None = None
    pools: list[ExpectedPool] | None = None
    kept: int | None = None
    duplicates: int | None = None
    merged: int | None = None
    suspended: dict[str, int] | None = None
    files: dict[str, ExpectedFile] = Field(
        {}, description="by file of usage_files; of a file that is left out nothing is rejected"
    )
    findings: list[str] | None = None


_CORE = (
    StateDefinition.model_validate({"state": "preactive", "core": "prospect", "to": ["active"]}),
    StateDefinition.model_validate(
        {"state": "active", "core": "active", "to": ["suspended", "cancelled"]}
    ),
    StateDefinition.model_validate(
        {"state": "suspended", "core": "suspended", "to": ["active", "cancelled"]}
    ),
    StateDefinition.model_validate({"state": "cancelled", "core": "cancelled", "to": ["purged"]}),
    StateDefinition.model_validate({"state": "purged", "core": "cancelled"}),
)


class ScenarioCatalog(Catalog):
    """The terms of configs/catalog, with defaults for what a scenario is not about.

    Every usage class is also a product; so are ``subscription``, ``activation`` and ``overage``.
    """

    usage_classes: dict[str, Literal["byte", "second", "count", "micro"]] = Field(
        {"data": "byte", "sms": "count", "voice": "second", "uplink": "count"}
    )
    states: list[StateDefinition] = Field(list(_CORE))
    initial_states: list[str] = Field(["preactive", "active"])
    products: list[Product] = Field([])

    def completed(self) -> Catalog:
        """Return the catalog with the products that scenarios need not declare."""
        declared = {product.id for product in self.products}
        usual = [
            Product(id=name, name=name, charge_type="usage", usage_class=name, gl_class="usage")
            for name in self.usage_classes
        ]
        usual += [
            Product(
                id="subscription",
                name="Subscription",
                charge_type="recurring",
                gl_class="recurring",
            ),
            Product(
                id="activation", name="Activation", charge_type="one_time", gl_class="one_time"
            ),
            Product(id="overage", name="Overage", charge_type="overage", gl_class="overage"),
        ]
        added = [product for product in usual if product.id not in declared]
        return self.model_copy(update={"products": [*self.products, *added]})


@dataclass(frozen=True)
class ScenarioTables:
    """The engine's inputs, and the records that did not become one (``rejected_record``)."""

    catalog: dict[str, pa.Table]
    reference: dict[str, pa.Table]
    usage: pa.Table
    policies: Policies = PLAIN
    rejected: pa.Table = field(default_factory=REJECTED_RECORD.arrow_schema.empty_table)


@dataclass(frozen=True)
class Delivery:
    """Files of one feed, by their keys, and when they came (UTC)."""

    spec: FeedSpec
    files: Mapping[int, Path]
    received_at: datetime
    key: KeyPath
    """Where the scenario names them."""


@dataclass(frozen=True)
class Delivered:
    """What became of the records of a scenario's files: ``usage_record`` and ``rejected_record``.

    ``deliveries`` are those of :meth:`Scenario.deliveries`.
    """

    deliveries: tuple[Delivery, ...] = ()
    usage: pa.Table = field(default_factory=USAGE_RECORD.arrow_schema.empty_table)
    rejected: pa.Table = field(default_factory=REJECTED_RECORD.arrow_schema.empty_table)


NOTHING_DELIVERED = Delivered()
"""A scenario with inline usage only."""


class Scenario(_Part):
    """One YAML file."""

    model_config = ConfigDict(json_schema_extra=_parts_may_be_empty)

    scenario: str = Field(description="what the case shows, in a line")
    source: str = Field(description="where the expected amounts come from")
    about: str | None = Field(None, description="the arithmetic, in words")
    period: Period | None = Field(None, description="usage period to settle, YYYY-MM")
    periods: list[Period] = Field([], description="several usage periods, instead of `period`")
    catalog: ScenarioCatalog | None = None
    catalog_from: str | None = Field(
        None, description="folder with a catalog's YAML files, seen from this file"
    )
    accounts: dict[str, ScenarioAccount] = {"C1": ScenarioAccount()}
    services: dict[str, ScenarioService] = {}
    feeds: dict[str, ScenarioFeed] = Field({}, description="policies of feeds, by their id")
    newest_event: Instant | None = Field(
        None, description="the newest that is known of every feed: silence ends there"
    )
    usage: list[UsageEvent] = []
    usage_files: list[UsageFiles] = Field(
        [], description="carriers' files, besides or instead of `usage`"
    )
    contracts: ContractFile = Field(
        ContractFile(), description="templates and contracts, as in configs/contracts"
    )
    expected: Expected

    _document: Document = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _empty_parts(cls, value: object) -> object:
        """``C1:`` alone is an account with every default."""
        if not isinstance(value, dict):
            return value
        full = dict(value)
        for key in ("accounts", "services"):
            if isinstance(full.get(key), dict):
                full[key] = {name: part or {} for name, part in full[key].items()}
        return full

    @model_validator(mode="after")
    def _shape(self) -> Scenario:
        if (self.period is None) == (not self.periods):
            raise ValueError("give either period or periods")
        if (self.catalog is None) == (self.catalog_from is None):
            raise ValueError("give either catalog or catalog_from")
        return self

    @property
    def months(self) -> list[Month]:
        """The usage periods to settle, in order."""
        return [Month.parse(text) for text in self.periods or [self.period or ""]]

    def error(self, path: KeyPath, rule: str) -> ConfigError:
        """Make the error for a rule that the scenario breaks at ``path``, with its line."""
        return self._document.error(path, rule)

    def file_names(self) -> dict[int, str]:
        """Return the files of ``usage_files`` as the scenario names them, by key."""
        return {_file_key(name): name for each in self.usage_files for name in each.files}

    def deliveries(self) -> tuple[Delivery, ...]:
        """Return the files of ``usage_files`` with their feeds.

        Raises ConfigError for a feed that cannot be used, and, with the line in the scenario, for a
        file that cannot be read or is there twice.
        """
        contents: dict[bytes, str] = {}
        feeds: dict[str, Path] = {}
        found = []
        for number, each in enumerate(self.usage_files):
            at: KeyPath = ("usage_files", number)
            spec = self._feed((*at, "feed"), each.feed, feeds)
            for place, name in enumerate(each.files):
                self._check_file((*at, "files", place), name, contents)
            files = {_file_key(name): self._beside(name) for name in each.files}
            received = each.received or datetime.combine((max(self.months) + 1).start, time())
            found.append(Delivery(spec, files, received, at))
        return tuple(found)

    def _feed(self, at: KeyPath, name: str, known: dict[str, Path]) -> FeedSpec:
        path = self._beside(name)
        if not path.is_file():
            raise self.error(
                at, f"there is no file {path}; name the feed's YAML file, seen from this file"
            )
        spec = load_feed(path)
        if spec.target != USAGE_RECORD.name:
            raise self.error(
                at, f"feed {spec.id} fills {spec.target}; a scenario reads files of usage_record"
            )
        if spec.id in self.feeds:
            raise self.error(
                ("feeds", spec.id), f"the policies of feed {spec.id} are those of {name}; remove it"
            )
        if known.setdefault(spec.id, path.resolve()) != path.resolve():
            raise self.error(
                at, f"{spec.id!r} is also the id of {known[spec.id].name}; choose another"
            )
        return spec

    def _check_file(self, at: KeyPath, name: str, contents: dict[bytes, str]) -> None:
        path = self._beside(name)
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise self.error(
                at, f"{path} cannot be read: {error.strerror}; name a file, seen from this file"
            ) from None
        if content in contents:
            raise self.error(
                at,
                f"has the content of {contents[content]}, and a file lands once; remove one",
            )
        contents[content] = name

    def _beside(self, name: str) -> Path:
        return self._document.path.parent / name

    def tables(self, delivered: Delivered = NOTHING_DELIVERED) -> ScenarioTables:
        """Return the tables of catalog, reference data and usage.

        ``delivered`` is what ingestion made of the files of :meth:`deliveries`. Raises ConfigError,
        with the line in the scenario, where names do not meet.
        """
        if len(delivered.deliveries) != len(self.usage_files):
            raise ValueError("the files of usage_files have to be ingested first")
        self._check_apart({each.spec.id for each in delivered.deliveries})
        if self.catalog_from is not None:
            catalog = read_catalog(self._beside(self.catalog_from)).catalog
        else:
            assert self.catalog is not None
            catalog = self.catalog.completed()
        try:
            compiled = compile_catalog(catalog)
        except TermsError as error:
            raise self.error(("catalog", *error.path), error.rule) from None
        reference = self._reference(catalog)
        for name, rows in self._contracts(catalog).items():
            reference[name] = pa.Table.from_pylist(rows, schema=REFERENCE[name].arrow_schema)
        usage = pa.concat_tables([self._usage(catalog), delivered.usage])
        policies = self._policies(usage, delivered.deliveries)
        return ScenarioTables(compiled, reference, usage, policies, delivered.rejected)

    def _check_apart(self, feeds: set[str]) -> None:
        """A record of a file has its key and its line from there: none can be added in passing."""
        names = set(self.file_names().values())
        for number, event in enumerate(self.usage):
            for key, name, taken in (("feed", event.feed, feeds), ("file", event.file, names)):
                if name in taken:
                    raise self.error(
                        ("usage", number, key),
                        f"the records of {name} are those of usage_files; write this one into a "
                        f"file there, or give it another {key}",
                    )
        for name in self.expected.files:
            if name not in names:
                raise self._unknown(("expected", "files", name), name, dict.fromkeys(names))

    def _contracts(self, catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
        book = book_of([(self._document, ("contracts",), self.contracts)], catalog)
        return {
            "contract": list(book.contracts),
            "contract_terms": list(template_copies(book.contracts, book.templates)),
            "contract_suspension": list(book.suspensions),
        }

    def _policies(self, usage: pa.Table, deliveries: tuple[Delivery, ...]) -> Policies:
        if not self.feeds and not deliveries:
            return PLAIN
        moments = usage["event_start"].to_pylist()
        newest = self.newest_event or max(moments, default=datetime.combine(_LONG_AGO, time()))
        rules = {id_: (feed.scope or id_, feed) for id_, feed in self.feeds.items()}
        specs = {each.spec.id: each.spec for each in deliveries}
        families = {family for family, _ in rules.values()}
        families |= {spec.family for spec in specs.values()}
        return Policies(
            feed_policy=pa.Table.from_pylist(
                [
                    *(
                        policy_row(id_, family, restating=feed.restating, correlate=feed.correlate)
                        for id_, (family, feed) in rules.items()
                    ),
                    *(policy_of(spec) for spec in specs.values()),
                ],
                schema=FEED_POLICY.arrow_schema,
            ),
            file_version=pa.Table.from_pylist(
                [
                    *(
                        {"file_key": _file_key(file), "version_no": number}
                        for feed in self.feeds.values()
                        for number, file in enumerate(feed.files, 1)
                    ),
                    *_file_versions(deliveries),
                ],
                schema=FILE_VERSION.arrow_schema,
            ),
            late_arrival=pa.Table.from_pylist(
                [
                    {
                        "file_key": _file_key(file),
                        "usage_period": str(month),
                        "late_days": days,
                        "held": feed.hold_after_days is not None and days > feed.hold_after_days,
                    }
                    for feed in self.feeds.values()
                    for file, days in feed.late.items()
                    for month in self.months
                ],
                schema=LATE_ARRIVAL.arrow_schema,
            ),
            feed_watermark=pa.Table.from_pylist(
                [{"family": family, "newest_event": newest} for family in sorted(families)],
                schema=FEED_WATERMARK.arrow_schema,
            ),
        )

    def service_ids(self, name: str) -> list[str]:
        """Return the services that a name stands for: itself, or ``name-1`` and on by count."""
        count = self.services[name].count
        return [name] if count is None else [f"{name}-{number}" for number in range(1, count + 1)]

    def _reference(self, catalog: Catalog) -> dict[str, pa.Table]:
        rows: dict[str, list[dict[str, object]]] = {name: [] for name in REFERENCE}
        for account_id, account in self.accounts.items():
            if account.parent is not None and account.parent not in self.accounts:
                raise self._unknown(
                    ("accounts", account_id, "parent"), account.parent, self.accounts
                )
            rows["account"].append(
                {
                    "account_id": account_id,
                    "name": account_id,
                    "kind": account.kind,
                    "parent_account_id": account.parent,
                    "entity_id": account.entity,
                    "billing_zone": account.zone,
                    "currency": account.currency,
                    "bill_day": account.bill_day,
                }
            )
        levels = {offer.id: offer.level for offer in catalog.offers}
        for name, service in self.services.items():
            for table, more in self._service_rows(name, service, levels):
                rows[table].append(more)
        return {
            name: pa.Table.from_pylist(rows[name], schema=table.arrow_schema)
            for name, table in REFERENCE.items()
        }

    def _service_rows(
        self, name: str, service: ScenarioService, levels: Mapping[str, str]
    ) -> Iterator[tuple[str, dict[str, object]]]:
        path: KeyPath = ("services", name)
        account = service.account or self._only_account((*path, "account"), "customer")
        if account not in self.accounts:
            raise self._unknown((*path, "account"), account, self.accounts)
        for service_id in self.service_ids(name):
            yield "service", {"service_id": service_id, "account_id": account}
            for identifier in (Identifier(uid=f"iccid:{service_id}"), *service.identifiers):
                kind, value = _typed(identifier.uid)
                yield (
                    "service_identifier",
                    {
                        "uid_type": kind,
                        "uid_value": value,
                        "service_id": service_id,
                        "valid_from": identifier.valid_from,
                        "valid_to": identifier.valid_to,
                    },
                )
            for change in service.states:
                yield (
                    "service_state",
                    {"service_id": service_id, "changed_at": change.at, "state": change.state},
                )
            for use in service.offers:
                if use.offer not in levels:
                    raise self._unknown((*path, "offers"), use.offer, levels)
                level = levels[use.offer]
                payer = use.payer or (
                    account
                    if level == "retail"
                    else self._only_account(
                        (*path, "offers"), "vendor" if level == "vendor" else "reseller"
                    )
                )
                yield (
                    "service_offer",
                    {
                        "service_id": service_id,
                        "level": level,
                        "payer_account_id": payer,
                        "offer_id": use.offer,
                        "valid_from": use.valid_from,
                        "valid_to": use.valid_to,
                    },
                )

    def _usage(self, catalog: Catalog) -> pa.Table:
        rows = []
        lines: dict[str, int] = {}
        for number, event in enumerate(self.usage):
            path: KeyPath = ("usage", number)
            if event.usage_class not in catalog.usage_classes:
                raise self._unknown((*path, "class"), event.usage_class, catalog.usage_classes)
            for uid in self._uids(path, event):
                kind, value = _typed(uid)
                for repeat in range(event.times):
                    lines[event.file] = lines.get(event.file, 0) + 1
                    row = _record(
                        event, kind, value, repeat, lines[event.file], f"{number}/{value}"
                    )
                    rows.append(row | self._session(event, uid))
        return pa.Table.from_pylist(rows, schema=USAGE_RECORD.arrow_schema)

    def _session(self, event: UsageEvent, uid: str) -> dict[str, object]:
        """What a record of a feed that correlates parts has besides."""
        feed = self.feeds.get(event.feed)
        if feed is None or feed.correlate is None:
            return {}
        named = uid if feed.correlate.combine == "increments" else event.session
        told = None if named is None else f"{feed.scope or event.feed} {named}"
        return {"session_key": told, "part": event.part, "sequence_no": event.sequence}

    def _uids(self, path: KeyPath, event: UsageEvent) -> list[str]:
        if event.uid is not None:
            return [event.uid]
        assert event.service is not None
        if event.service in self.services:
            return [f"iccid:{each}" for each in self.service_ids(event.service)]
        known = {each for name in self.services for each in self.service_ids(name)}
        if event.service in known:
            return [f"iccid:{event.service}"]
        raise self._unknown((*path, "service"), event.service, self.services)

    def _only_account(self, path: KeyPath, kind: str) -> str:
        names = [name for name, account in self.accounts.items() if account.kind == kind]
        if len(names) != 1:
            raise self.error(
                path, f"there are {len(names)} accounts of kind {kind}; say which one is meant"
            )
        return names[0]

    def _unknown(self, path: KeyPath, name: str, known: object) -> Exception:
        names = ", ".join(sorted(map(str, known))) if isinstance(known, Mapping) else ""
        return self.error(path, f"{name!r} is not defined here; known: {names or 'none'}")


def _file_versions(deliveries: tuple[Delivery, ...]) -> Iterator[dict[str, int]]:
    """Number files of restating feeds: by the version in the name, else as they came (MD-04)."""
    ordered: list[tuple[str, datetime, int, int]] = []
    for each in deliveries:
        dedup = each.spec.dedup
        if dedup is not None and dedup.restating:
            ordered += [
                (dedup.version_of(path.name), each.received_at, len(ordered) + place, key)
                for place, (key, path) in enumerate(each.files.items())
            ]
    for number, (*_, key) in enumerate(sorted(ordered), 1):
        yield {"file_key": key, "version_no": number}


def _file_key(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)


def _typed(uid: str) -> tuple[str, str]:
    kind, colon, value = uid.partition(":")
    return (kind, value) if colon else ("iccid", uid)


def _record(
    event: UsageEvent, uid_type: str, uid_value: str, repeat: int, line_no: int, default_key: str
) -> dict[str, object]:
    start = event.at + timedelta(seconds=repeat)
    plmn = (event.plmn or "").replace("-", "")
    content = {
        "event_start": start,
        "event_text": start.isoformat(),
        "uid_type": uid_type,
        "uid_value": uid_value,
        "usage_class": event.usage_class,
        "quantity": event.quantity,
        "mcc": plmn[:3] or None,
        "mnc": plmn[3:] or None,
        "region": event.region,
        "session_id": event.session,
        "apn": event.apn,
        "rat": event.rat,
        "peer_number": event.peer_number,
        "vendor_cost": None if event.cost is None else event.cost.quantize(Decimal("1e-12")),
        "vendor_currency": None if event.cost is None else event.cost_currency,
        "attributes": None
        if event.attributes is None
        else json.dumps(event.attributes, default=str, sort_keys=True),
    }
    key = event.key if event.key is not None else f"line {default_key}/{repeat}"
    return {
        **content,
        "file_key": _file_key(event.file),
        "line_no": line_no,
        "feed_id": event.feed,
        "dedup_key": key,
        "content_hash": hashlib.md5(
            json.dumps(content, default=str, sort_keys=True).encode(), usedforsecurity=False
        ).hexdigest(),
        "usage_month": start.strftime("%Y-%m"),
    }


def read_scenario(path: Path) -> Scenario:
    """Read one scenario. Raises ConfigError naming file, line and key."""
    document = read_yaml(path)
    scenario = parse(Scenario, document)
    scenario._document = document
    return scenario


def scenario_schema() -> str:
    """Return the JSON Schema of a scenario file, as published in docs/."""
    schema = Scenario.model_json_schema(by_alias=True, mode="validation")
    return json.dumps(schema, indent=2, sort_keys=True, default=str) + "\n"


if __name__ == "__main__":
    sys.stdout.write(scenario_schema())
