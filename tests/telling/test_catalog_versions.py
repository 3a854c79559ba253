"""Catalog versions: kept by every close, told apart, and good to repeat a close with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.catalog import canonical_json, read_catalog
from iotbill_pipelines.operations import catalogs
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import models
from iotbill_pipelines.storage.models import BookedCharge
from iotbill_pipelines.storage.reference import load_snapshot, open_snapshot
from tests.conftest import ROOT
from tests.months import close

PRESENT = ROOT / "configs" / "catalog"


def _amounts(ws: Workspace) -> dict[tuple[str, ...], Decimal]:
    unit = (BookedCharge.level, BookedCharge.service_id, BookedCharge.charge_id)
    select = sa.select(*unit, sa.func.sum(BookedCharge.amount)).group_by(*unit)
    with ws.engine.connect() as connection:
        return {tuple(row[:-1]): row[-1] for row in connection.execute(select) if row[-1]}


def test_a_close_is_repeated_with_the_catalog_as_known_then(
    booked: Workspace, tmp_path: Path
) -> None:
    then = read_catalog(PRESENT).digest
    as_booked = _amounts(booked)
    changed = tmp_path / "changed"
    shutil.copytree(ROOT / "configs", changed)
    file = changed / "catalog" / "retail.yaml"
    file.write_text(file.read_text().replace("{rate: 0.60}", "{rate: 0.70}"))
    close(replace(booked, configs=changed).for_run("changed"))
    assert _amounts(booked) != as_booked
    now = read_catalog(changed / "catalog").digest
    assert [version.digest for version in catalogs.history(booked)] == [now, then]

    repeated = tmp_path / "then"
    shutil.copytree(ROOT / "configs", repeated, ignore=shutil.ignore_patterns("catalog"))
    catalogs.restore(booked, then[:12], repeated / "catalog")
    assert read_catalog(repeated / "catalog").digest == then
    close(replace(booked, configs=repeated).for_run("as-then"))
    assert _amounts(booked) == as_booked

    assert catalogs.differences(booked, then, str(changed / "catalog")) == [
        catalogs.Difference("offers[payg].charges[payg_sim].prices[1].rate", "0.6", "0.7")
    ]
    with pytest.raises(FileExistsError, match="holds a catalog already"):
        catalogs.restore(booked, then, repeated / "catalog")
    with pytest.raises(LookupError, match="names 0 catalog versions"):
        catalogs.content_of(booked, "0123456789ab")
    with pytest.raises(LookupError, match="at least 6 characters"):
        catalogs.content_of(booked, then[:3])


def test_a_version_differs_from_itself_in_nothing(booked: Workspace) -> None:
    assert catalogs.differences(booked, str(PRESENT), str(PRESENT)) == []


def test_the_sample_catalog_needs_no_advice() -> None:
    source, advice = catalogs.lint(PRESENT)
    assert len(source.digest) == 64
    assert advice == []


def test_advice_names_orphans_and_gaps(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(PRESENT, folder)
    (folder / "extra.yaml").write_text(
        """\
products:
  - {id: gadget, name: Gadget, charge_type: one_time, gl_class: one_time}
zone_sets:
  - {id: nowhere, rules: [{zone: all, any: true}]}
offers:
  - id: gappy
    name: Gappy
    currency: EUR
    charges:
      - id: gappy_sms
        product: sms
        kind: usage
        prices:
          - {rate: 1, valid_to: 2026-05-01}
          - {rate: 2, valid_from: 2026-06-01, valid_to: 2027-01-01}
"""
    )
    _, advice = catalogs.lint(folder)
    assert {(each.code, each.where) for each in advice} == {
        ("orphan_product", "gadget"),
        ("orphan_zone_set", "nowhere"),
        ("gap_of_dates", "gappy/gappy_sms"),
        ("fallback_ends", "gappy/gappy_sms"),
    }


def test_a_month_is_priced_by_a_kept_version_by_its_digest(
    booked: Workspace, tmp_path: Path
) -> None:
    then = read_catalog(PRESENT).digest
    as_booked = _amounts(booked)
    changed = tmp_path / "changed"
    shutil.copytree(ROOT / "configs", changed)
    file = changed / "catalog" / "retail.yaml"
    file.write_text(file.read_text().replace("{rate: 0.60}", "{rate: 0.90}"))
    elsewhere = replace(booked, configs=changed)
    repeated = replace(elsewhere, catalog_digest=then).for_run("by-digest")
    close(repeated)
    assert _amounts(booked) == as_booked
    assert canonical_json(catalogs.in_force(repeated).catalog) == read_catalog(PRESENT).json
    assert catalogs.in_force(elsewhere).digest != then
    with pytest.raises(LookupError, match="names 0 catalog versions"):
        close(replace(elsewhere, catalog_digest="0123456789ab").for_run("never-kept"))


def test_an_old_snapshot_is_read_with_todays_tables(booked: Workspace) -> None:
    """Of a table that came later, and of a column, a snapshot has what the catalog means today."""
    with Session(booked.engine) as session:
        newest = session.scalars(
            sa.select(models.Snapshot).where(models.Snapshot.catalog_digest.is_not(None))
        ).first()
        assert newest is not None
        snapshot = open_snapshot(session, booked.home, newest.snapshot_id)
        whole = {name: pq.read_table(snapshot.file(name)) for name in ("charge", "time_window")}
        aside = snapshot.tables_dir.with_name("aside")
        shutil.copytree(snapshot.tables_dir, aside)
        try:
            snapshot.file("time_window").unlink()
            snapshot.file("price_override").unlink()
            pq.write_table(whole["charge"].drop_columns(["scope"]), snapshot.file("charge"))
            accounts = pq.read_table(snapshot.file("account"))
            pq.write_table(accounts.drop_columns(["parent_account_id"]), snapshot.file("account"))
            again = open_snapshot(session, booked.home, newest.snapshot_id)
            assert again.id == snapshot.id
            assert again.tables_dir != snapshot.tables_dir
            order = [("charge_id", "ascending")]
            charges = pq.read_table(again.file("charge")).sort_by(order)
            assert charges.equals(whole["charge"].sort_by(order))
            assert pq.read_table(again.file("price_override")).num_rows == 0
            filled = pq.read_table(again.file("account"))
            assert filled.num_rows == accounts.num_rows
            assert filled["parent_account_id"].null_count == accounts.num_rows
            with DuckDbCompute() as compute:
                load_snapshot(compute, again)
                assert compute.fetch("price").num_rows
        finally:
            shutil.rmtree(snapshot.tables_dir)
            aside.rename(snapshot.tables_dir)
