"""A request's JSON, of which each part is written once. A run sends its whole history and all its tools with every
step; to write them each time would make a long run quadratic."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from agentkit.messages import JsonValue

__all__ = ["JsonText", "Kept", "json_list", "json_object", "json_text"]

T = TypeVar("T")
R = TypeVar("R")


class JsonText(bytes):
    """JSON that is written already, in UTF-8."""


class Kept(Generic[T, R]):
    """What is made of things that never change, each kept for as long as its thing is there.

    Things are told apart by identity: to compare two messages takes longer than to write one.
    """

    def __init__(self, make: Callable[[T], R]) -> None:
        self._make = make
        self._kept: dict[int, tuple[weakref.ref[T], R]] = {}

    def __call__(self, thing: T) -> R:
        key = id(thing)
        found = self._kept.get(key)
        if found is not None and found[0]() is thing:
            return found[1]
        made = self._make(thing)
        self._kept[key] = weakref.ref(thing, lambda _: self._kept.pop(key, None)), made
        return made


def json_text(value: JsonValue) -> JsonText:
    """Any JSON value, as text."""
    if isinstance(value, JsonText):
        return value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_jsonable)
    return JsonText(text.encode())


def json_list(items: Iterable[JsonText]) -> JsonText:
    """A list of texts, as text."""
    return JsonText(b"[%s]" % b",".join(items))


def json_object(fields: Mapping[str, JsonValue]) -> JsonText:
    """An object whose values may be texts already, as text."""
    return JsonText(b"{%s}" % b",".join(json_text(name) + b":" + json_text(value) for name, value in fields.items()))


def _jsonable(value: object) -> JsonValue:
    """What users put into a request beside JSON: models, dates."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
