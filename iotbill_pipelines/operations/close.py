"""The close of a month: its stages in order, its gates, and how one stage is run.

:data:`CLOSE_STAGES` is the only list of stages: the command line shows it, Dagster makes an asset
of each entry, tests walk it. A stage is a function ``(workspace, period) -> StageResult`` and is
imported only when it runs, so that naming the stages costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from iotbill_pipelines.operations.stages import Finding, Operation, StageResult

if TYPE_CHECKING:
    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations.workspace import Workspace

DBT_PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"


@cache
def mart_descriptions() -> dict[str, str]:
    """Return what each mart holds, in the words of its documentation."""
    return {model["name"]: " ".join(model["description"].split()) for model in _mart_models()}


@cache
def mart_amounts() -> dict[str, tuple[str, ...]]:
    """Return the columns of each mart whose amounts add up over its rows, per currency."""
    return {
        model["name"]: tuple(
            column["name"]
            for column in model["columns"]
            if column.get("config", {}).get("meta", {}).get("adds_up")
        )
        for model in _mart_models()
    }


def _mart_models() -> list[dict[str, Any]]:
    document = yaml.safe_load((DBT_PROJECT / "models" / "marts" / "marts.yml").read_text("utf-8"))
    models: list[dict[str, Any]] = document["models"]
    return models


@dataclass(frozen=True)
class Gate:
    """A condition of the close (RULEBOOK §11); fails with a finding of the same code.

    A finding of severity ``block`` stops the close at this stage; ``warn`` is shown and recorded.
    ``counts`` names the counts of the stage that are the gate's figure while nothing is wrong.
    """

    code: str
    title: str
    counts: tuple[str, ...] = ()

    def figure(self, rows: Mapping[str, int]) -> str:
        """What the gate rests on while nothing is wrong, by the counts of its stage."""
        told = self.counts or tuple(rows)[:MOST_COUNTS]
        return ", ".join(f"{rows.get(name, 0):,} {name}" for name in told)


MOST_COUNTS = 3
"""Counts of a stage that stand as the figure of a gate without counts of its own."""


@dataclass(frozen=True)
class Stage:
    """A step of a close: what runs it, what it publishes, what it needs, what it must satisfy.

    ``title`` says what it does, ``about`` what it publishes; ``asset`` is the table or document it
    publishes (its name in Dagster), ``reads`` the assets it
    depends on, ``tables`` what of its output stands on its own (an asset each). Findings whose
    code no gate names fall to the gate ``<name>_findings``.
    """

    name: str
    module: str
    title: str
    about: str
    asset: str
    group: str
    reads: tuple[str, ...]
    kinds: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    tables: tuple[str, ...] = ()

    @property
    def operation(self) -> Operation:
        """The function behind the stage; imports its module."""
        return cast(Operation, getattr(importlib.import_module(self.module), self.name))

    @property
    def all_gates(self) -> tuple[Gate, ...]:
        """The declared gates and the one for any other finding."""
        return (*self.gates, Gate(f"{self.name}_findings", "Nothing else was found"))

    def gate_of(self, finding: Finding) -> str:
        """The code of the gate that a finding belongs to."""
        codes = {gate.code for gate in self.gates}
        return finding.code if finding.code in codes else f"{self.name}_findings"


_OPERATIONS = "iotbill_pipelines.operations"

CLOSE_STAGES: tuple[Stage, ...] = (
    Stage(
        "check_feeds",
        f"{_OPERATIONS}.data_quality",
        "Check data quality",
        "What each feed delivered each day - records, quantities, delays - and whether that "
        "is what the feed expects.",
        "feed_day_profile",
        "1_receive",
        ("usage_record",),
        ("duckdb", "greatexpectations"),
        (
            Gate(
                "data_quality",
                "Every day of every feed is as its feed expects",
                ("feed-days", "expectations failed"),
            ),
            Gate("table_schema", "Records keep the schema of their table", ("records",)),
        ),
    ),
    Stage(
        "rate_usage",
        f"{_OPERATIONS}.usage",
        "Rate usage",
        "Every usage record of the months in scope with its owner and its price at each "
        "level of the seller chain; duplicates and what cannot be rated stand aside with "
        "their reasons.",
        "rated_usage",
        "2_rate",
        ("usage_record", "feed_day_profile"),
        ("duckdb", "deltalake"),
        (
            Gate(
                "conservation",
                "Every record is kept, ignored, a duplicate, rejected or suspended",
                ("kept", "duplicate", "suspended"),
            ),
            Gate("suspense", "Suspense is within its tolerance", ("suspended",)),
            Gate("feeds", "Every landed file was read", ("files read",)),
        ),
    ),
    Stage(
        "settle_charges",
        f"{_OPERATIONS}.charges",
        "Settle pools and charges",
        "What the ledger should hold for every service, charge and usage period, at retail "
        "and at vendor level: pools, tiers, recurring charges and contracts settled over "
        "the whole set.",
        "desired_charge",
        "3_settle",
        ("rated_usage",),
        ("duckdb", "deltalake"),
        (
            Gate("pools", "The parts of every pool add up to the pool", ("pools",)),
            Gate(
                "components",
                "The components of every charge add up to the charge",
                ("desired charges",),
            ),
            Gate(
                "commitments",
                "A commitment whose window ended is charged what is missing",
                ("commitment windows ended",),
            ),
            Gate(
                "reference_data",
                "Reference data lets every charge be computed",
                ("desired charges",),
            ),
        ),
    ),
    Stage(
        "book_charges",
        f"{_OPERATIONS}.booking",
        "Book charges",
        "The ledger's charges: what is desired minus what was booked, as new rows of the "
        "open accounting period. Nothing is ever changed or deleted.",
        "booked_charge",
        "4_book",
        ("desired_charge",),
        ("postgres",),
        (
            Gate(
                "booked",
                "The ledger holds exactly what is desired",
                ("rows booked", "usage periods"),
            ),
            Gate(
                "draft_review",
                "No account is billed much more or less than last month",
                ("accounts compared",),
            ),
        ),
    ),
    Stage(
        "issue_invoices",
        f"{_OPERATIONS}.invoicing",
        "Issue invoices",
        "The month's invoices and their taxes, numbered without gaps.",
        "invoice",
        "5_invoice",
        ("booked_charge",),
        ("postgres",),
        (
            Gate(
                "invoices",
                "The invoices add up to the retail charges",
                ("invoices", "invoice lines"),
            ),
            Gate(
                "tax",
                "Every invoice line is taxed, or none is by configuration",
                ("invoice lines", "taxed lines"),
            ),
        ),
    ),
    Stage(
        "reconcile_vendors",
        f"{_OPERATIONS}.reconciliation",
        "Reconcile vendors",
        "Our expected cost against every carrier's invoices, line by line, each difference "
        "split into causes; claims, and a workbook for each carrier.",
        "vendor_reconciliation",
        "6_reconcile",
        ("booked_charge",),
        ("duckdb", "postgres", "excel"),
        (
            Gate(
                "reconciliation",
                "Every vendor is reconciled or accrued, and every cause is told",
                ("vendors reconciled", "vendors accrued", "lines compared"),
            ),
            Gate(
                "sim_counts",
                "SIMs in use, billed by vendors and charged are as many",
                ("SIMs in use", "SIMs charged", "SIMs billed by vendors"),
            ),
        ),
    ),
    Stage(
        "build_journals",
        f"{_OPERATIONS}.journals",
        "Build journals",
        "Balanced journals of every configured type, with what follows from charges: "
        "deferrals, commissions, true-ups and cut-offs.",
        "journal",
        "7_post",
        ("invoice", "vendor_reconciliation"),
        ("postgres",),
        (
            Gate("journals", "Debits equal credits in every journal", ("journals", "lines")),
            Gate(
                "tie_out",
                "Journals, invoices and charges add up to the same",
                ("journals", "invoices"),
            ),
            Gate("gl_suspense", "Every amount has a general ledger account", ("lines",)),
            Gate("tax_totals", "The taxes in journals are those on invoices", ("tax items",)),
            Gate(
                "derived_entries",
                "Deferrals, commissions, true-ups and cut-offs are in journals",
                ("derived entries",),
            ),
        ),
    ),
    Stage(
        "export_journals",
        f"{_OPERATIONS}.journals",
        "Export journals",
        "The journals as files that the ERP imports. The same journal gives the same bytes.",
        "journal_export",
        "7_post",
        ("journal",),
        ("csv", "excel"),
        (Gate("exports", "The exported files carry what was journalled", ("files",)),),
    ),
    Stage(
        "publish_marts",
        f"{_OPERATIONS}.marts",
        "Publish marts",
        "Tables for BI tools in PostgreSQL's schema marts: revenue, margins, "
        "reconciliation, disputes, usage by day, late usage; each with data tests.",
        "marts",
        "8_report",
        ("journal", "vendor_reconciliation", "rated_usage"),
        ("dbt", "postgres"),
        (Gate("mart_tests", "The marts hold exactly what was booked", ("data tests passed",)),),
        (
            *("revenue_by_product_account", "reconciliation_summary", "dispute_ageing"),
            *("margin_by_service", "margin_by_customer", "margin_by_product"),
            *("margin_by_partner", "late_usage_ageing", "commit_cockpit"),
            "usage_by_account_day",
        ),
    ),
    Stage(
        "write_report",
        f"{_OPERATIONS}.report",
        "Write the close report",
        "The close report as a page and a workbook, and a workbook for each customer group.",
        "close_report",
        "8_report",
        ("journal_export", "marts"),
        ("html", "excel"),
    ),
)
"""The close, in order. RULEBOOK §11's checklist is spread over the gates: :data:`CHECKLIST`."""

CHECKLIST: Mapping[str, tuple[str, ...]] = {
    "Feeds complete by file and day": ("data_quality", "table_schema", "feeds"),
    "Control totals; in = kept + ignored + duplicate + rejected + suspended": ("conservation",),
    "Suspense is zero or waived": ("suspense",),
    "SIMs of inventory, vendors and charges": ("sim_counts",),
    "Pools settled": ("pools", "components", "reference_data"),
    "Commitments evaluated": ("commitments",),
    "Invoices = sum of lines": ("booked", "invoices"),
    "Draft review against the month before": ("draft_review",),
    "Vendors reconciled or accrued": ("reconciliation",),
    "Accruals, deferred roll-forward, commissions": ("derived_entries",),
    "Tax control totals": ("tax", "tax_totals"),
    "Journals balanced, exported, acknowledged": (
        *("journals", "gl_suspense", "exports"),
        "acknowledgement",
    ),
    "Sub-ledger = general ledger": ("tie_out", "gl_balances"),
    "Signed off": ("sign_off",),
}
"""The items of RULEBOOK §11 and the gates that stand for each. The last of journals, the general
ledger's balances and the signatures come after the close (:mod:`operations.periods`)."""


class CloseUnderWay(RuntimeError):
    """Another process is closing the same month; the message says which run."""


def stage_named(name: str) -> Stage:
    """Return a stage by name. Raises KeyError naming the stages there are."""
    for stage in CLOSE_STAGES:
        if stage.name == name:
            return stage
    raise KeyError(f"no stage {name!r}; there are {', '.join(s.name for s in CLOSE_STAGES)}")


@contextmanager
def exclusive(ws: Workspace, period: Month) -> Iterator[None]:
    """Hold the close of ``period`` for this process; the lock ends with its connection.

    Raises CloseUnderWay at once if another process holds it.
    """
    from iotbill_pipelines.operations.locks import advisory_lock

    with advisory_lock(ws.engine, f"close:{period}", wait=False) as held:
        if not held:
            raise CloseUnderWay(
                f"another process is closing {period}; wait for it to end, then run this again "
                "(it will find nothing left to do)"
            )
        yield


def run_stage(ws: Workspace, period: Month, stage: Stage) -> StageResult:
    """Run one stage under the workspace's run id, one stage of a month at a time.

    Records the run and the outcome of the stage's gates; a failure is recorded and raised again.
    What a person waived of a gate does not block (:mod:`operations.waivers`).
    """
    from iotbill_pipelines.operations import runs, waivers

    with runs.step(ws, "close", period, stage=stage.name), runs.stage_lock(ws, period):
        result = stage.operation(ws, period)
        result = waivers.apply_waivers(result, stage, waivers.waivers_of(ws, period, stage))
        runs.record_gates(ws, period, stage, result)
    if result.blocking:
        runs.finish(ws, "failed", {"stage": stage.name, "blocked_by": _codes(result.blocking)})
    elif stage == CLOSE_STAGES[-1]:
        runs.finish(ws, "succeeded", None)
    return result


def run_close(
    ws: Workspace,
    period: Month,
    on_stage: Callable[[Stage, StageResult | None], None] = lambda _stage, _result: None,
) -> list[tuple[Stage, StageResult]]:
    """Run every stage in order without Dagster; stop after the first that blocks.

    ``on_stage`` hears of each stage before (None) and after it ran.
    """
    done = []
    with exclusive(ws, period):
        for stage in CLOSE_STAGES:
            on_stage(stage, None)
            result = run_stage(ws, period, stage)
            on_stage(stage, result)
            done.append((stage, result))
            if result.blocking:
                break
    return done


def _codes(findings: Sequence[Finding]) -> list[str]:
    return sorted({finding.code for finding in findings})
