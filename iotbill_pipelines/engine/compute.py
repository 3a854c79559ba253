"""The protocol that runs the engine's SQL; DuckDB and Spark stand behind it.

The SQL of the stages is portable: plain SELECTs over named relations, plus the functions that
every implementation's prelude defines:

``wide(x)``            the widest exact integer, for products of quantities and rates
``floor_div(a, b)``    integer quotient of non-negative integers, b > 0
``ceil_div(a, b)``     the same, rounded up
``half_up_div(n, d)``  n / d rounded half away from zero; n of any sign, d > 0
``rounded_div(n, d, mode)``  the same, by mode: half_up, half_even, up (away from zero) or down
``as_e12(x)``            a decimal with 12 places times 10^12, as the widest integer
``json_text(x, key)``  the text under a key of a JSON object, null when there is none
``fits(x, pattern)``   does the whole text match the regular expression (RE2)?
``has(x, pattern)``    does the pattern match somewhere in the text?
``find(x, pattern, n)``  group n of the first match, empty when there is none
``swap(x, pattern, y)``  every match replaced
``ten_to(n)``          10^n as the widest integer, 0 <= n <= 36
``parse_time(x, form)``  timestamp written in strptime codes, null when it is not one
``epoch_time(micros)``   timestamp of microseconds since 1970 UTC
``minus_seconds(t, s)``  a timestamp s seconds earlier
``seconds_up(a, b)``     seconds from a to b, a second that has begun counting whole
``quarter_hour(t)``    a timestamp cut to its quarter of an hour, for joining a local calendar
``days_later(d, n)``   the date n days after date d
``days_between(a, b)`` whole days from date a to date b
``short_hash(x)``      a whole number from 0 to 2^63 - 1, the same for the same text; engines
                       give others
``joined(texts, n, separator)``  a list's texts in ascending order, less the first n characters of
                       each, with the separator between
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from iotbill_pipelines.engine.schemas import Table


class EngineError(RuntimeError):
    """An engine cannot be used here; the message says what to do."""


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that :meth:`Compute.write` produced."""

    path: str
    partition: dict[str, str]
    rows: int
    size_bytes: int


class Compute(Protocol):
    """Named relations and the statements over them.

    ``groups_at_once`` is how many groups of one whole number an aggregation of it may have: more
    than that are for several statements. What the machine's memory holds of them decides.
    """

    groups_at_once: int

    def load(self, name: str, table: pa.Table) -> None:
        """Make relation ``name`` hold the rows of an Arrow table."""

    def scan(self, schema: Table, files: Sequence[str], name: str | None = None) -> None:
        """Make relation ``name`` (default: the schema's) read Parquet files; no files = empty.

        A column that a file lacks, as it was written before the table had it, is null there.
        """

    def define(self, name: str, select: str, *, keep: bool = False) -> None:
        """Make relation ``name`` the result of a SELECT; ``keep`` computes it once, now."""

    def fetch(self, select: str) -> pa.Table:
        """Return the rows of a SELECT (or of a relation, by its bare name)."""

    def write(
        self,
        select: str,
        directory: str,
        *,
        partition_by: Sequence[str] = (),
        order_by: Sequence[str] = (),
    ) -> list[WrittenFile]:
        """Write a SELECT as Parquet files under ``directory``; nothing becomes visible by that."""


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def conform(select: str, schema: Table) -> str:
    """Return SQL that gives exactly the schema's columns, in its order and types."""
    columns = ", ".join(f"cast({c.name} as {c.portable_type}) as {c.name}" for c in schema.columns)
    return f"select {columns} from ({select}) as conformed_"
