"""Mediation over the set of records: every key once (RULEBOOK §5, MD-04).

Reads ``usage_record`` of one UTC month. Records of one feed with the same ``dedup_key`` are copies
when their ``content_hash`` is the same, and in conflict when it is not. Nothing depends on the
order of arrival or on how records are spread over files.
"""

from __future__ import annotations

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.schemas import DUPLICATE_RECORD
from iotbill_pipelines.engine.statements import statement


def mediate(compute: Compute) -> None:
    """Define ``repeated_record``, ``duplicate_record`` and ``unique_usage``.

    ``unique_usage`` has the columns of ``usage_record``. Conflicts stay in ``repeated_record``
    with verdict ``conflict``; the suspense of rating takes them from there.
    """
    compute.define("duplicate_key", statement("mediate", "duplicate_key"), keep=True)
    compute.define("repeated_record", statement("mediate", "repeated_record"), keep=True)
    compute.define(
        "duplicate_record", conform(statement("mediate", "duplicate_record"), DUPLICATE_RECORD)
    )
    compute.define("unique_usage", statement("mediate", "unique_usage"))
