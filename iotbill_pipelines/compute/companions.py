"""What companion files state of data files, and whether the data files agree (RULEBOOK §5, MD-09).

A :class:`Statement` is one record of a companion: about a data file that is named in it, or that
has its name. Which of them speak of a file is told by :func:`names_of`.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from iotbill_pipelines.engine.feeds.spec import Companion

BLOCK_BYTES = 4 * 2**20
_PACKED = ".gz"


@dataclass(frozen=True)
class Statement:
    """What companion ``by`` states of file ``about`` (a name, perhaps without its endings).

    ``stated`` are its fields as texts, those that say something.
    """

    by: str
    about: str
    stated: Mapping[str, str]


class DisagreementError(ValueError):
    """A file that is not what its companion states: stable code, message, the text stated."""

    def __init__(self, code: str, message: str, value: str) -> None:
        super().__init__(message)
        self.code, self.message, self.value = code, message, value


def statements(
    companion: Companion, name: str, records: Sequence[Mapping[str, str | None]]
) -> list[Statement]:
    """Return what the records of a companion file state.

    Raises ValueError where it cannot be told which data file is meant.
    """
    if companion.file is None and len(records) != 1:
        raise ValueError(
            f"holds {len(records)} records; without control.companion.file it speaks of one file"
        )
    found = []
    for record in records:
        about = _about(companion, name)
        if companion.file is not None:
            about = re.split(r"[/\\\\]", (record.get(companion.file) or "").strip())[-1].lstrip("*")
        if not about:
            raise ValueError("has a record that names no data file")
        told = {field: text.strip() for field, text in record.items() if text and text.strip()}
        found.append(Statement(name, about, told))
    if len({statement.about for statement in found}) < len(found):
        raise ValueError("speaks of one data file twice")
    return found


def _about(companion: Companion, name: str) -> str:
    if companion.named is not None:
        match = re.search(companion.named, name)
        return (match[1] or "") if match else ""
    return posixpath.splitext(name.removesuffix(_PACKED))[0]


def names_of(name: str) -> list[str]:
    """Return the names by which a statement can mean a data file, the most telling first."""
    names = [name]
    while (shorter := posixpath.splitext(names[-1])[0]) != names[-1]:
        names.append(shorter)
    return names


def check_bytes(companion: Companion, statement: Statement, open_: Callable[[], IO[bytes]]) -> None:
    """Hold size and digests against the file as delivered. Raises DisagreementError."""
    wanted = {
        kind: statement.stated.get(field)
        for kind, field in (("size", companion.size_bytes), ("md5", companion.md5),
                            ("sha256", companion.sha256))
        if field is not None
    }  # fmt: skip
    if not wanted:
        return
    size = 0
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in wanted if kind != "size"}
    with open_() as stream:
        while block := stream.read(BLOCK_BYTES):
            size += len(block)
            for digest in digests.values():
                digest.update(block)
    found = {"size": str(size), **{kind: digest.hexdigest() for kind, digest in digests.items()}}
    for kind, text in wanted.items():
        told = (text or "").strip()
        same = told.lower() == found[kind]
        if kind == "size" and told.isdigit():
            same = int(told) == size
        if not same:
            code = "control_size" if kind == "size" else "control_digest"
            raise DisagreementError(
                code,
                f"has {kind} {found[kind]}, its companion {statement.by} states {told or 'none'}; "
                "ask the sender for both again",
                told,
            )
