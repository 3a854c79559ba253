"""Decoders of files that are not lines of text: bytes to records of named texts.

Each module has one ``decode(stream, options) -> Decoded``: :mod:`roaming` (TAP, NRTRDE, RAP),
:mod:`xml_records`, :mod:`radius_detail`, :mod:`workbooks`. :mod:`containers` opens zip and gzip
files, :mod:`batches` turns decoded records into Arrow batches. Decoders know nothing of feeds and
money; they say what a file holds and what is wrong with it (RULEBOOK §5), and never fail on what a
sender wrote.
"""

from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

__all__ = ["DecodeError", "Decoded", "Problem", "RawRecord", "Scope"]
