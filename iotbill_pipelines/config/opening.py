"""``configs/opening_lots.csv`` -> units that customers bring into the first month billed here.

A pool with rollover, or a service whose free units last, starts with what another system left it;
from then on every close leaves it for the next (RULEBOOK §3, rollover).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.tables import read_table
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import Catalog, Terms

COLUMNS = (
    *("period", "level", "pool_id", "account_id", "service_id", "charge_id", "kind"),
    *("granted_on", "expires_on", "quantity", "windows_left"),
)
_KEY = tuple(name for name in COLUMNS if name not in ("expires_on", "quantity", "windows_left"))


def _month(text: str) -> str:
    return str(Month.parse(text))


class OpeningLot(Terms):
    """Units of a pool, or of a service's charge, that are there when ``period`` begins.

    ``quantity`` is in class units. ``windows_left`` says for how many windows they can be used,
    that of ``period`` among them; units granted once end on ``expires_on`` instead.
    """

    period: Annotated[str, AfterValidator(_month)]
    level: Literal["retail", "wholesale", "vendor"] = "retail"
    pool_id: str | None = None
    account_id: str | None = None
    service_id: str | None = None
    charge_id: str | None = None
    kind: Literal["recurring", "once"] = "recurring"
    granted_on: date
    expires_on: date | None = None
    quantity: int = Field(gt=0)
    windows_left: int = Field(1, ge=1, le=120)

    @model_validator(mode="after")
    def _whose(self) -> OpeningLot:
        own = (self.account_id, self.service_id, self.charge_id)
        if (self.pool_id is None) != all(name is not None for name in own):
            raise ValueError("give pool_id, or account_id, service_id and charge_id")
        if self.pool_id is not None and any(name is not None for name in own):
            raise ValueError("a pool's units are of no service; leave the other ids out")
        if (self.kind == "once") != (self.expires_on is not None):
            raise ValueError("units granted once, and no others, have expires_on")
        if self.kind == "once" and self.pool_id is not None:
            raise ValueError("pools are granted units by the window; leave kind out")
        if self.granted_on >= Month.parse(self.period).start:
            raise ValueError("granted_on lies before the period, which grants its own units")
        return self

    @property
    def bucket_id(self) -> str:
        """The bucket of the pool."""
        return (self.pool_id or "").partition("/")[0]

    @property
    def pool_account_id(self) -> str:
        """The share-level account of the pool."""
        return (self.pool_id or "").partition("/")[2]


def read_opening_lots(file: Path, catalog: Catalog) -> Iterator[tuple[int, OpeningLot]]:
    """Yield the rows of the table with their lines; no file has none.

    Raises ConfigError naming file, line, column and what to do, also for pools without rollover and
    charges whose free units do not last.
    """
    if not file.is_file():
        return
    buckets = {name: b for plan in catalog.share_plans for name, _, b in plan.each_bucket()}
    charges = {charge.id: charge for offer in catalog.offers for charge in offer.charges}
    for line, lot in enumerate(
        read_table(file, OpeningLot, columns=COLUMNS, key=_KEY, what="lot"), 2
    ):
        if lot.pool_id is not None:
            bucket = buckets.get(lot.bucket_id)
            if bucket is None or bucket.rollover is None or not lot.pool_account_id:
                raise ConfigError(
                    str(file), ("pool_id",), line,
                    f"{lot.pool_id!r} is no pool with rollover; write PLAN/ACCOUNT, or "
                    "PLAN.BUCKET/ACCOUNT, of a bucket that has rollover",
                )  # fmt: skip
        else:
            charge = charges.get(lot.charge_id or "")
            lasts = charge is not None and (
                charge.once is not None if lot.kind == "once" else charge.allowance_rollover > 0
            )
            if not lasts:
                raise ConfigError(
                    str(file), ("charge_id",), line,
                    f"{lot.charge_id!r} is no charge whose {lot.kind} free units last; see "
                    "allowance_rollover and once",
                )  # fmt: skip
        yield line, lot
