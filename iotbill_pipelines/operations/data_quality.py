"""Data quality of a period's feeds: expectations of each feed-day, with Data Docs to look at.

Great Expectations runs on the profile of a feed-day, once per close: importing it takes longer
than everything it checks. What it expects stands under ``expect`` in each feed. Its findings are
warnings; what must not be billed was rejected record by record before.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import any_, select
from sqlalchemy.orm import Session

from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.schemas import USAGE_RECORD, Table
from iotbill_pipelines.engine.validate.profile import LANDED_FILE, profile
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.table_schema import pandera_schema
from iotbill_pipelines.storage.models import FeedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations.workspace import Workspace

SAMPLE_ROWS = 20_000
"""Records that pandera sees of a period: a bounded batch, whatever its size."""


@dataclass(frozen=True)
class Expectation:
    """An expectation of a column of the profile: ``low <= value <= high``, in words too."""

    column: str
    low: int | None
    high: int | None
    words: str


def check_feeds(ws: Workspace, period: Month) -> StageResult:
    """Check the feed-days that brought usage of ``period``; write Data Docs beside its report."""
    feeds = load_feeds(ws.configs / "feeds")
    landed = _landed(ws, str(period))
    classes = sorted({name for spec in feeds.values() for name in spec.expect.max_quantity})
    with ws.compute() as compute:
        compute.load("landed_file", landed)
        keys = set(landed["file_key"].to_pylist())
        files = [
            path
            for key in sorted(keys)
            for path in ws.lake.files(USAGE_RECORD, file_key=str(key))
        ]  # fmt: skip
        compute.scan(USAGE_RECORD, files)
        days = profile(compute, classes)
        sample = compute.fetch(
            f"select * from usage_record order by md5(file_key || ':' || line_no) "
            f"limit {SAMPLE_ROWS}"
        )
    docs = ws.out(period) / "data_docs"
    findings = run_expectations(days, feeds, docs)
    # feeds that deliver credits are exempt by their own bounds, checked record by record
    credits = any(spec.bounds.allow_negative for spec in feeds.values())
    findings += check_table(USAGE_RECORD, sample, allow_negative=credits)
    return StageResult(
        rows={"feed-days": days.num_rows, "expectations failed": len(findings)},
        preview=days.select(
            [name for name in days.column_names if not name.startswith("nulls_")]
        ).slice(0, 50),
        files=[docs / "index.html"] if (docs / "index.html").is_file() else [],
        findings=findings,
    )


def _landed(ws: Workspace, month: str) -> pa.Table:
    wanted = select(FeedFile).where(
        FeedFile.state == "ingested", any_(FeedFile.usage_months) == month
    )
    with Session(ws.engine) as session:
        rows = [
            {
                "file_key": row.file_key,
                "feed_id": row.feed_id,
                "received_day": row.received_day,
                "records_in": row.records_in or 0,
                "ignored": row.ignored or 0,
                "rejected": row.rejected or 0,
            }
            for row in session.execute(wanted.order_by(FeedFile.file_key)).scalars()
        ]
    return pa.Table.from_pylist(rows, schema=LANDED_FILE)


def expectations(spec: FeedSpec) -> list[Expectation]:
    """Return what a feed's ``expect`` section means for the columns of its profile."""
    expect = spec.expect
    made = [
        Expectation(
            "reject_per_million", 0, int(expect.max_reject_percent * 10_000),
            f"at most {expect.max_reject_percent} % of the records are rejected",
        )
    ]  # fmt: skip
    if expect.min_records is not None or expect.max_records is not None:
        made.append(
            Expectation("records_in", expect.min_records, expect.max_records,
                        f"between {expect.min_records or 0} and "
                        f"{'any number of' if expect.max_records is None else expect.max_records}"
                        " records a day")
        )  # fmt: skip
    if expect.min_identifiers is not None:
        words = f"at least {expect.min_identifiers} SIMs or devices a day"
        made.append(Expectation("identifiers", expect.min_identifiers, None, words))
    for column, percent in sorted(expect.max_null_percent.items()):
        made.append(
            Expectation(f"null_per_million_{column}", 0, int(percent * 10_000),
                        f"at most {percent} % of the records lack {column}")
        )  # fmt: skip
    for usage_class, most in sorted(expect.max_quantity.items()):
        made.append(Expectation(f"quantity_{usage_class}", None, most,
                                f"at most {most} units of {usage_class} a day"))  # fmt: skip
    return made


def run_expectations(
    days: pa.Table, feeds: Mapping[str, FeedSpec], directory: Path
) -> list[Finding]:
    """Run each feed's expectations on its days; write Data Docs into ``directory``."""
    rows = days.to_pylist()
    present = [feed_id for feed_id in sorted({r["feed_id"] for r in rows}) if feed_id in feeds]
    if not present:
        return []
    findings: list[Finding] = []
    with _great_expectations(directory) as (gx, context):
        source = context.data_sources.add_pandas("feed_day_profile")
        for feed_id in present:
            frame = _frame([row for row in rows if row["feed_id"] == feed_id])
            batch = source.add_dataframe_asset(feed_id).add_batch_definition_whole_dataframe("days")
            suite = context.suites.add(gx.ExpectationSuite(name=feed_id))
            wanted = expectations(feeds[feed_id])
            for expectation in wanted:
                suite.add_expectation(
                    gx.expectations.ExpectColumnValuesToBeBetween(
                        column=expectation.column,
                        min_value=expectation.low,
                        max_value=expectation.high,
                        notes=expectation.words,
                    )
                )
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(name=feed_id, data=batch, suite=suite)
            )
            result = definition.run(
                batch_parameters={"dataframe": frame},
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["day"],
                },
            )
            findings += _findings(feed_id, wanted, result.results)
        context.build_data_docs(site_names=["feeds"])
    return findings


def _frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return the profile of one feed as a frame, with null rates worked out in integers."""
    import pandas as pd  # noqa: PLC0415 - comes with Great Expectations

    made = []
    for row in rows:
        numbers: dict[str, object] = {"day": str(row["day"])}
        for name, value in row.items():
            if name.startswith("nulls_"):
                rate = value * 1_000_000 // row["accepted"] if row["accepted"] else 0
                numbers[f"null_per_million_{name.removeprefix('nulls_')}"] = rate
            elif isinstance(value, int | Decimal):
                numbers[name] = int(value)
        made.append(numbers)
    return pd.DataFrame(made)


def _findings(feed_id: str, wanted: Sequence[Expectation], results: Sequence[Any]) -> list[Finding]:
    words = {expectation.column: expectation.words for expectation in wanted}
    found = []
    for result in results:
        if result.success:
            continue
        column = result.expectation_config.kwargs["column"]
        days = result.result.get("unexpected_index_list") or []
        listed = ", ".join(f"{day['day']}: {day.get(column)}" for day in days[:5])
        more = f" and {len(days) - 5} more days" if len(days) > 5 else ""
        found.append(
            Finding(
                "feed_day_expectation", "warn",
                f"{feed_id}: expected {words[column]}; {column} was {listed}{more}",
                f"{len(days)} days",
                f"look at the rejected records of {feed_id}, or ask the carrier; "
                "change expect in its feed if this is normal",
            )
        )  # fmt: skip
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
        directory.mkdir(parents=True, exist_ok=True)
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


def check_table(
    schema: Table, rows: pa.Table, *, unique_key: bool = True, allow_negative: bool = False
) -> list[Finding]:
    """Hold a small table against the pandera schema of its declaration.

    Each broken rule is one finding that blocks: a stage must never publish such rows.
    """
    import pandas as pd  # noqa: PLC0415 - see pandera_schema
    import pandera.pandas as pandera  # noqa: PLC0415

    # nulls are pandera's to find: Arrow would only refuse them
    types = pa.schema([field.with_nullable(True) for field in schema.arrow_schema])
    frame = rows.cast(types).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        pandera_schema(schema, unique_key=unique_key, allow_negative=allow_negative).validate(
            frame, lazy=True
        )
    except pandera.errors.SchemaErrors as error:
        return [
            Finding(
                "table_schema", "block",
                f"{schema.name}.{column or 'rows'}: {check}, for example {cases.iloc[0]}",
                f"{len(cases)} rows",
                "correct the file that delivered these rows and land it again",
            )
            for (column, check), cases in error.failure_cases.fillna({"column": ""}).groupby(
                ["column", "check"], sort=True
            )["failure_case"]
        ]  # fmt: skip
    return []
