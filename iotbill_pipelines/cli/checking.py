"""The command quality."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from iotbill_pipelines.cli import console
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.data_quality import check_quality, of_day

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def quality(settings: Settings, period: Month | None, day: str | None, *, as_json: bool) -> None:
    """Check a month, or a day of it; print the profile and what is not as expected."""
    if period is not None and day is not None:
        raise ValueError("name a month with --period or a day with --day, not both")
    chosen = _day(day) if day else None
    with console.opened(settings) as ws:
        month = period or Month.of(chosen or ws.today) - (0 if chosen else 1)
        result = check_quality(ws, month)
    if chosen is not None:
        result = of_day(result, chosen)
    if as_json:
        console.print_json(result)
        return
    if result.preview is None or not result.preview.num_rows:
        console.out.print(f"no usage of {chosen or month} has come")
    else:
        rows = result.preview.to_pylist()
        console.table("Feed-days", result.preview.column_names, (row.values() for row in rows))
    console.findings(result.findings)
    if not result.findings:
        console.out.print("everything is as expected")
    for path in result.files:
        console.out.print(f"pages: {path}", soft_wrap=True)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day; write it as YYYY-MM-DD") from None
