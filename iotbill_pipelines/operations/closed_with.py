"""What a close ended with: from which its package is made, whatever later closes settle again.

A later close rates and settles earlier months again where something came late. So each close keeps,
beside its documents, what its months were computed from, and which files of the lake held its
charges.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE
from iotbill_pipelines.operations import charges, corrections, usage
from iotbill_pipelines.operations.basis import keep, newest_rows, read
from iotbill_pipelines.operations.contracts import contracts_of
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.reference import open_snapshot

BASIS = ".close.json"
BEFORE = ".before"


@dataclass(frozen=True)
class ClosedWith:
    """What a close ended with.

    ``usage_periods`` are those that it answers for with their snapshots: its own, those that it
    corrected, and those that vendors bill with it; ``settled`` all that were settled by then.
    ``usage_files`` are the keys of the files that each UTC month was rated with, ``charge_files``
    the lake's files of each usage period's charges, ``newest_rows`` how far the ledger went.
    """

    usage_periods: dict[str, str]
    settled: list[str]
    usage_files: dict[str, list[int]]
    charge_files: dict[str, list[str]]
    newest_rows: dict[str, int]


def keep_closed_with(ws: Workspace, period: Month) -> None:
    """Keep what the close of a month ended with; nothing of a month that was never settled."""
    details = corrections.settled_details(ws)
    folder = ws.out(period)
    shutil.rmtree(folder / BEFORE, ignore_errors=True)
    (folder / BASIS).unlink(missing_ok=True)
    if period not in details:
        return
    scope = _usage_periods(ws, period, set(details))
    settled = sorted(details)
    files = {}
    for each in scope:
        with Session(ws.engine) as session:
            held = open_snapshot(session, ws.home, details[each]["snapshot"])
        target = before_folder(folder, each)
        target.mkdir(parents=True)
        for name, table in charges.before(ws, each, contracts_of(held)).tables.items():
            pq.write_table(table, target / f"{name}.parquet")
        files[str(each)] = [
            name
            for month in corrections.correction_scope(each, settled)
            for name in ws.lake.names(DESIRED_CHARGE, usage_period=str(month))
        ]
    with ws.engine.connect() as connection:
        newest = newest_rows(connection)
    rated = corrections.rated_details(ws)
    closed = ClosedWith(
        {str(each): details[each]["snapshot"] for each in scope},
        [str(each) for each in settled],
        {
            str(month): sorted({usage.file_key_of(name) for name in detail["files"]})
            for month, detail in sorted(rated.items())
        },
        files,
        newest,
    )
    keep(folder / BASIS, closed)


def closed_with(ws: Workspace, period: Month) -> ClosedWith | None:
    """Return what the last close of a month ended with, if its charges are still in the lake."""
    found = read(ws.out(period) / BASIS, ClosedWith)
    if found is None:
        return None
    files = [file for each in found.charge_files.values() for file in each]
    return found if ws.lake.holds(files) else None


def before_folder(folder: Path, usage_period: Month) -> Path:
    """Where a close keeps what earlier months left for a usage period."""
    return folder / BEFORE / str(usage_period)


def _usage_periods(ws: Workspace, period: Month, settled: set[Month]) -> list[Month]:
    """The period itself, and the settled ones that something was booked of in it or that vendors
    bill with it."""
    select = "select distinct usage_period from booked_charge where accounting_period = :period"
    with ws.engine.connect() as connection:
        rows = connection.execute(sa.text(select), {"period": str(period)})
        found = {Month.parse(row.usage_period) for row in rows if row.usage_period < str(period)}
    found |= {
        Month.parse(partition["usage_period"])
        for partition in ws.lake.partitions(DESIRED_CHARGE)
        if partition["billing_period"] == str(period)
    }
    return sorted({period, *(found & settled)})
