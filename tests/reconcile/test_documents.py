"""Invoices that come again, in parts, or corrected: which lines count."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.reconcile import current_documents
from iotbill_pipelines.engine.schemas import VENDOR_INVOICE_LINE

LANDED = [(n, datetime(2026, 11, n)) for n in (1, 2, 3, 4)]  # noqa: DTZ001
"""File n was landed on the n-th."""


def _line(file_key: int, invoice_no: str, amount: str, **more: Any) -> dict[str, Any]:
    return {
        "file_key": file_key,
        "line_no": 1,
        "feed_id": "f",
        "vendor_id": "carrier",
        "invoice_no": invoice_no,
        "billing_period": "2026-10",
        "charge_code": "FEE",
        "currency": "EUR",
        "amount": Decimal(amount),
        **more,
    }


def _current(
    lines: Sequence[dict[str, Any]],
    files: Sequence[tuple[int, datetime]] = LANDED,
    in_parts: Sequence[str] = (),
) -> tuple[list[tuple[int, str]], list[tuple[int, int, Decimal]]]:
    schema = pa.schema([pa.field(c.name, c.arrow) for c in VENDOR_INVOICE_LINE.columns])
    with DuckDbCompute(threads=1) as compute:
        compute.load("landed", pa.Table.from_pylist(lines, schema=schema))
        current_documents(compute, "landed", files, in_parts)
        kept = compute.fetch("select file_key, invoice_no from vendor_invoice_line order by all")
        gone = compute.fetch(
            "select file_key, replaced_by, amount from superseded_document order by all"
        )
    return (
        [tuple(row.values()) for row in kept.to_pylist()],
        [tuple(row.values()) for row in gone.to_pylist()],
    )


def test_the_invoice_exported_again_takes_the_place_of_the_first_export() -> None:
    lines = [_line(1, "A", "10"), _line(3, "A", "12"), _line(2, "B", "5")]

    kept, gone = _current(lines)

    assert kept == [(2, "B"), (3, "A")]
    assert gone == [(1, 3, Decimal(10))]


def test_what_was_landed_last_counts_whatever_the_order_of_lines() -> None:
    lines = [_line(1, "A", "10"), _line(3, "A", "12"), _line(2, "A", "5")]

    assert _current(lines) == _current(lines[::-1])
    assert _current(lines, [(1, LANDED[3][1]), *LANDED[1:3]])[0] == [(1, "A")]


def test_an_invoice_in_parts_keeps_all_its_files() -> None:
    lines = [_line(1, "A", "10"), _line(3, "A", "12")]

    assert _current(lines, in_parts=["carrier"]) == ([(1, "A"), (3, "A")], [])


def test_a_correction_takes_the_place_of_the_invoice_that_it_names() -> None:
    lines = [
        _line(1, "A", "10"),
        _line(2, "A-2", "8", document_kind="correction", refers_to="A"),
        _line(3, "CN", "-1", document_kind="credit_note", refers_to="A-2"),
    ]

    kept, gone = _current(lines)

    assert kept == [(2, "A-2"), (3, "CN")]
    assert gone == [(1, 2, Decimal(10))]


def test_a_correction_exported_again_still_replaces_the_invoice_once() -> None:
    correction = {"document_kind": "correction", "refers_to": "A"}
    lines = [
        _line(1, "A", "10"),
        _line(2, "A-2", "8", **correction),
        _line(4, "A-2", "7", **correction),
    ]

    assert _current(lines) == ([(4, "A-2")], [(1, 4, Decimal(10)), (2, 4, Decimal(8))])


def test_another_vendors_invoice_of_the_same_number_stays() -> None:
    lines = [_line(1, "A", "10"), _line(2, "A", "9", vendor_id="other")]

    assert _current(lines) == ([(1, "A"), (2, "A")], [])


@pytest.mark.parametrize("columns", [("document_kind",), ("document_kind", "our_reference")])
def test_files_from_before_a_column_was_added_are_read_without_it(
    tmp_path: Any, columns: tuple[str, ...]
) -> None:
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field(c.name, c.arrow) for c in VENDOR_INVOICE_LINE.columns])
    new = pa.Table.from_pylist([_line(1, "A", "10", document_kind="correction")], schema=schema)
    old = pa.Table.from_pylist([_line(2, "B", "5")], schema=schema).drop_columns(list(columns))
    pq.write_table(new, tmp_path / "new.parquet")
    pq.write_table(old, tmp_path / "old.parquet")
    files = [str(tmp_path / name) for name in ("old.parquet", "new.parquet")]
    with DuckDbCompute(threads=1) as compute:
        for listed in (files, files[:1], files[::-1]):
            compute.scan(VENDOR_INVOICE_LINE, listed)
            found = compute.fetch("vendor_invoice_line").select(["invoice_no", "document_kind"])
            assert {"invoice_no": "B", "document_kind": None} in found.to_pylist()
