"""A workspace of its own per test, with a clock that the test turns, and the servers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.operations.fetching import Fetched, fetch
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing
from tests.sources.servers import PASSWORD, S3Server, SftpServer, s3_server, sftp_server

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Receiver:
    """A workspace whose time the test sets, and the secrets in its environment."""

    ws: Workspace
    times: list[datetime]
    secrets: dict[str, str] = field(default_factory=lambda: {"SFTP_PASSWORD": PASSWORD})

    def later(self, **amount: float) -> None:
        self.times.append(self.times[-1] + timedelta(**amount))

    def fetch(self, source: Source) -> Fetched:
        return fetch(self.ws, source, self.secrets.get)

    def twice(self, source: Source) -> Fetched:
        """See what is there, let it settle, fetch it."""
        self.fetch(source)
        self.later(minutes=5)
        return self.fetch(source)

    def contents(self, fetched: Fetched) -> dict[str, bytes]:
        """What is in the archive of the files that came."""
        from sqlalchemy import select
        from sqlalchemy.orm import Session

        from iotbill_pipelines.storage.models import FeedFile

        found = {}
        with Session(self.ws.engine) as session:
            for file in fetched.landed:
                row = session.execute(
                    select(FeedFile).where(FeedFile.file_key == file.file_key)
                ).scalar_one()
                with landing.open_archived(self.ws.archive, row.archive_path) as stream:
                    found[str(file.path)] = stream.read()
        return found


@pytest.fixture
def receiver(tmp_path: Path, postgres_url: str) -> Iterator[Receiver]:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs" / "feeds", configs / "feeds")
    times = [datetime(2026, 11, 1, 8, tzinfo=UTC)]
    ws = Workspace.open(
        tmp_path / "home", configs, postgres_url, clock=lambda: times[-1], migrate=True
    )
    yield Receiver(ws, times)
    ws.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpServer]:
    with sftp_server(tmp_path / "sftp") as server:
        (server.root / "outbox").mkdir()
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


Made = Callable[..., Source]


@pytest.fixture
def sftp_source(sftp: SftpServer) -> Made:
    def make(**changes: object) -> Source:
        return Source.model_validate(
            {
                "id": "carrier",
                "url": f"sftp://127.0.0.1:{sftp.port}/outbox",
                "user": "iotbill",
                "host_keys": [sftp.host_key],
                "credentials": {"password": "SFTP_PASSWORD"},
                "timeout_seconds": 5,
            }
            | changes
        )

    return make


def write_source(receiver: Receiver, source: Source) -> None:
    """Write a source into the workspace's configuration."""
    folder = receiver.ws.configs / "sources"
    folder.mkdir(exist_ok=True)
    data = source.model_dump(mode="json", exclude_defaults=True)
    (folder / f"{source.id}.yaml").write_text(yaml.safe_dump(data))
