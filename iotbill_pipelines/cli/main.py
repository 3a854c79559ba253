"""The command line ``iotbill``: commands and their help. What they do is imported when they run."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from iotbill_pipelines.cli import (
    audit,
    benchmark,
    contract,
    dispute,
    gl,
    journal,
    lake,
    payments,
    period,
    revenue,
    roaming,
    sims,
    tax,
)
from iotbill_pipelines.cli.feed import feed_app
from iotbill_pipelines.shell.environment import (
    CONFIGS_VARIABLE,
    DATABASE_VARIABLE,
    HOME_VARIABLE,
    Location,
    default_configs,
)

if TYPE_CHECKING:
    from iotbill_pipelines.engine.calendars import Month

EXIT_OK, EXIT_BLOCKED, EXIT_USAGE = 0, 1, 2

app = typer.Typer(
    name="iotbill",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Close the books of a company that sells IoT connectivity.

Carrier files go in; booked charges, reconciled vendor costs and balanced journals come out. Every
command may be run again: it does only what is missing.

**A first month:**

- `iotbill init`
- `iotbill sample --month 2026-10 --out landing-2026-10`
- `iotbill land landing-2026-10`
- `iotbill ingest`
- `iotbill close 2026-10`
- `iotbill trace NL01-2026-10-REVENUE-001:3`

**Exit codes:** 0 done; 1 a gate blocks the close, a scenario differs, or a source or an alert
channel failed; 2 wrong usage or configuration.""",
)


class _MonthOrCommand(typer.core.TyperGroup):
    """``close 2026-10`` closes the month; a word that is a command is that command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands:
            args = ["month", *args]
        return super().parse_args(ctx, args)


close_app = typer.Typer(
    cls=_MonthOrCommand,
    no_args_is_help=True,
    help="""Close a month: `iotbill close 2026-10`; its package, and proving one.

Rates, settles, books, invoices, reconciles vendors, posts journals and reports, as a Dagster job in
this process; the run is kept where `iotbill up` shows it. Books only what is missing: closing twice
posts nothing. Exits with 1 and the reasons if a gate blocks. It signs nothing off: that is
`iotbill period sign-off`. With `--catalog VERSION` a month is closed, or closed again, by a version
of `iotbill catalog history`.

Example: `iotbill close 2026-10 --catalog b5bee98993b5`""",
)
app.add_typer(close_app, name="close")
scenario_app = typer.Typer(no_args_is_help=True, help="Small businesses in YAML, as tests.")
app.add_typer(scenario_app, name="scenario")
catalog_app = typer.Typer(no_args_is_help=True, help="Products, offers and prices, by version.")
app.add_typer(catalog_app, name="catalog")
alerts_app = typer.Typer(
    no_args_is_help=True,
    help="What is wrong now, and who is told of it (configs/alerts.yaml).",
)
app.add_typer(alerts_app, name="alerts")
app.add_typer(period.app, name="period")
app.add_typer(journal.app, name="journal")
app.add_typer(gl.app, name="gl")
app.add_typer(payments.app, name="payments")
app.add_typer(tax.app, name="tax")
app.add_typer(revenue.revenue, name="revenue")
app.add_typer(revenue.commission, name="commission")
app.add_typer(audit.app, name="audit")
app.add_typer(contract.app, name="contract")
app.add_typer(dispute.app, name="dispute")
app.add_typer(roaming.app, name="roaming")
app.add_typer(sims.app, name="sims")
app.add_typer(lake.app, name="lake")
app.add_typer(benchmark.app, name="bench")
suspense_app = typer.Typer(
    no_args_is_help=True, help="Usage that waits for an owner, an offer, a price or a decision."
)
app.add_typer(suspense_app, name="suspense")
app.add_typer(feed_app, name="feed")


@dataclass(frozen=True)
class Settings:
    """What every command is told: where the workspace is, and who is asking."""

    location: Location
    actor: str


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path, typer.Option(envvar=HOME_VARIABLE, help="State folder of the workspace.")
    ] = Path(".iotbill"),
    configs: Annotated[
        Path | None,
        typer.Option(
            envvar=CONFIGS_VARIABLE,
            help="Configuration folder.",
            show_default="./configs, or the sample company's",
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar=DATABASE_VARIABLE,
            help="PostgreSQL server to use instead of the embedded one: "
            "postgresql://user:password@host/name.",
            show_default="embedded, in the state folder",
        ),
    ] = None,
    actor: Annotated[
        str, typer.Option(envvar="USER", help="Who is asking; kept with runs and bookings.")
    ] = "iotbill",
) -> None:
    context.obj = Settings(
        Location(home.resolve(), (configs or default_configs()).resolve(), database_url or None),
        actor,
    )


Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, envvar="IOTBILL_SIGNING_KEY_FILE",
        help="File with the secret that manifests are signed with.",
    ),
]  # fmt: skip
MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]


@app.command()
def init(
    context: typer.Context,
    grant_to: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Database role that runs everything else: it cannot change what is closed.",
        ),
    ] = None,
) -> None:
    """Make the state folder, its database and Dagster's instance, or bring them up to date.

    Safe to repeat. Without --database-url an embedded PostgreSQL is made in the state folder.

    Example: `iotbill --home /var/lib/iotbill init`
    """
    from iotbill_pipelines.cli import files

    files.init(context.obj, grant_to)


@app.command()
def sample(
    month: Annotated[str, typer.Option(help="Month of the usage.")] = "2026-10",
    services: Annotated[
        int, typer.Option(min=40, help="SIMs sold; 500 give some 52,000 usage records.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder to write; files in it are replaced.")] = Path(
        "sample"
    ),
    lorawan_register: Annotated[
        Path | None,
        typer.Option(
            help="Write the inventory of the devices in this LoRaWAN register (Name;DevEUI;...) "
            "instead.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Write the files that four carriers and our own inventory would deliver for a month.

    With duplicates, unknown SIMs, broken records and wrong vendor invoices in them, on purpose.

    Example: `iotbill sample --month 2026-10 --services 500 --seed 1 --out landing-2026-10`
    """
    from iotbill_pipelines.cli import files

    if lorawan_register is not None:
        files.lorawan_inventory(lorawan_register, _month(month), out)
    else:
        files.sample(_month(month), services, seed, out)


@app.command()
def land(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of files.")
    ],
    json: Json = False,
) -> None:
    """Take files into the archive, unchanged; their names say which feed reads them.

    The same bytes again, also under another name, change nothing.

    Example: `iotbill land landing-2026-10 late/emnify_20261031.ndjson`
    """
    from iotbill_pipelines.cli import files

    files.land(context.obj, paths, as_json=json)


@app.command()
def fetch(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="Only this source of configs/sources."),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for files that may still be growing to settle.")
    ] = True,
    json: Json = False,
) -> None:
    """Fetch new files from the configured folders, SFTP servers and S3 buckets into the archive.

    A version of a file is fetched once. Files still being written are left alone until their size
    and time of change stay. Exits with 1 if a source cannot be reached or a file not be fetched.

    Example: `iotbill fetch acme_sftp`
    """
    from iotbill_pipelines.cli import fetching

    raise typer.Exit(fetching.fetch(context.obj, source, wait=wait, as_json=json))


@app.command()
def ingest(
    context: typer.Context,
    day: Annotated[
        str | None,
        typer.Option(help="Only files received on this UTC day.", metavar="YYYY-MM-DD"),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Also files that are quarantined, by the feeds as they are."),
    ] = False,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--file", metavar="NAME|KEY", help="With --again: only this file, whatever its state."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read landed files: accepted records, rejected ones with reasons, invoices, reference data.

    A file that cannot be used is quarantined with its reason and stops no other. When its feed is
    corrected, --again reads it; --file reads a file again that was ingested, too. What a file gives
    takes the place of all that it gave before, so nothing is counted twice.

    Example: `iotbill ingest --again --file emnify_20261031.ndjson`
    """
    from iotbill_pipelines.cli import files

    files.ingest(context.obj, day, named or [], again=again, as_json=json)


@close_app.command("month", hidden=True)
def close(
    context: typer.Context,
    month: MonthArgument,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Price by this kept catalog version instead of the configured catalog.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Close a month: rate, settle, book, invoice, reconcile vendors, post journals, report.

    Runs the Dagster job in this process; the run is kept where `iotbill up` shows it. Books only
    what is missing: closing twice posts nothing. Exits with 1 and the reasons if a gate blocks.
    With --catalog a month is closed, or closed again, by a version of `iotbill catalog history`.

    Example: `iotbill close 2026-10 --catalog b5bee98993b5`
    """
    from iotbill_pipelines.cli import closing

    raise typer.Exit(closing.close(context.obj, _month(month), catalog, as_json=json))


@close_app.command("package")
def close_package(
    context: typer.Context,
    month: MonthArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New or empty folder.", show_default="packages/MONTH-n of the state folder"
        ),
    ] = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Put a close into one folder with a manifest: inputs by hash, totals, report, documents.

    The manifest's hash goes into the audit log; with --key-file it is signed by HMAC-SHA-256 too.
    A sign-off makes a package by itself.

    Example: `iotbill close package 2026-10 --out /archive/close-2026-10`
    """
    from iotbill_pipelines.cli import packaging

    packaging.package(context.obj, _month(month), out, key_file, as_json=json)


@close_app.command("verify")
def close_verify(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a close package.")],
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Prove a close package: compute it again from its manifest, compare byte for byte.

    Checks the manifest against the audit log, every file and archived input against its hash,
    computes all charges again from the raw files, writes ledger and journals again. Exits with 1 if
    anything differs.

    Example: `iotbill close verify /archive/close-2026-10`
    """
    from iotbill_pipelines.cli import packaging

    raise typer.Exit(packaging.verify(context.obj, folder, key_file, as_json=json))


@app.command()
def status(
    context: typer.Context,
    month: Annotated[str | None, typer.Argument(metavar="[MONTH]", help="As in 2026-10.")] = None,
    json: Json = False,
) -> None:
    """Say where the workspace stands: files by feed, and each month's bookings and gates.

    Example: `iotbill status 2026-10`
    """
    from iotbill_pipelines.cli import telling

    telling.status(context.obj, _month(month) if month else None, as_json=json)


@app.command()
def trace(
    context: typer.Context,
    identifier: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A charge (192), a journal or its line (NL01-2026-10-REVENUE-001:3), an invoice "
            "or its line (NL01-2026-10-000001:2).",
        ),
    ],
    charges: Annotated[int, typer.Option(min=1, help="Charges to show, largest first.")] = 3,
    records: Annotated[int, typer.Option(min=0, help="Records to show of each charge.")] = 5,
    json: Json = False,
) -> None:
    """Follow an amount back: journal line, charge, components, rated records, file and line.

    Example: `iotbill trace NL01-2026-10-REVENUE-001:3`
    """
    from iotbill_pipelines.cli import telling

    telling.trace(context.obj, identifier, charges, records, as_json=json)


@app.command()
def explain(
    context: typer.Context,
    charge: Annotated[
        int, typer.Argument(metavar="CHARGE", help="A booked charge's number, as trace tells it.")
    ],
    json: Json = False,
) -> None:
    """Tell the arithmetic of a booked charge in words and numbers, and hold it to the ledger.

    Recomputed apart from the engine, from stored records, states and the catalog version that it
    was closed with. Exits with 1 if another amount comes out than is booked.

    Example: `iotbill explain 192`
    """
    from iotbill_pipelines.cli import explaining

    raise typer.Exit(explaining.explain(context.obj, charge, as_json=json))


@app.command()
def whatif(
    context: typer.Context,
    catalog: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder with the changed catalog.")
    ],
    period: Annotated[str, typer.Option(metavar="MONTH", help="Usage period, as in 2026-10.")],
    account: Annotated[str | None, typer.Option(help="Report this account only.")] = None,
    xlsx: Annotated[Path | None, typer.Option(help="Write the comparison as a workbook.")] = None,
    json: Json = False,
) -> None:
    """Price a month's real usage under a changed catalog, and say what differs and why.

    The stages of a close run in memory over the lake's records; ledger and lake stay as they are.

    Example: `iotbill whatif --catalog configs/catalog-2027 --period 2026-10 --account C0001`
    """
    from iotbill_pipelines.cli import comparing

    comparing.whatif(context.obj, catalog, _month(period), account, xlsx, as_json=json)


@app.command()
def flux(
    context: typer.Context,
    month: MonthArgument,
    xlsx: Annotated[Path | None, typer.Option(help="Write the report as a workbook.")] = None,
    json: Json = False,
) -> None:
    """Say why a month's booked amounts differ from the month before, with nothing left over.

    By product: volume, price, mix, late usage, corrections, FX; every row adds up. Accounts with
    the largest differences follow.

    Example: `iotbill flux 2026-11 --xlsx flux.xlsx`
    """
    from iotbill_pipelines.cli import comparing

    comparing.flux(context.obj, _month(month), xlsx, as_json=json)


@app.command()
def rerate(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="MONTH", help="First usage period to look at, as in 2026-07.")
    ],
    account: Annotated[str | None, typer.Option(help="Only what this account pays.")] = None,
    price: Annotated[
        str | None, typer.Option(help="Only what this price, or charge, is used for.")
    ] = None,
    feed: Annotated[str | None, typer.Option(help="Only services with usage of this feed.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Book it; without this it is only shown.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what a change means for months that are booked already: who, by how much, why; book it.

    Late usage, corrected rates, changed contracts, moved SIMs: what should be booked, less what
    is. With --yes a Dagster backfill of exactly those months books the differences in the open
    period, with the original usage period on the line. Again, it books nothing.

    Example: `iotbill rerate --since 2026-07 --price eu_data.1 --yes`
    """
    from iotbill_pipelines.cli import correcting
    from iotbill_pipelines.operations.corrections import Selection

    chosen = Selection(account, price, feed)
    raise typer.Exit(correcting.rerate(context.obj, _month(since), chosen, yes=yes, as_json=json))


@catalog_app.command("lint")
def catalog_lint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the catalog's YAML.")],
    json: Json = False,
) -> None:
    """Check a catalog: errors by file, line and key; advice on orphans and gaps of dates.

    Example: `iotbill catalog lint configs/catalog`
    """
    from iotbill_pipelines.cli import cataloguing

    cataloguing.lint(folder, as_json=json)


@catalog_app.command("import")
def catalog_import(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", exists=True, dir_okay=False, help="XLSX or CSV files, or rate cards."
        ),
    ],
    feed: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="The files are rate cards that this feed reads."),
    ] = None,
    charges: Annotated[
        list[str] | None,
        typer.Option(
            "--charge", metavar="CLASS=ID", help="Charge that a card's lines of a class price."
        ),
    ] = None,
    valid_from: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="First day of a card's lines that say none."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Catalog folder.", show_default="of the configuration"),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check only; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Take rate tables over into the catalog: typed, checked with all the rest, kept as CSV.

    Errors name file, sheet and cell; nothing is written unless the whole catalog holds together.
    Importing a file of the same name again replaces the rates that it brought. Carriers' own rate
    cards, of any format, are read through a feed whose target is rate_card_line.

    Example: `iotbill catalog import card.xls --feed acme_rates --charge voice=acme_calls --check`
    """
    from iotbill_pipelines.cli import cataloguing

    card = cataloguing.Card(feed, charges or [], valid_from) if feed else None
    if card is None and (charges or valid_from):
        raise ValueError(
            "--charge and --valid-from are for rate cards; name their feed with --feed"
        )
    cataloguing.import_tables(context.obj, files, into, card, check=check, as_json=json)


@catalog_app.command("history")
def catalog_history(context: typer.Context, json: Json = False) -> None:
    """List the catalog versions that closes used, and the months closed with each.

    Example: `iotbill catalog history`
    """
    from iotbill_pipelines.cli import cataloguing

    cataloguing.history(context.obj, as_json=json)


@catalog_app.command("show")
def catalog_show(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="Its digest, or the beginning of it.")],
    out: Annotated[
        Path | None, typer.Option(help="Write it to this empty folder, to close with it again.")
    ] = None,
) -> None:
    """Print a kept catalog version, or write it back as a folder that means exactly the same.

    Example: `iotbill catalog show b5bee98993b5 --out configs-then/catalog`
    """
    from iotbill_pipelines.cli import cataloguing

    cataloguing.show(context.obj, version, out)


@catalog_app.command("diff")
def catalog_diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="A digest, or a folder.")],
    after: Annotated[str, typer.Argument(help="A digest, or a folder.")],
    json: Json = False,
) -> None:
    """Say what two catalog versions, or folders, say differently.

    Example: `iotbill catalog diff b5bee98993b5 configs/catalog`
    """
    from iotbill_pipelines.cli import cataloguing

    cataloguing.diff(context.obj, before, after, as_json=json)


@scenario_app.command("run")
def scenario_run(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Scenario files, or folders of them.")
    ],
    verbose: Annotated[bool, typer.Option(help="Show what agrees, too.")] = False,
    spark: Annotated[
        str | None, typer.Option(metavar="MASTER", help="Run on Spark: local[2], spark://host:7077")
    ] = None,
) -> None:
    """Run scenarios through the engine, without database or Dagster, and show differences.

    Exits with 1 if any line differs.

    Example: `iotbill scenario run tests/scenarios`
    """
    from iotbill_pipelines.cli import scenarios

    raise typer.Exit(scenarios.run(files, verbose=verbose, spark=spark))


Reason = Annotated[
    str | None,
    typer.Option(
        "--reason-code", help="Only this reason: no_owner, no_offer, no_rate, conflict, ..."
    ),
]
Feed = Annotated[str | None, typer.Option(help="Only records of this feed.")]
Account = Annotated[str | None, typer.Option(help="Only records of this account's services.")]
UsageMonth = Annotated[str | None, typer.Option(help="Only this UTC month, as in 2026-10.")]
SignedBy = Annotated[str, typer.Option("--by", help="Name of the person who decides.")]
SignedFor = Annotated[str, typer.Option("--reason", help="Why it may pass; kept for audit.")]


@suspense_app.command("list")
def suspense_list(
    context: typer.Context,
    reason: Reason = None,
    feed: Feed = None,
    account: Account = None,
    month: UsageMonth = None,
    records: Annotated[int, typer.Option(min=0, help="Records to list by address.")] = 0,
    json: Json = False,
) -> None:
    """List suspended usage: by reason, feed and account, with age and a money estimate.

    The estimate is the usage at its likeliest retail price, without allowances and pools; the
    table says which price. Age counts days since the oldest record was received.

    Example: `iotbill suspense list --month 2026-10 --records 20`
    """
    from iotbill_pipelines.cli import suspense

    suspense.tell(context.obj, (reason, feed, account, month), records, as_json=json)


@suspense_app.command("show")
def suspense_show(
    context: typer.Context,
    record: Annotated[str, typer.Argument(metavar="FILE:LINE", help="As `list --records` says.")],
    json: Json = False,
) -> None:
    """Show one suspended record: the raw line, what is missing, its worth, and what to do.

    Example: `iotbill suspense show 861405927354028461:17`
    """
    from iotbill_pipelines.cli import suspense

    suspense.show(context.obj, record, as_json=json)


@suspense_app.command("retry")
def suspense_retry(context: typer.Context, month: UsageMonth = None, json: Json = False) -> None:
    """Rate months with suspense again with the inventory, contracts and prices of now.

    Says what that fixed. The next close charges it. Nothing changed means nothing is done.

    Example: `iotbill suspense retry`
    """
    from iotbill_pipelines.cli import suspense

    suspense.retry(context.obj, month, as_json=json)


@suspense_app.command("waive")
def suspense_waive(
    context: typer.Context,
    by: SignedBy,
    reason_text: SignedFor,
    record: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE:LINE]...", help="Records to waive.")
    ] = None,
    reason: Reason = None,
    feed: Feed = None,
    account: Account = None,
    month: UsageMonth = None,
) -> None:
    """Stop waiting for suspended records; the suspense gate no longer counts them.

    They stay in every list, and are rated after all if what was missing comes.

    Example: `iotbill suspense waive --reason-code conflict --month 2026-10 --by "Ann Lee"
    --reason "carrier confirmed the smaller version, ticket 812"`
    """
    from iotbill_pipelines.cli import suspense

    suspense.waive(
        context.obj, (reason, feed, account, month), record or [], by=by, reason=reason_text
    )


@suspense_app.command("unwaive")
def suspense_unwaive(
    context: typer.Context,
    by: SignedBy,
    reason_text: SignedFor,
    record: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE:LINE]...", help="Waived records.")
    ] = None,
    reason: Reason = None,
    feed: Feed = None,
    account: Account = None,
    month: UsageMonth = None,
) -> None:
    """Take waivers back: the suspense gate counts their records again.

    Example: `iotbill suspense unwaive 861405927354028461:17 --by "Ann Lee" --reason "wrong ticket"`
    """
    from iotbill_pipelines.cli import suspense

    suspense.unwaive(
        context.obj, (reason, feed, account, month), record or [], by=by, reason=reason_text
    )


@app.command()
def waive(
    context: typer.Context,
    gate: Annotated[str, typer.Argument(metavar="GATE", help="As `iotbill status` names it.")],
    month: MonthArgument,
    by: SignedBy,
    reason: SignedFor,
) -> None:
    """Let a close go on past what a gate found; close again to do so.

    Holds as long as the gate finds just that: another figure or a new finding blocks again.

    Example: `iotbill waive suspense 2026-10 --by "Ann Lee" --reason "SIMs of the pilot, unbilled"`
    """
    from iotbill_pipelines.cli import closing

    closing.waive(context.obj, gate, _month(month), by=by, reason=reason)


@app.command()
def quality(
    context: typer.Context,
    month: Annotated[
        str | None, typer.Option("--period", metavar="MONTH", help="A month, as in 2026-10.")
    ] = None,
    day: Annotated[
        str | None, typer.Option(help="One UTC day of usage.", metavar="YYYY-MM-DD")
    ] = None,
    json: Json = False,
) -> None:
    """Hold every day of every feed against what its feed expects; without options, last month's.

    Volume against the same weekday of the weeks before, rejects, missing values, SIMs, quantities,
    files that have not come. Writes pages to out/MONTH/data_docs. A close does the same.

    Example: `iotbill quality --day 2026-10-13`
    """
    from iotbill_pipelines.cli import checking

    checking.quality(context.obj, _month(month) if month else None, day, as_json=json)


@app.command()
def margins(
    context: typer.Context,
    month: MonthArgument,
    by: Annotated[str, typer.Option(help="sim, customer, product or partner.")] = "customer",
    customer: Annotated[str | None, typer.Option(help="Only this account's SIMs.")] = None,
    vendor: Annotated[
        str | None, typer.Option(help="Only the SIMs that this vendor carries.")
    ] = None,
    negative: Annotated[bool, typer.Option(help="Only what loses money.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 25,
    xlsx: Annotated[Path | None, typer.Option(help="Write all of them as a workbook.")] = None,
    json: Json = False,
) -> None:
    """Show revenue, vendor cost and margin of an accounting month, the lowest margin first.

    As earned: with what was deferred, released, accrued and trued up. Cost follows the bill.

    Example: `iotbill margins 2026-10 --by sim --negative`
    """
    from iotbill_pipelines.cli import margins as shown

    shown.show(
        context.obj,
        _month(month),
        by,
        (customer, vendor),
        negative=negative,
        most=most,
        xlsx=xlsx,
        as_json=json,
    )


@app.command()
def renewals(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, help="How far to look ahead.")] = 120,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day to ask about; today if not.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    xlsx: Annotated[Path | None, typer.Option(help="Write the desk as a workbook.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the desk as a page.")] = None,
    json: Json = False,
) -> None:
    """Show which contract terms end when, notice deadlines, what follows, and flags with numbers.

    Upsell: most of what is included is used. Churn risk: devices go. Lapse: ended, devices active.

    Example: `iotbill renewals --days 90 --xlsx renewals.xlsx --html renewals.html`
    """
    from iotbill_pipelines.cli import renewals as desk

    desk.renewals(context.obj, days, on.date() if on else None, account, (xlsx, html), as_json=json)


@alerts_app.command("list")
def alerts_list(
    context: typer.Context,
    past: Annotated[bool, typer.Option("--all", help="Also those that have cleared.")] = False,
    json: Json = False,
) -> None:
    """Show open incidents: what, how much, what to do, which command shows more, who is told.

    Example: `iotbill alerts list`
    """
    from iotbill_pipelines.cli import alerting

    alerting.list_alerts(context.obj, past=past, as_json=json)


@alerts_app.command("send")
def alerts_send(context: typer.Context, json: Json = False) -> None:
    """Tell every channel what it has not heard yet. A close and Dagster do it by themselves.

    Exits with 1 if a channel fails; what it should have heard is sent with the next try.

    Example: `iotbill alerts send`
    """
    from iotbill_pipelines.cli import alerting

    raise typer.Exit(alerting.send(context.obj, as_json=json))


@alerts_app.command("test")
def alerts_test(
    context: typer.Context,
    channel: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="Only this channel.")
    ] = None,
) -> None:
    """Send every channel a message that says it is a test. Exits with 1 if one fails.

    Example: `iotbill alerts test finance_mail`
    """
    from iotbill_pipelines.cli import alerting

    raise typer.Exit(alerting.test(context.obj, channel))


@app.command()
def up(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 3000,
) -> None:
    """Serve Dagster's web interface and run its daemon (sensor, schedule, queue) until Ctrl-C.

    Example: `iotbill up --port 3000`
    """
    from iotbill_pipelines.cli import serving

    raise typer.Exit(serving.up(context.obj, host, port))


@app.command()
def demo(
    context: typer.Context,
    month: Annotated[str, typer.Option(help="Month to show.")] = "2026-10",
    services: Annotated[int, typer.Option(min=40, help="SIMs of the sample company.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same company.")] = 1,
) -> None:
    """Show a month of the sample company: init, sample, land, ingest, close, report.

    Run again, it finds nothing to do and says so.

    Example: `iotbill --home /tmp/try demo`
    """
    from iotbill_pipelines.cli import closing

    raise typer.Exit(closing.demo(context.obj, _month(month), services, seed))


def _month(text: str) -> Month:
    from iotbill_pipelines.engine.calendars import Month

    return Month.parse(text)


def main() -> None:
    """Run the command line; what a user can put right is a sentence, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
    except Exception as error:
        from iotbill_pipelines.cli.errors import sentence

        said = sentence(error)
        if said is None:
            raise
        sys.stderr.write(f"iotbill: {said}\n")
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
