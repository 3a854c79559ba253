"""The commit cockpit's tables in PostgreSQL, for reports and marts: replaced with every settlement.

They repeat what the lake holds of a usage period, where SQL of people and of dbt can read it.
"""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.engine.schemas import COMMITMENT_STATUS
from iotbill_pipelines.storage.bulk import copy_in
from iotbill_pipelines.storage.models import COMMITMENT_STATUS_TABLE, PoolHeadroom

_POOL_COLUMNS = (
    "usage_period", "window_start", "level", "pool_id", "charge_id", "account_id", "services",
    "available", "used",
)  # fmt: skip


def replace_cockpit(
    connection: sa.Connection, usage_period: str, commitments: pa.Table, pools: pa.Table
) -> None:
    """Put a usage period's commitments and pools in the place of what was there.

    ``commitments`` are rows of ``commitment_status``, ``pools`` of ``pool_settlement``.
    """
    for table in (COMMITMENT_STATUS_TABLE, PoolHeadroom.__table__):
        assert isinstance(table, sa.Table)
        connection.execute(sa.delete(table).where(table.c.usage_period == usage_period))
    copy_in(
        connection, "commitment_status", commitments.select(list(COMMITMENT_STATUS.column_names))
    )
    copy_in(connection, "pool_headroom", pools.select(list(_POOL_COLUMNS)))
