"""Do two file patterns have a name in common? Then one file could belong to two feeds."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase

_ANY, _ONE = "*", "?"


def common_name(first: str, second: str) -> str | None:
    """Return a shortest file name that both patterns match, None when there is none.

    Patterns are those of :mod:`fnmatch`: ``*``, ``?``, ``[abc]`` and ``[!abc]``.
    """
    left, right = _tokens(first), _tokens(second)
    queue = deque([(0, 0, "")])
    seen = {(0, 0)}
    while queue:
        i, j, name = queue.popleft()
        if i == len(left) and j == len(right):
            return name
        for step_i, step_j, char in _steps(left, right, i, j):
            if (step_i, step_j) not in seen:
                seen.add((step_i, step_j))
                # what a star stands for costs nothing, so that the name found is a short one
                nearer = queue.appendleft if not char else queue.append
                nearer((step_i, step_j, name + char))
    return None


def _steps(left: list[str], right: list[str], i: int, j: int) -> list[tuple[int, int, str]]:
    steps = []
    if i < len(left) and left[i] == _ANY:
        steps.append((i + 1, j, ""))
    if j < len(right) and right[j] == _ANY:
        steps.append((i, j + 1, ""))
    if i < len(left) and j < len(right):
        char = _shared(left[i], right[j])
        if char:
            steps.append((i + (left[i] != _ANY), j + (right[j] != _ANY), char))
    return steps


def _shared(a: str, b: str) -> str | None:
    """Return a character that both tokens match."""
    candidates = [*_members(a), *_members(b), *"x0_-."]
    return next((c for c in candidates if _takes(a, c) and _takes(b, c)), None)


def _members(token: str) -> str:
    if token in (_ANY, _ONE):
        return ""
    return token if len(token) == 1 else token.strip("[]!")


def _takes(token: str, char: str) -> bool:
    return token in (_ANY, _ONE) or fnmatchcase(char, token)


def _tokens(pattern: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(pattern):
        end = pattern.find("]", position + 2) if pattern[position] == "[" else -1
        token = pattern[position : end + 1] if end > 0 else pattern[position]
        if not (token == _ANY and tokens and tokens[-1] == _ANY):
            tokens.append(token)
        position += len(token)
    return tokens
