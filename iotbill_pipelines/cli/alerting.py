"""Commands on alerts: list, send, test; and the word after a close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.operations import alerts
from iotbill_pipelines.operations.alerts import Sent
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.environment import secret

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings

_COLOURS = {"block": "red", "warn": "yellow"}


def list_alerts(settings: Settings, *, past: bool, as_json: bool) -> None:
    """Print the incidents, newest first."""
    with console.opened(settings) as ws:
        found = alerts.list_alerts(ws, cleared=past)
    if as_json:
        console.print_json(found)
        return
    for one in found:
        until = f", cleared {one.cleared_at:%Y-%m-%d %H:%M}" if one.cleared_at else ""
        console.out.print(
            f"[{_COLOURS[one.severity]}]{one.severity:>5}[/] [bold]{escape(one.code)}[/] "
            f"{escape(one.message)}"
        )
        facts = (
            ("figure", one.figure),
            ("to do", one.what_to_do),
            ("evidence", one.evidence),
            ("since", f"{one.opened_at:%Y-%m-%d %H:%M} UTC{until}"),
            ("told", ", ".join(one.channels) or "nobody"),
        )
        for label, text in facts:
            if text:
                console.out.print(f"      [dim]{label}: {escape(text)}[/]")
    still = sum(one.cleared_at is None for one in found)
    console.out.print(f"{still} open incidents" if still else "nothing is wrong")


def send(settings: Settings, *, as_json: bool) -> int:
    """Send what is due, say to whom, and return the exit code."""
    with console.opened(settings) as ws:
        sent = alerts.send_alerts(ws, secret, now_or_never=True)
    if as_json:
        console.print_json(sent)
    elif not sent:
        console.out.print("nobody is due a message")
    for one in [] if as_json else sent:
        console.out.print(_told(one))
    return _exit_code(sent)


def test(settings: Settings, channel: str | None) -> int:
    """Send test messages, say how they went, and return the exit code."""
    with console.opened(settings) as ws:
        sent = alerts.send_test(ws, secret, channel)
    if not sent:
        console.out.print("no channel is configured; add one in configs/alerts.yaml")
    for one in sent:
        console.out.print(_told(one) if one.error else f"{escape(one.channel)}: sent")
    return _exit_code(sent)


def after_close(ws: Workspace) -> None:
    """Tell the channels how a close went; what fails here is named and stops nothing."""
    try:
        sent = alerts.send_alerts(ws, secret, now_or_never=True)
    except Exception as error:  # noqa: BLE001 - a close that went through stays one
        console.err.print(f"[yellow] warn[/] nobody was alerted: {escape(str(error))}")
        return
    for one in sent:
        console.err.print(_told(one))


def _told(one: Sent) -> str:
    if one.error:
        return f"[yellow] warn[/] channel {escape(one.channel)} failed: {escape(one.error)}"
    return (
        f"{escape(one.channel)} was told: {one.new} new, {one.again} still open, "
        f"{one.cleared} cleared"
    )


def _exit_code(sent: list[Sent]) -> int:
    return EXIT_BLOCKED if any(one.error for one in sent) else EXIT_OK
