"""A pandera schema of any table: the written contract at the edges (DESIGN §5, four validators).

Bulk records are checked by SQL made from the same declarations; this schema serves small tables:
reference files, sampled stage outputs. Frames must hold Arrow types
(``table.to_pandas(types_mapper=pandas.ArrowDtype)``), so that integers stay integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iotbill_pipelines.engine.schemas import Table

if TYPE_CHECKING:
    import pandera.pandas as pandera

_MONTH = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
RULES: Mapping[str, tuple[str, str]] = {
    "usage_month": ("month", _MONTH),
    "billing_period": ("month", _MONTH),
    "mcc": ("MCC", r"^[0-9]{3}$"),
    "mnc": ("MNC", r"^[0-9]{2,3}$"),
    "currency": ("ISO 4217 code", r"^[A-Z]{3}$"),
    "vendor_currency": ("ISO 4217 code", r"^[A-Z]{3}$"),
    "uid_value": ("identifier without blanks", r"^\S+$"),
}
"""Columns whose texts have a shape, wherever they appear: (what it is, pattern)."""

NOT_NEGATIVE = frozenset("file_key line_no quantity quantity_up quantity_down records".split())
"""Counts and addresses; money and rates may be negative (credits)."""

_CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("account", "kind"): ("customer", "reseller", "vendor"),
    ("service_offer", "level"): ("retail", "wholesale", "vendor"),
    ("rejected_record", "outcome"): ("rejected", "ignored"),
}


def pandera_schema(
    table: Table, *, unique_key: bool = True, allow_negative: bool = False
) -> pandera.DataFrameSchema:
    """Return the pandera schema of a table: columns in order, types, nulls, shapes, unique key.

    ``unique_key=False`` is for samples that need not hold whole keys; ``allow_negative`` for
    feeds that deliver credits.
    """
    # Importing pandera takes seconds; most processes never validate a frame.
    import pandera.pandas as pandera  # noqa: PLC0415
    from pandas import ArrowDtype  # noqa: PLC0415

    columns: dict[str, Any] = {}
    for column in table.columns:
        checks: list[Any] = []
        if column.name in RULES:
            what, pattern = RULES[column.name]
            checks.append(pandera.Check.str_matches(pattern, error=f"must be a {what}"))
        if column.name in NOT_NEGATIVE and not allow_negative:
            checks.append(pandera.Check.ge(0, error="must not be negative"))
        if (table.name, column.name) in _CHOICES:
            choices = list(_CHOICES[table.name, column.name])
            checks.append(pandera.Check.isin(choices, error=f"must be one of {choices}"))
        columns[column.name] = pandera.Column(
            ArrowDtype(column.arrow), checks, nullable=column.nullable, description=column.doc
        )
    return pandera.DataFrameSchema(
        columns,
        strict=True,
        ordered=True,
        unique=list(table.key) if unique_key else None,
        name=table.name,
        description=table.doc,
    )
