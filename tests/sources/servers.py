"""Real servers: SFTP by asyncssh and S3 by moto, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

USER, PASSWORD = "iotbill", "correct horse"


@dataclass(frozen=True)
class SftpServer:
    """A running server: its folder, port, public host key and the clients' private key."""

    root: Path
    port: int
    host_key: str
    client_key: str


class _Passwords(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return bool(username)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@contextmanager
def sftp_server(
    root: Path, session: type[asyncssh.SFTPServer] | None = None
) -> Iterator[SftpServer]:
    """Serve ``root`` as ``/`` until the block ends; ``session`` may misbehave."""
    root.mkdir(parents=True, exist_ok=True)
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    accepted = root.parent / f"{root.name}.authorized_keys"
    accepted.write_bytes(client.export_public_key())
    base = session or asyncssh.SFTPServer

    def jailed(channel: Any) -> asyncssh.SFTPServer:
        return base(channel, chroot=str(root).encode())

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=_Passwords, server_host_keys=[host],
            authorized_client_keys=str(accepted), sftp_factory=jailed,
        )  # fmt: skip

    async def stop(acceptor: asyncssh.SSHAcceptor) -> None:
        acceptor.close()
        await acceptor.wait_closed()

    acceptor = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield SftpServer(
            root,
            acceptor.sockets[0].getsockname()[1],
            host.export_public_key().decode().strip(),
            client.export_private_key().decode(),
        )
    finally:
        asyncio.run_coroutine_threadsafe(stop(acceptor), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)


@dataclass(frozen=True)
class S3Server:
    """A running emulation: its endpoint, and a client to fill buckets with."""

    endpoint: str
    client: Any


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve S3 until the block ends."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield _s3_at(f"http://{host}:{port}")
    finally:
        server.stop()


# One request after the other: moto looks whether an object is there and then writes it, which two
# conditional puts at once would both survive.
_S3_PROGRAM = """
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, app, request_handler=MotoRequestHandler)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def s3_process() -> Iterator[S3Server]:
    """Serve S3 from a process of its own, which clients that hold this one's lock can talk to."""
    with subprocess.Popen(
        [sys.executable, "-c", _S3_PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield _s3_at(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def _s3_at(endpoint: str) -> S3Server:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="access", aws_secret_access_key="secret",
    )  # fmt: skip
    return S3Server(endpoint, client)
