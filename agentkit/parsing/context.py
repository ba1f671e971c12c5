"""What stands before a place in the text, as far as it decides whether a call there is meant or only talked about."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Context"]

LENGTH: Final = 240
"""Characters that are looked back."""

_EXAMPLE: Final = re.compile(
    r"\b(?:example|e\.g\.|for instance|such as|looks? like|the format|syntax|sample"
    r"|would (?:be|write|emit|look))\b",
    re.IGNORECASE,
)
_QUOTES: Final = "\"'“‘«„"
_BEFORE_QUOTE: Final = ("", " ", "\n", "\t", "(", "[", "{", ":", ",", "=")
_BEFORE_BARE: Final = (":", ".", "!", "?", ">", ")")


class Context:
    """The last of the text so far."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> None:
        """More text."""
        self._text = (self._text + text[-LENGTH:])[-LENGTH:]

    def clear(self) -> None:
        """A marker: what follows stands as at the start of a line."""
        self._text = ""

    @property
    def last(self) -> str:
        """The last character; empty at the start."""
        return self._text[-1:]

    def opens_quote(self) -> bool:
        """Whether the last character is a quote that opens rather than closes."""
        return self.last != "" and self.last in _QUOTES and self._text[-2:-1] in _BEFORE_QUOTE

    def announces_example(self) -> bool:
        """Whether the paragraph says that an example follows."""
        return self._text != "" and _EXAMPLE.search(self._text.rsplit("\n\n", 1)[-1]) is not None

    def is_set_off(self) -> bool:
        """Whether the line is indented like code or quoted like mail."""
        line = self._text.rsplit("\n", 1)[-1]
        return line.startswith(("    ", "\t")) or line.lstrip().startswith(">")

    def invites_bare_call(self, weak: bool) -> bool:
        """Whether a call without a marker may stand here, in the middle of a line: not in a word, code or JSON."""
        before = self._text.rstrip()
        ends = before[-1:] in _BEFORE_BARE and before[-2:-1] not in ('"', "'")
        return self.last.isspace() and (ends or not weak)
