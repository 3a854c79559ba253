"""Which errors are a user's to put right, and how they are told."""

from __future__ import annotations

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.compute import EngineError
from iotbill_pipelines.engine.roaming import AgreementError
from iotbill_pipelines.engine.terms import TermsError
from iotbill_pipelines.operations.close import CloseUnderWay
from iotbill_pipelines.operations.corrections import CorrectionError
from iotbill_pipelines.operations.disputes import DisputeError
from iotbill_pipelines.operations.package import PackageError
from iotbill_pipelines.operations.periods import PeriodError
from iotbill_pipelines.operations.suspense import SuspenseError
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.waivers import WaiverError
from iotbill_pipelines.operations.workspace import WorkspaceError
from iotbill_pipelines.storage.database import DatabaseError
from iotbill_pipelines.storage.lake_places import LakeError
from iotbill_pipelines.storage.landing import LandingError
from iotbill_pipelines.storage.ledger import LedgerError
from iotbill_pipelines.storage.machine import MachineError, trouble
from iotbill_pipelines.storage.reference import ReferenceDataError
from iotbill_pipelines.storage.sources import SourceError

_PLAIN = (
    AgreementError,
    CloseUnderWay,
    ConfigError,
    CorrectionError,
    DatabaseError,
    DisputeError,
    EngineError,
    LakeError,
    LandingError,
    LedgerError,
    MachineError,
    PackageError,
    PeriodError,
    ReferenceDataError,
    SourceError,
    SuspenseError,
    TermsError,
    UnknownId,
    WaiverError,
    WorkspaceError,
)

_PATHS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

_PLAIN_NAMES = frozenset(error.__name__ for error in _PLAIN)
"""Their names, by which Dagster tells of an error in a step."""


def is_plain(error_class: str | None) -> bool:
    """Is an error that Dagster tells of by its class a user's to put right?"""
    return error_class in _PLAIN_NAMES


def sentence(error: Exception) -> str | None:
    """Return what to tell a user of an error, None if it is a defect of the program."""
    if isinstance(error, _PLAIN):
        return str(error)
    if type(error) is ValueError:
        return str(error)
    if told := trouble(error):
        return told
    if isinstance(error, _PATHS):
        return f"{error.filename}: {error.strerror}; check the path"
    return None
