"""A LoRaWAN customer's inventory from the register of its devices.

The register is a CSV with semicolons and the columns ``Name`` and ``DevEUI`` at least, as CampusIoT
publishes it; the feed ``helium_endpoints`` reads the identifiers from that file itself. What it
does not hold (who pays, since when, by which offer) is written here as reference files.
"""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

from iotbill_pipelines.operations.sample.files import write_csv, write_xlsx
from iotbill_pipelines.operations.sample.fleet import ENTITY
from iotbill_pipelines.operations.sample.references import (
    ACCOUNTS_HEADER,
    CONTRACTS_HEADER,
    SERVICES_HEADER,
    STATES_HEADER,
)

CUSTOMER = "L0001"
VENDOR = "helium"


def write_lorawan_inventory(
    devices: Path, out: Path, since: date, billing_zone: str = "Europe/Paris"
) -> list[Path]:
    """Write accounts, services, states and contracts for every device of a register.

    One customer owns all devices, each active on offer ``lora_uplink`` from ``since``; the network
    is the vendor, on offer ``helium_credits`` (configs/examples/helium/catalog). The service id is
    the device's name. Returns the files written. ``out`` is created.

    Raises ValueError naming file, line and column for a device without a name or EUI, a name used
    twice, or a register without these columns.
    """
    names = _device_names(devices)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / name for name in ("accounts.csv", "services.csv", "states.csv")]
    write_csv(
        files[0],
        ACCOUNTS_HEADER,
        [
            (CUSTOMER, "CampusIoT", "customer", "", ENTITY, billing_zone, "EUR", "lorawan"),
            (VENDOR, "Helium network", "vendor", "", ENTITY, "UTC", "EUR", ""),
        ],
    )
    write_csv(files[1], SERVICES_HEADER, [(name, CUSTOMER, name) for name in names])
    write_csv(files[2], STATES_HEADER, [(name, f"{since} 00:00:00", "active") for name in names])
    contracts = out / "contracts.xlsx"
    write_xlsx(
        contracts,
        "contracts",
        CONTRACTS_HEADER,
        [
            (name, level, payer, offer, since.isoformat(), "")
            for name in names
            for level, payer, offer in (
                ("retail", CUSTOMER, "lora_uplink"),
                ("vendor", VENDOR, "helium_credits"),
            )
        ],
    )
    return [*files, contracts]


def _device_names(devices: Path) -> list[str]:
    with devices.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=";")
        for column in ("Name", "DevEUI"):
            if column not in (reader.fieldnames or ()):
                raise ValueError(
                    f"{devices}: line 1 has no column {column!r}; it needs Name;DevEUI;..."
                )
        names: list[str] = []
        for row in reader:
            for column in ("Name", "DevEUI"):
                if not (row[column] or "").strip():
                    raise ValueError(
                        f"{devices}: line {reader.line_num}: {column} is empty; fill it in"
                    )
            name = row["Name"].strip()
            if name in names:
                raise ValueError(
                    f"{devices}: line {reader.line_num}: Name {name!r} stands twice; it names the "
                    "service, so give each device its own"
                )
            names.append(name)
    return names
