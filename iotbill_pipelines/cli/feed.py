"""The commands of ``iotbill feed``, for people who write feeds. They need no workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

feed_app = typer.Typer(
    no_args_is_help=True,
    help="Tools for writing feeds: check, try on a sample, scaffold, document.",
)

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="A feed's YAML file, or the id of a configured feed.")
]


@feed_app.command("lint")
def lint(
    context: typer.Context,
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SPEC]...", help="YAML files, folders or ids; all configured feeds if none."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 for warnings, too.")] = False,
    json: Json = False,
) -> None:
    """Check feeds: every error with its line and what to do, and what is legal but risky.

    A warning that is meant to be so is accepted in the YAML, with its reason:
    `# lint: accept no_vendor_key: the report has no record id`. Exits with 2 if there is an error.

    Example: `iotbill feed lint configs/feeds/acme.yaml --strict`
    """
    from iotbill_pipelines.cli import feeding

    raise typer.Exit(feeding.lint(context.obj, specs or [], strict=strict, as_json=json))


@feed_app.command("test")
def test(
    context: typer.Context,
    spec: Spec,
    sample: Annotated[Path, typer.Argument(metavar="SAMPLE", help="A file of the carrier.")],
    lines: Annotated[
        list[int] | None,
        typer.Option("--line", min=1, metavar="N", help="Show this line; may be repeated."),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Records to show, one of each outcome first.")
    ] = (3),
    received: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="When the file is taken to have come (UTC).", show_default="now"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run a sample file through a feed and show, field by field, what comes out and why.

    Every value is shown between the steps that make it. Nothing is stored. Exits with 1 if the
    file would be quarantined or a record rejected.

    Example: `iotbill feed test emnify_usage emnify_20261001.ndjson --line 7`
    """
    from iotbill_pipelines.cli import feeding

    raise typer.Exit(
        feeding.test(context.obj, spec, sample, lines or [], show, received, as_json=json)
    )


@feed_app.command("new")
def new(
    sample: Annotated[Path, typer.Argument(metavar="SAMPLE", help="A file of the carrier.")],
    out: Annotated[
        Path | None,
        typer.Option(help="YAML file to write; must not exist yet.", show_default="the console"),
    ] = None,
    feed_id: Annotated[
        str | None, typer.Option("--id", help="Id of the feed.", show_default="from the file name")
    ] = None,
    target: Annotated[
        str, typer.Option(help="Table that it fills: usage_record, service, rate_card_line, ...")
    ] = "usage_record",
    json: Json = False,
) -> None:
    """Write a first version of a feed from a sample file, and say what is not certain.

    Container, encoding, delimiter or widths, header, times and zone, identifiers, units and usage
    class are guessed from the values; each guess is told with how sure it is and why, here and in
    the file's comments. Try the result with `iotbill feed test`.

    Example: `iotbill feed new acme_20261001.csv --out configs/feeds/acme.yaml`
    """
    from iotbill_pipelines.cli import feeding

    feeding.new(sample, out, feed_id, target, as_json=json)


@feed_app.command("docs")
def docs(
    context: typer.Context,
    feeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEED]...", help="Ids of feeds; all, with an index, if none."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; pages in it are replaced.")] = Path(
        "docs/feeds"
    ),
    json: Json = False,
) -> None:
    """Write a page per feed, as Markdown and HTML: fields, steps, filters, keys, rejections.

    Files in configs/feeds/samples become examples of the feed whose patterns they match.

    Example: `iotbill feed docs --out docs/feeds`
    """
    from iotbill_pipelines.cli import feeding

    feeding.docs(context.obj, feeds or [], out, as_json=json)
