"""The command fetch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.operations.fetching import Fetched, chosen_sources, fetch_settled
from iotbill_pipelines.shell.environment import secret

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def fetch(settings: Settings, source_id: str | None, *, wait: bool, as_json: bool) -> int:
    """Fetch from all sources or one, say what came, and return the exit code."""
    with console.opened(settings) as ws:
        chosen = chosen_sources(ws, source_id)
        found = fetch_settled(ws, chosen, secret, _pause if wait else None)
    if as_json:
        console.print_json(found)
    elif not chosen:
        console.out.print("no source is configured; add one under configs/sources")
    else:
        _print(found)
    failed = any(one.look.error or one.problems for one in found)
    return EXIT_BLOCKED if failed else EXIT_OK


def _pause(seconds: float) -> None:
    console.err.print(f"waiting {seconds:.0f} s for files seen just now to settle")
    time.sleep(seconds)


def _print(found: list[Fetched]) -> None:
    console.table(
        "Fetched",
        ("source", "listed", "new", "known content", "still growing", "tried later", "left over"),
        (
            (
                one.look.source_id,
                one.look.listed,
                sum(file.new for file in one.landed),
                sum(not file.new for file in one.landed),
                one.look.decision.unsettled,
                one.look.decision.postponed,
                one.look.decision.more,
            )
            for one in found
            if not one.look.error
        ),
    )
    for one in found:
        told = [one.look.error] if one.look.error else []
        told += [f"{one.look.source_id}: name refused: {name}" for name in one.look.refused]
        told += [*one.problems, *(file.problem for file in one.landed if file.problem)]
        for text in told:
            console.out.print(f"[yellow] warn[/] {escape(text)}")
