"""Records to write into the lake."""

from __future__ import annotations

import pyarrow as pa

from iotbill_pipelines.engine.schemas import REJECTED_RECORD

KEYS = [str(2**59 + key) for key in (1, 2)]


def rejected(lines: int) -> pa.Table:
    """So many records of each of two files."""
    rows = [
        {
            "file_key": 2**59 + key, "line_no": line, "feed_id": "f", "outcome": "rejected",
            "reason_code": "r", "field": None, "value": "ü/=%", "message": "m", "quantity": None,
            "raw_text": "x",
        }
        for key in (1, 2) for line in range(lines)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=REJECTED_RECORD.arrow_schema)
