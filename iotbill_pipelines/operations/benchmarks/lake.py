"""The same month with its lake in a folder and in another place: how long, and is it the same?

Each place has a workspace and a database of its own; both get the same raw files. What is timed are
the parts that read and write the lake: receiving, closing, and closing again when nothing changed.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iotbill_pipelines.config.lake import LakeChoice
from iotbill_pipelines.operations.benchmarks import in_own_process, market, month
from iotbill_pipelines.operations.benchmarks.market import Size
from iotbill_pipelines.storage import database
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import place_of

PARTS = ("receive", "close", "close again")


@dataclass(frozen=True)
class AtPlace:
    """What the parts took, in seconds, with the lake at one place."""

    place: str
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class LakeBenchmark:
    """Both places, the folder first; ``same`` if the same was counted and booked."""

    size: Size
    folder: AtPlace
    store: AtPlace
    same: bool

    @property
    def ratio(self) -> float:
        """How many times longer it took with the lake in the other place."""
        return self.store.total / self.folder.total


def measure(
    configs: Path,
    folder: Path,
    size: Size,
    choice: LakeChoice,
    secrets: Mapping[str, str | None],
    *,
    memory_limit: str | None,
) -> LakeBenchmark:
    """Receive and close a generated month with the lake in ``folder`` and where ``choice`` says.

    There it works below a name of its own, and leaves what it wrote. ``secrets`` are the values of
    the environment variables that ``choice`` names. Raises ValueError for a choice without a URL.
    """
    if choice.url is None:
        raise ValueError("the lake to compare with names no url; write one, as in s3://bucket/lake")
    files = market.write_usage(folder / "files", size)
    ours = market.write_configs(configs, folder / "configs")
    elsewhere = choice.model_copy(update={"url": f"{choice.url}/bench-{uuid.uuid4().hex[:12]}"})
    found, facts = [], []
    for name, chosen in (("folder", LakeChoice()), ("store", elsewhere)):
        home = folder / name
        database.stop(home)
        shutil.rmtree(home, ignore_errors=True)
        lake = partial(open_lake, chosen, dict(secrets))
        in_own_process(month.prepare, home, ours, size)
        received = in_own_process(month.receive, home, ours, files, size.rows, memory_limit, lake)
        closed, again = (
            in_own_process(month.close, home, ours, size.rows, memory_limit, lake) for _ in range(2)
        )
        taken = zip(PARTS, (received, closed, again), strict=True)
        found.append(AtPlace(chosen.url or name, {part: made.seconds for part, made in taken}))
        facts.append([received.facts, closed.facts, again.facts])
        database.stop(home)
    return LakeBenchmark(size, found[0], found[1], facts[0] == facts[1])


def open_lake(choice: LakeChoice, secrets: Mapping[str, str | None], home: Path) -> Lake:
    """Open the lake of a benchmark's state folder."""
    return Lake(place_of(choice, home, secrets.get))
