"""Worked examples of gates: what is due of a feed and not there, and what that does to a close."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.config.deliveries import Delivery, Due
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.data_quality import Failure, finding_of
from iotbill_pipelines.operations.deliveries import missing_of
from iotbill_pipelines.operations.stages import StageResult

from .outcome import Case, Check

_SAYS = {"wait": "wait", "accrue estimate": "accrue an estimate"}
_MONTH = Month(2026, 3)


def completeness(case: Case) -> list[Check]:
    """A feed lacks a day's file past the cut-off: the gate blocks, and says what can be done."""
    facts, want = case["facts"], case["expected"]
    grace = facts["grace_days"]
    cut_off = datetime.combine(_MONTH.end + timedelta(days=grace), time(), UTC)
    failures = []
    for feed, files in facts["expected_files"].items():
        delivery = Delivery(
            feed=feed,
            name=r"(?P<day>\d{4}-\d{2}-\d{2})",
            since=_MONTH.start,
            until=_MONTH.start + timedelta(days=files - 1),
            due=Due(days=grace, hour=0),
        )
        days = [_MONTH.start + timedelta(days=n) for n in range(facts["received"][feed])]
        failures += [
            Failure(feed, one.day, "missing_files", one.due - one.came, "every file has come")
            for one in missing_of(delivery, [f"{day}.csv" for day in days], None, cut_off)
        ]
    missing: dict[str, int] = {}
    for failure in failures:
        missing[failure.feed_id] = missing.get(failure.feed_id, 0) + failure.value
    severity = ClosePolicy(data_quality="block").data_quality
    result = StageResult(findings=[finding_of(failure, severity) for failure in failures])
    told = " ".join(finding.what_to_do for finding in result.findings)
    offered = [option for option in want["options"] if _SAYS.get(option, "with a sign-off") in told]
    return [
        Check("close_allowed", want["close_allowed"], not result.blocking),
        Check("missing", want["missing"], missing),
        Check("options", want["options"], offered),
    ]
