"""Calls that would never end: a model that writes the same again and again, or digits without end.

A small model finds the end of a call only where it is likely, and what it has written three times is likelier than any
end. Inside a call or an answer under a grammar, what goes round is told by what was written, and left: the next token
is one that does not go on with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

__all__ = ["Circles"]

_LONG: Final = 128
"""Tokens that only repeat, or digits in a row: longer than people mean. A list of 43 zeros has 128 tokens."""

_PERIOD: Final = 16
"""Tokens of what is repeated, at most: then it is there eight times."""

_NUMBER: Final = b"0123456789.eE+-"
_DIGITS: Final = _NUMBER[:10]


class Circles:
    """Watches what is written, token by token."""

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=_LONG)
        self._digits = 0

    def add(self, token: int, piece: bytes) -> None:
        """One more token, and its bytes."""
        self._last.append(token)
        before = len(piece.rstrip(_DIGITS))
        self._digits = len(piece) - before + (0 if before else self._digits)

    def going_on(self) -> Callable[[int, bytes], bool] | None:
        """Which tokens would go on with what goes round; None where nothing does."""
        if self._digits >= _LONG:
            return lambda token, piece: piece[:1] in _NUMBER
        if len(self._last) == _LONG and any(map(self._repeats, range(1, _PERIOD + 1))):
            written = set(islice(reversed(self._last), _PERIOD))
            return lambda token, piece: token in written
        return None

    def _repeats(self, period: int) -> bool:
        """The last tokens are the same ones again and again."""
        last = self._last
        if last[-1] != last[-1 - period]:  # most often
            return False
        return all(map(int.__eq__, islice(last, period, None), last))
