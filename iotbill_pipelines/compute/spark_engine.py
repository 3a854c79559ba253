"""Apache Spark behind the Compute protocol: the engine for more than one machine holds.

The statements are those of DuckDB; only the prelude, reading and writing differ. A process has one
Spark application, started by the first :class:`SparkCompute` and ended by :func:`stop`; every
compute is a session of its own in it, with its own relations.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from iotbill_pipelines.engine.compute import EngineError, WrittenFile
from iotbill_pipelines.engine.schemas import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SMALL_ROWS = 20_000
"""Below this many rows a relation is kept in the driver, where it costs the plans nothing."""

MOST_NODES = 400
"""A view whose plan has more nodes is computed once: plans are copied wherever a view is read."""

_WHOLE = "decimal(38,0)"
_MICROS = "unix_micros(cast({} as timestamp_ltz))"
_QUOTIENT = f"cast((abs(n) - abs(n) % d) / d as {_WHOLE})"

# decimal / decimal has six places and 32 digits before them: exact for what divides evenly, and an
# error, never another number, beyond.
PRELUDE = {
    f"wide(x {_WHOLE})": "x",
    f"floor_div(a {_WHOLE}, b {_WHOLE})": f"cast((a - pmod(a, b)) / b as {_WHOLE})",
    f"ceil_div(a {_WHOLE}, b {_WHOLE})": f"cast((a + pmod(-a, b)) / b as {_WHOLE})",
    f"half_up_div(n {_WHOLE}, d {_WHOLE})": (
        f"case when n < 0 then -1 else 1 end * ({_QUOTIENT}"
        " + case when 2 * (abs(n) % d) >= d then 1 else 0 end)"
    ),
    f"rounded_div(n {_WHOLE}, d {_WHOLE}, mode string)": (
        f"case when n < 0 then -1 else 1 end * ({_QUOTIENT} + case mode"
        " when 'half_up' then case when 2 * (abs(n) % d) >= d then 1 else 0 end"
        " when 'up' then case when abs(n) % d > 0 then 1 else 0 end"
        " when 'half_even' then case when 2 * (abs(n) % d) > d"
        f" or (2 * (abs(n) % d) = d and {_QUOTIENT} % 2 = 1) then 1 else 0 end"
        " else 0 end)"
    ),
    "as_e12(x decimal(38,12))": f"cast(x * 1000000000000 as {_WHOLE})",
    "ten_to(n int)": f"cast(rpad('1', n + 1, '0') as {_WHOLE})",
    "json_text(x string, key string)": "get_json_object(x, '$[''' || key || ''']')",
    "fits(x string, pattern string)": r"regexp_like(x, '\A(?:' || pattern || ')\z')",
    "has(x string, pattern string)": "regexp_like(x, pattern)",
    "find(x string, pattern string, part int)": "regexp_extract(x, pattern, part)",
    "swap(x string, pattern string, new string)": "regexp_replace(x, pattern, new)",
    "epoch_time(micros bigint)": "cast(timestamp_micros(micros) as timestamp_ntz)",
    "minus_seconds(t timestamp_ntz, s bigint)": (
        f"cast(timestamp_micros({_MICROS.format('t')} - s * 1000000) as timestamp_ntz)"
    ),
    "seconds_up(a timestamp_ntz, b timestamp_ntz)": (
        f"({_MICROS.format('b')} - {_MICROS.format('a')} + 999999) div 1000000"
    ),
    "quarter_hour(t timestamp_ntz)": (
        f"cast(timestamp_micros({_MICROS.format('t')} div 900000000 * 900000000) as timestamp_ntz)"
    ),
    "days_later(d date, n int)": "date_add(d, n)",
    "days_between(a date, b date)": "cast(datediff(b, a) as bigint)",
    "short_hash(x string)": "shiftrightunsigned(xxhash64(x), 1)",
    "joined(texts array<string>, n int, separator string)": (
        "array_join(transform(array_sort(texts), each -> substr(each, n + 1)), separator)"
    ),
}
"""What engine.compute promises, less ``parse_time``: files are read by the embedded engine.

Calls are replaced by these expressions in the text, as DuckDB does with macros. Spark's own SQL
functions put a projection of all columns under every call, and plans of hundreds of them.
"""

_SETTINGS = {
    # the same meaning of types, literals and errors as in DuckDB
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "1g",
}
_SMALL = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.leafNodeDefaultParallelism": "2",
}
"""For few rows: compiling and planning again take longer than what they save."""


class SparkCompute:
    """A session on a Spark master; use as a context manager.

    ``master`` is Spark's URL (``spark://host:7077``, ``local[2]``, ``local-cluster[2,1,1024]``).
    ``scratch`` is a folder or URL that driver and executors all reach: relations that are computed
    once are kept there until the end. ``expected_rows`` is about how many rows the inputs hold.
    ``settings`` are Spark's own. Raises EngineError where pyspark or Java is missing.
    """

    groups_at_once = sys.maxsize  # it splits them over its executors

    def __init__(
        self,
        master: str,
        scratch: str,
        *,
        expected_rows: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.session = application(master, settings or {}).newSession()
        self._small = expected_rows is not None and expected_rows < SMALL_ROWS
        self._scratch = f"{scratch.rstrip('/')}/spark-{uuid.uuid4().hex}"
        if self._small:
            for name, value in _SMALL.items():
                self.session.conf.set(name, value)

    def __enter__(self) -> SparkCompute:
        return self

    def __exit__(self, *_: object) -> None:
        if "://" not in self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            return
        system, path = fsspec.core.url_to_fs(self._scratch)
        if system.exists(path):
            system.rm(path, recursive=True)

    def load(self, name: str, table: pa.Table) -> None:
        if table.num_rows < SMALL_ROWS:
            # an empty chunk in front would end the table for Spark
            plain = _nullable(table).combine_chunks()
            self.session.createDataFrame(plain).createOrReplaceTempView(name)
            return
        path = f"{self._fresh(name)}.parquet"
        with fsspec.open(path, "wb", auto_mkdir=True) as file:
            pq.write_table(table, file)
        self.session.read.parquet(_location(path)).createOrReplaceTempView(name)

    def scan(self, schema: Table, files: Sequence[str], name: str | None = None) -> None:
        name = name or schema.name
        if not files:
            self.load(name, schema.arrow_schema.empty_table())
            return
        declared = ", ".join(f"{c.name} {c.portable_type}" for c in schema.columns)
        reader = self.session.read.schema(declared.replace("TIMESTAMP", "timestamp_ntz"))
        frame = reader.option("recursiveFileLookup", "true").parquet(*map(_location, files))
        if self._small:
            self._keep(name, frame)
        else:
            frame.createOrReplaceTempView(name)

    def define(self, name: str, select: str, *, keep: bool = False) -> None:
        frame = self._run(select)
        if keep or self._small or _nodes(frame) > MOST_NODES:
            self._keep(name, frame)
        else:
            frame.createOrReplaceTempView(name)

    def fetch(self, select: str) -> pa.Table:
        frame = self._run(_source(select))
        if not self._small:
            return _nullable(frame.toArrow())
        from pyspark.sql.pandas.types import to_arrow_schema  # noqa: PLC0415 - an optional extra

        schema = to_arrow_schema(frame.schema)
        rows = frame.collect()  # without a job where the rows are in the driver already
        columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        return _nullable(pa.Table.from_arrays(arrays, schema=schema))

    def write(
        self,
        select: str,
        directory: str,
        *,
        partition_by: Sequence[str] = (),
        order_by: Sequence[str] = (),
    ) -> list[WrittenFile]:
        # Partition columns stay in the files, too; Spark would take them out.
        names = [f"partition_{number}_" for number in range(len(partition_by))]
        copies = "".join(f", {c} as {n}" for c, n in zip(partition_by, names, strict=True))
        order = [f"{column} nulls last" for column in (*partition_by, *order_by)]
        ordered = f" order by {', '.join(order)}" if order else ""
        frame = self._run(f"select *{copies} from ({_source(select)}) as written_{ordered}")
        frame.write.mode("append").partitionBy(*names).parquet(_location(directory))
        return list(_written(directory, dict(zip(names, partition_by, strict=True))))

    def _run(self, statement: str) -> DataFrame:
        return self.session.sql(expanded(statement))

    def _keep(self, name: str, frame: DataFrame) -> None:
        """Compute a relation now and cut its plan: what reads it begins from its rows."""
        if self._small:
            session: Any = self.session
            inner: Any = frame._jdf  # a way that leaves the rows in the JVM
            rows = session._jsparkSession.createDataFrame(inner.collectAsList(), inner.schema())
            rows.createOrReplaceTempView(name)
        else:
            path = self._fresh(name)
            frame.write.parquet(_location(path))
            kept = self.session.read.schema(frame.schema).parquet(_location(path))
            kept.createOrReplaceTempView(name)

    def _fresh(self, name: str) -> str:
        return f"{self._scratch}/{name}-{uuid.uuid4().hex[:8]}"


_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|\w+|\s+|.", re.DOTALL)


@cache
def _macros() -> dict[str, tuple[dict[str, str], list[str]]]:
    """Name -> its parameters with their types, and the tokens of its expression."""
    found = {}
    for signature, body in PRELUDE.items():
        name, _, listed = signature[:-1].partition("(")
        parameters = re.findall(r"(\w+) (\w+(?:[(<][\w,]+[)>])?)", listed)
        found[name] = (dict(parameters), _TOKEN.findall(body))
    return found


def expanded(statement: str) -> str:
    """Return a statement with the calls of the prelude replaced by their expressions.

    Spark reads a backslash in a literal as the beginning of an escape, and a quote that is written
    twice as the end of one literal and the beginning of the next: both are escaped.
    """
    tokens = _expand(iter(_TOKEN.findall(statement)))
    return "".join(_literal(token) if token.startswith("'") else token for token in tokens)


def _literal(token: str) -> str:
    inner = token[1:-1].replace("\\", "\\\\").replace("''", "\\'")
    return f"'{inner}'"


def _expand(tokens: Iterator[str]) -> Iterator[str]:
    for token in tokens:
        macro = _macros().get(token.lower())
        following = next(tokens, "") if macro else ""
        if macro is None or following != "(":
            yield token
            yield following
            continue
        parameters, body = macro
        values = {
            name: ("cast(", *_expand(iter(argument)), f" as {kind})")
            for argument, (name, kind) in zip(_arguments(tokens), parameters.items(), strict=True)
        }
        yield "("
        for part in body:
            yield from values.get(part, (part,))
        yield ")"


def _arguments(tokens: Iterator[str]) -> list[list[str]]:
    """Split what stands up to the closing parenthesis at its commas."""
    found: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        if token == ")" and not depth:
            break
        depth += (token in ("(", "[")) - (token in (")", "]"))
        if token == "," and not depth:
            found.append([])
        else:
            found[-1].append(token)
    return found


_application: SparkSession | None = None


def application(master: str, settings: Mapping[str, str]) -> SparkSession:
    """Return this process's Spark application, started on first use.

    Raises EngineError where pyspark or Java is missing, or the process already uses another master.
    """
    global _application  # noqa: PLW0603 - Spark allows one application in a process
    if _application is not None:
        running = _application.sparkContext.master
        if running != master:
            raise EngineError(
                f"this process already uses Spark at {running}, not {master}; one process uses one"
            )
        return _application
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise EngineError(
            "engine: spark needs the extra: pip install 'iotbill-pipelines[spark]'"
        ) from error
    if not has_java():
        raise EngineError("engine: spark needs Java 17 or newer; install it, or set JAVA_HOME")
    builder = SparkSession.builder.appName("iotbill").master(master)
    for name, value in {**_SETTINGS, **settings}.items():
        builder = builder.config(name, value)
    _application = builder.getOrCreate()
    _application.sparkContext.setLogLevel("ERROR")
    atexit.register(stop)
    return _application


def has_java() -> bool:
    """Is there a Java that Spark would start, by JAVA_HOME or on the path?"""
    return bool(os.environ.get("JAVA_HOME")) or shutil.which("java") is not None


def stop() -> None:
    """End this process's Spark application, if it has one, and give its executors back."""
    global _application  # noqa: PLW0603
    if _application is not None:
        _application.stop()
        _application = None


def _source(select: str) -> str:
    return f"select * from {select}" if select.isidentifier() else select


def _nullable(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def _location(path: str) -> str:
    return path if "://" in path else f"file:{path}"


def _nodes(frame: DataFrame) -> int:
    inner: Any = frame._jdf
    text: str = inner.queryExecution().analyzed().treeString()
    return text.count("\n")


def _written(directory: str, columns: Mapping[str, str]) -> list[WrittenFile]:
    """The files with rows below a directory, with the partition that each one's path tells."""
    system, root = fsspec.core.url_to_fs(directory)
    found = []
    for path in sorted(system.find(root)):
        if not path.endswith(".parquet"):
            continue
        with system.open(path, "rb") as file:
            rows = pq.read_metadata(file).num_rows
        if not rows:
            continue
        partition = {}
        for part in path[len(root) :].split("/"):
            name, told, value = part.partition("=")
            if told:
                empty = value == "__HIVE_DEFAULT_PARTITION__"
                partition[columns[name]] = "" if empty else unquote(value)
        place = path if "://" not in directory else system.unstrip_protocol(path)
        found.append(WrittenFile(place, partition, rows, system.size(path)))
    return found
