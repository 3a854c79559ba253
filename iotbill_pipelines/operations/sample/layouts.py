"""How each carrier writes its records: the layouts that configs/feeds/*.yaml read.

A malformed record is written broken in the carrier's own way (see ``deliveries.DEFECTS``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.sample.deliveries import Row
from iotbill_pipelines.operations.sample.files import csv_line
from iotbill_pipelines.operations.sample.invoices import TERMS, InvoiceLine

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
UTC_ZONE = ZoneInfo("UTC")

BICS_USAGE_HEADER = (
    "timestampAccount,timestamp,serviceTypeName,subServiceType,parentAccountId,accountId,"
    "endpointId,imsi,iccid,msisdn,imei,planId,addonPlanId,dynamicBenefitId,visitedOperatorName,"
    "rateZoneName,count,volumeTotal,volumeDownlink,volumeUplink,apn,ratType,revenue,"
    "revenueCurrency"
).split(",")

XL_HEADER = "Record ID,ICCID,Service,Start,Quantity,MCC,MNC,Zone".split(",")
XL_SHEET = "Usage"


EMNIFY_INVOICE_SHEET = "Invoice"
EMNIFY_INVOICE_HEADER = (
    "Invoice Number,Period,ICCID,Rate Plan,Charge Code,Service From,Service To,Quantity,Unit,"
    "Unit Price,Amount,Currency"
).split(",")

BICS_BILLING_HEADER = (
    "DATE,AccountId,CustomerName,iccid,msisdn,ServiceName,TariffName,RatezoneName,"
    "DynamicBenefitName,ChargedCount,ChargedVolume,ChargedAmount,CostCurrency,CategoryName,"
    "FeeCategory,FeeType"
).split(",")


def megabytes(size: int) -> str:
    """Write bytes as decimal megabytes, exactly."""
    sign, size = ("-", -size) if size < 0 else ("", size)
    return f"{sign}{size // 10**6}.{size % 10**6:06d}"


def emnify_line(row: Row) -> str:
    """One JSON object as emnify's Data Streamer sends it; volumes in decimal MB."""
    event = row.event
    service, network = event.service, event.network
    quantity = -event.quantity if row.defect == "negative_quantity" else event.quantity
    if event.usage_class == "data":
        kind, total = '{"id":5,"description":"Data"}', megabytes(quantity)
        rx, tx = megabytes(event.quantity - event.up), megabytes(event.up)
    else:
        kind, total = '{"id":6,"description":"SMS"}', str(quantity)
        rx, tx = str(1 - event.up), str(event.up)
    if row.outcome == "ignored":  # what the network tells about sessions, no usage
        kind = '{"id":7,"description":"Signalling"}'
    if row.defect == "bad_quantity":
        total = '"n/a"'
    rate = TERMS["emnify"].usage["data"].rates["area1"]
    cost = (rate * event.quantity / 10**6).quantize(Decimal("0.00000001"))
    start = _zulu(event.start)
    if row.defect == "bad_time":
        start = start.replace(start[5:10], "13-32", 1)
    iccid = "" if row.defect == "no_identifier" else service.iccid
    serial = int(service.imsi[-6:])
    text = (
        f'{{"cost":{cost:f},"id":{event.id},'
        f'"operator":{{"id":{int(network.mcc) * 10 + len(network.mnc)},'
        f'"name":{json.dumps(network.operator)},"mnc":"{network.mnc}",'
        f'"country":{{"id":{int(network.mcc)},"mcc":"{network.mcc}",'
        f'"name":{json.dumps(network.country)}}}}},'
        '"organisation":{"id":20417,"name":"Sample Connectivity B.V."},'
        '"tariff":{"id":1,"name":"emnify_standard","ratezone":'
        f'{{"id":{len(network.emnify_ratezone)},"name":"{network.emnify_ratezone}"}}}},'
        f'"traffic_type":{kind},'
        f'"endpoint":{{"id":{10**7 + serial},"name":{json.dumps(service.label)},'
        f'"ip_address":"10.{serial // 65536 % 256}.{serial // 256 % 256}.{serial % 256}",'
        f'"tags":null,"imei":"{service.imei}","balance":null}},'
        f'"imsi":"{service.imsi}",'
        f'"volume":{{"total":{total},"rx":{rx},"tx":{tx}}},'
        f'"start_timestamp":"{start}",'
        f'"sim":{{"id":{3 * 10**6 + serial},"iccid":"{iccid}","msisdn":"{service.msisdn}",'
        '"production_date":"2024-09-09T06:42:59Z"},'
        '"currency":{"id":1,"code":"EUR","symbol":"€"},'
        f'"end_timestamp":"{_zulu(event.end)}","imsi_id":{9 * 10**6 + serial},'
        f'"session_id":"{event.session}"}}'
    )
    return text[: len(text) // 2] if row.defect == "cut_off" else text


def bics_line(row: Row) -> str:
    """One line of BICS' Usage export; volumes in bytes, both timestamps UTC here."""
    event = row.event
    service, network = event.service, event.network
    data = event.usage_class == "data"
    total = -event.quantity if row.defect == "negative_quantity" else event.quantity
    stamp = _plain(event.start)
    if row.defect == "bad_time":
        stamp = stamp.replace(stamp[5:10], "02-30", 1)
    missing = row.defect == "no_identifier"
    values: list[object] = [
        stamp,
        stamp,
        "EVENT" if row.outcome == "ignored" else ("DATA" if data else "SMS"),
        "" if data else ("MO" if event.outbound else "MT"),
        "BX1000",
        "BX1017",
        f"EP{service.imsi[-8:]}",
        "" if missing else service.imsi,
        "" if missing else service.iccid,
        "" if missing else service.msisdn,
        service.imei,
        "bics_things",
        "",
        "",
        network.operator,
        network.bics_ratezone,
        1 if data else total,
        ("12,5x" if row.defect == "bad_quantity" else total) if data else "",
        event.quantity - event.up if data else "",
        event.up if data else "",
        "iot.sample.example" if data else "",
        "LTE" if data else "",
        "0.00",
        "EUR",
    ]
    if row.defect == "bad_quantity" and not data:
        values[16] = "12,5x"
    return csv_line(values[:9] if row.defect == "cut_off" else values)


def telfix_line(row: Row) -> str:
    """One fixed-width line of 74 characters; Berlin's clock, no offset.

    1-2 type (20 call, 30 message, 90 balance query), 3-14 record id, 15-29 our number, 30-47 other
    party, 48-61 start, 62-67 seconds, 68 direction, 69-74 visited network.
    """
    event = row.event
    kind = "20" if event.usage_class == "voice" else "30"
    if row.outcome == "ignored":
        kind = "90"
    local = event.start.replace(tzinfo=UTC_ZONE).astimezone(BERLIN)
    stamp = "20261345250000" if row.defect == "bad_time" else f"{local:%Y%m%d%H%M%S}"
    seconds = "00A1B2" if row.defect == "bad_quantity" else f"{event.quantity:06d}"
    number = "" if row.defect == "no_identifier" else event.service.msisdn
    # The same German number in the three ways that the switch writes it.
    written = int(event.session[0], 16) % 3
    peer = (f"00{event.peer}", f"+{event.peer}", f"0{event.peer[2:]}")[written]
    line = (
        f"{kind}{event.id:012d}{number:<15}{peer:<18}{stamp}{seconds}"
        f"{'O' if event.outbound else 'I'}{event.network.mcc + event.network.mnc:<6}"
    )
    return line[:40] if row.defect == "cut_off" else line


def telfix_file(day: date, sequence: int, rows: Sequence[Row]) -> list[str]:
    """Frame a day's records with the header and the trailer that states their totals.

    HDR: 4-11 day, 12-17 sequence. TRL: 4-12 detail lines, 13-24 sum of the seconds that can be
    read.
    """
    lines = [telfix_line(row) for row in rows]
    total = sum(int(line[61:67]) for line in lines if line[61:67].isdigit())
    return [f"HDR{day:%Y%m%d}{sequence:06d}", *lines, f"TRL{len(lines):09d}{total:012d}"]


def xl_row(row: Row) -> tuple[object, ...]:
    """One spreadsheet row; Quantity is MB for Data, a count for SMS, seconds for Voice.

    The clock is New York's.
    """
    event = row.event
    service = {"data": "Data", "sms": "SMS", "voice": "Voice"}[event.usage_class]
    quantity: object = (
        Decimal(megabytes(event.quantity)) if event.usage_class == "data" else event.quantity
    )
    stamp = _plain(event.start.replace(tzinfo=UTC_ZONE).astimezone(NEW_YORK))
    match row.defect:
        case "bad_time":
            stamp = stamp.replace(stamp[11:], "25:61:00")
        case "bad_quantity":
            quantity = "see invoice"
        case "negative_quantity":
            quantity = Decimal(f"-{megabytes(event.quantity)}")
        case "cut_off":
            return (f"XL{event.id}", event.service.iccid)
    return (
        f"XL{event.id}",
        "" if row.defect == "no_identifier" else event.service.iccid,
        "Status" if row.outcome == "ignored" else service,
        stamp,
        quantity,
        event.network.mcc,
        event.network.mnc,
        event.network.country,
    )


def _zulu(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def _plain(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def emnify_invoice_row(month: Month, line: InvoiceLine) -> tuple[object, ...]:
    """A row of emnify's invoice workbook; Service To is the last day billed."""
    unit = {"data": "MB", "sms": "messages"}.get(line.usage_class, "days")
    return (
        f"EM-{month.year}{month.month:02d}-0417",
        str(month),
        line.iccid,
        line.plan,
        line.code,
        line.start.isoformat(),
        (line.end - timedelta(days=1)).isoformat(),
        Decimal(megabytes(line.quantity)) if unit == "MB" else line.quantity,
        unit,
        "" if line.mixed else line.unit_price,
        line.amount,
        "EUR",
    )


def bics_billing_row(line: InvoiceLine) -> tuple[object, ...]:
    """A row of BICS' Billing report: bytes for DATA, messages for SMS, days for SIM."""
    data = line.usage_class == "data"
    return (
        line.start.isoformat(),
        "BX1017",
        "Sample Connectivity B.V.",
        line.iccid,
        line.msisdn,
        line.code.removeprefix("BICS-"),
        line.plan,
        line.network.bics_ratezone if line.network else "",
        "",
        "" if data else line.quantity,
        line.quantity if data else "",
        f"{line.amount.quantize(Decimal('0.0000000001')):f}",
        "EUR",
        "Usage" if line.usage_class else "Subscription",
        "Traffic" if line.usage_class else "SIM fee",
        "Usage" if line.usage_class else "Recurring",
    )
