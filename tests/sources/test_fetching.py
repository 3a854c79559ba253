"""Files of folders, SFTP servers and S3 buckets: each version lands once, whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import sqlalchemy as sa

from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.operations.fetching import chosen_sources, fetch_settled, look
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.storage import remote_files
from iotbill_pipelines.storage.sources import RemoteObject, SourceError
from tests.sources.conftest import Made, Receiver, write_source
from tests.sources.servers import S3Server, SftpServer, sftp_server


def folder_source(inbox: Path, **changes: object) -> Source:
    return Source.model_validate({"id": "share", "url": inbox.as_uri()} | changes)


def names(fetched: Any) -> list[str]:
    return sorted(str(file.path) for file in fetched.landed)


# ------------------------------------------------------------------------------- any source


def test_a_file_lands_once_it_settled_and_never_again(receiver: Receiver, inbox: Path) -> None:
    (inbox / "bics_usage_20261001.csv").write_text("a;b\n1;2\n")
    source = folder_source(inbox)
    first = receiver.fetch(source)
    assert (first.landed, first.look.decision.unsettled) == ((), 1)
    receiver.later(seconds=59)
    assert receiver.fetch(source).look.decision.unsettled == 1
    receiver.later(seconds=1)
    second = receiver.fetch(source)
    assert receiver.contents(second) == {"bics_usage_20261001.csv": b"a;b\n1;2\n"}
    assert second.landed[0].feed_id == "bics_usage"
    receiver.later(days=3)
    assert receiver.fetch(source).landed == ()


def test_a_file_that_grows_is_left_alone_until_it_stops(receiver: Receiver, inbox: Path) -> None:
    source = folder_source(inbox)
    file = inbox / "bics_usage_1.csv"
    for part in range(4):
        with file.open("a") as handle:
            handle.write(f"{part};x\n")
        assert receiver.fetch(source).landed == ()
        receiver.later(minutes=2)
    assert receiver.contents(receiver.fetch(source)) == {"bics_usage_1.csv": file.read_bytes()}
    with receiver.ws.engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from remote_file")).scalar() == 1


def test_the_same_name_with_new_content_is_a_new_version(receiver: Receiver, inbox: Path) -> None:
    source = folder_source(inbox)
    file = inbox / "bics_usage_1.csv"
    file.write_text("old\n")
    old = receiver.twice(source)
    stamp = file.stat().st_mtime_ns
    file.write_text("new\n")  # the same size
    os.utime(file, ns=(stamp, stamp + 10**9))
    new = receiver.twice(source)
    assert [*receiver.contents(old).values(), *receiver.contents(new).values()] == [
        b"old\n",
        b"new\n",
    ]
    assert old.landed[0].file_key != new.landed[0].file_key


def test_known_content_under_another_name_changes_nothing(receiver: Receiver, inbox: Path) -> None:
    source = folder_source(inbox)
    (inbox / "bics_usage_1.csv").write_text("x\n")
    receiver.twice(source)
    (inbox / "bics_usage_2.csv").write_text("x\n")
    again = receiver.twice(source)
    assert [(names(again), file.new) for file in again.landed] == [(["bics_usage_2.csv"], False)]
    receiver.later(minutes=5)
    assert receiver.fetch(source).landed == ()


def test_a_marker_says_what_is_whole(receiver: Receiver, inbox: Path) -> None:
    source = folder_source(inbox, marker="{name}.done")
    for name in ("a.csv", "b.csv", "b.csv.done", "c.csv.done"):
        (inbox / name).write_text(name)
    assert names(receiver.fetch(source)) == ["b.csv"]
    (inbox / "a.csv.done").touch()
    assert names(receiver.fetch(source)) == ["a.csv"]


def test_patterns_and_names_of_unfinished_files(receiver: Receiver, inbox: Path) -> None:
    for name in ("a.csv", "b.csv.part", ".c.csv", "d.txt", "e_test.csv", "F.CSV.TMP", "g.csv.gz"):
        (inbox / name).write_text(name)
    source = folder_source(inbox, files=["*.csv", "*.csv.gz", "*"], leave=["*_test*", "*.txt"])
    assert names(receiver.twice(source)) == ["a.csv", "g.csv.gz"]


def test_folders_below_are_read_as_deep_as_asked(receiver: Receiver, inbox: Path) -> None:
    for path in ("a.csv", "x/a.csv", "x/y/a.csv"):
        (inbox / path).parent.mkdir(exist_ok=True)
        (inbox / path).write_text(path)
    (inbox / "out").symlink_to("/etc")
    (inbox / "passwd.csv").symlink_to("/etc/passwd")
    source = folder_source(inbox, folders_deep=1)
    assert names(receiver.twice(source)) == ["a.csv", "x/a.csv"]


def test_a_look_takes_no_more_than_its_limits_and_the_next_goes_on(
    receiver: Receiver, inbox: Path
) -> None:
    for number in range(7):
        (inbox / f"{number}.csv").write_bytes(b"%d" % number * 10)
    few = folder_source(inbox, limits={"files": 3})
    batches = [receiver.twice(few)]
    while batches[-1].landed:
        batches.append(receiver.fetch(few))
    assert [names(batch) for batch in batches] == [
        ["0.csv", "1.csv", "2.csv"],
        ["3.csv", "4.csv", "5.csv"],
        ["6.csv"],
        [],
    ]
    assert batches[0].look.decision.more == 4
    small = folder_source(inbox, id="small", limits={"bytes": 25})
    assert names(receiver.twice(small)) == ["0.csv", "1.csv"]


def test_a_file_that_cannot_be_fetched_waits_and_stops_no_other(
    receiver: Receiver, inbox: Path
) -> None:
    (inbox / "huge.csv").write_bytes(b"x" * 100)
    (inbox / "small.csv").write_bytes(b"y")
    source = folder_source(inbox, limits={"file_bytes": 50})
    fetched = receiver.twice(source)
    assert names(fetched) == ["small.csv"]
    assert "huge.csv has 100 bytes; share takes at most 50" in fetched.problems[0]
    assert receiver.fetch(source).look.decision.postponed == 1
    receiver.later(minutes=3)
    again = receiver.fetch(source)
    assert (again.look.decision.postponed, len(again.problems)) == (0, 1)
    receiver.later(minutes=3)
    assert receiver.fetch(source).look.decision.postponed == 1  # the pause doubled
    receiver.later(minutes=3)
    bigger = folder_source(inbox)
    assert names(receiver.fetch(bigger)) == ["huge.csv"]


def test_names_that_lead_elsewhere_or_cannot_be_kept_are_refused_and_told(
    receiver: Receiver, inbox: Path
) -> None:
    (inbox / "good.csv").write_text("x")
    (inbox / "two\nlines.csv").write_text("x")
    Path(os.fsdecode(os.fsencode(inbox) + b"/\xff.csv")).write_text("x")
    fetched = receiver.twice(folder_source(inbox))
    assert names(fetched) == ["good.csv"]
    assert fetched.look.refused == (
        "'\\udcff.csv': is not UTF-8 text",
        "'two\\nlines.csv': holds control characters",
    )


def test_what_landed_is_kept_at_the_source_unless_asked(receiver: Receiver, inbox: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (inbox / name).write_text(name)
    receiver.twice(folder_source(inbox, files=["a.csv"]))
    receiver.later(minutes=5)
    receiver.fetch(folder_source(inbox, files=["a.csv"]))
    assert sorted(p.name for p in inbox.iterdir()) == ["a.csv", "b.csv"]


def test_landed_files_are_moved_or_deleted_and_newer_ones_are_not(
    receiver: Receiver, inbox: Path
) -> None:
    moving = folder_source(inbox, after_landing="move", move_to="done", folders_deep=2)
    for content in ("first", "second!"):
        (inbox / "a.csv").write_text(content)
        receiver.twice(moving)
        receiver.fetch(moving)
    assert {p.name: p.read_text() for p in (inbox / "done").iterdir()} == {
        "a.csv": "first",
        "a.csv.2": "second!",
    }
    deleting = folder_source(inbox, id="other", after_landing="delete", marker="{name}.ok")
    (inbox / "b.csv").write_text("b")
    (inbox / "b.csv.ok").touch()
    assert names(receiver.fetch(deleting)) == ["b.csv"]
    receiver.fetch(deleting)
    assert [p.name for p in inbox.iterdir() if p.is_file()] == []


def test_two_processes_do_not_fetch_from_a_source_at_once(receiver: Receiver, inbox: Path) -> None:
    with (
        advisory_lock(receiver.ws.engine, "source:share", wait=False),
        pytest.raises(SourceError, match="another process is fetching from share"),
    ):
        receiver.fetch(folder_source(inbox))


def test_waiting_lands_what_was_seen_for_the_first_time(receiver: Receiver, inbox: Path) -> None:
    (inbox / "a.csv").write_text("a")
    write_source(receiver, folder_source(inbox, settle_seconds=7))
    chosen = chosen_sources(receiver.ws, "share")
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        receiver.later(seconds=seconds)

    found = fetch_settled(receiver.ws, chosen, receiver.secrets.get, pause)
    assert ([names(one) for one in found], paused) == ([[], ["a.csv"]], [7])
    with pytest.raises(SourceError, match="there is no source 'x'; there are: share"):
        chosen_sources(receiver.ws, "x")


def test_deciding_takes_as_many_statements_for_many_known_files_as_for_few(
    receiver: Receiver,
) -> None:
    source = Source.model_validate({"id": "many", "url": "file:///srv/in"})
    engine, now = receiver.ws.engine, receiver.times[-1]
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into feed_file (file_key, sha256, original_name, size_bytes, landed_at,"
                " received_day, state, archive_path)"
                " values (1, 'x', 'x', 1, now(), current_date, 'unrecognised', 'x')"
            )
        )
    statements: list[str] = []
    sa.event.listen(
        engine, "before_cursor_execute", lambda *told: statements.append(told[2].split()[0])
    )
    taken = []
    for count in (1, 5_000):
        files = [RemoteObject(f"use_{number:07}.csv", 1000, "1") for number in range(count)]
        with engine.begin() as connection:
            assert remote_files.decide(connection, source, files, now).unsettled == count - len(
                taken
            )
            connection.execute(
                sa.text("update remote_file set state = 'landed', file_key = 1, landed_at = now()")
            )
        statements.clear()
        with engine.begin() as connection:
            listed = [*files, RemoteObject("new.csv", 1, "new")]
            decision = remote_files.decide(connection, source, listed, now)
        assert (decision.unsettled, decision.ready) == (1, ())
        taken.append(list(statements))
        with engine.begin() as connection:
            connection.execute(sa.text("delete from remote_file where path = 'new.csv'"))
    assert taken[0] == taken[1] and len(taken[0]) <= 5


# ------------------------------------------------------------------------------------- SFTP


def test_sftp_by_password_and_by_key(
    receiver: Receiver, sftp: SftpServer, sftp_source: Made
) -> None:
    content = random.Random(1).randbytes(9_000_001)
    (sftp.root / "outbox" / "emnify_1.ndjson").write_bytes(content)
    fetched = receiver.twice(sftp_source())
    assert fetched.look.error is None
    assert receiver.contents(fetched) == {"emnify_1.ndjson": content}
    assert fetched.landed[0].feed_id == "emnify_usage"
    receiver.secrets["KEY"] = sftp.client_key
    by_key = sftp_source(id="by_key", credentials={"private_key": "KEY"})
    assert names(receiver.twice(by_key)) == ["emnify_1.ndjson"]


def test_sftp_reads_folders_moves_and_deletes(
    receiver: Receiver, sftp: SftpServer, sftp_source: Made
) -> None:
    outbox = sftp.root / "outbox"
    (outbox / "day").mkdir()
    (outbox / "day" / "a #1?.csv").write_text("a")
    (outbox / "link.csv").symlink_to("/outbox/day/a #1?.csv")
    moving = sftp_source(folders_deep=3, after_landing="move", move_to="done")
    assert names(receiver.twice(moving)) == ["day/a #1?.csv"]
    receiver.fetch(moving)
    assert (outbox / "done" / "day" / "a #1?.csv").read_text() == "a"
    assert not (outbox / "day" / "a #1?.csv").exists()
    deleting = sftp_source(id="del", files=["b.csv"], after_landing="delete", settle_seconds=0)
    (outbox / "b.csv").write_text("b")
    receiver.fetch(deleting)
    receiver.fetch(deleting)
    assert not (outbox / "b.csv").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"credentials": {"password": "UNSET"}}, "environment variable UNSET is not set"),
        ({"credentials": {"password": "WRONG"}}, "carrier refuses access|carrier: Permission"),
        ({"host_keys": ["OTHER"]}, "Host key is not trusted"),
        ({"host_keys": ["rubbish"]}, "a key of carrier cannot be read"),
        ({"url": "sftp://127.0.0.1:1/outbox"}, "carrier cannot be reached"),
        ({"path": "nowhere"}, "is not there; check sftp://"),
    ],
)
def test_an_sftp_server_that_cannot_be_used_is_told_and_remembered(
    receiver: Receiver, sftp: SftpServer, sftp_source: Made, changes: dict[str, Any], said: str
) -> None:
    receiver.secrets["WRONG"] = "battery staple"
    if changes.get("host_keys") == ["OTHER"]:
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        changes = {"host_keys": [other]}
    if "path" in changes:
        changes = {"url": f"sftp://127.0.0.1:{sftp.port}/{changes['path']}"}
    source = sftp_source(**changes)
    (sftp.root / "outbox" / "a.csv").write_text("a")
    fetched = receiver.fetch(source)
    assert fetched.landed == ()
    with receiver.ws.engine.connect() as connection:
        row = connection.execute(sa.text("select * from remote_source")).one()
    assert row.error == fetched.look.error
    assert row.succeeded_at is None

    assert re.search(said, row.error or ""), row.error
    assert "battery" not in (row.error or "")


class Trickster(asyncssh.SFTPServer):
    """Lists names that lead out of its folder."""

    async def scandir(self, path: bytes) -> Any:
        async for entry in super().scandir(path):
            yield entry
        for name in (
            b"../../../../etc/passwd",
            b"/etc/shadow",
            b"sub/../../x.csv",
            b"bell\x07.csv",
        ):
            attrs = asyncssh.SFTPAttrs(size=5, permissions=0o100644, mtime=1, atime=1)
            yield asyncssh.SFTPName(name, attrs=attrs)


def test_a_server_cannot_lead_us_outside_its_folder(receiver: Receiver, tmp_path: Path) -> None:
    with sftp_server(tmp_path / "tricks", Trickster) as server:
        (server.root / "outbox").mkdir()
        (server.root / "outbox" / "good.csv").write_text("good")
        source = Source.model_validate(
            {
                "id": "tricks", "url": f"sftp://127.0.0.1:{server.port}/outbox", "user": "iotbill",
                "host_keys": [server.host_key], "credentials": {"password": "SFTP_PASSWORD"},
                "folders_deep": 5, "settle_seconds": 0,
            }
        )  # fmt: skip
        fetched = receiver.fetch(source)
    assert receiver.contents(fetched) == {"good.csv": b"good"}
    assert len(fetched.look.refused) == 4


class Shrinking(asyncssh.SFTPServer):
    """Serves fewer bytes than it lists, as if the file were replaced while it is read."""

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, size)[:4] if offset == 0 else b""


def test_a_file_that_changes_while_it_is_read_does_not_land(
    receiver: Receiver, tmp_path: Path
) -> None:
    with sftp_server(tmp_path / "shrinking", Shrinking) as server:
        (server.root / "outbox").mkdir()
        (server.root / "outbox" / "a.csv").write_text("half and half")
        source = Source.model_validate(
            {
                "id": "shrinking", "url": f"sftp://127.0.0.1:{server.port}/outbox",
                "user": "iotbill", "host_keys": [server.host_key],
                "credentials": {"password": "SFTP_PASSWORD"}, "settle_seconds": 0,
            }
        )  # fmt: skip
        fetched = receiver.fetch(source)
    assert fetched.landed == ()
    assert "it comes when it is whole" in fetched.problems[0]
    assert [path for path in receiver.ws.archive.rglob("*") if path.is_file()] == []


# --------------------------------------------------------------------------------------- S3


def bucket(s3: S3Server, name: str, **objects: bytes) -> Source:
    s3.client.create_bucket(Bucket=name)
    for key, content in objects.items():
        s3.client.put_object(Bucket=name, Key=f"usage/{key}.csv", Body=content)
    return Source.model_validate(
        {
            "id": "bucket", "url": f"s3://{name}/usage", "endpoint": s3.endpoint,
            "region": "us-east-1",
            "credentials": {"access_key": "ACCESS", "secret_key": "SECRET"},
        }
    )  # fmt: skip


@pytest.fixture
def with_keys(receiver: Receiver) -> Receiver:
    receiver.secrets |= {"ACCESS": "access", "SECRET": "secret"}
    return receiver


def test_s3_objects_land_at_once_and_new_versions_again(with_keys: Receiver, s3: S3Server) -> None:
    big = random.Random(2).randbytes(12_000_000)
    source = bucket(s3, "versions", a=b"one", big=big)
    s3.client.put_object(Bucket="versions", Key="elsewhere/x.csv", Body=b"no")
    s3.client.put_object(Bucket="versions", Key="usage/", Body=b"")
    first = with_keys.fetch(source)
    assert first.look.error is None
    assert {k: hashlib.sha256(v).digest() for k, v in with_keys.contents(first).items()} == {
        "a.csv": hashlib.sha256(b"one").digest(),
        "big.csv": hashlib.sha256(big).digest(),
    }
    assert with_keys.fetch(source).landed == ()
    s3.client.put_object(Bucket="versions", Key="usage/a.csv", Body=b"two")
    assert with_keys.contents(with_keys.fetch(source)) == {"a.csv": b"two"}
    s3.client.put_object(Bucket="versions", Key="usage/a.csv", Body=b"two")
    assert with_keys.fetch(source).landed == ()


def test_s3_keys_with_dots_are_refused_and_folders_are_read(
    with_keys: Receiver, s3: S3Server
) -> None:
    source = bucket(s3, "tricky", a=b"a").model_copy(
        update={"folders_deep": 2, "after_landing": "move", "move_to": "done"}
    )
    for key in ("usage/../../etc/x.csv", "usage/day/b.csv", "usage/1/2/3/deep.csv"):
        s3.client.put_object(Bucket="tricky", Key=key, Body=key.encode())
    fetched = with_keys.fetch(source)
    assert names(fetched) == ["a.csv", "day/b.csv"]
    assert fetched.look.refused
    with_keys.fetch(source)
    keys = [o["Key"] for o in s3.client.list_objects_v2(Bucket="tricky")["Contents"]]
    assert sorted(k for k in keys if "etc" not in k) == [
        "usage/1/2/3/deep.csv",
        "usage/done/a.csv",
        "usage/done/day/b.csv",
    ]


def test_a_bucket_that_is_not_there_is_told(with_keys: Receiver, s3: S3Server) -> None:
    source = bucket(s3, "there").model_copy(update={"url": "s3://not-there/usage"})
    told = look(with_keys.ws, source, with_keys.secrets.get)
    assert "bucket" in (told.error or "")
    assert told.decision.ready == ()
