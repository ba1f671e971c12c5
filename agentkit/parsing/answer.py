"""A text that should be one JSON value, as models write it: bare, in a Markdown fence, or with prose around it."""

from __future__ import annotations

import re

from agentkit.messages import JsonValue
from agentkit.parsing.literals import LooseReader, Unreadable
from agentkit.parsing.repair import read_json

__all__ = ["json_in", "object_start"]

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OBJECT = re.compile(r"\{(?=\s*[\"'}])")  # not the braces of prose


def json_in(text: str) -> list[JsonValue]:
    """The JSON values that a text may mean: itself, else what stands in its fences, else the objects in its prose.

    Raises:
        Unreadable: there is none, or it begins and cannot be read: what is inside of it would be a guess.
    """
    try:
        return [read_json(text)[0]]
    except Unreadable as error:
        unreadable = error
    found: list[JsonValue] = []
    for block in _FENCED.findall(text):
        try:
            found.append(read_json(block)[0])
        except Unreadable as error:
            unreadable = error
    if not found:
        at = object_start(text)
        while at >= 0:
            reader = LooseReader(text, at=at)
            found.append(reader.value())
            at = object_start(text, reader.at)
    if not found:
        raise unreadable
    return found


def object_start(text: str, at: int = 0) -> int:
    """Where the next JSON object begins; -1 if none does."""
    found = _OBJECT.search(text, at)
    return found.start() if found else -1
