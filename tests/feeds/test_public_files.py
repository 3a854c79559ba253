"""Every public usage file through its own YAML: outcomes, quantity, first and last event.

Nothing but the YAML under specs/ knows these formats. Figures are those of the files; a file that
is broken says its exact reason.
"""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from iotbill_pipelines.config.feeds import load_feed
from tests.feeds.harness import ingest_bytes

SPECS = Path(__file__).parent / "specs"

GOOD = [
    ("asterisk", "cdr/asterisk_Master.csv",
     {"accepted": 2}, 14, "2010-04-02 00:26:32", "2010-04-02 00:34:02"),
    ("asterisk", "cdr/asterisk_cdrlib_good.csv",
     {"accepted": 2, "filter:not_answered": 3}, 12, "2009-01-14 23:51:15", "2009-01-14 23:51:15"),
    ("asterisk", "cdr/asterisk_cdrlib_buggy.csv", {"unterminated_quote": 1}, 0, None, None),
    ("broadworks", "cdr/cgrates_broadworks_v19.xml",
     {"accepted": 2, "filter:frame": 2}, 59,
     "2016-04-19 21:00:06.813000", "2016-04-19 21:00:07.037000"),
    ("cdrstats_csv", "cdr/cdrstats_CDRImport-2015-10-26.csv",
     {"accepted": 5}, 110, "2015-10-21 10:13:10", "2015-10-21 10:53:16"),
    ("cdrstats_long", "cdr/cdrstats_import_cdr.txt",
     {"accepted": 5}, 154, "2012-01-25 20:06:06", "2012-01-25 20:06:06"),
    # one call lasted -6 seconds
    ("cdrstats_short", "cdr/cdrstats_import_cdr_100.txt",
     {"accepted": 99, "negative_quantity": 1}, 13842, "2012-05-03 14:37:07", "2012-05-04 14:09:50"),
    ("chirpstack", "lorawan/campusiot_sainteynard_d1d1e80000000032.ndjson.gz",
     {"accepted": 9418, "filter:no_uplink": 368}, 9418,
     "2023-06-23 09:10:28.896000", "2023-09-28 06:09:35.303000"),
    # the same uplinks, one record per gateway that heard them
    ("chirpstack_receptions", "lorawan/campusiot_sainteynard_d1d1e80000000032.ndjson.gz",
     {"accepted": 10761, "filter:no_uplink": 368}, 10761,
     "2023-06-23 09:10:28.896000", "2023-09-28 06:09:35.303000"),
    ("connectedyou", "iot/connectedyou_usage_event.json",
     {"accepted": 1}, 0, "2024-01-06 11:22:14", "2024-01-06 11:22:14"),
    ("cucm_cmr", "cdr/cisco_cucm_cmr_docsample.csv",
     {"accepted": 2}, 16_606_767, "2018-01-05 09:37:29", "2018-01-05 09:37:29"),
    ("didww", "cdr/didww_cdr_export_2017.csv",
     {"accepted": 2, "filter:not_connected": 2}, 70, "2017-06-12 14:23:25", "2017-06-17 08:50:47"),
    ("flatstore", "cdr/cgrates_kamailio_flatstore_quoted.csv",
     {"accepted": 4, "filter:signalling": 3}, 0, "2021-06-01 00:00:09", "2021-06-01 00:00:50"),
    # 00034688886392 is no number: one zero too many
    ("freeswitch", "cdr/freeswitch_cdr_csv_Master.csv",
     {"accepted": 4, "invalid_phone_number": 1}, 0, "2014-05-29 16:59:50", "2014-05-29 17:01:33"),
    ("jbilling", "cdr/jbilling_asterisk-sample1.csv",
     {"accepted": 9, "filter:busy": 1, "negative_quantity": 1}, 2800,
     "2007-11-01 11:40:11", "2007-11-16 11:40:11"),
    ("jbilling", "cdr/jbilling_asterisk-sample2.csv",
     {"accepted": 1}, 400, "2007-11-01 11:40:11", "2007-11-01 11:40:11"),
    ("meter_end", "meter/oed_pipe121BInput.csv",
     {"accepted": 4, "negative_quantity": 3}, 230, "2022-11-06 06:46:00", "2022-11-06 08:41:00"),
    ("meter_end", "meter/oed_pipe122BInput.csv",
     {"accepted": 1, "negative_quantity": 2}, 23, "2022-11-06 06:46:00", "2022-11-06 06:46:00"),
    ("meter_end", "meter/oed_pipe122CInput.csv",
     {"accepted": 3, "negative_quantity": 1}, 207, "2022-11-06 07:55:00", "2022-11-06 08:41:00"),
    ("meter_headed", "meter/oed_pipe40Input.csv.gz",
     {"accepted": 5}, 840, "2021-06-01 00:00:00", "2021-06-05 00:00:00"),
    ("meter_holes", "meter/oed_readings_ri_15_days_75_holes.head1000.csv",
     {"accepted": 999}, 47_595_046_224, "2022-08-18 00:00:00", "2022-08-29 09:30:00"),
    ("meter_intervals", "meter/oed_pipe14Input.csv",
     {"accepted": 5}, 360, "2021-06-01 00:00:00", "2021-06-04 23:58:00"),
    ("meter_intervals", "meter/oed_pipe28Input.csv",
     {"accepted": 5}, 360, "2021-06-01 00:00:00", "2021-06-05 00:00:00"),
    ("partial", "cdr/cgrates_partial_1.csv",
     {"accepted": 2}, 139, "2016-07-04 16:58:55", "2016-07-04 18:58:55"),
    ("partial", "cdr/cgrates_partial_2.csv",
     {"accepted": 1}, 15, "2016-07-04 16:58:55", "2016-07-04 16:58:55"),
    ("partial", "cdr/cgrates_partial_3.csv",
     {"accepted": 1}, 23, "2016-07-04 17:05:55", "2016-07-04 17:05:55"),
    # 12 readings stand on three lines, the trailer counts the five lines
    ("smart_grid", "meter/oracle_sgg_sample.csv",
     {"accepted": 11, "negative_quantity": 1, "filter:event": 2}, 36_500_000,
     "1970-01-02 00:00:00", "1970-01-02 01:30:00"),
    *(("tap", f"tap3/tap_3_12_valid{how}.ber",
       {"accepted": 3, "filter:supplementary_service": 1}, 3_400_000_366,
       "2014-03-01 12:03:42", "2014-03-01 13:08:00")
      for how in ("", "_most_indef", "_some_cdr_indefinite")),
    ("tap", "tap3/tap_notification.ber", {}, 0, None, None),
    ("tap", "tap3/rap_ack.ber", {}, 0, None, None),
    ("twilio_supersim", "iot/twilio_supersim_usage_examples.json",
     {"accepted": 24}, 6_902_000, "2015-05-01 20:00:00", "2019-05-03 00:00:00"),
    ("twilio_wireless", "iot/twilio_wireless_usage_examples.json",
     {"accepted": 2, "filter:no_usage": 2}, 6_989_218,
     "2015-07-30 20:00:00", "2015-07-30 20:00:00"),
]  # fmt: skip

BROKEN = [
    ("tap3/asn1c_sample-DataInterChange-1.ber", "control_total_missing", "auditControlInfo"),
    ("tap3/deep_invalid.ber", "trailing_bytes", "follow the end"),
    ("tap3/length_overflow.ber", "length_overflow", ""),
    ("tap3/rap_mini.ber", "missing_element", "has no"),
    ("tap3/tap_3_12_trailing_eoc_invalid.ber", "trailing_bytes", "2 bytes follow the end"),
]


@pytest.mark.parametrize(("spec", "file", "counts", "quantity", "first", "last"), GOOD)
def test_a_file_and_its_yaml(shared, spec, file, counts, quantity, first, last):
    path = shared / "feeds" / file
    feed = load_feed(SPECS / f"{spec}.yaml")
    assert any(fnmatchcase(path.name, pattern) for pattern in feed.files)
    received = datetime(2010, 1, 1)
    if last:
        received = datetime.fromisoformat(last) + timedelta(days=1)
    out = ingest_bytes(feed, {path.name: path.read_bytes()}, received)
    assert [r.state for r in out.results] == ["ingested"]
    starts = sorted(str(m["event_start"]) for m in out.accepted)
    assert (out.counts, sum(m["quantity"] for m in out.accepted)) == (counts, quantity)
    assert (starts[:1], starts[-1:]) == (([first], [last]) if first else ([], []))


@pytest.mark.parametrize(("file", "code", "said"), BROKEN)
def test_a_broken_file_says_why(shared, file, code, said):
    path = shared / "feeds" / file
    out = ingest_bytes(load_feed(SPECS / "tap.yaml"), {path.name: path.read_bytes()})
    assert [r.state for r in out.results] == ["quarantined"]
    [reject] = [r for r in out.rejected if not r["line_no"]]
    assert (reject["reason_code"], said in reject["message"]) == (code, True)
    assert not out.accepted


def test_one_number_in_four_spellings(shared):
    path = shared / "feeds/cdr/freeswitch_cdr_csv_Master.csv"
    out = ingest_bytes(load_feed(SPECS / "freeswitch.yaml"), {path.name: path.read_bytes()},
                       datetime(2014, 6, 1))  # fmt: skip
    assert {m["peer_number"] for m in out.accepted} == {"34688886392"}


def test_the_sent_again_event_is_the_same_record_with_other_content(shared):
    folder = shared / "feeds/cdr"
    names = ("jbilling_asterisk-sample1.csv", "jbilling_asterisk-sample2.csv")
    feed = load_feed(SPECS / "jbilling.yaml")
    out = ingest_bytes(feed, {n: (folder / n).read_bytes() for n in names}, datetime(2008, 1, 1))
    first = [m for m in out.accepted if m["line_no"] in (1, 11)]
    assert len({m["dedup_key"] for m in first}) == 1
    assert len(first) == 3


@pytest.mark.parametrize(
    ("spec", "file", "lines", "rates", "first", "last"),
    [
        ("rates_astpp", "astpp_originationrates_sample.csv", 2, "0.06", "1", "44"),
        ("rates_astpp", "astpp_terminationrates_sample.csv", 2, "0.11", "1", "44"),
        ("rates_govuk", "govuk_notify_international_sms_rates.yml", 223, "1060", "1", "1876"),
        ("rates_jbilling", "jbilling_RateCard.xls", 1764, "619.98", "5994165", "7"),
        ("rates_openbrm", "openbrm_ConvergentRateCard.csv", 4, "740.92", "1", "4"),
        ("rates_sigscale", "sigscale_tariff-rates.csv", 6, "0.3433", "1416", "63"),
    ],
)
def test_a_rate_card_and_its_yaml(shared, spec, file, lines, rates, first, last):
    path = shared / "feeds/rates" / file
    feed = load_feed(SPECS / f"{spec}.yaml")
    assert any(fnmatchcase(path.name, pattern) for pattern in feed.files)
    out = ingest_bytes(feed, {path.name: path.read_bytes()})
    assert (out.counts, [r.state for r in out.results]) == ({"accepted": lines}, ["ingested"])
    ends = (out.accepted[0]["destination"], out.accepted[-1]["destination"])
    assert (sum(m["rate"] for m in out.accepted), ends) == (Decimal(rates), (first, last))
    # five prefixes of the workbook stand there twice
    distinct = lines - (5 if spec == "rates_jbilling" else 0)
    assert len({m["destination"] for m in out.accepted}) == distinct


def test_terms_of_a_rate_card(shared):
    path = shared / "feeds/rates/openbrm_ConvergentRateCard.csv"
    out = ingest_bytes(load_feed(SPECS / "rates_openbrm.yaml"), {path.name: path.read_bytes()})
    assert {(str(m["valid_from"]), str(m["valid_to"])) for m in out.accepted} == {
        ("2013-01-01", "2030-01-02")
    }
    assert {m["connection_fee"] for m in out.accepted} == {Decimal("21.81")}


def test_a_rate_card_of_aliases_is_refused():
    feed = load_feed(SPECS / "rates_govuk.yaml")
    bomb = b"a: &a {rate_multiplier: 1}\nb: *a\n"
    [result] = ingest_bytes(feed, {"govuk_notify_rates.yml": bomb}).results
    assert (result.error or "").startswith("invalid_yaml")
