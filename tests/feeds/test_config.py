"""Feeds that cannot work are refused with file, line, key, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError, parse_yaml
from iotbill_pipelines.config.feeds import feeds_of, load_feeds, parse_feed
from tests.feeds.harness import CSV_FEED

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "feeds"


def test_the_feeds_that_ship_are_valid_and_apart():
    feeds = load_feeds(CONFIGS)
    names = {
        "emnify_20261001.ndjson": "emnify_usage",
        "emnify_20261001.ndjson.gz": "emnify_usage",
        "emnify_invoice_2026-10.xlsx": "emnify_invoice",
        "bics_usage_1.csv.gz": "bics_usage",
        "bics_billing_2026-10.csv": "bics_billing",
        "telfix_20261001.dat": "telfix_usage",
        "xl_usage_20261001.xlsx": "xl_usage",
        "accounts.csv": "accounts",
        "services_2.csv": "services",
        "inventory.xlsx": "inventory",
        "states.csv": "states",
        "contracts.xlsx": "contracts",
        "campusiot_helium_IMST_7C727B.ndjson.gz": "helium_uplinks",
        "campusiot_helium_endpoints.csv": "helium_endpoints",
    }
    assert {n: [f.id for f in feeds_of(n, feeds.values())] for n in names} == {
        n: [feed] for n, feed in names.items()
    }
    assert feeds_of("unknown.csv", feeds.values()) == []


@pytest.mark.parametrize(
    ("change", "line", "key", "said"),
    [
        (("id: demo", 'id: "demo\'; drop table feed_file; --"'), 2, "id", "should match pattern"),
        (("target: usage_record", "target: usage"), 4, "target", "use one of usage_record"),
        (("type: delimited", "type: csv"), 6, "format", "'csv' is not allowed"),
        (("zone: UTC", "zone: CEST"), 7, "zone", "not an IANA time zone"),
        (("zone: UTC", "zon: UTC"), 7, "zon", "did you mean 'zone'?"),
        (
            ("{type: delimited}", "{type: delimited, encoding: utf-9}"),
            6,
            "format.encoding",
            "not a text encoding",
        ),
        (
            ("{type: delimited}", "{type: delimited, header: false}"),
            6,
            "format",
            "give columns exactly when header is false",
        ),
        (
            ("[trim, imsi]", "[trim, imzi]"),
            11,
            "fields.uid_value.steps[1]",
            "no function is called 'imzi'",
        ),
        (("[trim, imsi]", "[imsi@2]"), 11, "fields.uid_value.steps[0]", "has no version 2"),
        (
            ("[trim, integer]", "[{units: {unit: Mb}}]"),
            13,
            "fields.quantity.steps[0]",
            "unknown unit 'Mb'; known: B, KB, MB",
        ),
        (
            ("[trim, integer]", "[integer, trim]"),
            13,
            "fields.quantity.steps[1]",
            "trim takes a text, but gets a integer",
        ),
        (
            ("[trim, integer]", "[timestamp]"),
            13,
            "fields.quantity",
            "the column quantity needs a integer",
        ),
        (
            ("[trim, timestamp]", "[{timestamp: {format: dd.mm.yyyy}}]"),
            9,
            "fields.event_start.steps[0]",
            "excel_1904 or one with % codes",
        ),
        (
            ("  usage_class: {value: data}\n", ""),
            8,
            "fields",
            "usage_class of usage_record must be mapped",
        ),
        (
            ("usage_class: {value: data}", "usage_klass: {value: data}"),
            12,
            "fields.usage_klass",
            "is not a column of usage_record",
        ),
        (
            ("usage_class: {value: data}", "usage_class: {value: data, from: x}"),
            12,
            "fields.usage_class",
            "give one of from",
        ),
        (
            ("usage_class:", "file_key: x\n  usage_class:"),
            12,
            "fields.file_key",
            "is filled by ingestion",
        ),
        (("=uid_value", "=uid"), 14, "dedup", "names uid, which is not a mapped field"),
        (("dedup: {key", "dedupe: {key"), 14, "dedupe", "did you mean 'dedup'?"),
        (
            ("type: delimited}", "type: delimited}\nfilter: [{reason: r, when: {field: x}}]"),
            7,
            "filter[0].when",
            "name one field (or target) and one test",
        ),
        (
            (
                "usage_class: {value: data}",
                "usage_class: {choose: [{value: a}, {when: {field: x, empty: true}, value: b}]}",
            ),
            12,
            "fields.usage_class",
            "only the last branch of choose may leave out when",
        ),
        (
            ("zone: UTC", "control: {records: a}"),
            7,
            "control",
            "needs header or trailer layouts",
        ),
        (
            ("{value: data}", "{choose: [{when: {target: region, equals: x}, value: b}]}"),
            12,
            "fields.usage_class.choose[0].when",
            "must be a field defined before this one",
        ),
    ],
)
def test_errors_say_where_and_what(change, line, key, said):
    old, new = change
    assert old in CSV_FEED
    text = CSV_FEED.lstrip("\n").replace(old, new)
    with pytest.raises(ConfigError) as caught:
        parse_feed(parse_yaml(text, Path("configs/feeds/demo.yaml")))
    from iotbill_pipelines.config.documents import format_key

    found = [(p.line + 1, format_key(p.key), p.rule) for p in caught.value.problems]
    assert any(at == line and path == key and said in rule for at, path, rule in found), found
    assert str(caught.value).startswith("configs/feeds/demo.yaml:")


def test_problems_of_all_files_come_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(CSV_FEED.replace("zone: UTC", "zone: X"))
    (tmp_path / "b.yaml").write_text("id: [")
    (tmp_path / "c.yaml").write_text(CSV_FEED)
    (tmp_path / "d.yaml").write_text(CSV_FEED.replace("id: demo", "id: other"))
    with pytest.raises(ConfigError) as caught:
        load_feeds(tmp_path)
    rules = {Path(p.file).name: p.rule for p in caught.value.problems}
    assert set(rules) == {"a.yaml", "b.yaml", "d.yaml"}
    assert "also a pattern of feed demo" in rules["d.yaml"]
    with pytest.raises(ConfigError, match="holds no feed"):
        load_feeds(tmp_path / "absent")
