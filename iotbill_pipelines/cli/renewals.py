"""The command ``renewals``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from iotbill_pipelines.cli import console

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def renewals(
    settings: Settings,
    days: int,
    as_of: date | None,
    account: str | None,
    documents: tuple[Path | None, Path | None],
    *,
    as_json: bool,
) -> None:
    """Print what ends within some days, and write the documents asked for."""
    from iotbill_pipelines.operations.renewals import renewal_desk, write_desk

    with console.opened(settings) as ws:
        desk = renewal_desk(ws, as_of or ws.today, days, account)
        written = write_desk(ws, desk, *documents)
    if as_json:
        console.print_json(desk)
        return
    console.table(
        f"Terms that end before {desk.until}",
        ("contract", "account", "service", "last day", "notice by", "days", "next alert", "then",
         "flags"),
        (
            (
                row.contract_id, row.account_id, row.service_id, row.last_day,
                row.notice_deadline, row.notice_days_left,
                row.alerts[0][1] if row.alerts else None, row.next_kind,
                "; ".join(f"{flag.code}: {flag.evidence}" for flag in row.flags),
            )
            for row in desk.rows
        ),
    )  # fmt: skip
    if not desk.rows:
        console.out.print(f"no term ends before {desk.until}, and nothing has lapsed")
    for path in written:
        console.out.print(f"written to {path}")
