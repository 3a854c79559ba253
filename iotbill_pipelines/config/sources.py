"""``configs/sources/*.yaml`` -> :class:`Source`: where carriers leave files, and how to take them.

A source names its secrets, it never holds them: ``credentials`` are names of environment variables.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from iotbill_pipelines.config.documents import ConfigError, Document, Problem, parse, read_yaml
from iotbill_pipelines.engine.terms import Terms, TermsError

Kind = Literal["folder", "sftp", "s3"]

_KINDS: dict[str, Kind] = {"file": "folder", "sftp": "sftp", "s3": "s3"}
_SETTLE_SECONDS: dict[Kind, int] = {"folder": 60, "sftp": 60, "s3": 0}
_CREDENTIALS: dict[Kind, frozenset[str]] = {
    "folder": frozenset(),
    "sftp": frozenset({"password", "private_key", "passphrase"}),
    "s3": frozenset({"access_key", "secret_key", "session_token"}),
}


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "is no name of an environment variable; write one such as ACME_SFTP_PASSWORD, and put "
            "the secret into that variable"
        )
    return name


Variable = Annotated[str, AfterValidator(_variable)]


class Credentials(Terms):
    """Names of the environment variables that hold the secrets."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    password: Variable | None = None
    """Of the SFTP user."""
    private_key: Variable | None = None
    """OpenSSH or PEM text of the key."""
    passphrase: Variable | None = None
    """Of the private key."""
    access_key: Variable | None = None
    """Of S3."""
    secret_key: Variable | None = None
    """Of S3."""
    session_token: Variable | None = None
    """Of S3, for access that ends."""


class SourceLimits(Terms):
    """Most that one look takes; what is left over comes with the next."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    files: int = Field(200, ge=1, le=10_000)
    """Files of one look."""
    bytes: int = Field(2 * 2**30, ge=1)
    """A file larger than this comes alone."""
    file_bytes: int = Field(8 * 2**30, ge=1)
    """A larger file is refused."""
    listed: int = Field(1_000_000, ge=1)
    """A source that lists more fails: its folder has to be cleared, or split."""


class Source(Terms):
    """A folder, SFTP server or S3 bucket that files are fetched from. Order never matters."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)
    """Name of the source; what was fetched is remembered under it."""
    description: str = ""
    """One sentence for people."""
    url: str
    """``file:///srv/in``, ``sftp://host:22/outbox`` or ``s3://bucket/prefix``."""
    user: str | None = None
    """User of the SFTP server."""
    host_keys: tuple[str, ...] = ()
    """Public keys of the SFTP server, as ``ssh-keyscan`` prints them without the host name."""
    endpoint: str | None = None
    """URL of an S3 service that is not Amazon's."""
    region: str | None = None
    """Region of the bucket."""
    anonymous: bool = False
    """The bucket is public: no keys."""
    credentials: Credentials = Credentials()
    """Names of environment variables, never the secrets themselves."""
    files: tuple[str, ...] = Field(("*",), min_length=1)
    """Patterns of base names; names of unfinished files (``.part``, hidden ones) never match."""
    leave: tuple[str, ...] = ()
    """Patterns of base names that are left alone."""
    folders_deep: int = Field(0, ge=0, le=10)
    """Levels of folders below that are read too."""
    settle_seconds: int | None = Field(None, ge=0, le=86_400)
    """A file is whole when its size and time of change stay this long, from one look to another."""
    marker: str | None = None
    """Name of the file that says another is whole: ``{name}.done``. Takes the place of settling."""
    limits: SourceLimits = SourceLimits()
    """Most that one look takes."""
    every_seconds: int = Field(60, ge=30, le=86_400)
    """Pause between looks of the sensor."""
    timeout_seconds: int = Field(30, ge=1, le=600)
    """Patience with the server."""
    after_landing: Literal["keep", "delete", "move"] = "keep"
    """What becomes of a file at the source when it is in the archive."""
    move_to: str | None = None
    """Folder below the source's, for ``after_landing: move``."""

    @property
    def kind(self) -> Kind:
        """What the URL leads to."""
        return _KINDS[urlsplit(self.url).scheme]

    @property
    def settles_after_seconds(self) -> int:
        """The quiet time that counts; S3 shows an object only when it is whole."""
        if self.marker is not None:
            return 0
        return _SETTLE_SECONDS[self.kind] if self.settle_seconds is None else self.settle_seconds

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        _check_url(self)
        _check_access(self)
        if self.marker is not None:
            if self.marker.count("{name}") != 1 or self.marker == "{name}" or "/" in self.marker:
                raise TermsError(("marker",), "write it with {name} once, such as '{name}.done'")
            if self.settle_seconds is not None:
                raise TermsError(("settle_seconds",), "remove it: the marker says what is whole")
        if (self.after_landing == "move") != (self.move_to is not None):
            raise TermsError(("move_to",), "belongs with after_landing: move, and only there")
        if self.move_to is not None:
            path = PurePosixPath(self.move_to)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise TermsError(("move_to",), "name a folder below the source's, such as done")
        return self


def _check_url(source: Source) -> None:
    parts = urlsplit(source.url)
    if parts.scheme not in _KINDS:
        raise TermsError(
            ("url",), f"{parts.scheme or source.url!r} is unknown; use file://, sftp:// or s3://"
        )
    if parts.username or parts.password:
        raise TermsError(
            ("url",), "must not hold a user or password; use user and credentials.password"
        )
    if parts.query or parts.fragment or ".." in PurePosixPath(parts.path).parts:
        raise TermsError(("url",), "must end with a plain path, without ?, # or ..")
    if source.kind == "folder" and (parts.netloc or not parts.path.startswith("/")):
        raise TermsError(("url",), "write a local folder as file:///srv/in, with three slashes")
    if source.kind == "sftp" and not (parts.hostname and parts.path.strip("/")):
        raise TermsError(("url",), "name host and folder: sftp://files.example.com/outbox")
    if source.kind == "s3" and not parts.netloc:
        raise TermsError(("url",), "name the bucket: s3://bucket/prefix")


def _check_access(source: Source) -> None:
    kind, given = source.kind, source.credentials.model_dump(exclude_none=True)
    for name in given:
        if name not in _CREDENTIALS[kind]:
            known = ", ".join(sorted(_CREDENTIALS[kind])) or "none"
            raise TermsError(
                ("credentials", name), f"has no meaning for {kind}; known there: {known}"
            )
    for only, value, name in (
        ("sftp", source.user, "user"),
        ("sftp", source.host_keys, "host_keys"),
        ("s3", source.endpoint, "endpoint"),
        ("s3", source.region, "region"),
        ("s3", source.anonymous, "anonymous"),
    ):
        if value and kind != only:
            raise TermsError((name,), f"has no meaning for {kind}; remove it")
    if kind == "sftp":
        if not source.user:
            raise TermsError(("user",), "name the user of the SFTP server")
        if not source.host_keys:
            raise TermsError(
                ("host_keys",),
                "list the server's public keys (from `ssh-keyscan`, checked with the carrier), "
                "else anybody can pass for it",
            )
        if not {"password", "private_key"} & given.keys():
            raise TermsError(("credentials",), "name a variable for password or private_key")
        if "passphrase" in given and "private_key" not in given:
            raise TermsError(("credentials", "passphrase"), "belongs to a private_key")
    if kind == "s3" and source.anonymous == bool({"access_key", "secret_key"} <= given.keys()):
        raise TermsError(
            ("credentials",), "name variables for access_key and secret_key, or say anonymous: true"
        )


def source_schema() -> str:
    """Return the JSON Schema of a source file, as published in docs/, for editors.

    Write it again with ``python -m iotbill_pipelines.config.sources > docs/source.schema.json``.
    """
    return json.dumps(Source.model_json_schema(), indent=1, default=str) + "\n"


def parse_source(document: Document) -> Source:
    """Make the source of a document. Raises ConfigError."""
    return parse(Source, document)


def load_sources(configs: Path) -> dict[str, Source]:
    """Read ``sources/*.yaml`` of a configuration folder, by id; none where there is no folder.

    Raises ConfigError with the problems of all files; two sources of one id are one too.
    """
    sources: dict[str, Source] = {}
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for path in sorted((configs / "sources").glob("*.yaml")):
        try:
            document = read_yaml(path)
            source = parse_source(document)
            if source.id in sources:
                raise document.error(
                    ("id",), f"{source.id!r} is also the id of {files[source.id]}; choose another"
                )
        except ConfigError as error:
            problems += error.problems
            continue
        sources[source.id], files[source.id] = source, path.name
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
    return sources


if __name__ == "__main__":
    sys.stdout.write(source_schema())
