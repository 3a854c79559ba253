"""Mediation over the set of records: every key once, every session one event (RULEBOOK §5).

Reads ``usage_record`` of one UTC month, and ``nearby_record``: what other months hold of the same
keys, sessions and counters (:func:`find_nearby`). A key, and a session, belongs to one month,
whichever of its months is looked at, so that months can be mediated apart and nothing is billed
twice or lost at their border. Nothing depends on the order of arrival or on how records are spread
over files; a restating feed declares the order of its files (MD-04).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.schemas import (
    DUPLICATE_RECORD,
    FEED_POLICY,
    FEED_WATERMARK,
    FILE_VERSION,
    LATE_ARRIVAL,
    USAGE_PART,
    USAGE_RECORD,
)
from iotbill_pipelines.engine.statements import statement


@dataclass(frozen=True)
class Policies:
    """How feeds are mediated, and what is known of their files; empty tables by default."""

    feed_policy: pa.Table = field(default_factory=FEED_POLICY.arrow_schema.empty_table)
    file_version: pa.Table = field(default_factory=FILE_VERSION.arrow_schema.empty_table)
    late_arrival: pa.Table = field(default_factory=LATE_ARRIVAL.arrow_schema.empty_table)
    feed_watermark: pa.Table = field(default_factory=FEED_WATERMARK.arrow_schema.empty_table)

    @property
    def combines(self) -> bool:
        """Whether any feed delivers parts of sessions or readings of counters."""
        column = self.feed_policy["combine"]
        return bool(column.null_count < len(column))


PLAIN = Policies()
"""Every feed delivers whole records and shares its keys with no other."""


def load_policies(compute: Compute, policies: Policies) -> None:
    """Load the four tables of the policies."""
    compute.load("feed_policy", policies.feed_policy)
    compute.load("file_version", policies.file_version)
    compute.load("late_arrival", policies.late_arrival)
    compute.load("feed_watermark", policies.feed_watermark)


def find_nearby(compute: Compute, policies: Policies) -> None:
    """Define ``nearby_record`` from ``usage_record`` (one month) and ``other_usage`` (others).

    Both have the columns of ``usage_record``. Needs :func:`load_policies`.
    """
    step = "nearby_record" if policies.combines else "nearby_copy"
    compute.define("nearby_record", conform(statement("mediate", step), USAGE_RECORD), keep=True)


def mediate(compute: Compute, policies: Policies = PLAIN, *, records: int = 0) -> None:
    """Define ``repeated_record``, ``duplicate_record``, ``unique_usage`` and ``usage_part``.

    ``records`` is about how many ``usage_record`` has: what is many is looked at in parts.
    ``unique_usage`` has the columns of ``usage_record``: what is left to rate. Conflicts stay in
    ``repeated_record`` with verdict ``conflict``, parts of incomplete sessions in
    ``incomplete_record``, parts that went into another record's event in ``merged_record``.
    """
    _find_duplicate_keys(compute, records)
    compute.define("repeated_record", statement("mediate", "repeated_record"), keep=True)
    compute.define(
        "duplicate_record", conform(statement("mediate", "duplicate_record"), DUPLICATE_RECORD)
    )
    if not policies.combines:
        compute.define("unique_usage", statement("mediate", "unique_usage"))
        compute.load("merged_record", _ADDRESS.empty_table())
        compute.load("incomplete_record", _INCOMPLETE.empty_table())
        compute.load("usage_part", USAGE_PART.arrow_schema.empty_table())
        return
    compute.define("single_usage", statement("mediate", "unique_usage"))
    compute.define("session_record", statement("mediate", "session_record"))
    for step in ("session_part", "session", "session_standing"):
        compute.define(step, statement("mediate", step), keep=True)
    compute.define("merged_record", statement("mediate", "merged_record"))
    compute.define("incomplete_record", statement("mediate", "incomplete_record"))
    compute.define("usage_part", conform(statement("mediate", "usage_part"), USAGE_PART))
    compute.define(
        "unique_usage", conform(statement("mediate", "combined_usage"), USAGE_RECORD), keep=True
    )


def _find_duplicate_keys(compute: Compute, records: int) -> None:
    """Define ``duplicate_key``. Of many keys only those are grouped whose short hash comes more
    than once, which is found part by part: a whole number takes a third of a key's memory."""
    parts = -(-records // compute.groups_at_once)
    is_suspect = "true"
    if parts > 1:
        step, hashes = statement("mediate", "repeated_hash"), []
        for part in range(parts):
            one = step.replace("part_count", str(parts)).replace("part_no", str(part))
            compute.define(f"repeated_hash_{part}", one, keep=True)
            hashes.append(f"select key_hash from repeated_hash_{part}")
        is_suspect = f"short_hash(dedup_key) in ({' union all '.join(hashes)})"
    looked_at = statement("mediate", "duplicate_key").replace(
        "where is_suspect", f"where {is_suspect}"
    )
    compute.define("duplicate_key", looked_at, keep=True)


_ADDRESS = pa.schema([("file_key", pa.int64()), ("line_no", pa.int64())])
_INCOMPLETE = pa.schema(
    [
        *_ADDRESS,
        ("feed_id", pa.string()),
        ("usage_month", pa.string()),
        ("event_start", pa.timestamp("us")),
        ("uid_type", pa.string()),
        ("uid_value", pa.string()),
        ("usage_class", pa.string()),
        ("quantity", pa.int64()),
        ("detail", pa.string()),
    ]
)
