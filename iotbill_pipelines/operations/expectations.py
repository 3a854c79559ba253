"""Great Expectations on the profile of feed-days: what fails, and Data Docs of everything.

A module of its own because importing the library takes ten seconds and more.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from iotbill_pipelines.operations.data_quality import Expectation, Failure, FeedDay, numbers


def run_expectations(
    days: Sequence[FeedDay], wanted: Mapping[str, Sequence[Expectation]], directory: Path
) -> list[Failure]:
    """Hold each feed's days against its expectations; write Data Docs into ``directory``.

    A value that is not known (volume without weeks to compare with) fails nothing.
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
                batch_parameters={"dataframe": _frame(mine, wanted[feed_id])},
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["day"],
                },
            )
            failures += _failures(feed_id, wanted[feed_id], result.results)
        context.build_data_docs(site_names=["feeds"])
    return sorted(failures, key=lambda failure: (failure.feed_id, failure.day, failure.column))


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
