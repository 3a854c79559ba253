"""Layouts that carriers publish, of whom no file is at hand: YAML and a few lines of ours."""

from __future__ import annotations

import json
from pathlib import Path

from iotbill_pipelines.config.feeds import load_feed
from tests.feeds.harness import Outcome, ingest_bytes

SPECS = Path(__file__).parent / "specs"
SIM = "89310410106543789305"


def read(spec: str, name: str, text: str) -> Outcome:
    return ingest_bytes(load_feed(SPECS / f"{spec}.yaml"), {name: text.encode()})


def told(out: Outcome) -> list[object]:
    return [m["reason_code"] or m["quantity"] for m in out.mapped]


def test_monogoto_counts_no_total_row():
    text = (
        "ICCID,IMSI,Operator,Data (Bytes),Data (MB)\n"
        f"{SIM},262010000000001,A,1000,0.001\n{SIM},262010000000001,B,500,0.0005\n"
        f"{SIM},,Total,1500,0.0015\n"
    )
    out = read("monogoto", "monogoto_2026-10.csv", text)
    assert told(out) == [1000, 500, "filter:total_row"]
    assert {str(m["event_start"]) for m in out.accepted} == {"2026-10-01 00:00:00"}


def test_telnyx_reads_the_unit_of_each_volume():
    record = {
        "id": "1", "sim_card_id": "s", "start_time": "2026-10-05T10:00:00Z", "network": "310410",
        "end_time": "2026-10-05T10:05:00Z",
        "uplink": {"amount": "1.5", "unit": "KB"}, "downlink": {"amount": "2", "unit": "MB"},
    }  # fmt: skip
    other = {**record, "id": "2", "downlink": {"amount": "2", "unit": "GB"}}
    out = read("telnyx", "telnyx_1.ndjson", f"{json.dumps(record)}\n{json.dumps(other)}\n")
    assert told(out) == [2_001_500, "unknown_unit"]
    assert (out.accepted[0]["mcc"], out.accepted[0]["mnc"]) == ("310", "410")


def test_soracom_may_lack_columns_and_add_others():
    head = "uploadByteSizeTotal,downloadByteSizeTotal,date,type"
    with_sim = f"\ufeffimsi,{head},my tag\n262010000000001,1,2,20261005,s1.slow,x\n"
    without = f"\ufeff{head}\n1,2,20261005,s1.slow\n"
    assert told(read("soracom", "soracom_a.csv", with_sim)) == [3]
    assert told(read("soracom", "soracom_b.csv", without)) == ["missing_value"]


def test_eseye_adds_what_is_in_the_bundle_in_units_of_1024():
    text = (
        "Date,ICCID,Country,Unit,Quantity,InBundleQuantity\n"
        f"2026-10-05 10:00:00,{SIM},DEU,KB,1,2\n2026-10-05 11:00:00,{SIM},GBR,MB,0,1\n"
        f"2026-10-05 12:00:00,{SIM},GBR,GB,0,1\n"
    )
    out = read("eseye", "eseye_october.csv", text)
    assert told(out) == [3072, 2**20, "unknown_unit"]
    assert [m["region"] for m in out.accepted] == ["DE", "GB"]


def test_cellhire_keeps_the_parts_of_a_session_together():
    head = (
        "SessionRowID,Msisdn,SIMSerial,SessionId,SessionStartUTC,Imsi,Imei,RecordDateUtc,RecordType,"
        "APN,OutgoingDataVolume,IncomingDataVolume,TotalDataVolume\n"
    )
    line = "{0},,{1},S1,2026-10-05 10:00:00,262010000000001,49015420323751,{2},{3},a,1,2,{4}\n"
    parts = [
        line.format(1, SIM, "2026-10-05 10:00:00", "Start", 0),
        line.format(2, SIM, "2026-10-05 10:30:00", "Interim", 3000),
        line.format(3, SIM, "2026-10-05 11:00:00", "Stop", 5000),
        line.format(4, SIM, "2026-10-05 11:00:00", "Other", 5000),
    ]
    out = read("cellhire", "SessionCDR_1_20261005_4.csv", head + "".join(parts))
    assert told(out) == [0, 3000, 5000, "unknown_part"]
    assert len({m["session_key"] for m in out.accepted}) == 1
    assert json.loads(out.accepted[0]["attributes"])["imei"] == "490154203237518"
