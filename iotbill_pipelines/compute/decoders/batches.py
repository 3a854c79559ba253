"""Decoded records as Arrow batches, for loading into a relation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from iotbill_pipelines.compute.decoders.records import Decoded

BATCH_ROWS = 10_000

BATCH_SCHEMA = pa.schema(
    [
        ("file_key", pa.int64()),
        ("line_no", pa.int64()),
        ("raw_text", pa.string()),
        ("fault_code", pa.string()),
        ("fault_message", pa.string()),
        ("cells", pa.list_(pa.string())),
    ]
)
"""One row per record: the finding that rejects it, if any, and its fields in the order asked."""


def record_batches(
    decoded: Decoded, file_key: int, sources: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the records of one file; ``cells`` are the fields named in ``sources``, in order.

    A field that a record does not have is null. The file's own findings are complete in
    ``decoded.problems`` when this is exhausted.
    """
    records = iter(decoded.records)
    while rows := list(islice(records, BATCH_ROWS)):
        faults = [row.problem for row in rows]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([file_key] * len(rows), pa.int64()),
                pa.array([row.line_no for row in rows], pa.int64()),
                pa.array([row.raw_text for row in rows], pa.string()),
                pa.array([fault and fault.code for fault in faults], pa.string()),
                pa.array([fault and fault.message for fault in faults], pa.string()),
                pa.array(
                    [[row.fields.get(source) for source in sources] for row in rows],
                    pa.list_(pa.string()),
                ),
            ],
            schema=BATCH_SCHEMA,
        )
