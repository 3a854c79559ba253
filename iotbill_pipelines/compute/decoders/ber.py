"""The frame of BER files: where elements start and end, checked before anything is decoded.

General decoders skip what they do not expect and stop where a length says so; here every octet
must belong to an element. Nothing is copied: elements are positions in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from iotbill_pipelines.compute.decoders.records import DecodeError, Problem, Scope

INDEFINITE = -1
END_OF_CONTENTS = 2
"""Octets of the mark that ends an element of indefinite length."""
_MAX_TAG_OCTETS = 4
_MAX_LENGTH_OCTETS = 8


@dataclass(frozen=True, slots=True)
class Element:
    """An element: identifier from ``start``, contents from ``content`` to ``content_end``."""

    tag_class: int
    tag: int
    constructed: bool
    start: int
    content: int
    content_end: int
    end: int

    @property
    def key(self) -> tuple[int, int]:
        """Class and number of the tag, as the grammar writes them."""
        return self.tag_class, self.tag

    @property
    def label(self) -> str:
        """The tag as specifications write it."""
        name = ("UNIVERSAL", "APPLICATION", "CONTEXT", "PRIVATE")[self.tag_class]
        return f"[{name} {self.tag}]"


def _refuse(code: str, message: str, offset: int) -> DecodeError:
    return DecodeError(Problem(code, message, Scope.FILE, offset=offset))


def _header(data: bytes, start: int, limit: int) -> tuple[int, int, bool, int, int]:
    """Class, tag, constructed, position of the contents and length of the element at ``start``."""
    position = start
    if position >= limit:
        raise _refuse("truncated", f"an element is missing at byte {start}", start)
    first = data[position]
    position += 1
    tag = first & 0x1F
    if tag == 0x1F:
        tag = 0
        for octet in range(_MAX_TAG_OCTETS + 1):
            if octet == _MAX_TAG_OCTETS:
                raise _refuse("bad_tag", f"the tag at byte {start} is too long", start)
            if position >= limit:
                raise _refuse("truncated", f"the tag at byte {start} is cut off", start)
            value = data[position]
            position += 1
            tag = tag << 7 | value & 0x7F
            if not value & 0x80:
                break
    if position >= limit:
        raise _refuse("truncated", f"the length of the element at byte {start} is missing", start)
    length = data[position]
    position += 1
    constructed = bool(first & 0x20)
    if length == 0x80:
        if not constructed:
            raise _refuse(
                "bad_length", f"the primitive element at byte {start} has no length", start
            )
        return first >> 6, tag, constructed, position, INDEFINITE
    if length > 0x80:
        octets = length & 0x7F
        if octets > _MAX_LENGTH_OCTETS or position + octets > limit:
            raise _refuse(
                "length_overflow",
                f"the length of the element at byte {start} takes {octets} octets",
                start,
            )
        length = int.from_bytes(data[position : position + octets], "big")
        position += octets
    if length > limit - position:
        raise _refuse(
            "length_overflow",
            f"the element at byte {start} claims {length} octets of contents; "
            f"{limit - position} are left in what encloses it",
            start,
        )
    return first >> 6, tag, constructed, position, length


def element(data: bytes, start: int, limit: int, max_depth: int) -> Element:
    """Return the element at ``start``; it must end at or before ``limit``.

    Raises :class:`DecodeError` (``truncated``, ``bad_tag``, ``bad_length``, ``length_overflow``,
    ``too_deep``).
    """
    tag_class, tag, constructed, content, length = _header(data, start, limit)
    if length != INDEFINITE:
        end = content + length
        return Element(tag_class, tag, constructed, start, content, end, end)
    content_end = _end_of_contents(data, start, content, limit, max_depth)
    return Element(
        tag_class, tag, constructed, start, content, content_end, content_end + END_OF_CONTENTS
    )


def _end_of_contents(data: bytes, start: int, content: int, limit: int, max_depth: int) -> int:
    """Return where the mark stands that ends the indefinite element at ``start``."""
    open_elements = 1
    position = content
    while True:
        if data[position : position + END_OF_CONTENTS] == b"\0\0" and position + 2 <= limit:
            open_elements -= 1
            if not open_elements:
                return position
            position += END_OF_CONTENTS
            continue
        if position >= limit:
            raise _refuse(
                "truncated", f"the element of indefinite length at byte {start} is not ended", start
            )
        _, _, _, inner, length = _header(data, position, limit)
        if length == INDEFINITE:
            open_elements += 1
            if open_elements > max_depth:
                raise _too_deep(position, max_depth)
            position = inner
        else:
            position = inner + length


def _too_deep(offset: int, max_depth: int) -> DecodeError:
    return _refuse(
        "too_deep", f"elements at byte {offset} are nested deeper than {max_depth}", offset
    )


def children(data: bytes, parent: Element, max_depth: int) -> Iterator[Element]:
    """Yield the elements inside a constructed one, in order, up to its last octet."""
    position = parent.content
    while position < parent.content_end:
        child = element(data, position, parent.content_end, max_depth)
        if child.key == (0, 0):
            raise _refuse(
                "stray_end_of_contents",
                f"an end-of-contents mark stands inside the element at byte {parent.start}",
                position,
            )
        yield child
        position = child.end


def primitives(data: bytes, top: Element, max_depth: int) -> int:
    """Count the primitive elements under ``top`` (itself, when primitive), checking every frame.

    Constructed elements without contents count too: they carry the fact that they are there.
    """
    count = 0
    stack = [(top, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > max_depth:
            raise _too_deep(node.start, max_depth)
        if not node.constructed:
            count += 1
            continue
        inner = list(children(data, node, max_depth - depth + 1))
        if not inner:
            count += 1
        stack.extend((child, depth + 1) for child in inner)
    return count
