"""The examples of the guides to feeds, sources and alerts can be used as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iotbill_pipelines.config.alerts import AlertPolicy
from iotbill_pipelines.config.documents import parse, parse_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.config.sources import parse_source
from iotbill_pipelines.engine.feeds.functions import FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("text", blocks("feed-guide.md"))
def test_feeds_load(text: str) -> None:
    assert parse_feed(parse_yaml(text, ROOT / "configs/feeds/guide.yaml")).id


def test_sources_and_alerts_load() -> None:
    [source] = blocks("sources.md")
    assert parse_source(parse_yaml(source, Path("source.yaml"))).kind == "sftp"
    [alerts] = blocks("alerts.md")
    assert len(parse(AlertPolicy, parse_yaml(alerts, Path("alerts.yaml"))).routes) == 2


def test_every_function_is_named() -> None:
    guide = (ROOT / "docs/feed-guide.md").read_text()
    assert {name for name, _ in FUNCTIONS if f"`{name}`" not in guide} == set()
