"""What customers bring into the first month that is billed here (configs/opening_lots.csv)."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.opening import OpeningLot, read_opening_lots
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import ALLOWANCE_LOT, POOL_LOT, Table
from iotbill_pipelines.operations import catalogs
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.reference import as_known_at

FILE = "opening_lots.csv"


def opening_lots(ws: Workspace, period: Month, settled: Collection[Month]) -> dict[str, pa.Table]:
    """Return rows of ``pool_lot`` and ``allowance_lot`` as if the month before had left them.

    Raises ConfigError for units of accounts or services that are not known, and where a close of
    the month before, one of ``settled``, has left its own.
    """
    file = ws.configs / FILE
    if not file.is_file():
        return {}
    catalog = catalogs.in_force(ws).catalog
    mine = [(n, lot) for n, lot in read_opening_lots(file, catalog) if lot.period == str(period)]
    if not mine:
        return {}
    if period - 1 in settled:
        raise ConfigError(
            str(file), ("period",), mine[0][0],
            f"{period - 1} was closed here, and left what {period} begins with; remove the rows of "
            f"{period}",
        )  # fmt: skip
    with Session(ws.engine) as session:
        known = as_known_at(session, ws.clock(), ("account", "service"))
    accounts = {*known["account"]["account_id"].to_pylist()}
    services = {*known["service"]["service_id"].to_pylist()}
    for line, lot in mine:
        for column, name, names in (
            ("pool_id", lot.pool_account_id or None, accounts),
            ("account_id", lot.account_id, accounts),
            ("service_id", lot.service_id, services),
        ):
            if name is not None and name not in names:
                raise ConfigError(
                    str(file), (column,), line, f"{name!r} is not known; send it, or correct this"
                )
    return {
        POOL_LOT.name: _table([_pool(lot) for _, lot in mine if lot.pool_id], POOL_LOT),
        ALLOWANCE_LOT.name: _table(
            [_own(lot) for _, lot in mine if not lot.pool_id], ALLOWANCE_LOT
        ),
    }


def _shared(lot: OpeningLot) -> dict[str, object]:
    before = Month.parse(lot.period) - 1
    return {
        "usage_period": str(before),
        "window_start": before.start,
        "window_end": before.end,
        "level": lot.level,
        "granted_on": lot.granted_on,
        "quantity": lot.quantity,
        "drawn": 0,
        "carried_on": lot.quantity,
        "windows_left": lot.windows_left,
    }


def _pool(lot: OpeningLot) -> dict[str, object]:
    return {
        **_shared(lot),
        "pool_id": lot.pool_id,
        "bucket_id": lot.bucket_id,
        "pool_account_id": lot.pool_account_id,
    }


def _own(lot: OpeningLot) -> dict[str, object]:
    return {
        **_shared(lot),
        "account_id": lot.account_id,
        "service_id": lot.service_id,
        "charge_id": lot.charge_id,
        "kind": lot.kind,
        "expires_on": lot.expires_on,
    }


def _table(rows: list[dict[str, object]], schema: Table) -> pa.Table:
    order = [(name, "ascending") for name in schema.key]
    return pa.Table.from_pylist(rows, schema=schema.arrow_schema).sort_by(order)
