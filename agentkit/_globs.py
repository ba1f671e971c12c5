"""Globs over a call's arguments. All doubt is held against the call: where a glob permits it is read narrowly, where it
restrains it is read widely."""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from agentkit.messages import JsonValue

__all__ = ["find", "names", "permits", "restrains"]

MAX_DECODINGS: Final = 4
"""A value that is percent-encoded so many times over is taken for anything at all."""

_WORD: Final = r"[\w.+~-]"
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs"})  # control, format (zero width, direction), surrogate

_URL: Final = re.compile(r"(https?|wss?|ftps?):[/\\]*([^/\\?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORT: Final = {"http": ":80", "ws": ":80", "https": ":443", "wss": ":443", "ftp": ":21", "ftps": ":990"}


def names(glob: str, name: str) -> bool:
    """Whether a tool's name is one that the glob means; ``*`` stands for anything."""
    return _pattern(glob, ".", ignore_case=False).fullmatch(name) is not None


def permits(glob: str, value: JsonValue) -> bool:
    """Whether a value is surely what the glob means: each item of a list is, in each way that it can be read.

    ``*`` stands for letters, digits and ``_ . + ~ -``; ``**``, at the end only, for anything.
    """
    if isinstance(value, list):
        return bool(value) and all(permits(glob, item) for item in value)
    text = _text(value)
    if "*" not in glob:
        return text == glob
    readings = _readings(text)
    pattern = _pattern(glob, _WORD, ignore_case=False)
    return readings is not None and all(pattern.fullmatch(reading) for reading in readings)


def restrains(glob: str, value: JsonValue) -> bool:
    """Whether a value may be what the glob means: it, or anything in it, is in some way that it can be read.

    ``*`` and ``**`` stand for anything. Upper and lower case are the same.
    """
    pattern = _pattern(glob, ".", ignore_case=True)
    for text in _texts(value):
        readings = _readings(text)
        if readings is None or any(pattern.fullmatch(reading) for reading in readings):
            return True
    return False


def find(arguments: JsonValue, path: str) -> Iterator[tuple[JsonValue, ...]]:
    """The values at a dotted path, each in a tuple of its own; an empty tuple where there is none.

    A list on the way is gone through. A name with a dot in it is found as well: were only one of the two looked at, the
    other could hide something.
    """
    if isinstance(arguments, list):
        for item in arguments:
            yield from find(item, path)
        return
    found = False
    for key in _beginnings(path):
        if isinstance(arguments, dict) and key in arguments:
            found = True
            rest = path[len(key) + 1 :]
            yield from find(arguments[key], rest) if rest else [(arguments[key],)]
    if not found:
        yield ()


def _beginnings(path: str) -> list[str]:
    """``a.b.c`` → ``a``, ``a.b``, ``a.b.c``"""
    keys = path.split(".")
    return [".".join(keys[:count]) for count in range(1, len(keys) + 1)]


@lru_cache(maxsize=1024)
def _pattern(glob: str, star: str, *, ignore_case: bool) -> re.Pattern[str]:
    """A glob as a regular expression that takes time in proportion to the text.

    What follows a star is looked for once, and the first that is found is kept (an atomic group). Nothing is missed by
    that: what the star may stand for between the first and a later one, the next star may stand for as well.
    """
    first, *pieces = re.split(r"(\*+)", glob)
    pattern = re.escape(first)
    while pieces:
        stars, literal, *pieces = pieces
        wild = "." if len(stars) > 1 else star
        pattern += f"(?>{wild}*?{re.escape(literal)})" if pieces else f"{wild}*{re.escape(literal)}"
    return re.compile(pattern, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _text(value: JsonValue) -> str:
    """A string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _texts(value: JsonValue) -> Iterator[str]:
    """A value and everything in it, as text."""
    yield _text(value)
    if isinstance(value, float) and value.is_integer():
        yield str(int(value))
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _readings(text: str) -> set[str] | None:
    """A text as it stands, and in each way in which those who come after may read it: with and without what cannot be
    seen, decoded or not, backslashes as slashes or not, and each of these also as a path without detours, or as an
    address in its plain form. None if it is encoded so often that nobody can say.

    With and without, because what one reader takes for two parts of a path, and so for a place to turn back from, is
    one part to another.
    """
    decoded = {text, _seen(text)}
    for _ in range(MAX_DECODINGS):
        more = {unquote(reading) for reading in decoded}
        more |= {_seen(reading) for reading in more}
        if more <= decoded:
            break
        decoded |= more
    else:
        return None
    slashed = decoded | {reading.replace("\\", "/") for reading in decoded}
    return slashed | {_plain(reading) for reading in slashed}


def _seen(text: str) -> str:
    """Without control characters and what has no width, letters that look alike made one, no space around it."""
    if text.isascii() and text.isprintable():
        return text.strip()
    composed = unicodedata.normalize("NFKC", text)
    return "".join(char for char in composed if unicodedata.category(char) not in _UNSEEN).strip()


def _plain(text: str) -> str:
    """An address with its host alone and in lower case; a path without detours."""
    match = _URL.fullmatch(text)
    if match is None:
        return _without_detours(text)
    scheme, authority, rest = match.groups()
    host = authority.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORT[scheme.lower()]).removesuffix(".")
    return f"{scheme.lower()}://{host}{_without_detours(rest if rest.startswith('/') else f'/{rest}')}"


def _without_detours(path: str) -> str:
    """``a/./b//../c/`` → ``a/c/``."""
    if not path:
        return path
    slash = "/" if path.endswith("/") and path.strip("/") else ""
    return posixpath.normpath(re.sub("/+", "/", path)) + slash
