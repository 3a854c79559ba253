"""What feeds share: tables of configs/tables, fields of configs/fields, networks of IMSIs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError, parse_yaml
from iotbill_pipelines.config.feeds import load_feed, parse_feed
from iotbill_pipelines.operations.feed_tools.trying import try_sample
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, RECEIVED, ingest_bytes
from tests.feeds.test_functions import values

SHARING = (
    CSV_FEED.replace(
        "usage_class: {value: data}",
        """usage_class:
    {use: mobile_classes, with: {service: Kind}}
  region: {from: net, steps: [{tadig: {table: tadigs}}]}
  apn: {from: land, steps: [{country: {of: alias, aliases: lands}}]}
  session_id: {from: who, steps: [{carrier: {table: who, at: event_start}}]}""",
    )
    + """
tables:
  tadigs: {file: tadig.csv, key: tadig, value: [mcc, mnc]}
  lands: {file: country_names.csv, key: name, value: country, fold: true}
  who: {file: carriers.csv, key: alias, value: carrier, valid_from: from, valid_to: to, fold: true}
"""
)
LINES = [
    ("2026-10-05T10:00:00Z", "LTE Data", "deud1", "Great Britain", "BICS"),
    ("2026-10-05T10:00:01Z", "Short Message MO", "310-410", "DE", "emnify GmbH"),
    ("2026-10-05T10:00:02Z", "fax", "DEUD1", "DE", "bics"),
    ("2026-10-05T10:00:03Z", "call", "XXXXX", "DE", "bics"),
    ("2026-10-05T10:00:04Z", "call", "NLDPT", "Atlantis", "bics"),
    ("2026-10-05T10:00:05Z", "call", "NLDPT", "Holland", "Belgacom ICS"),
]


def sample() -> bytes:
    rows = [f"{t},262010000000001,5,{kind},{net},{land},{who}" for t, kind, net, land, who in LINES]
    return "\n".join(["time,sim,bytes,Kind,net,land,who", *rows, ""]).encode()


def shared_feed(text: str):
    return parse_feed(parse_yaml(text, ROOT / "configs/feeds/demo.yaml"))


def test_tables_and_fields_that_ship_serve_any_feed(tmp_path):
    out = ingest_bytes(shared_feed(SHARING), sample())
    told = [
        m["reason_code"] or (m["usage_class"], m["region"], m["apn"], m["session_id"])
        for m in out.mapped
    ]
    assert told == [
        ("data", "262-01", "GB", "bics"), ("sms", "310-410", "DE", "emnify"),
        "no_mapping", "unknown_tadig", "unknown_country", "unknown_carrier",
    ]  # fmt: skip
    path = tmp_path / "demo.csv"
    path.write_bytes(sample())
    trial = try_sample(shared_feed(SHARING), path, RECEIVED, lines=[2])
    [region] = [f for f in trial.records[0].fields if f.name == "region"]
    assert [(s.function, s.value) for s in region.steps] == [("tadig@1 (table tadigs)", "262-01")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("mobile_classes, with", "nothing, with"), "put the shared field there"),
        (("service: Kind", "servis: Kind"), "mobile_classes reads no servis"),
        (("{service: Kind}}", "{service: Kind}, steps: [trim]}"), "use stands alone"),
        (("mobile_classes, with", "../x, with"), "name a file of fields/"),
    ],
)
def test_a_shared_field_that_cannot_be_used(change, said):
    with pytest.raises(ConfigError, match=said):
        shared_feed(SHARING.replace(*change))


def test_tadig_codes_agree_with_the_published_list(shared):
    with (shared / "feeds/reference/gsma_bwrp_tadig_codes.csv").open(encoding="utf-8") as file:
        published = {row["TADIG"]: row["MCC/MNC"].strip() for row in csv.DictReader(file)}
    with (ROOT / "configs/tables/tadig.csv").open(encoding="utf-8") as file:
        ours = {row["tadig"]: row["mcc"] + row["mnc"] for row in csv.DictReader(file)}
    both = {code for code in ours if published.get(code, "")[:5].isdigit()}
    assert len(both) >= 12
    assert {code: ours[code] for code in both} == {code: published[code] for code in both}


def test_the_network_that_issued_an_imsi():
    found = values("session_id", "home_network", ["262011234567890", "310410123456789", "999"])
    assert found == ["262-01", "310-410", "invalid_imsi"]


def test_every_spec_of_a_public_file_loads():
    for path in sorted((Path(__file__).parent / "specs").glob("*.yaml")):
        assert load_feed(path).id
