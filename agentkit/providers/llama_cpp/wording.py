"""Words and numbers of requests and of arguments, as far as they can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentkit.messages import JsonValue

__all__ = ["leaves", "name_words", "plain", "speaks_of", "without_commas", "words"]

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_ENDING = 2
"""Letters at the end of a word that may differ: booking, booked."""
_STEM = 4


def plain(text: str) -> str:
    """In small letters, numbers without commas."""
    return without_commas(text).lower().strip()


def without_commas(text: str) -> str:
    """1,500 is 1500."""
    return _THOUSANDS.sub("", text)


def words(text: str) -> set[str]:
    """Words and numbers. 03 is 3."""
    return {word.lstrip("0") or "0" for word in _WORD.findall(plain(text))}


def name_words(name: str) -> set[str]:
    """The words in an identifier."""
    return words(_CAPITALS.sub(" ", name).replace("_", " "))


def leaves(value: JsonValue) -> Iterator[str]:
    """The texts and numbers in arguments. True and false stand in no request."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value) if isinstance(value, int) else f"{value:.15g}"


def speaks_of(text: set[str], some: set[str]) -> bool:
    """Any of these words is in a text, perhaps with another ending."""
    return bool(text & some) or any(_alike(one, other) for one in some for other in text)


def _alike(one: str, other: str) -> bool:
    stem = max(_STEM, min(len(one), len(other)) - _ENDING)
    return one[:stem] == other[:stem] and min(len(one), len(other)) >= _STEM
