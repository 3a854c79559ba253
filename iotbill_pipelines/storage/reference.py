"""Inventory, accounts and contracts as we know them, and as we knew them (RULEBOOK §14).

Every table of :data:`engine.schemas.REFERENCE` is kept with the time it was known (``known_from``,
``known_to``) beside the valid time in its own columns. A load compares a file with what is known
and writes only differences, so that the same content loads nothing. A run computes from a
snapshot: the tables as known at a moment, with the catalog, as Parquet files under the hash of
their content.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import SMALL_ROWS
from iotbill_pipelines.config.catalog import catalog_of_json
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.schemas import CATALOG, REFERENCE, Table
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.storage import models
from iotbill_pipelines.storage.bulk import copy_in, copy_out, literal


class ReferenceDataError(ValueError):
    """Reference rows that contradict themselves; the message names table and keys."""


class LoadResult(NamedTuple):
    """What a load changed: rows new, changed, and closed because a complete feed left them out."""

    added: int
    changed: int
    closed: int


def load(
    session: Session,
    table_name: str,
    rows: pa.Table,
    known_at: datetime,
    source: str,
    *,
    complete: bool = False,
    file_key: int | None = None,
) -> LoadResult:
    """Take over the rows of a file as what is known from ``known_at`` on.

    A file fully restates the keys it names. Keys that it does not name stay, unless ``complete``:
    then rows that the same ``source`` (feed) told earlier and left out now are closed. Equal
    content changes nothing. A clock that went back counts as standing still.

    Raises ReferenceDataError for an unknown table, or for two rows of one key that differ.
    """
    if table_name not in REFERENCE:
        raise ReferenceDataError(
            f"unknown reference table {table_name!r}; known: {', '.join(sorted(REFERENCE))}"
        )
    schema = REFERENCE[table_name]
    target = f"reference_{table_name}"
    connection = session.connection()
    rows = rows.select(list(schema.column_names)).cast(schema.arrow_schema)
    run = _Statements(connection, schema, target)
    run.execute(f"select pg_advisory_xact_lock(hashtext('{target}'))")
    run.execute("drop table if exists pg_temp.incoming_reference")
    run.execute(
        f"create temporary table incoming_reference on commit drop as "
        f"select {schema.column_list} from {target} with no data"
    )
    copy_in(connection, "incoming_reference", rows)
    run.refuse_contradictions()
    moment: datetime = connection.execute(
        sa.text(
            f"select greatest(cast(:known_at as timestamptz), max(known_from), max(known_to)) "
            f"from {target}"
        ),
        {"known_at": known_at},
    ).scalar_one()
    values = {"moment": moment, "source": source, "file_key": file_key}
    closed = run.close_vanished(values) if complete else 0
    changed = run.close_changed(values)
    added = run.insert_unknown(values) - changed
    run.execute("drop table pg_temp.incoming_reference")
    return LoadResult(added, changed, closed)


class _Statements:
    """The SQL of a load; the incoming rows stand in a temporary table."""

    def __init__(self, connection: sa.Connection, schema: Table, target: str) -> None:
        self.connection, self.schema, self.target = connection, schema, target
        self.same_key = " and ".join(f"r.{name} = i.{name}" for name in schema.key)
        self.others = [name for name in schema.column_names if name not in schema.key]

    def execute(self, statement: str, values: Mapping[str, object] | None = None) -> int:
        return self.connection.execute(sa.text(statement), values or {}).rowcount

    def refuse_contradictions(self) -> None:
        keys = ", ".join(self.schema.key)
        found = self.connection.execute(
            sa.text(
                f"select {keys} from (select distinct * from incoming_reference) as i "
                f"group by {keys} having count(*) > 1 order by {keys} limit 5"
            )
        ).fetchall()
        if found:
            named = "; ".join(
                ", ".join(f"{k}={v}" for k, v in zip(self.schema.key, row, strict=True))
                for row in found
            )
            raise ReferenceDataError(
                f"{self.schema.name}: the file gives different rows for the same key ({named}); "
                "keep one row a key and send the file again"
            )

    def close_vanished(self, values: Mapping[str, object]) -> int:
        return self.execute(
            f"update {self.target} r set known_to = :moment "
            f"where known_to is null and source = :source and not exists "
            f"(select from incoming_reference i where {self.same_key})",
            values,
        )

    def close_changed(self, values: Mapping[str, object]) -> int:
        if not self.others:
            return 0
        ours = ", ".join(f"r.{name}" for name in self.others)
        theirs = ", ".join(f"i.{name}" for name in self.others)
        return self.execute(
            f"update {self.target} r set known_to = :moment from incoming_reference i "
            f"where r.known_to is null and {self.same_key} "
            f"and row({ours}) is distinct from row({theirs})",
            values,
        )

    def insert_unknown(self, values: Mapping[str, object]) -> int:
        columns = self.schema.column_list
        return self.execute(
            f"insert into {self.target} ({columns}, source, file_key, known_from) "
            f"select distinct {', '.join(f'i.{n}' for n in self.schema.column_names)}, "
            f":source, cast(:file_key as bigint), cast(:moment as timestamptz) "
            f"from incoming_reference i where not exists "
            f"(select from {self.target} r where r.known_to is null and {self.same_key})",
            values,
        )


def as_known_at(
    session: Session,
    known_at: datetime,
    tables: Collection[str] = tuple(REFERENCE),
    *,
    services: Collection[str] | None = None,
) -> dict[str, pa.Table]:
    """Return reference tables, all by default, as known at a moment, sorted by key.

    With ``services`` the tables of services hold only what is said of those, and of every service
    that an identifier of theirs has ever meant: a later owner ends an earlier one.
    """
    connection = session.connection()
    moment = literal(connection, known_at)
    wanted = "" if services is None else literal(connection, sorted(services)) + "::text[]"
    return {
        name: copy_out(
            connection,
            f"select * from reference_{name} where {_known(moment)}"
            f"{'' if services is None else _of_services(name, wanted, moment)}"
            f" order by {', '.join(schema.key)}",
            schema,
        )
        for name, schema in REFERENCE.items()
        if name in tables
    }


SERVICE_TABLES = ("service", "service_identifier", "service_state", "service_offer")
"""Tables of what is said of services; most of all that is known."""


def _of_services(name: str, services: str, moment: str) -> str:
    if name not in SERVICE_TABLES:
        return ""
    if name != "service_identifier":
        return f" and service_id = any ({services})"
    return (
        " and (uid_type, uid_value) in (select uid_type, uid_value"
        f" from reference_service_identifier where {_known(moment)}"
        f" and service_id = any ({services}))"
    )


def changed_since(session: Session, known_at: datetime) -> bool:
    """Whether anything was told from a moment on; what was told at that very moment counts too."""
    moment = literal(session.connection(), known_at)
    asked = " or ".join(
        f"exists (select from reference_{name}"
        f" where known_from >= {moment} or known_to >= {moment})"
        for name in REFERENCE
    )
    return bool(session.scalar(sa.text(f"select {asked}")))


def paying_accounts(session: Session, known_at: datetime, offers: Collection[str]) -> set[str]:
    """Return the accounts that pay, or paid, for services on one of the offers."""
    connection = session.connection()
    found = session.execute(
        sa.text(
            "select distinct payer_account_id from reference_service_offer"
            f" where {_known(literal(connection, known_at))} and offer_id = any (:offers)"
        ),
        {"offers": sorted(offers)},
    )
    return set(found.scalars())


class PaidFor(NamedTuple):
    """What accounts pay for: the services, and who else pays for one of them at the same level."""

    services: set[str]
    accounts: set[str]


def paid_for(session: Session, known_at: datetime, accounts: Collection[str]) -> PaidFor:
    """Return the services that accounts pay or paid for, and all who do at the same level."""
    moment = literal(session.connection(), known_at)
    found = session.execute(
        sa.text(
            "with mine as (select distinct service_id, level from reference_service_offer"
            f"   where {_known(moment)} and payer_account_id = any (:accounts))"
            " select distinct o.service_id, o.payer_account_id"
            " from reference_service_offer as o join mine using (service_id, level)"
            f" where {_known(moment)}"
        ),
        {"accounts": sorted(accounts)},
    ).all()
    return PaidFor({row.service_id for row in found}, {row.payer_account_id for row in found})


def count_services(session: Session, known_at: datetime) -> int:
    """Return how many services are known at a moment."""
    moment = literal(session.connection(), known_at)
    counted = session.scalar(
        sa.text(f"select count(*) from reference_service where {_known(moment)}")
    )
    return int(counted or 0)


def _known(moment: str) -> str:
    return f"known_from <= {moment} and (known_to is null or known_to > {moment})"


# -------------------------------------------------------------------------------- catalog


def store_catalog(session: Session, catalog_json: str, known_at: datetime) -> str:
    """Keep a catalog's JSON if it differs from the newest one; return its SHA-256."""
    content = canonical_json(json.loads(catalog_json))
    digest = hashlib.sha256(content.encode()).hexdigest()
    session.execute(sa.text("select pg_advisory_xact_lock(hashtext('catalog_version'))"))
    newest = session.scalar(
        sa.select(models.CatalogVersion.digest)
        .order_by(models.CatalogVersion.version_no.desc())
        .limit(1)
    )
    if newest != digest:
        session.add(models.CatalogVersion(digest=digest, known_from=known_at, content=content))
        session.flush()
    return digest


def canonical_json(value: object) -> str:
    """Return JSON whose text depends on the content only: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# ------------------------------------------------------------------------------- snapshots


@dataclass(frozen=True)
class Snapshot:
    """Reference data and catalog as known at a moment; ``id`` is the hash of their content."""

    id: str
    tables_dir: Path
    known_at: datetime
    rows: dict[str, int]

    def file(self, table: str) -> Path:
        """The Parquet file of a table."""
        return self.tables_dir / f"{table}.parquet"


def take_snapshot(
    session: Session,
    home: Path,
    known_at: datetime,
    catalog: Mapping[str, pa.Table],
    catalog_digest: str | None = None,
) -> Snapshot:
    """Write what is known at a moment under ``home/snapshots/<id>`` and register it.

    The same knowledge gives the same id whenever it is taken, and is written once.
    """
    return store_snapshot(
        session, home, known_at, {**as_known_at(session, known_at), **catalog}, catalog_digest
    )


def store_snapshot(
    session: Session,
    home: Path,
    known_at: datetime,
    tables: Mapping[str, pa.Table],
    catalog_digest: str | None = None,
) -> Snapshot:
    """Write tables that a run computes from, as :func:`take_snapshot` does: also a part of them."""
    schemas = {**REFERENCE, **CATALOG}
    missing = sorted(set(schemas) - set(tables))
    if missing:
        raise ReferenceDataError(f"a snapshot needs the catalog tables {', '.join(missing)}")
    ordered = {
        name: tables[name]
        .cast(schema.arrow_schema)
        .sort_by([(key, "ascending") for key in schema.key])
        for name, schema in sorted(schemas.items())
    }
    rows = {name: table.num_rows for name, table in ordered.items()}
    snapshot_id = content_hash(ordered)
    snapshot = Snapshot(snapshot_id, home / "snapshots" / snapshot_id, known_at, rows)
    if not snapshot.tables_dir.is_dir():
        _write_tables(snapshot.tables_dir, ordered)
    session.execute(
        insert(models.Snapshot)
        .values(
            snapshot_id=snapshot_id, known_at=known_at, catalog_digest=catalog_digest, rows=rows
        )
        .on_conflict_do_nothing()
    )
    return snapshot


def open_snapshot(session: Session, home: Path, snapshot_id: str) -> Snapshot:
    """Return a snapshot taken earlier, also by a version of this program with other tables.

    Of one that lacks tables or columns, the catalog is compiled again from the text that is kept
    of it, so that new terms have the defaults they have in any catalog; reference tables have no
    rows, new columns of theirs are null. The snapshot's own files never change. Raises
    ReferenceDataError if it is not there, or its catalog is none for this version.
    """
    found = session.get(models.Snapshot, snapshot_id)
    directory = home / "snapshots" / snapshot_id
    if found is None or not directory.is_dir():
        raise ReferenceDataError(f"snapshot {snapshot_id} is not under {home / 'snapshots'}")
    lacking = [name for name in {**REFERENCE, **CATALOG} if _lacks(directory, name)]
    if lacking:
        directory = _completed(session, directory, found.catalog_digest, lacking)
    return Snapshot(snapshot_id, directory, found.known_at, dict(found.rows))


def _lacks(directory: Path, name: str) -> bool:
    file = directory / f"{name}.parquet"
    schema = {**REFERENCE, **CATALOG}[name]
    return not file.is_file() or not set(schema.column_names) <= set(pq.read_schema(file).names)


def _completed(
    session: Session, directory: Path, catalog_digest: str | None, lacking: Collection[str]
) -> Path:
    """Return a folder beside the snapshot's with the tables of this version; written once."""
    schemas = {**REFERENCE, **CATALOG}
    shape = hashlib.sha256(
        repr([(name, schema.arrow_schema) for name, schema in sorted(schemas.items())]).encode()
    ).hexdigest()
    target = directory.with_name(f"{directory.name}-{shape[:8]}")
    if target.is_dir():
        return target
    tables: dict[str, pa.Table] = {}
    if not CATALOG.keys().isdisjoint(lacking):
        content = session.scalar(
            sa.select(models.CatalogVersion.content)
            .where(models.CatalogVersion.digest == catalog_digest)
            .limit(1)
        )
        if content is not None:
            try:
                tables |= compile_catalog(catalog_of_json(content, f"catalog {catalog_digest}"))
            except ConfigError as error:
                raise ReferenceDataError(
                    f"snapshot {directory.name} lacks {', '.join(lacking)}, and its catalog cannot "
                    f"be compiled again: {error}"
                ) from error
    for name, schema in schemas.items():
        if name not in tables:
            tables[name] = _filled(directory / f"{name}.parquet", schema)
    ordered = {
        name: tables[name].cast(schema.arrow_schema) for name, schema in sorted(schemas.items())
    }
    _write_tables(target, ordered)
    return target


def _filled(file: Path, schema: Table) -> pa.Table:
    """The rows of a file with null for the columns it lacks; of a file that is absent, none."""
    if not file.is_file():
        return schema.arrow_schema.empty_table()
    table = pq.read_table(file)
    known = set(table.column_names)
    for field in schema.arrow_schema:
        if field.name not in known:
            table = table.append_column(field.name, pa.nulls(table.num_rows, field.type))
    return table.select(list(schema.column_names))


def load_snapshot(compute: Compute, snapshot: Snapshot) -> None:
    """Make every REFERENCE and CATALOG relation hold the snapshot's rows."""
    small = sum(snapshot.rows.values()) < SMALL_ROWS
    for name, schema in {**REFERENCE, **CATALOG}.items():
        if small:  # read many times: from memory rather than from files
            file = pq.ParquetFile(snapshot.file(name))
            compute.load(name, file.read(list(schema.column_names), use_threads=False))
        else:
            compute.scan(schema, [str(snapshot.file(name))])


def content_hash(tables: Mapping[str, pa.Table]) -> str:
    """Return the hash of what tables say, in the order given."""
    # Over text, not over Parquet bytes: those change with the library that writes them.
    digest = hashlib.sha256()
    for name, table in tables.items():
        digest.update(f"\n{name} {table.schema.names} {table.num_rows}\n".encode())
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(include_header=False))
        digest.update(sink.getvalue())
    return digest.hexdigest()[:32]


def _write_tables(directory: Path, tables: Mapping[str, pa.Table]) -> None:
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        for name, table in tables.items():
            pq.write_table(table, temporary / f"{name}.parquet", compression="zstd")
        if not directory.is_dir():
            try:
                temporary.rename(directory)
            except OSError:
                if not directory.is_dir():  # another run was faster: its files are the same
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
