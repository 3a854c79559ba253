"""Locks between processes, on a real database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.storage import database


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = database.connect(postgres_url)
    yield engine
    engine.dispose()


def _is_free(engine: sa.Engine, *names: str) -> bool:
    with advisory_lock(engine, *names, wait=False) as held:
        return held


def test_several_locks_are_held_and_given_back_together(engine: sa.Engine) -> None:
    with pytest.raises(KeyError), advisory_lock(engine, "b", "a", "b", wait=True) as held:
        assert held
        assert not _is_free(engine, "a") and not _is_free(engine, "b")
        assert not _is_free(engine, "Z", "a")
        assert _is_free(engine, "Z")  # what one of several missed leaves none of them taken
        raise KeyError
    assert _is_free(engine, "a", "b")


def test_more_locks_than_a_pool_has_connections_take_one(engine: sa.Engine) -> None:
    with advisory_lock(engine, *map(str, range(40)), wait=True), engine.connect() as other:
        assert other.execute(sa.text("select 1")).scalar_one() == 1
        assert not _is_free(engine, "39")
