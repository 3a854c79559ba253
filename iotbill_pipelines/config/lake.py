"""``configs/lake.yaml`` -> where the lake is: the state folder, another one, or an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.config.sources import Variable
from iotbill_pipelines.engine.terms import Terms, TermsError

LakeKind = Literal["folder", "s3", "gs", "abfs"]

_KINDS: dict[str, LakeKind] = {
    "file": "folder",
    "s3": "s3",
    "gs": "gs",
    "abfs": "abfs",
    "abfss": "abfs",
}


class LakeCredentials(Terms):
    """Names of the environment variables that hold the keys of S3."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    access_key: Variable | None = None
    """With it goes a ``secret_key``."""
    secret_key: Variable | None = None
    """With it goes an ``access_key``."""
    session_token: Variable | None = None
    """For keys that end."""


class LakeChoice(Terms):
    """Where the lake is and how it is reached. Results never depend on it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    url: str | None = None
    """``file:///mnt/lake``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
    ``abfs://container@account.dfs.core.windows.net/prefix``; by default ``lake`` in the state
    folder."""
    endpoint: str | None = Field(None, pattern=r"^https?://[^/]+$")
    """URL of an S3 service that is not Amazon's."""
    region: str | None = None
    """Region of the S3 bucket."""
    credentials: LakeCredentials = LakeCredentials()
    """Names of environment variables; without them the machine's own: a role, a profile, or what
    the provider's variables say."""
    cache: str | None = None
    """Folder for the files of an object store that were written or read here; by default
    ``lake-cache`` in the state folder."""
    cache_bytes: int = Field(20 * 2**30, ge=0)
    """What stays in it between runs; a run itself takes the room of what it reads and writes."""

    @property
    def kind(self) -> LakeKind | None:
        """What the URL leads to; None for the state folder."""
        return None if self.url is None else _KINDS[urlsplit(self.url).scheme]

    @model_validator(mode="after")
    def _consistent(self) -> LakeChoice:
        given = self.model_fields_set - {"url"}
        if self.url is None:
            if given:
                raise TermsError(("url",), f"say where the lake is, or leave {min(given)} out")
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in _KINDS:
            said = parts.scheme or self.url
            raise TermsError(
                ("url",), f"{said!r} is unknown; use file://, s3://, gs://, abfs:// or abfss://"
            )
        user = parts.username is not None and self.kind != "abfs"  # there it is the container
        if user or parts.password or parts.query or parts.fragment:
            raise TermsError(("url",), "holds more than a place; credentials have their own key")
        if self.kind == "folder":
            if parts.netloc or not parts.path.startswith("/"):
                raise TermsError(("url",), "write a folder with three slashes: file:///mnt/lake")
            if given:
                raise TermsError((min(given),), "is of object stores; a folder is read in place")
            return self
        if not parts.netloc:
            raise TermsError(("url",), f"name the bucket: {parts.scheme}://bucket/prefix")
        if self.kind != "s3" and (wrong := given - {"cache", "cache_bytes"}):
            raise TermsError(
                (min(wrong),), "is of S3; other stores are reached by their provider's variables"
            )
        if (self.credentials.access_key is None) != (self.credentials.secret_key is None):
            raise TermsError(("credentials",), "access_key and secret_key go together")
        return self


def read_lake(configs: Path) -> LakeChoice:
    """Read ``lake.yaml`` of a configuration folder; the state folder where the file is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "lake.yaml"
    return read_lake_file(path) if path.exists() else LakeChoice()


def read_lake_file(path: Path) -> LakeChoice:
    """Read a file as ``lake.yaml`` is written. Raises ConfigError."""
    return parse(LakeChoice, read_yaml(path))
