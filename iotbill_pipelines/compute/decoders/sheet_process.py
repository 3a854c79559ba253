"""The process that reads a workbook: standard input to JSON lines, in bounded memory.

Workbook readers allocate what a file says it needs, and end their process when there is not that
much: one cell at the far corner of a sheet is enough. So they run in a process of their own. The
first line tells about the workbook, each further one is a row: its texts and the positions of the
numbers that are not exact.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from iotbill_pipelines.config.workbook_cells import cell_text, is_imprecise


def answer(data: bytes, sheet: str | None, max_cells: int) -> Iterator[object]:
    """Yield what the process prints: ``{"sheets"}`` or ``{"error", "message"}``, then rows."""
    calamine = importlib.import_module("python_calamine")
    try:
        workbook = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        names: list[str] = workbook.sheet_names
        name = sheet if sheet is not None else (names[0] if names else None)
        if name not in names:
            yield {"sheets": names, "error": "no_such_sheet", "message": ""}
            return
        found = workbook.get_sheet_by_name(name)
        if found.total_height * found.total_width > max_cells:
            message = f"the sheet has more than {max_cells} cells"
            yield {"sheets": names, "error": "too_large", "message": message}
            return
        rows: list[list[Any]] = found.to_python(skip_empty_area=False)
    except (calamine.CalamineError, OSError, ValueError) as error:
        yield {"error": "unreadable", "message": str(error)}
        return
    yield {"sheets": names, "sheet": name}
    for row in rows:
        texts = [cell_text(cell) for cell in row]
        yield [texts, [place for place, cell in enumerate(row) if is_imprecise(cell)]]


def main() -> None:
    """Read workbooks from standard input; the argument is the memory limit in bytes.

    Each is a line of JSON (``bytes``, ``sheet``, ``max_cells``) and that many bytes.
    """
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # not on every system; the process alone still protects its parent
        pass
    else:
        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while request := sys.stdin.buffer.readline():
        wanted = json.loads(request)
        data = sys.stdin.buffer.read(wanted["bytes"])
        for line in answer(data, wanted["sheet"], wanted["max_cells"]):
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.write("true\n")  # the end: a process that died is not taken for a short file
        sys.stdout.flush()


if __name__ == "__main__":
    main()
