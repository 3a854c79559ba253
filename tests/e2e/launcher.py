"""Starts ``iotbill`` again and again as processes of their own, imported once.

Half of a short command's time is Python importing libraries. This process imports them, forks for
each command that it is told on its standard input, and answers with the exit code: the child runs
the program's entry point with its own arguments, folder, output and exit handlers, and can be
killed like any other process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import sys
import threading

from tests.conftest import ROOT

_LATER = (
    *(f"dagster_postgres.{kind}" for kind in ("event_log", "run_storage", "schedule_storage")),
    "dagster._core.storage.local_compute_log_manager",
    *("babel.dates", "psycopg2.extras", "pyarrow.dataset", "upath.implementations.local"),
)
"""What libraries import when it is first used."""


def main() -> None:
    """Serve requests, one JSON object a line, until the standard input ends."""
    _import_everything()
    assert threading.active_count() == 1, "a fork would lose a thread"
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request)
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _import_everything() -> None:
    import pandas as pd
    import pandera.pandas as pa

    import iotbill_pipelines
    from iotbill_pipelines.config.documents import read_yaml
    from iotbill_pipelines.config.feeds import load_feeds
    from iotbill_pipelines.storage.html_pages import template

    for module in pkgutil.walk_packages(iotbill_pipelines.__path__, "iotbill_pipelines."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _LATER:
        importlib.import_module(name)
    pa.DataFrameSchema({}).validate(pd.DataFrame())
    # compiled and parsed once, as a long-lived process would
    folder = ROOT / "configs" / "feeds"
    load_feeds(folder, load_feeds(folder))
    for file in (ROOT / "configs").rglob("*.yaml"):
        read_yaml(file)
    for page in ("page.html", "close_report.html"):
        template(page)
    gc.collect()
    gc.freeze()  # no child looks through it all again


def _become(request: dict[str, str]) -> None:
    code = 1
    try:
        for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            os.dup2(os.open(name, flags, 0o600), number)
        os.chdir(request["cwd"])
        sys.argv = ["iotbill", *request["arguments"]]
        exec(compile(request["program"], "<program>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
