"""``configs/engine.yaml``: DuckDB unless it says otherwise; what cannot be meant is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.spark_engine import SparkCompute, expanded
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.engine import read_engine
from iotbill_pipelines.engine.compute import EngineError

CLUSTER = """
engine: spark
master: spark://10.0.0.5:7077
scratch: /mnt/shared/iotbill
least_rows: 2000000
settings:
  spark.executor.memory: 8g
  spark.executor.cores: 4
"""


def test_without_the_file_this_machine_computes(tmp_path: Path) -> None:
    assert read_engine(tmp_path).engine == "duckdb"


def test_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "engine.yaml").write_text(CLUSTER, "utf-8")
    choice = read_engine(tmp_path)
    assert (choice.master, choice.least_rows) == ("spark://10.0.0.5:7077", 2_000_000)
    assert choice.settings == {"spark.executor.memory": "8g", "spark.executor.cores": 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("engine: spark\n", "engine: spark needs a master, such as spark://host:7077"),
        ("engine: duckdb\nmaster: local[2]\n", "are Spark's; say engine: spark"),
        ("engine: spark\nmaster: somewhere\n", "master"),
        ("engine: spark\nmaster: yarn\nsettings: {memory: 8g}\n", "memory: Spark's settings begin"),
        ("engine: flink\n", "engine"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "engine.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"engine\.yaml:") as error:
        read_engine(tmp_path)
    assert told in str(error.value)


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    with pytest.raises(EngineError, match=r"pip install 'iotbill-pipelines\[spark\]'"):
        SparkCompute("local[1]", str(tmp_path))


def test_calls_of_the_prelude_are_expanded() -> None:
    statement = r"select wide(a) + DAYS_BETWEEN(b, greatest(c, d)) as n, 'it''s wide(x) \d' -- ('"
    assert expanded(statement) == (
        r"select (cast(a as decimal(38,0))) + (cast(datediff(cast( greatest(c, d) as date), "
        r"cast(b as date)) as bigint)) as n, 'it\'s wide(x) \\d' -- ('"
    )


def test_the_embedded_engine_has_lists_as_text() -> None:
    with DuckDbCompute() as compute:
        told = compute.fetch(
            "select joined(array_agg(distinct word), 1, '+') as told"
            " from (values ('2b'), ('1c'), ('2b')) as t(word)"
        )
    assert told["told"].to_pylist() == ["c+b"]
