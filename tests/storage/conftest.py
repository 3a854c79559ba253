"""An object store for the lake, started once by a worker whose tests use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sources.servers import S3Server, s3_process
from tests.storage.stores import BUCKET


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server with a bucket."""
    with s3_process() as server:
        server.client.create_bucket(Bucket=BUCKET)
        yield server
