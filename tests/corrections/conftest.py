"""A small company's booked October; each test of a module goes on where the last left it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from iotbill_pipelines.operations.workspace import Workspace
from tests import months
from tests.conftest import ROOT
from tests.shelf import Shelf


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Workspace]:
    """A workspace with configs of its own, its October rated, settled and booked."""
    folder = tmp_path_factory.mktemp("corrections") / "month"
    url = shelf.copy(months.BOOKED, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    ws = months.opened(folder, url, folder / "configs")
    yield ws
    ws.close()
