"""A Spark cluster of this machine, whose executors are processes of their own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import pytest

from iotbill_pipelines.compute import spark_engine
from iotbill_pipelines.compute.spark_engine import SparkCompute

MASTER = "local-cluster[2,1,1024]"
# Every statement of a small company is planned once: compiling well would cost more than it saves.
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraJavaOptions": _QUICK,
    "spark.executor.extraJavaOptions": _QUICK,
    "spark.sql.shuffle.partitions": "2",
}

Start = Callable[[int | None], SparkCompute]
"""Starts an engine for about so many rows; for any number where None is said."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("pyspark") is None:
        reason = "pyspark is not installed here: `make test-spark` has an environment with it"
    elif not spark_engine.has_java():
        reason = "there is no Java on this machine: Spark needs 17 or newer"
    else:
        return
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start engines on one cluster; it ends with the test run."""
    scratch = tmp_path_factory.mktemp("scratch")

    def started(expected_rows: int | None) -> SparkCompute:
        return SparkCompute(MASTER, str(scratch), expected_rows=expected_rows, settings=SETTINGS)

    yield started
    spark_engine.stop()
    assert not list(scratch.iterdir()), "an engine left what it kept"
