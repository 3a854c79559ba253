"""Scaffolds of archives, roaming files and RADIUS; of reference data, invoices and rate cards."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

from iotbill_pipelines.config.documents import read_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.operations.feed_tools.linting import lint
from iotbill_pipelines.operations.feed_tools.scaffolding import Scaffold, scaffold
from iotbill_pipelines.operations.feed_tools.shapes import UnknownShapeError
from tests.decoders.test_roaming import charge, gprs, transfer_batch

NOW = datetime(2026, 11, 2)  # noqa: DTZ001 - naive UTC
USAGE = b"start,imsi,bytes\n2026-10-05T10:00:00Z,262010000000001,5\n"


def made(tmp_path: Path, name: str, data: bytes, target: str = "usage_record") -> Scaffold:
    path = tmp_path / name
    path.write_bytes(data)
    result = scaffold(path, NOW, target=target)
    feed = tmp_path / "x.yaml"
    feed.write_text(result.text)
    assert parse_feed(read_yaml(feed)).target == target
    assert not lint([feed]).errors
    return result


def test_an_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in/usage_1.csv", USAGE)
        archive.writestr("in/usage_2.csv", USAGE)
    result = made(tmp_path, "acme_20261005.zip", buffer.getvalue())
    assert 'archive: {members: ["*.csv"]}' in result.text
    assert (result.trial.accepted, result.trial.records_in) == (2, 2)
    with pytest.raises(UnknownShapeError, match="cannot be"):
        made(tmp_path, "acme.zip", buffer.getvalue()[:-9])


def test_radius_accounting(tmp_path: Path) -> None:
    block = (
        'Mon Oct  5 10:00:00 2026\n\tUser-Name = "262010000000001"\n\tAcct-Session-Id = "a{n}"\n'
        "\tEvent-Timestamp = 179119440{n}\n\tAcct-Input-Octets = 7\n"
        "\tAcct-Input-Gigawords = 1\n\n"
    )
    text = "".join(block.replace("{n}", str(n)) for n in range(4))
    result = made(tmp_path, "detail-20261005", text.encode())
    assert "type: radius_detail" in result.text and "4294967296" in result.text
    assert result.trial.accepted == 4


def test_roaming_files(tmp_path: Path) -> None:
    data = transfer_batch(*[gprs(charge(150))] * 4)
    result = made(tmp_path, "CDWERFDXLKJE00001", data)
    assert "format: {type: tap}" in result.text
    assert result.trial.records_in == 4
    with pytest.raises(UnknownShapeError, match="no TAP, NRTRDE or RAP"):
        made(tmp_path, "CDWERFDXLKJE00002", data[:100])


@pytest.mark.parametrize(
    ("target", "data", "fields"),
    [
        ("service", b"Service Id,Account,Label\nS1,A1,one\nS2,A1,two\n",
         ["service_id: {from: Service Id", "account_id: {from: Account", "label: {from: Label"]),
        ("vendor_invoice_line",
         b"Invoice,Month,ICCID,Item,Quantity,Amount,Currency\n"
         b"I-1,2026-10,8949020000161234567,fee,1,0.50,EUR\n"
         b"I-1,2026-10,8949020000161234568,fee,1,0.50,EUR\n",
         ["invoice_no: {from: Invoice", "amount: {from: Amount, steps: [trim, decimal]",
          "uid_value: {from: ICCID", "vendor_id: {value: CHANGE_ME"]),
        ("rate_card_line", b"Prefix,Country,Price,Currency\n49,Germany,0.05,EUR\n44,UK,0.04,EUR\n",
         ["destination: {from: Prefix", "rate: {from: Price", "currency: {from: Currency"]),
    ],
)  # fmt: skip
def test_tables_other_than_usage(tmp_path: Path, target: str, data: bytes, fields: list[str]):
    result = made(tmp_path, "acme_sample.csv", data, target)
    assert [f for f in fields if f not in result.text] == []
    assert result.trial.accepted == result.trial.records_in == 2
    told = {doubt.about: doubt.confidence for doubt in result.doubts}
    assert "unsure" in told.values() or "likely" in told.values()


def test_an_unknown_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownShapeError, match="there is no target 'usage'"):
        made(tmp_path, "a.csv", USAGE, "usage")


GERMAN = (
    "sep=;\r\nMüller & Söhne\r\nICCID;Datum;Zeit;Volumen MB\r\n"
    "89490200001612345678;05.10.26;7:03:00;1.234,5\r\n"
    "89490200001612345678;31.10.26;17:03:59;0,25\r\nSumme;;;1.234,75\r\n"
)
COLUMNS = {
    "meta": {"points": 3},
    "sims": [
        {"imsi": "262010000000001", "t": [1791194400, 1791194460], "bytes": [1, 2]},
        {"imsi": "262010000000002", "t": [1791194400], "bytes": [3]},
    ],
}
UNITS = (
    "imsi\tts\tamount\tunit\n262010000000001\t1791194400\t1.5\tMB\n"
    "262010000000002\t1791194401\t2\tSMS\n262010000000003\t1791194402\t7\tKB\n"
)
QUOTED = (
    '"Carrier says: hello"\n\n"SIM","When (CET)","Volume [KiB]","Note"\n'
    '"8949020000161234567","2026-10-05 10:00:00","1024","a ""b"", c"\n'
    '"8949020000161234568","2026-10-05 10:00:01","2","x\ny"\n'
)


@pytest.mark.parametrize(
    ("name", "data", "parts", "total"),
    [
        ("german.csv", GERMAN.encode("cp1252"),
         ["decimal_comma: true", "header_has: [ICCID, Datum, Zeit]", "join: {field: Zeit, with:",
          '"%d.%m.%y %H:%M:%S"', "reason: total_row", "{units: {unit: MB}}"], 1_234_750_000),
        ("columns.json", json.dumps(COLUMNS).encode(),
         ["parallel: [t, bytes]", "records: sims"], 6),
        ("units.tsv", UNITS.encode("utf-16-le"),
         ["encoding: utf-16-le", "table: {KB: data, MB: data, SMS: sms}",
          "names: {KB: KB, MB: MB, SMS: count}"], 1_507_002),
        ("quoted.csv", QUOTED.encode(), ["skip_rows: 2", "multiline: true", "unit: KiB"],
         1026 * 1024),
    ],
)  # fmt: skip
def test_files_as_carriers_write_them(
    tmp_path: Path, name: str, data: bytes, parts: list[str], total: int
) -> None:
    result = made(tmp_path, name, data)
    for part in parts:
        assert part in result.text
    assert not result.trial.counts.get("rejected")
    assert sum(quantity.quantity for quantity in result.trial.quantities) == total


def test_sheets_of_one_kind_are_read_together(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for week, amounts in enumerate(((1.5, 2), (3, 4, 5))):
        sheet = book.create_sheet(f"Week {week}")
        sheet.append(["Report", "October"])
        sheet.append(["SIM", "Day", "MB"])
        for day, amount in enumerate(amounts, 1 + 7 * week):
            sheet.append(["8949020000161234567", datetime(2026, 10, day, 12), amount])  # noqa: DTZ001
        sheet.append(["Total", None, sum(amounts)])
    buffer = io.BytesIO()
    book.save(buffer)
    result = made(tmp_path, "report.xlsx", buffer.getvalue())
    assert 'sheet: "*", header_has: [SIM, Day, MB]' in result.text
    assert dict(result.trial.counts) == {"accepted": 5, "ignored": 2, "rejected": 0}


def test_what_is_no_usage_is_told_without_a_crash(tmp_path: Path) -> None:
    for data in (
        bytes(range(256)) * 20,
        b'"\r"\n,"\r\n' * 9,
        b"[1,2,3]",
        b"{" * 3000,
        b"\xef\xbb\xbf\x1a",
    ):
        with pytest.raises(UnknownShapeError):
            made(tmp_path, "garbage", data)
