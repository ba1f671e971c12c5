"""Read, write, edit and list text files below one directory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import Field

from agentkit import Tool, ToolError, tool
from agentkit_tools._jail import Entry, Jail

__all__ = ["FileTools", "files"]

MAX_READ: Final = 10_000_000
"""Bytes of a file that can be read."""

MAX_WRITE: Final = 1_000_000
"""Bytes that can be written."""

MAX_SHOWN: Final = 40_000
"""Characters of one answer of read_file; below the 50,000 that a run passes on, so its last line is not lost."""

MAX_LISTED: Final = 500
"""Entries in one answer of list_files."""

MAX_VISITED: Final = 20_000
"""Directory entries that one list_files looks at."""

MAX_DEPTH: Final = 40
"""Directories within one another that list_files goes into."""


class FileTools:
    """Tools for the text files below ``root``; nothing outside it can be read, written or listed.

    `tools` is what an agent takes; each method can also be given, or called, on its own.

    Raises:
        ConfigError: ``root`` is not a directory.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._jail = Jail(root)
        # The calls of one turn run at the same time: without it, the second edit of a file could undo the first.
        self._writing = threading.Lock()

    @property
    def tools(self) -> list[Tool[..., object]]:
        """All of them: read_file, write_file, edit_file, list_files."""
        return [self.read_file, self.write_file, self.edit_file, self.list_files]

    @tool(effect="read")
    def read_file(
        self, path: str, offset: Annotated[int, Field(ge=1)] = 1, limit: Annotated[int, Field(ge=1)] = 1000
    ) -> str:
        """Read a text file, or some of its lines.

        Args:
            path: relative to the root, with forward slashes.
            offset: the first line to read, counted from 1.
            limit: how many lines to read.
        """
        return _window(self._text(path), path, max(offset, 1), max(limit, 1))

    @tool(effect="write", idempotent=True)
    def write_file(self, path: str, content: str) -> str:
        """Write a whole text file, replacing what was there. Missing directories are made.

        Args:
            path: relative to the root, with forward slashes.
            content: the file's new text.
        """
        with self._writing:
            is_new = self._jail.write(path, _encoded(content))
        return f"{'Wrote the new file' if is_new else 'Replaced'} {path!r}: {len(content):,} characters."

    @tool(effect="write")
    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace one passage of a text file.

        Args:
            path: relative to the root, with forward slashes.
            old: the passage as it stands in the file, long enough to occur only once.
            new: what takes its place.
        """
        with self._writing:
            text = self._text(path)
            count = text.count(old) if old else 0
            if count != 1:
                raise ToolError(
                    f"The old text occurs {count:,} times in {path!r}, not once: "
                    + ("make it longer" if count else "copy it exactly, with its spaces and line breaks")
                )
            self._jail.write(path, _encoded(text.replace(old, new)))
        return f"Replaced one passage in {path!r}."

    @tool(effect="read")
    def list_files(self, pattern: str = "**") -> str:
        """List files with their sizes, and directories with a slash at the end.

        Names that begin with a dot are listed only where the pattern has the dot.

        Args:
            pattern: "*" for one directory, "**" for all below; for example "*.py", "src/*" or "**/*.md".
        """
        wanted = [part for part in pattern.strip().split("/") if part not in ("", ".")] or ["**"]
        if ".." in wanted or pattern.strip().startswith("/"):
            raise ToolError(f"The pattern {pattern[:200]!r} leaves the root: give one relative to it")
        lines: list[str] = []
        for path, entry in self._matching([], frozenset(_closed({0}, wanted)), wanted, [MAX_VISITED]):
            if len(lines) == MAX_LISTED:
                lines.append(f"[More than {MAX_LISTED} match: use a narrower pattern.]")
                break
            lines.append(f"{path}/" if entry.is_directory else f"{path} ({entry.size:,} bytes)")
        return "\n".join(lines).encode(errors="replace").decode() or f"Nothing matches {pattern[:200]!r}."

    def _text(self, path: str) -> str:
        data = self._jail.read(path, MAX_READ)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise ToolError(f"{path!r} is not UTF-8 text but binary: only text files can be read")
        return text

    def _matching(
        self, parts: list[str], states: frozenset[int], wanted: list[str], left: list[int]
    ) -> Iterator[tuple[str, Entry]]:
        """What matches, in order. A directory in which nothing can match is not opened."""
        entries = self._jail.entries(parts, left[0])
        left[0] -= len(entries)
        for entry in entries:
            after = _step(states, entry.name, wanted)
            path = [*parts, entry.name]
            if len(wanted) in after:
                yield "/".join(path), entry
            if entry.is_directory and after - {len(wanted)} and len(path) <= MAX_DEPTH:
                yield from self._matching(path, after, wanted, left)


# A pattern is matched part by part, all its readings at once: a state is how many of its parts are used up.


def _step(states: frozenset[int], name: str, wanted: list[str]) -> frozenset[int]:
    after: set[int] = set()
    for state in states:
        if state == len(wanted):
            continue
        part = wanted[state]
        if name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            after.add(state)
        elif fnmatchcase(name, part):
            after.add(state + 1)
    return frozenset(_closed(after, wanted))


def _closed(states: set[int], wanted: list[str]) -> set[int]:
    """``**`` may also stand for no directory at all."""
    closed = set(states)
    for state in states:
        while state < len(wanted) and wanted[state] == "**":
            state += 1
            closed.add(state)
    return closed


def _encoded(content: str) -> bytes:
    try:
        data = content.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"The text cannot be written as UTF-8: character {error.start:,} is half of a pair") from error
    if len(data) > MAX_WRITE:
        raise ToolError(f"The text has {len(data):,} bytes; the limit is {MAX_WRITE:,}: write it in several files")
    return data


def _window(text: str, path: str, offset: int, limit: int) -> str:
    """Some lines of a text, with a note if they are not all."""
    if not text:
        return "[The file is empty.]"
    lines = text.splitlines(keepends=True)
    if offset > len(lines):
        raise ToolError(f"{path!r} has {len(lines):,} lines: there is no line {offset:,}")
    shown: list[str] = []
    room = MAX_SHOWN
    for line in lines[offset - 1 : offset - 1 + limit]:
        if len(line) > room:
            break
        shown.append(line)
        room -= len(line)
    if not shown:
        return f"{lines[offset - 1][:MAX_SHOWN]}\n[Line {offset:,} is longer than {MAX_SHOWN:,} characters: cut here.]"
    last = offset - 1 + len(shown)
    body = "".join(shown)
    if offset == 1 and last == len(lines):
        return body
    more = f"; go on with offset={last + 1}" if last < len(lines) else ""
    return f"{body.removesuffix(chr(10))}\n[Lines {offset:,} to {last:,} of {len(lines):,}{more}.]"


files: list[Tool[..., object]] = FileTools(".").tools
"""For the directory in which the program was started."""
