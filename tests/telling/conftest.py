"""A small company's booked month; what only tells (explain, whatif) reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iotbill_pipelines.operations.workspace import Workspace
from tests import months
from tests.shelf import Shelf


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("telling") / "month"
    ws = months.opened(folder, shelf.copy(months.BOOKED, folder))
    yield ws
    ws.close()
