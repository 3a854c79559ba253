"""Sending a message to an address of the apprise library."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal

Kind = Literal["failure", "warning", "success", "info"]


class NotSent(RuntimeError):
    """A message that did not go out; the message says why, without secrets."""


def send(address: str, title: str, body: str, kind: Kind, secrets: Iterable[str] = ()) -> None:
    """Send a plain text. Raises NotSent if the address is not understood or does not take it."""
    import apprise  # noqa: PLC0415 - half a second, and only where something is sent

    asset = apprise.AppriseAsset(
        app_id="iotbill", app_desc="iotbill", app_url="", async_mode=False, secure_logging=True
    )
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:
        sender = apprise.Apprise(asset=asset)
        sent = sender.add(address) and sender.notify(
            body=body, title=title, notify_type=kind, body_format="text"
        )
        reasons = said.getvalue()
    if not sent:
        for secret in secrets:
            reasons = reasons.replace(secret, "***")
        told = "; ".join(dict.fromkeys(line.strip() for line in reasons.splitlines() if line))
        raise NotSent(told[:500] or "the address is not understood; see apprise's documentation")
