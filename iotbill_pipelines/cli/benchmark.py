"""``iotbill bench``: measure this machine with seeded business of any size."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iotbill_pipelines.shell.environment import DEFAULT_MEMORY_LIMIT

if TYPE_CHECKING:
    from rich.table import Table

    from iotbill_pipelines.operations.benchmarks.month import MonthBenchmark
    from iotbill_pipelines.operations.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    help="Measure: how fast a month, a reconciliation or a sensor's tick is on this machine.",
)

Folder = Annotated[
    Path | None,
    typer.Option("--dir", help="Where to write; kept afterwards. Default: a temporary folder."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same files.")]
MemoryLimit = Annotated[
    str | None, typer.Option(help="Memory of the compute engine, as in 1GB; beyond it, it spills.")
]


@app.command()
def month(
    context: typer.Context,
    rows: Annotated[int, typer.Option(min=1_000, help="Raw usage rows.")] = 2_000_000,
    sims: Annotated[int, typer.Option(min=1_000)] = 200_000,
    accounts: Annotated[int, typer.Option(min=200)] = 2_000,
    seed: Seed = 1,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_LIMIT,
    compare: Annotated[
        bool, typer.Option(help="Also do the job in pandas and row by row in Python.")
    ] = False,
    dagster: Annotated[bool, typer.Option(help="Also run the close as a Dagster run.")] = False,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Measure a month: raw files, usage records, rated, settled, booked in PostgreSQL, journals.

    Beside it stands the floor: the same files parsed once and written once. Each part runs in a
    process of its own; its peak memory is told.

    Example: `iotbill bench month --rows 20000000 --json month.json`
    """
    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.operations.benchmarks.market import Size
    from iotbill_pipelines.operations.benchmarks.month import run

    size = Size(rows, sims, accounts, seed)
    with _folder(folder) as target, err.status("") as status:
        made = run(
            context.obj.location.configs,
            target,
            size,
            memory_limit=memory_limit,
            compare=compare,
            close_in_dagster=_close_in_dagster if dagster else None,
            tell=lambda text: status.update(f"{text} ..."),
        )
    out.print(month_table(made))
    if json_file:
        json_file.write_text(json.dumps(made.as_json(), indent=2) + "\n", "utf-8")


@app.command()
def engines(
    context: typer.Context,
    rows: Annotated[int, typer.Option(min=1_000, help="Raw usage rows.")] = 2_000_000,
    sims: Annotated[int, typer.Option(min=1_000)] = 20_000,
    accounts: Annotated[int, typer.Option(min=200)] = 2_000,
    seed: Seed = 1,
    spark: Annotated[
        str, typer.Option(metavar="MASTER", help="Spark's master; it must reach --dir.")
    ] = "local-cluster[2,1,1536]",
    setting: Annotated[
        list[str] | None, typer.Option(help="Spark's own, as in spark.sql.shuffle.partitions=8.")
    ] = None,
    memory_limit: MemoryLimit = "1GB",
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Rate and settle the same month on DuckDB and on Spark, and compare every row and type.

    Exits with 1 if anything differs.

    Example: `iotbill bench engines --rows 2000000`
    """
    from dataclasses import asdict

    from rich.table import Table

    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.operations.benchmarks.engines import measure
    from iotbill_pipelines.operations.benchmarks.market import Size

    settings = dict(text.split("=", 1) for text in setting or [])
    size = Size(rows, sims, accounts, seed)
    with _folder(folder) as target, err.status("rating and settling on both engines ..."):
        made = measure(
            context.obj.location.configs, target, size, spark,
            memory_limit=memory_limit, settings=settings,
        )  # fmt: skip
    table = Table(title=f"{rows:,} raw rows, {sims:,} SIMs, {accounts:,} accounts, seed {seed}")
    table.add_column("engine")
    for name in ("rate, seconds", "settle, seconds", "rows/s", "peak memory"):
        table.add_column(name, justify="right")
    for each in made.measures:
        table.add_row(
            each.engine, f"{each.rate_seconds:.1f}", f"{each.settle_seconds:.1f}",
            f"{int(rows / each.seconds):,}", _megabytes(each.peak_memory_bytes),
        )  # fmt: skip
    out.print(table)
    for compared in made.tables:
        verdict = f"{compared.differing:,} differ" if compared.differing else "identical"
        out.print(f"{compared.table}: {compared.rows:,} rows, {verdict}")
    if json_file:
        json_file.write_text(json.dumps(asdict(made), indent=2) + "\n", "utf-8")
    if not made.identical:
        raise typer.Exit(1)


@app.command()
def lake(
    context: typer.Context,
    place: Annotated[
        Path,
        typer.Option(
            "--lake", exists=True, dir_okay=False, help="Where, written as configs/lake.yaml is."
        ),
    ],
    rows: Annotated[int, typer.Option(min=1_000, help="Raw usage rows.")] = 100_000,
    sims: Annotated[int, typer.Option(min=1_000)] = 10_000,
    accounts: Annotated[int, typer.Option(min=200)] = 2_000,
    seed: Seed = 1,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_LIMIT,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Receive and close the same month with the lake in a folder and in an object store.

    It works below a name of its own there, and leaves what it wrote: delete it afterwards. Exits
    with 1 if anything differs.

    Example: `iotbill bench lake --lake configs/lake.yaml`
    """
    from dataclasses import asdict

    from rich.table import Table

    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.config.lake import read_lake_file
    from iotbill_pipelines.operations.benchmarks.lake import PARTS, measure
    from iotbill_pipelines.operations.benchmarks.market import Size
    from iotbill_pipelines.shell.environment import secret

    choice = read_lake_file(place)
    named = choice.credentials.model_dump(exclude_none=True).values()
    size = Size(rows, sims, accounts, seed)
    with _folder(folder) as target, err.status("closing a month twice ..."):
        made = measure(
            context.obj.location.configs, target, size, choice,
            {variable: secret(variable) for variable in named}, memory_limit=memory_limit,
        )  # fmt: skip
    table = Table(title=f"{rows:,} raw rows, {sims:,} SIMs, {accounts:,} accounts, seed {seed}")
    table.add_column("lake")
    for name in (*(f"{part}, seconds" for part in PARTS), "together"):
        table.add_column(name, justify="right")
    for each in (made.folder, made.store):
        cells = [f"{each.seconds[part]:.1f}" for part in PARTS]
        table.add_row(each.place, *cells, f"{each.total:.1f}")
    out.print(table)
    verdict = "the same was booked" if made.same else "what was booked DIFFERS"
    out.print(f"{made.ratio:.2f} times as long; {verdict}")
    if json_file:
        json_file.write_text(json.dumps(asdict(made), indent=2) + "\n", "utf-8")
    if not made.same:
        raise typer.Exit(1)


@app.command()
def reconcile(
    lines: Annotated[int, typer.Option(min=1, help="Invoice lines, and as many SIMs.")] = 1_000_000,
    seed: Seed = 1,
    memory_limit: MemoryLimit = "1200MB",
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Measure a vendor reconciliation: invoice lines against as many SIMs, every cause at work.

    Example: `iotbill bench reconcile --lines 1000000`
    """
    from dataclasses import asdict

    from rich.table import Table

    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.operations.benchmarks.reconcile import measure

    with _folder(folder) as target, err.status("reconciling ..."):
        made = measure(target, lines, seed=seed, memory_limit=memory_limit or "1200MB")
    table = Table(title=f"{lines:,} invoice lines against {lines:,} SIMs")
    for name in ("lines", "seconds", "peak memory", "lines told", "causes", "claims"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{made.lines:,}", f"{made.seconds:.1f}", _megabytes(made.peak_memory_bytes),
        f"{made.result_lines:,}", f"{made.causes:,}", f"{made.claims:,}",
    )  # fmt: skip
    out.print(table)
    if json_file:
        json_file.write_text(json.dumps(asdict(made), indent=2) + "\n", "utf-8")


@app.command()
def tick(
    context: typer.Context,
    files: Annotated[int, typer.Option(min=1, help="Known files.")] = 100_000,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Measure the looks of the sensors at a landing folder and a source full of known files.

    Example: `iotbill bench tick --files 300000`
    """
    from dataclasses import asdict

    from rich.table import Table

    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.operations.benchmarks.tick import measure

    location = context.obj.location
    with _folder(folder) as target, err.status(f"writing {files:,} files ..."):
        made = measure(location.configs, target, files, location.database_url)
    table = Table(title=f"A look at {files:,} known files")
    table.add_column("what")
    for column in ("seconds", "of its own CPU"):
        table.add_column(column, justify="right")
    for name, took in (
        ("landing folder", made.landing),
        ("landing folder, the first look of a process", made.landing_first),
        ("landing folder, with a new file", made.landing_new),
        ("configured source", made.source),
    ):
        table.add_row(name, f"{took.seconds:.2f}", f"{took.cpu_seconds:.2f}")
    out.print(table)
    out.print(f"peak memory {_megabytes(made.peak_memory_bytes)}")
    if json_file:
        json_file.write_text(json.dumps(asdict(made), indent=2) + "\n", "utf-8")


@app.command()
def soak(
    context: typer.Context,
    runs: Annotated[int, typer.Option(min=10, help="Runs that receive new files.")] = 200,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """Receive files run after run while the month is closed again and again, and look for leaks.

    The receiving process lives on like Dagster's daemon, looks by every sensor there is and does
    what they ask for; the closing one is another process. Exit code 1 if memory, open files or
    connections grew.

    Example: `iotbill bench soak --runs 200`
    """
    from rich.table import Table

    from iotbill_pipelines.cli.console import err, out
    from iotbill_pipelines.shell.soaking import soak as measure

    location = context.obj.location
    with _folder(folder) as target, err.status("") as status:
        made = measure(
            location.configs, target, runs, location.database_url,
            lambda text: status.update(f"{text} ..."),
        )  # fmt: skip
    asked = ", ".join(f"{count:,} of {job}" for job, count in made.runs.items())
    title = f"{made.files:,} files; runs: {asked}; beside {len(made.closing)} closes"
    table = Table(title=title)
    table.add_column("process")
    for name in ("runs", "seconds", "memory", "open files", "connections"):
        table.add_column(name, justify="right")
    for name, looks in (("receiving", made.receiving), ("closing", made.closing)):
        for held in looks:
            table.add_row(
                name, f"{held.runs:,}", f"{held.seconds:,.0f}", _megabytes(held.memory_bytes),
                f"{held.open_files:,}", f"{held.connections:,}",
            )  # fmt: skip
    out.print(table)
    out.print(
        f"{made.rows_received:,} rows received, {made.rows_booked_twice} booked twice, "
        f"{made.events:,} events of {_megabytes(made.event_bytes)} in Dagster's log"
    )
    if json_file:
        json_file.write_text(json.dumps(made.as_json(), indent=2) + "\n", "utf-8")
    for leak in made.leaks():
        err.print(f"[red]grew[/] {leak}")
    if made.leaks() or made.rows_booked_twice:
        raise typer.Exit(1)


def _close_in_dagster(ws: Workspace) -> bool:
    from iotbill_pipelines.operations.benchmarks.market import PERIOD
    from iotbill_pipelines.shell.execution import execute_close

    return execute_close(ws, PERIOD, lambda _stage, _event: None).succeeded


def month_table(made: MonthBenchmark) -> Table:
    """Return the measures as a table, each part with its own parts below it."""
    from rich.table import Table

    from iotbill_pipelines.operations.benchmarks.month import CORRECTIONS, EVERY_STAGE, IN_DAGSTER

    size = made.size
    table = Table(
        title=f"{size.rows:,} raw rows ({made.raw_bytes / 1e9:.2f} GB), {size.sims:,} SIMs, "
        f"{size.accounts:,} accounts, seed {size.seed}"
    )
    table.add_column("what")
    for name in ("seconds", "x floor", "rows/s", "peak memory", "CPU s"):
        table.add_column(name, justify="right")

    def times_floor(seconds: float) -> str:
        times = made.floors(seconds)
        return "" if times is None else f"{times:.2f}"

    for measure in made.measures:
        table.add_row(
            f"[bold]{measure.name}", f"{measure.seconds:.1f}", times_floor(measure.seconds),
            f"{measure.rows_per_second:,}" if measure.rows else "",
            _megabytes(measure.peak_memory_bytes), f"{measure.cpu_seconds:.1f}",
        )  # fmt: skip
        for part, seconds in measure.parts.items():
            table.add_row(f"  {part.replace('_', ' ')}", f"{seconds:.1f}")
        for label in ("retail usage", "carrier usage"):
            if label in measure.facts:
                table.add_row(f"  {label} {measure.facts[label]}")
    path = made.path_seconds
    table.add_section()
    table.add_row(
        "[bold]raw files to journals", f"{path:.1f}", times_floor(path),
        f"{int(size.rows / path):,}" if path else "", _megabytes(made.peak_memory_bytes),
    )  # fmt: skip
    for name in CORRECTIONS:
        share = made.share_of_path(name)
        if share is not None:
            table.add_row(f"[bold]{name}: {100 * share:.1f} % of a full run")
    if made.dagster_ratio is not None:
        more = (made.seconds(IN_DAGSTER) or 0.0) - (made.seconds(EVERY_STAGE) or 0.0)
        table.add_row(
            f"[bold]a Dagster run is {made.dagster_ratio:.2f} x the same without it, {more:+.1f} s"
        )
    return table


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count else ""


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="iotbill-bench-") as temporary:
        yield Path(temporary)
