"""Commands on suspended usage: list, show, retry, waive."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.operations import suspense
from iotbill_pipelines.operations.suspense import Wanted

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings

Filters = tuple[str | None, str | None, str | None, str | None]
"""Reason, feed, account and month, as the options give them."""


def _wanted(filters: Filters) -> Wanted:
    reason, feed, account, month = filters
    return Wanted(reason, feed, account, Month.parse(month) if month else None)


def tell(settings: Settings, filters: Filters, most_records: int, *, as_json: bool) -> None:
    """Print suspense by group, its totals, and records by address if asked for."""
    with console.opened(settings) as ws:
        found = suspense.list_suspense(ws, _wanted(filters), most_records)
    if as_json:
        console.print_json(found)
        return
    if not found.records_total:
        console.out.print("nothing is suspended")
        return
    notes = {basis: n for n, basis in enumerate(dict.fromkeys(g.basis for g in found.groups), 1)}
    console.table(
        "Suspended usage",
        ("month", "reason", "feed", "class", "account", "records", "waived", "quantity",
         "days", "estimate", "by"),
        (
            (
                g.usage_month, g.reason, g.feed, g.usage_class, g.account or "-", g.records,
                g.waived, g.quantity, g.oldest_days, _money(g.estimate, g.currency),
                f"[{notes[g.basis]}]",
            )
            for g in found.groups
        ),
    )  # fmt: skip
    for basis, number in notes.items():
        console.out.print(f"  {escape(f'[{number}]')} {escape(basis)}")
    console.table(
        "Totals",
        ("reason", "records", "waived", "oldest, days", "estimate", "records without estimate"),
        (
            (
                t.reason, t.records, t.waived, t.oldest_days,
                ", ".join(_money(amount, c) for c, amount in sorted(t.estimates.items())) or "-",
                t.not_estimated,
            )
            for t in found.totals
        ),
    )  # fmt: skip
    if found.records:
        console.out.print(f"Records: {len(found.records)} of {found.records_total:,}")
    for r in found.records:
        waived = f", waived by {r.waived_by}" if r.waived_by else ""
        console.out.print(
            f"  [bold]{r.address}[/] {escape(r.file_name)} {r.event_start} UTC {escape(r.uid)} "
            f"{r.usage_class} {r.quantity:,}: {r.reason}, {r.age_days} days{escape(waived)}",
            soft_wrap=True,
        )


def show(settings: Settings, address: str, *, as_json: bool) -> None:
    """Print one suspended record."""
    with console.opened(settings) as ws:
        found = suspense.show(ws, address)
    if as_json:
        console.print_json(found)
        return
    line = found.line
    console.out.print(f"[bold]{escape(line.file_name)}, record {line.address}[/]")
    for name, value in (
        ("received", f"{line.received:%Y-%m-%d %H:%M} UTC, {line.age_days} days ago"),
        ("event", f"{line.event_start} UTC, feed {found.feed}"),
        ("identifier", line.uid),
        ("usage", f"{line.quantity:,} of class {line.usage_class}"),
        ("service", found.service or "unknown"),
        ("account", found.account or "unknown"),
        ("reason", f"{line.reason}: {line.detail}"),
        ("estimate", f"{_money(found.estimate, found.currency)} ({found.basis})"),
        ("what to do", found.what_to_do),
        ("as delivered", found.raw_text),
        ("against", f"{found.other_address} {found.other_raw_text}" if found.other_address else ""),
        *(("waived", waiver) for waiver in found.waivers),
    ):
        if value:
            console.out.print(f"  {name + ':':<14}{escape(value)}", soft_wrap=True)


def _money(amount: Decimal | None, currency: str | None) -> str:
    if amount is None or currency is None:
        return "no price"
    return f"{amount:,.{minor_digits(currency)}f} {currency}"


def retry(settings: Settings, month: str | None, *, as_json: bool) -> None:
    """Rate months with suspense again and print what that fixed."""
    with console.opened(settings) as ws:
        result = suspense.retry(ws, Month.parse(month) if month else None)
    if as_json:
        console.print_json(result)
        return
    if not result.months:
        console.out.print("nothing to retry: neither usage nor what is known has changed")
        return
    console.out.print(f"rated again: {', '.join(result.months)}")
    for label, counts in (
        ("no longer suspended", result.fixed),
        ("suspended still", result.still),
        ("newly suspended", result.new),
    ):
        told = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        console.out.print(f"  {label}: {told or 'none'}")
    if result.fixed:
        console.out.print("the next close charges what was fixed")


def waive(
    settings: Settings, filters: Filters, addresses: list[str], *, by: str, reason: str
) -> None:
    """Waive suspended records and say how many."""
    with console.opened(settings) as ws:
        added = suspense.waive(ws, _wanted(filters), addresses, by=by, reason=reason)
    console.out.print(f"{added:,} records waived by {escape(by)}")


def unwaive(
    settings: Settings, filters: Filters, addresses: list[str], *, by: str, reason: str
) -> None:
    """Take waivers back and say how many."""
    with console.opened(settings) as ws:
        taken = suspense.unwaive(ws, _wanted(filters), addresses, by=by, reason=reason)
    console.out.print(f"{taken:,} waivers taken back by {escape(by)}")
