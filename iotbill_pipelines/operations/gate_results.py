"""Which recorded outcomes of gates count: SQL that whoever tells of a close's gates reads."""

from __future__ import annotations

NEWEST_GATES = """
select distinct on (period, gate, entity_id) *
from gate_result order by period, gate, entity_id, gate_result_id desc
"""
"""The newest outcome of each gate of a period, of each entity where it is checked by entity."""

WORST_GATES = f"""
select distinct on (period, gate) * from ({NEWEST_GATES}) as newest
order by period, gate, array_position(array['failed', 'waived', 'passed'], outcome),
  array_position(array['block', 'warn', 'info'], severity), gate_result_id desc
"""
"""A row for each gate of a period: of the entity where it came out worst."""
