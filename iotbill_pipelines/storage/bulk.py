"""Many rows between Arrow and PostgreSQL, by COPY, inside the caller's transaction.

A million rows take seconds. DuckDB's own PostgreSQL connection is as fast, but it is another
transaction: it could not book under the lock that the booking was computed under.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from iotbill_pipelines.engine.schemas import Table


def copy_in(connection: sa.Connection, table: str, rows: pa.Table) -> int:
    """Append Arrow rows to a table, by column name; return how many."""
    return copy_in_parts(connection, table, [rows])


def copy_in_parts(connection: sa.Connection, table: str, parts: Iterable[pa.Table]) -> int:
    """Append tables of the same columns as one statement; return how many rows.

    Only one part is in memory at a time; what triggers compare per statement, they compare once.
    """
    count = 0
    columns = ""
    with tempfile.SpooledTemporaryFile(max_size=16 << 20) as buffer:
        for rows in parts:
            columns = ", ".join(f'"{name}"' for name in rows.column_names)
            # Arrow quotes every text and leaves null bare: the empty text and null stay apart.
            pyarrow.csv.write_csv(rows, buffer, pyarrow.csv.WriteOptions(include_header=False))
            count += rows.num_rows
        if count:
            buffer.seek(0)
            with driver_cursor(connection) as cursor:
                cursor.copy_expert(f'copy "{table}" ({columns}) from stdin (format csv)', buffer)
    return count


def copy_out(connection: sa.Connection, select: str, schema: Table) -> pa.Table:
    """Return the rows of a SELECT in the schema's columns and types.

    ``select`` takes no parameters: give values as literals made by :func:`literal`.
    """
    with tempfile.SpooledTemporaryFile(max_size=16 << 20) as buffer:
        with driver_cursor(connection) as cursor:
            cursor.copy_expert(
                f"copy (select {schema.column_list} from ({select}) as rows_)"
                " to stdout (format csv)",
                buffer,
            )
        if not buffer.tell():
            return schema.arrow_schema.empty_table()
        buffer.seek(0)
        return pyarrow.csv.read_csv(
            buffer,
            read_options=pyarrow.csv.ReadOptions(column_names=list(schema.column_names)),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema.arrow_schema,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        ).cast(schema.arrow_schema)


def literal(connection: sa.Connection, value: object) -> str:
    """Return a value as an SQL literal, quoted by the driver."""
    with driver_cursor(connection) as cursor:
        text: bytes = cursor.mogrify("%s", (value,))
    return text.decode()


def driver_cursor(connection: sa.Connection):  # type: ignore[no-untyped-def]
    """Return a cursor of the driver, in the connection's transaction: rows as plain tuples."""
    return connection.connection.cursor()
