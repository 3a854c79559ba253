"""The commands ``catalog lint``, ``import``, ``history``, ``show`` and ``diff``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.config.feeds import feed_path, load_feed

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.operations.catalogs import Advice


def lint(folder: Path, *, as_json: bool) -> None:
    """Check a catalog folder and print advice."""
    from iotbill_pipelines.operations import catalogs

    source, advice = catalogs.lint(folder)
    if as_json:
        console.print_json({"digest": source.digest, "advice": advice})
        return
    _print_advice(advice)
    catalog = source.catalog
    console.out.print(
        f"{escape(str(folder))} holds together: {len(catalog.offers)} offers, "
        f"{len(catalog.products)} products; version {source.digest}"
    )


@dataclass(frozen=True)
class Card:
    """How files are read as rate cards: by which feed, for which charges, from which day."""

    feed: str
    charges: list[str]
    valid_from: str | None


def import_tables(
    settings: Settings,
    files: list[Path],
    into: Path | None,
    card: Card | None,
    *,
    check: bool,
    as_json: bool,
) -> None:
    """Import rate tables, or rate cards, and say what they hold."""
    from iotbill_pipelines.operations import catalogs

    folder = into or settings.location.configs / "catalog"
    if card is None:
        done = catalogs.import_tables(folder, files, write=not check)
    else:
        from iotbill_pipelines.operations.rate_cards import import_cards

        done = import_cards(
            folder,
            files,
            load_feed(feed_path(settings.location.configs / "feeds", card.feed)),
            dict(map(_pair, card.charges)),
            datetime.now(UTC).replace(tzinfo=None),
            valid_from=_day(card.valid_from),
            write=not check,
        )
    if as_json:
        console.print_json(done)
        return
    _print_advice(done.advice)
    console.out.print(
        f"{done.prices:,} rows of rates; the catalog's zones have {done.networks:,} networks; "
        f"version {done.digest}"
    )
    for file in done.written:
        console.out.print(f"written: {escape(str(file))}")
    if check:
        console.out.print("nothing was written (--check)")


def _pair(text: str) -> tuple[str, str]:
    usage_class, _, charge = text.partition("=")
    if not usage_class or not charge:
        raise ValueError(f"--charge {text!r}: write the usage class and the charge, voice=calls")
    return usage_class, charge


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ValueError(f"--valid-from {text!r} is not a day; write it as YYYY-MM-DD") from None


def _print_advice(advice: list[Advice]) -> None:
    console.table(
        "Advice",
        ("code", "where", "message"),
        ((each.code, each.where, each.message) for each in advice),
    )


def history(settings: Settings, *, as_json: bool) -> None:
    """Print the catalog versions that were kept."""
    from iotbill_pipelines.operations import catalogs

    with console.opened(settings) as ws:
        versions = catalogs.history(ws)
    if as_json:
        console.print_json(versions)
        return
    if not versions:
        console.out.print("no catalog was kept yet; the first close keeps one")
    console.table(
        "Catalog versions",
        ("version", "known from (UTC)", "offers", "charges", "closed with it"),
        (
            (v.digest[:12], f"{v.known_from:%Y-%m-%d %H:%M}", v.offers, v.charges,
             " ".join(v.closed))
            for v in versions
        ),
    )  # fmt: skip


def show(settings: Settings, version: str, out: Path | None) -> None:
    """Print a version as JSON, or write it as a catalog folder."""
    from iotbill_pipelines.operations import catalogs

    with console.opened(settings) as ws:
        if out is not None:
            console.out.print(f"written to {catalogs.restore(ws, version, out)}")
            return
        _, content = catalogs.content_of(ws, version)
    sys.stdout.write(json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n")


def diff(settings: Settings, before: str, after: str, *, as_json: bool) -> None:
    """Print what two versions say differently."""
    from iotbill_pipelines.operations import catalogs

    with console.opened(settings) as ws:
        found = catalogs.differences(ws, before, after)
    if as_json:
        console.print_json(found)
        return
    console.table("", ("what", "before", "after"), ((d.path, d.before, d.after) for d in found))
    console.out.print(f"{len(found)} differences" if found else "the same terms")
