"""Tools that run in processes of their own, which import this module and not the tests."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentkit import RunContext, ToolError, tool
from tests.waits import wait_for


@dataclass
class Point:
    x: int
    y: int = 0


class Outage(Exception):
    def __init__(self, *, service: str) -> None:  # cannot be unpickled
        super().__init__(f"{service} is down")


@tool(isolated=True)
def where(ctx: RunContext[Point]) -> dict[str, object]:
    """What the process knows."""
    return {"pid": os.getpid(), "x": ctx.deps.x, "call": ctx.call.name}


@tool(isolated=True)
def move(point: Point, /, *, by: int = 1) -> Point:
    return Point(point.x + by, point.y)


@tool(isolated=True)
def fails(how: str) -> object:
    if how == "tool error":
        raise ToolError("Close the file first.")
    if how == "exception":
        raise KeyError("lost")
    if how == "exception that cannot be read again":
        raise Outage(service="Mail")
    if how == "exit":
        sys.exit("bye")
    if how == "crash":
        ctypes.string_at(0)
    if how == "_exit":
        os._exit(3)
    if how == "generator":
        return (letter for letter in "ab")
    if how == "size":
        return bytes(257 << 20)
    raise AssertionError(how)


@tool(isolated=True)
def prints(text: str) -> str:
    """Uses and closes the streams that it has."""
    print(text)
    left = sys.stdin.read()
    sys.stdout.close()
    return left + "done"


@tool(isolated=True)
def open_files() -> list[str]:
    """What the process has inherited, without its own pipes."""
    folder = Path("/proc/self/fd")
    found = [str(entry.readlink()) for entry in folder.iterdir() if entry.exists()]
    return [name for name in found if not name.startswith("pipe:")]


@tool(isolated=True)
def leaves_one_behind() -> int:
    return subprocess.Popen(["sleep", "600"]).pid


@tool(isolated=True)
def hangs(note: str) -> None:
    """Start a process, note both numbers in a file, and hang without ever letting another thread run."""
    other = subprocess.Popen(["sleep", "600"])
    draft = Path(f"{note}.draft")
    draft.write_text(f"{os.getpid()} {other.pid}")
    draft.rename(note)
    re.match("(a+)+$", "a" * 60 + "b")


@tool(isolated=True)
def crashes_and_leaves_a_daemon(note: str) -> None:
    """What leaves the process group is not killed; it must not be waited for either."""
    if os.fork() == 0:
        os.setsid()
        draft = Path(f"{note}.draft")
        draft.write_text(str(os.getpid()))
        draft.rename(note)
        time.sleep(600)
    wait_for(Path(note).exists)
    os._exit(4)


class Shelf:
    """Tools that are methods."""

    def __init__(self, *books: str) -> None:
        self.books = books

    @tool(isolated=True)
    def find(self, word: str) -> list[str]:
        return [book for book in self.books if word in book]

    def __call__(self, word: str) -> int:
        return len(self.books)


def letters() -> Iterator[str]:
    yield "a"


async def later() -> str:
    return "later"
