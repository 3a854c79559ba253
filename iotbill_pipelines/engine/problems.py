"""What terms say about themselves when they cannot hold."""

from __future__ import annotations


class TermsError(ValueError):
    """Terms that contradict each other; ``path`` is the key, outermost first."""

    def __init__(self, path: tuple[str | int, ...], rule: str) -> None:
        super().__init__(f"{'.'.join(map(str, path))}: {rule}")
        self.path = path
        self.rule = rule
