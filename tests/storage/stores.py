"""Lakes in an object store, each under a prefix of its own, told by a word without spaces."""

from __future__ import annotations

from pathlib import Path

from iotbill_pipelines.config.lake import LakeChoice
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import place_of

BUCKET = "lakes"


def place(endpoint: str, prefix: str, cache: Path) -> str:
    """The word for a lake; another cache is another machine."""
    return f"{endpoint},{prefix},{cache}"


def choice_at(word: str) -> LakeChoice:
    """What configs/lake.yaml says of it."""
    endpoint, prefix, cache = word.split(",")
    return LakeChoice.model_validate(
        {
            "url": f"s3://{BUCKET}/{prefix}",
            "endpoint": endpoint,
            "region": "us-east-1",
            "credentials": {"access_key": "LAKE_KEY", "secret_key": "LAKE_SECRET"},
            "cache": cache,
        }
    )


def secret(variable: str) -> str | None:
    """What the environment holds."""
    return {"LAKE_KEY": "access", "LAKE_SECRET": "secret"}.get(variable)


def lake_at(word: str, **changed: object) -> Lake:
    """Open a lake, also one in a folder; ``changed`` are keys of a store's configuration."""
    if word.startswith("/"):
        return Lake(word)
    return Lake(place_of(choice_at(word).model_copy(update=changed), Path("/nowhere"), secret))
