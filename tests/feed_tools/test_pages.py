"""docs/feeds: a page per feed, in step with the feeds; every field, rule and example is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from iotbill_pipelines.config.feeds import feeds_of, load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.feeds.tracing import trace_feed
from iotbill_pipelines.operations.feed_tools import pages
from iotbill_pipelines.operations.feed_tools.pages import (
    Heading,
    Paragraph,
    Sheet,
    feed_page,
    to_html,
    to_markdown,
    write_pages,
)
from iotbill_pipelines.operations.feed_tools.trying import Trial, try_sample
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, feed

FEEDS = ROOT / "configs" / "feeds"


@dataclass(frozen=True)
class Written:
    """The pages as the command writes them, and what came of each sample that is on one."""

    pages: dict[str, str]
    trials: dict[str, Trial]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    trials: dict[str, Trial] = {}

    def trying(spec: FeedSpec, sample: Path, *arguments: object, **options: object) -> Trial:
        trials[sample.name] = try_sample(spec, sample, *arguments, **options)  # type: ignore[arg-type]
        return trials[sample.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "try_sample", trying)
        files = write_pages(FEEDS, tmp_path_factory.mktemp("pages"))
    return Written({path.name: path.read_text() for path in files}, trials)


def test_the_pages_in_the_repository_are_what_the_feeds_say(written: Written) -> None:
    """Write them again: iotbill feed docs"""
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "feeds").iterdir()}
    assert sorted(written.pages) == sorted(kept)
    assert [name for name in kept if written.pages[name] != kept[name]] == []


def test_every_sample_belongs_to_a_feed_and_loses_nothing(written: Written) -> None:
    feeds = load_feeds(FEEDS)
    for path in sorted((FEEDS / "samples").iterdir()):
        [spec] = feeds_of(path.name, feeds.values())
        trial = written.trials[path.name]
        assert trial.feed_id == spec.id
        assert trial.error is None and trial.accepted and not trial.counts["rejected"], path.name


@pytest.mark.parametrize("feed_id", sorted(load_feeds(FEEDS)))
def test_a_page_names_every_field_and_every_reason(feed_id: str) -> None:
    spec = load_feeds(FEEDS)[feed_id]
    blocks = feed_page(spec)
    [fields] = [b for b in blocks if isinstance(b, Sheet) and b.columns[-1] == "meaning"]
    assert {row[0] for row in fields.rows} - {""} == set(spec.fields)
    [reasons] = [b for b in blocks if isinstance(b, Sheet) and b.columns[0] == "reason"
                 and b.columns[-1] == "rule"]  # fmt: skip
    assert {row[0] for row in reasons.rows} == {rule.code for rule in trace_feed(spec).rules}
    text = to_markdown(blocks).replace("\\", "")
    assert all(pattern in text for pattern in spec.files)
    assert all(f"filter:{rule.reason}" in text for rule in spec.filter)


def test_steps_branches_and_keys_are_told() -> None:
    spec = feed(
        CSV_FEED.replace(
            "quantity: {from: bytes, steps: [trim, integer]}",
            "quantity:\n    choose:\n"
            "      - {when: {field: unit, equals: MB}, from: bytes, steps: [{units: {unit: MB}}]}\n"
            "      - {from: bytes, steps: [integer]}",
        )
    )
    [fields] = [b for b in feed_page(spec) if isinstance(b, Sheet) and b.columns[-1] == "meaning"]
    rows = [row for row in fields.rows if row[0] == "quantity" or row[0] == ""]
    assert rows[0][1:4] == ("bytes", "unit is MB", "units@1 (unit MB)")
    assert rows[1][1:3] == ("bytes", "otherwise")


class _Tags(HTMLParser):
    """Checks that what is opened is closed, in order, and nothing else is in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_texts_of_a_carrier_are_texts_in_the_pages() -> None:
    blocks = [
        Heading("<script>alert(1)</script>"),
        Paragraph("a_b *c* [d](e)"),
        Sheet(("x",), (("a|b <i>",),)),
    ]
    page = to_html("<b>", blocks)
    tags = _Tags()
    tags.feed(page)
    assert tags.open == [] and not tags.seen & {"script", "i", "b"}
    marked = to_markdown(blocks)
    assert "a\\_b \\*c\\* \\[d\\](e)" in marked and "| a\\|b \\<i\\> |" in marked
    assert not re.search(r"(?<!\\)<script", marked)
