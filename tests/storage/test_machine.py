"""What the machine is the cause of is told in plain words, whoever noticed it."""

from __future__ import annotations

import errno

import psycopg2  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from iotbill_pipelines.storage.machine import MachineError, as_machine_error, trouble

FULL = "do $$ begin raise exception 'could not extend file' using errcode = '{}'; end $$"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("53100", "the database's disk is full (could not extend file); nothing half written"),
        ("53300", "the database's server is at a limit (could not extend file)"),
        ("40P01", "the database stopped it (could not extend file); run the same command again"),
        ("57P03", "the database does not answer (could not extend file); check"),
    ],
)
def test_what_the_database_s_server_lacks(postgres_url: str, code: str, said: str) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        with pytest.raises(sa.exc.OperationalError) as wrapped:
            connection.execute(sa.text(FULL.format(code)))
        connection.rollback()
        with pytest.raises(psycopg2.OperationalError) as bare:  # as COPY raises it
            connection.connection.cursor().execute(FULL.format(code))
    for error in (wrapped.value, bare.value):
        assert (trouble(error) or "").startswith(said)


def test_only_the_machine_s_errors_are_told_so() -> None:
    with pytest.raises(MachineError, match="the disk cannot be written"), as_machine_error():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ZeroDivisionError), as_machine_error():
        _ = 1 // 0
