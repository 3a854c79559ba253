"""What the commands of ``iotbill feed`` do and print."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK, EXIT_USAGE
from iotbill_pipelines.config.feeds import feed_path, load_feed

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.operations.feed_tools.linting import Note
    from iotbill_pipelines.operations.feed_tools.trying import Record, Trial

_COLOURS = {"accepted": "green", "ignored": "blue", "rejected": "red"}


def lint(settings: Settings, specs: Sequence[str], *, strict: bool, as_json: bool) -> int:
    """Print what is wrong or risky in feeds; return the exit code."""
    from iotbill_pipelines.operations.feed_tools.linting import lint as check

    folder = settings.location.configs / "feeds"
    configured = sorted(folder.glob("*.yaml"))
    paths = [path for spec in specs for path in _paths(folder, spec)] or configured
    if not paths:
        raise ValueError(f"no *.yaml in {folder}; name a feed file")
    report = check(paths, configured)
    if as_json:
        console.print_json(report)
    else:
        for note in report.notes:
            _print_note(note)
        console.out.print(
            f"{len(report.files)} feeds: {len(report.errors)} errors, "
            f"{len(report.warnings)} warnings, {len(report.accepted)} warnings accepted"
        )
    if report.errors:
        return EXIT_USAGE
    return EXIT_BLOCKED if strict and report.warnings else EXIT_OK


def _paths(folder: Path, spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        return sorted(path.glob("*.yaml"))
    return [feed_path(folder, spec)]


def _shown(file: str) -> str:
    """A path as a user would type it here."""
    here = Path.cwd()
    return str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file


def _print_note(note: Note) -> None:
    colour = {"error": "red", "warning": "yellow"}[note.severity]
    code = f" {note.code}" if note.severity == "warning" else ""
    key = f"{note.key}: " if note.key else ""
    console.out.print(
        f"{escape(_shown(note.file))}:{note.line}: [{colour}]{note.severity}{code}[/] "
        f"{escape(key + note.rule)}",
        soft_wrap=True,
    )
    if note.what_to_do:
        console.out.print(f"    [dim]{escape(note.what_to_do)}[/]", soft_wrap=True)


def test(
    settings: Settings,
    spec: str,
    sample: Path,
    lines: Sequence[int],
    show: int,
    received: str | None,
    *,
    as_json: bool,
) -> int:
    """Print what a feed makes of a sample; return the exit code."""
    from iotbill_pipelines.operations.feed_tools.trying import try_sample

    feed = load_feed(feed_path(settings.location.configs / "feeds", spec))
    trial = try_sample(feed, sample, _moment(received), lines, show)
    if as_json:
        console.print_json(trial)
    else:
        for record in trial.records:
            _print_record(record)
        _print_totals(trial)
    bad = trial.error is not None or trial.counts.get("rejected", 0)
    return EXIT_BLOCKED if bad else EXIT_OK


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).replace(tzinfo=None)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--received {text!r} is no date; write one such as 2026-11-02") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _print_record(record: Record) -> None:
    colour = _COLOURS[record.outcome]
    console.out.print(
        f"\n[bold]line {record.line_no}[/] [{colour}]{record.outcome}[/]"
        f"{' ' + escape(record.reason) if record.reason else ''}"
        f"{' · flags ' + escape(record.flags) if record.flags else ''}"
    )
    console.out.print(f"  [dim]{escape(record.raw_text.rstrip())}[/]", soft_wrap=True)
    if record.message:
        where = f"{record.fault_field}: " if record.fault_field else ""
        value = f" (found {record.fault_value!r})" if record.fault_value is not None else ""
        console.out.print(f"  [{colour}]{escape(where + record.message + value)}[/]")
    for broken in record.also_broken:
        console.out.print(f"  also {escape(broken.code)}: {escape(broken.field)}: "
                          f"{escape(broken.message)}")  # fmt: skip
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("  field", "value", "from", "what was read, and each step"):
        shown.add_column(column, overflow="fold")
    for field in record.fields:
        source = field.origin or "(no branch fits)"
        if field.condition and field.condition != "always":
            source += f"\nbecause {field.condition}"
        chain = [_value(field.start)]
        chain += [
            f"-> {step.function}{' by type' if step.implicit else ''} -> {_value(step.value)}"
            for step in field.steps
        ]
        name = f"  {field.name}" + (" (attribute)" if field.attribute else "")
        shown.add_row(*map(escape, (name, _value(field.value), source, "\n".join(chain))))
    console.out.print(shown)


def _value(text: str | None) -> str:
    return "(nothing)" if text is None else text


def _print_totals(trial: Trial) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in trial.counts.items())
    others = ", ".join(f"{count:,} {name}" for name, count in trial.structure.items())
    console.out.print(
        f"\n[bold]{escape(trial.file_name)}[/] by feed {trial.feed_id}: "
        f"{trial.records_in:,} records: {counts}"
        + (f"; lines that are no records: {others}" if others else "")
    )
    if trial.error:
        console.out.print(f"[red]the file would be quarantined[/]: {escape(trial.error)}")
    console.table(
        "Not accepted",
        ("outcome", "reason", "field", "records", "first line", "message"),
        (
            (r.outcome, r.reason, r.field or "", r.records, r.first_line, r.message)
            for r in trial.reasons
        ),
    )
    console.table(
        "Accepted",
        ("usage class", "records", "quantity", "first event (UTC)", "last event (UTC)"),
        (
            (q.usage_class, q.records, q.quantity, str(q.first_event), str(q.last_event))
            for q in trial.quantities
        ),
    )
    if trial.distinct_keys is not None and trial.distinct_keys != trial.accepted:
        console.out.print(
            f"{trial.accepted - trial.distinct_keys:,} accepted records repeat the key of another "
            "one: they will be duplicates or conflicts when the month is rated"
        )
    console.out.print("nothing was stored")


def new(sample: Path, out: Path | None, feed_id: str | None, target: str, *, as_json: bool) -> None:
    """Write a scaffold, or print it; say what is not certain."""
    from iotbill_pipelines.operations.feed_tools.scaffolding import scaffold

    if out is not None and out.exists():
        raise ValueError(f"{out} exists; choose another file for --out, or remove it")
    if out is not None and feed_id is None:
        feed_id = re.sub("[^a-z0-9_]", "_", out.stem.lower())
    made = scaffold(sample, _moment(None), feed_id, target)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made.text, encoding="utf-8")
    if as_json:
        console.print_json(made)
        return
    if out is None:
        sys.stdout.write(made.text)
    shown = console.out if out is not None else console.err
    colours = {"unsure": "yellow", "likely": "blue", "sure": "green"}
    for doubt in made.doubts:
        shown.print(
            f"[{colours[doubt.confidence]}]{doubt.confidence:>6}[/] {escape(doubt.about)} = "
            f"{escape(doubt.taken)}: [dim]{escape(doubt.why)}[/]",
            soft_wrap=True,
        )
    trial = made.trial
    shown.print(
        f"{trial.accepted:,} of {trial.records_in:,} records of the sample are accepted"
        + (f"; {out} is written, now check it" if out is not None else "")
    )


def docs(settings: Settings, feeds: Sequence[str], out: Path, *, as_json: bool) -> None:
    """Write the pages of feeds and say where."""
    from iotbill_pipelines.operations.feed_tools.pages import write_pages

    written = write_pages(settings.location.configs / "feeds", out, feeds)
    if as_json:
        console.print_json(written)
    else:
        console.out.print(f"{len(written)} pages in {out}")
