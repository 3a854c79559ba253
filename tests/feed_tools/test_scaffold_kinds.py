"""Scaffolds of archives, roaming files and RADIUS; of reference data, invoices and rate cards."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import parse_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.operations.feed_tools.linting import lint_text
from iotbill_pipelines.operations.feed_tools.scaffolding import Scaffold, scaffold
from iotbill_pipelines.operations.feed_tools.shapes import UnknownShapeError
from tests.decoders.test_roaming import charge, gprs, transfer_batch

NOW = datetime(2026, 11, 2)  # noqa: DTZ001 - naive UTC
USAGE = b"start,imsi,bytes\n2026-10-05T10:00:00Z,262010000000001,5\n"


def made(tmp_path: Path, name: str, data: bytes, target: str = "usage_record") -> Scaffold:
    path = tmp_path / name
    path.write_bytes(data)
    result = scaffold(path, NOW, target=target)
    spec = parse_feed(parse_yaml(result.text, Path("configs/feeds/x.yaml")))
    assert spec.target == target
    assert not [n for n in lint_text(result.text, Path("x.yaml")) if n.severity == "error"]
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
