"""Great Expectations on the profile of feed-days: what fails, and Data Docs of everything.

A module of its own because importing the library takes ten seconds and more.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from iotbill_pipelines.operations.data_quality import Expectation, Failure, FeedDay, numbers


def run_expectations(
    days: Sequence[FeedDay],
    wanted: Mapping[str, Sequence[Expectation]],
    directory: Path,
    at: datetime,
) -> list[Failure]:
    """Hold each feed's days against its expectations; write Data Docs into ``directory``.

    A value that is not known (volume without weeks to compare with) fails nothing. The same days,
    expectations and moment ``at`` give the same pages, byte for byte.
    """
    failures: list[Failure] = []
    with _great_expectations(directory) as (gx, context):
        source = context.data_sources.add_pandas("feed_day_profile")
        for feed_id in sorted({day.feed_id for day in days}):
            mine = [day for day in days if day.feed_id == feed_id]
            asset = source.add_dataframe_asset(feed_id)
            suite = context.suites.add(gx.ExpectationSuite(name=feed_id))
            for expectation in wanted[feed_id]:
                suite.add_expectation(
                    gx.expectations.ExpectColumnValuesToBeBetween(
                        column=expectation.column,
                        min_value=expectation.low,
                        max_value=expectation.high,
                        notes=expectation.words,
                    )
                )
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=feed_id,
                    data=asset.add_batch_definition_whole_dataframe("days"),
                    suite=suite,
                )
            )
            result = definition.run(
                run_id=gx.core.run_identifier.RunIdentifier(run_time=at),
                batch_parameters={"dataframe": _frame(mine, wanted[feed_id])},
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["day"],
                },
            )
            failures += _failures(feed_id, wanted[feed_id], result.results)
        context.build_data_docs(site_names=["feeds"])
    for page in directory.rglob("*.html"):
        text = _reproducible(page.read_text("utf-8"), at, len(page.relative_to(directory).parts))
        page.write_text(text, "utf-8")
    return sorted(failures, key=lambda failure: (failure.feed_id, failure.day, failure.column))


_LOGO = re.compile(r"https://[^\"']*amazonaws\.com/(logo-long\.png)\?d=\w+\.?\w*")
_STAMP = re.compile(r"\b\d{8}T\d{6}\.\d{6}Z\b")
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def _reproducible(page: str, at: datetime, depth: int) -> str:
    """Take out of a page what differs each time: moments of loading, random ids of its parts, and
    a picture that its makers' server counts, which stands beside the pages too."""
    page = _LOGO.sub(rf"{'../' * (depth - 1)}static/images/\1", page)
    page = _STAMP.sub(at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ"), page)
    numbers: dict[str, str] = {}
    return _ID.sub(lambda id_: numbers.setdefault(id_[0], f"part-{len(numbers) + 1}"), page)


def _frame(days: Sequence[FeedDay], wanted: Sequence[Expectation]) -> Any:
    import pandas as pd  # noqa: PLC0415 - comes with Great Expectations

    rows = [{"day": str(day.day), **numbers(day, wanted)} for day in days]
    # Whole numbers with gaps: pandas would make binary fractions of quantities.
    return pd.DataFrame(rows, dtype=object)


def _failures(feed_id: str, wanted: Sequence[Expectation], results: Sequence[Any]) -> list[Failure]:
    words = {expectation.column: expectation.words for expectation in wanted}
    found = []
    for result in results:
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"{feed_id}: {result.exception_info['exception_message']}")
        column = result.expectation_config.kwargs["column"]
        found += [
            Failure(
                feed_id, date.fromisoformat(day["day"]), column, int(day[column]), words[column]
            )
            for day in result.result.get("unexpected_index_list") or []
        ]
    return found


@contextmanager
def _great_expectations(directory: Path) -> Iterator[tuple[Any, Any]]:
    """Import Great Expectations and open a throw-away context that writes docs to a directory."""
    # It reports usage to its makers unless told not to before it is imported.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415 - takes 10 s and more

        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        shutil.rmtree(directory, ignore_errors=True)  # pages of another run would stay
        directory.mkdir(parents=True)
        context.add_data_docs_site(
            site_name="feeds",
            site_config={
                "class_name": "SiteBuilder",
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(directory),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
        yield gx, context
