"""What a close's documents rest on that nothing computes again.

A workbook shows its date and how claims stood, a page of data quality which files had not come;
that moves on. Each stage keeps it in a hidden file beside its documents; a close package takes the
file along, so that everything else of the documents can be computed again and compared byte for
byte (:mod:`operations.package`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from iotbill_pipelines.storage.documents import write_bytes

Kept = TypeVar("Kept")


def keep(path: Path, basis: object) -> None:
    """Write a basis, a dataclass, as JSON."""
    write_bytes(path, TypeAdapter(type(basis)).dump_json(basis, indent=1))


def read(path: Path, kind: type[Kept]) -> Kept | None:
    """Return what :func:`keep` wrote; None where nothing is kept, or another version wrote it."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


CONFIGS = ".configs.zip"
"""The configuration as it was when a close ended: it may change before the month is signed off."""


def keep_configs(configs: Path, folder: Path) -> None:
    """Keep a copy of the configuration beside a close's documents."""
    made = Path(shutil.make_archive(str(folder / ".configs.part"), "zip", configs))
    made.replace(folder / CONFIGS)


def unpack_configs(folder: Path, target: Path) -> bool:
    """Put what :func:`keep_configs` kept into ``target``; return whether there was any."""
    if not (folder / CONFIGS).is_file():
        return False
    shutil.unpack_archive(folder / CONFIGS, target, "zip")
    return True


def newest_rows(connection: sa.Connection) -> dict[str, int]:
    """Return the newest key of each table of the ledger that only grows."""
    return {
        table: int(
            connection.execute(sa.text(f"select coalesce(max({key}), 0) from {table}")).scalar_one()
        )
        for table, key in (
            ("booked_charge", "id"),
            ("invoice", "invoice_id"),
            ("invoice_tax", "tax_id"),
            ("journal", "journal_id"),
        )
    }
