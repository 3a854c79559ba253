"""The command line's manners: help at once, errors as sentences, exit codes as documented."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iotbill_pipelines.cli.errors import sentence
from iotbill_pipelines.cli.main import app, main
from iotbill_pipelines.config.documents import ConfigError
from tests.conftest import ROOT

COMMANDS = ("init", "sample", "land", "ingest", "close", "status", "trace", "up", "demo")


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process, from its entry point on."""
    monkeypatch.chdir(ROOT)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["iotbill", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


def test_help_answers_at_once() -> None:
    """Processor time, not wall time: other tests run beside this one."""
    program = "import time, sys; sys.argv = ['iotbill', '--help']\n"
    program += "from iotbill_pipelines.cli.main import main\n"
    program += "try: main()\nfinally: sys.stderr.write(str(time.process_time()))"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert float(done.stderr.strip()) < 1.0, time.monotonic() - started


def test_help_teaches_the_way_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(command in shown for command in (*COMMANDS, "scenario"))
    assert "Exit codes" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    assert "Example:" in shown and command in shown.partition("Example:")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("close", "2026-13"), "is not a month; write it as YYYY-MM"),
        (("close", "2026-10"), "run `iotbill init` first"),
        (("status", "october"), "is not a month"),
        (("sample", "--services", "3"), "40"),
        (("scenario", "run", "/no/such/scenario.yaml"), "/no/such/scenario.yaml"),
        (("no-such-command",), "No such command"),
    ],
)
def test_what_a_user_can_put_right_is_a_sentence(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run("--home", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_missing_configuration_folder_is_told(run: Run, tmp_path: Path) -> None:
    done = run("--home", str(tmp_path), "--configs", "/no/such/configs", "init")
    assert done.returncode == 2 and "--configs" in done.stderr


def test_another_kind_of_database_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("--home", str(tmp_path), "--database-url", "sqlite:///x.db", "init")
    assert done.returncode == 2 and "postgresql" in done.stderr


def test_defects_are_not_dressed_up() -> None:
    assert sentence(KeyError("x")) is None
    assert sentence(ConfigError("a.yaml", ("k",), 3, "wrong")) == "a.yaml:3: k: wrong"


def test_scenarios_run_without_a_workspace(run: Run) -> None:
    files = sorted((ROOT / "tests" / "scenarios").glob("*.yaml"))[:2]
    done = run("scenario", "run", *map(str, files))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 scenarios as expected" in done.stdout


def test_a_scenario_needs_neither_database_nor_dagster() -> None:
    """Nor the time that importing them takes, which would be more than the scenario's own."""
    program = "import sys; sys.argv = ['iotbill', 'scenario', 'run', sys.argv[1]]\n"
    program += "from iotbill_pipelines.cli.main import main\n"
    program += "try: main()\nfinally: sys.stderr.write(' '.join(sys.modules))"
    file = ROOT / "tests" / "scenarios" / "files_ndjson.yaml"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert "1 of 1 scenarios as expected" in done.stdout
    known = set(done.stderr.split())
    assert "duckdb" in known
    assert not known & {"sqlalchemy", "alembic", "psycopg", "dagster", "deltalake", "pyspark"}


def test_the_page_on_scenarios_shows_what_is_printed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "pool_proportional_excess.yaml"
    text = (ROOT / "tests" / "scenarios" / name).read_text()
    changed = text.replace("charge: over, amount: 1.53", "charge: over, amount: 1.55")
    assert changed != text
    (tmp_path / name).write_text(changed)
    monkeypatch.chdir(tmp_path)
    done = run("scenario", "run", name)
    assert done.returncode == 1, done.stderr
    page = (ROOT / "docs" / "scenarios.md").read_text()
    shown = page.partition("```\n")[2].partition("```")[0]
    assert shown.startswith("differs")
    assert _without_seconds(done.stdout) == _without_seconds(shown)


def _without_seconds(text: str) -> str:
    return re.sub(r"[0-9]+\.[0-9] s", "N s", text)


def test_a_sample_a_landing_and_a_status(run: Run, tmp_path: Path, postgres_url: str) -> None:
    home = ("--home", str(tmp_path / "home"), "--database-url", postgres_url)
    assert run(*home, "init").returncode == 0
    settings = (tmp_path / "home" / "dagster" / "dagster.yaml").stat()
    assert settings.st_mode & 0o077 == 0  # it may hold the database's password
    assert run("sample", "--services", "40", "--out", str(tmp_path / "in")).returncode == 0
    accounts = tmp_path / "in" / "accounts.csv"
    first = json.loads(run(*home, "land", str(accounts), "--json").stdout)
    assert [file["new"] for file in first] == [True]
    again = run(*home, "land", str(accounts))
    assert "0 new, 1 known already" in again.stdout
    assert run(*home, "ingest", "--day", "tomorrow").returncode == 2
    assert run(*home, "ingest").returncode == 0
    told = json.loads(run(*home, "status", "--json").stdout)
    assert [(file["feed_id"], file["state"]) for file in told["files"]] == [
        ("accounts", "ingested")
    ]
    unknown = run(*home, "trace", "NL01-2026-10-REVENUE-001:3")
    assert unknown.returncode == 2 and "journal line" in unknown.stderr
