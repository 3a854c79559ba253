"""Catalog versions: what a folder says, what was known when, and how two versions differ.

A version is the SHA-256 of a catalog's canonical JSON. Every close keeps the one it used, so that a
month can be repeated with the catalog as it was known then: ``restore`` writes it back to a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.config.catalog import CatalogSource, catalog_of_json, read_catalog
from iotbill_pipelines.config.documents import read_yaml
from iotbill_pipelines.config.rate_tables import kept_table, read_sheets
from iotbill_pipelines.engine.terms import Catalog, Charge, Offer, Participant, Price
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import write_bytes, write_csv
from iotbill_pipelines.storage.models import CatalogVersion, Run, Snapshot

TABLES = "tables"
"""Folder, inside a catalog's, of the CSV files that an import writes."""

SHORTEST = 6
"""Characters of a digest that name a version, where no other begins with them."""


@dataclass(frozen=True)
class Advice:
    """Something that reads well and is probably not meant."""

    code: str
    where: str
    message: str


@dataclass(frozen=True)
class Version:
    """A catalog as it was known from a moment on, and the months closed with it."""

    digest: str
    known_from: datetime
    offers: int
    charges: int
    closed: list[str]


@dataclass(frozen=True)
class Difference:
    """A value that two versions say differently; absent is None."""

    path: str
    before: str | None
    after: str | None


def in_force(ws: Workspace) -> CatalogSource:
    """Return the catalog that the workspace's run prices by.

    The configured one, or the kept version that the run was told to repeat. Raises ConfigError for
    a catalog that does not hold together, LookupError for a version that was never kept.
    """
    if ws.catalog_digest is None:
        return read_catalog(ws.configs / "catalog")
    digest, content = kept(ws, ws.catalog_digest)
    return CatalogSource(catalog_of_json(content, f"catalog {digest[:12]}"), content, digest, ())


def lint(folder: Path) -> tuple[CatalogSource, list[Advice]]:
    """Read and check a catalog; return it with advice on what nothing refers to or covers.

    Raises ConfigError, with file, line and key, for what no close could use: gaps in tiers,
    networks said twice, missing fallbacks, prices that never apply, currencies that do not meet.
    """
    source = read_catalog(folder)
    return source, list(_advice(source.catalog))


@dataclass(frozen=True)
class Imported:
    """What an import made of rate tables: the files it wrote, or would have, and what they say."""

    written: list[Path]
    prices: int
    networks: int
    digest: str
    advice: list[Advice]


def import_tables(folder: Path, files: Sequence[Path], *, write: bool = True) -> Imported:
    """Take rate tables (XLSX, CSV) over into a catalog folder, as CSV files that its YAML names.

    Every cell is typed and the whole catalog is checked with the new tables in it before anything
    is written; importing a file of the same name again replaces what it brought. Remarks that a
    spreadsheet would run are kept disarmed. ``write`` False only checks. Raises ConfigError with
    file, sheet and cell of everything that is wrong.
    """
    found = [(file, sheet) for file in files for sheet in read_sheets(file)]
    names = {
        f"{TABLES}/{_slug(file.stem)}{'-' + _slug(sheet.name) if sheet.name else ''}.csv": sheet
        for file, sheet in found
    }
    source = read_catalog(folder, files, without=names)
    written = []
    if write:
        for name, sheet in names.items():
            write_csv(folder / name, *kept_table(sheet), newline="\n")
            written.append(folder / name)
        named = _named_tables(folder)
        for file in files:
            mine = [name for name, sheet in names.items() if sheet.file == file]
            if not set(mine) <= named:
                listed = "".join(f"  - file: {name}\n" for name in mine)
                target = folder / f"{_slug(file.stem)}.tables.yaml"
                write_bytes(target, f"# {file.name}\ntables:\n{listed}".encode())
                written.append(target)
        read_catalog(folder)
    return Imported(
        written,
        sum(len(sheet.rows) for _, sheet in found if sheet.holds == "rates"),
        len(
            {
                (zones.id, code)
                for zones in source.catalog.zone_sets
                for rule in zones.rules
                for code in (*rule.plmn, *rule.mcc, *rule.region)
            }
        ),
        source.digest,
        list(_advice(source.catalog)),
    )


def _named_tables(folder: Path) -> set[str]:
    documents = (read_yaml(file).data or {} for file in folder.glob("*.yaml"))
    return {str(table["file"]) for data in documents for table in data.get("tables", [])}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "table"


def _advice(catalog: Catalog) -> Iterator[Advice]:
    charges = [
        *((offer.id, charge) for offer in catalog.offers for charge in offer.charges),
        *((plan.id, overage) for plan in catalog.share_plans for _, overage in plan.overages()),
    ]
    sold = {charge.product for _, charge in charges}
    for product in catalog.products:
        if product.id not in sold:
            yield Advice(
                "orphan_product", product.id, f"product {product.id!r} is in no offer; remove it"
            )
    named = {offer.zone_set for offer in catalog.offers}
    for zones in catalog.zone_sets:
        if zones.id not in named:
            yield Advice("orphan_zone_set", zones.id, f"no offer uses zone set {zones.id!r}")
    joined = {offer.share_plan for offer in catalog.offers}
    for plan in catalog.share_plans:
        if plan.id not in joined and not plan.participants:
            yield Advice("orphan_share_plan", plan.id, f"no offer joins share plan {plan.id!r}")
    yield from _empty_buckets(catalog)
    for owner, charge in charges:
        where = f"{owner}/{charge.id}"
        open_prices = [price for price in charge.prices if price.zone is None]
        if charge.kind in ("usage", "overage") and open_prices:
            last = [price.valid_to for price in open_prices]
            if None not in last:
                ends = max(day for day in last if day is not None)
                yield Advice(
                    "fallback_ends",
                    where,
                    f"no price without zone holds from {ends} on; usage then waits in suspense",
                )
        dated = sorted(
            (price.valid_from, price.valid_to)
            for price in open_prices
            if price.state is None and price.when is None and price.time is None
        )
        for kind in _undated(charge):
            yield Advice(
                "rate_without_dates",
                where,
                f"prices {kind} with dates and without; give the undated rate its first day",
            )
        for (_, ends_on), (begins, _) in pairwise(dated):
            if ends_on is not None and ends_on < begins:
                yield Advice(
                    "gap_of_dates",
                    where,
                    f"no price without condition holds from {ends_on} to before {begins}",
                )


def _undated(charge: Charge) -> Iterator[str]:
    """What a charge prices both with dates and without: nobody can tell which rate was meant."""
    kinds: dict[tuple[str | None, ...], list[Price]] = {}
    for price in charge.prices:
        kinds.setdefault((price.zone, price.time, price.when, price.state), []).append(price)
    for kind, prices in kinds.items():
        without = [p for p in prices if p.valid_from == date(1970, 1, 1) and p.valid_to is None]
        if without and len(without) < len(prices):
            yield " ".join(part for part in kind if part) or "everything else"


def _empty_buckets(catalog: Catalog) -> Iterator[Advice]:
    """Buckets that hold nothing whoever shares them: all use of them is overage."""
    for plan in catalog.share_plans:
        rules: list[Participant | Offer] = [*plan.participants]
        rules += [offer for offer in catalog.offers if offer.share_plan == plan.id]
        for number, (bucket_id, _, bucket) in enumerate(plan.each_bucket()):
            name = plan.buckets[number].id if plan.buckets else ""
            filled = any(
                rule.contributions.get(name, rule.contribution if number == 0 else 0)
                for rule in rules
            )
            size = bucket.fixed if bucket.growth == "fixed" else filled
            if rules and not (size or bucket.minimum or bucket.sized_by):
                yield Advice(
                    "empty_bucket",
                    bucket_id,
                    f"nothing fills {bucket_id!r}: give it a fixed size, or contributions",
                )


def history(ws: Workspace) -> list[Version]:
    """Return every catalog version that was kept, the newest first."""
    runs = sa.select(Run.period, Run.detail).where(
        Run.kind == "close", Run.status == "succeeded", Run.period.is_not(None)
    )
    with ws.engine.connect() as connection:
        digests = {
            row.snapshot_id: row.catalog_digest
            for row in connection.execute(sa.select(Snapshot.snapshot_id, Snapshot.catalog_digest))
        }
        closed: dict[str, set[str]] = {}
        for run in connection.execute(runs).mappings():
            digest = digests.get((run["detail"] or {}).get("snapshot_id", ""))
            if digest:
                closed.setdefault(digest, set()).add(run["period"])
        rows = connection.execute(
            sa.select(
                CatalogVersion.digest, CatalogVersion.known_from, CatalogVersion.content
            ).order_by(CatalogVersion.version_no.desc())
        ).all()
    found = []
    for digest, known_from, content in rows:
        offers = json.loads(content)["offers"]
        found.append(
            Version(
                digest,
                known_from,
                len(offers),
                sum(len(offer["charges"]) for offer in offers),
                sorted(closed.get(digest, ())),
            )
        )
    return found


def content_of(ws: Workspace, version: str) -> tuple[str, str]:
    """Return digest and canonical JSON of a version: a kept one, or of a folder.

    A kept one is named by its digest or the beginning of it. Raises LookupError if nothing, or
    more than one, begins like that; ConfigError for a folder that is no catalog.
    """
    folder = Path(version)
    if folder.is_dir():
        source = read_catalog(folder)
        return source.digest, source.json
    return kept(ws, version)


def kept(ws: Workspace, version: str) -> tuple[str, str]:
    """Return digest and canonical JSON of a kept version, by its digest or the beginning of it.

    Raises LookupError if nothing, or more than one, begins like that.
    """
    with ws.engine.connect() as connection:
        found = {
            str(row.digest): str(row.content)
            for row in connection.execute(
                sa.select(CatalogVersion.digest, CatalogVersion.content).where(
                    CatalogVersion.digest.startswith(version, autoescape=True)
                )
            )
        }
    if len(version) < SHORTEST or len(found) != 1:
        raise LookupError(
            f"{version!r} names {len(found) if len(version) >= SHORTEST else 'no'} catalog "
            f"versions; give at least {SHORTEST} characters of a digest that "
            "`iotbill catalog history` lists"
        )
    return next(iter(found.items()))


def restore(ws: Workspace, version: str, folder: Path) -> Path:
    """Write a kept version as a catalog folder; reading it gives the same digest.

    Raises FileExistsError for a folder that holds YAML files already.
    """
    _, content = content_of(ws, version)
    if any(folder.glob("*.yaml")):
        raise FileExistsError(f"{folder} holds a catalog already; name an empty folder")
    # JSON is YAML; long as it is, it is exact
    text = json.dumps(json.loads(content), indent=2, ensure_ascii=False, sort_keys=False)
    file = folder / "catalog.yaml"
    write_bytes(file, f"{text}\n".encode())
    return file


def differences(ws: Workspace, before: str, after: str) -> list[Difference]:
    """Return what two versions say differently, by path; elements of lists are told by their id."""
    old, new = (_flat(json.loads(content_of(ws, version)[1])) for version in (before, after))
    return [
        Difference(path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        parts = [_flat(item, f"{path}.{key}" if path else key) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [_flat(item, f"{path}[{_name(item, n)}]") for n, item in enumerate(value)]
    else:
        return {} if value is None else {path: str(value)}
    return {key: text for part in parts for key, text in part.items()}


def _name(item: object, number: int) -> str:
    """An element's id; a price or a tier has none of its own and goes by its place, from 1."""
    if isinstance(item, Mapping):
        if isinstance(item.get("id"), str):
            return str(item["id"])
        if "core" in item:
            return str(item["state"])
    return str(number + 1)
