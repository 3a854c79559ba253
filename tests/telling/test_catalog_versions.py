"""Catalog versions: kept by every close, told apart, and good to repeat a close with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.operations import catalogs
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import BookedCharge
from tests.conftest import ROOT

from .conftest import close

pytestmark = pytest.mark.xdist_group("telling")

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
