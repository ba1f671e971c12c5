"""The `agentkit` command as a real process, with plugins that are installed for one test."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest

SCRIPTED = """
    import asyncio, os, sys, threading
    from agentkit import tool
    from agentkit.errors import ProviderConnectionError
    from agentkit.events import ModelFinished, Restarted, TextDelta
    from agentkit.messages import Message, ModelResponse, Problem, ReasoningPart, TextPart, ToolCall, Usage
    from agentkit.providers.base import Provider
    from agentkit.testing import ScriptedProvider

    def make(name):
        made = SCRIPTS[name]
        return made() if isinstance(made, type) else ScriptedProvider(made)

"""


class Terminal:
    """A command at a pseudo-terminal of its own: what it shows, and what a person types."""

    def __init__(self, process: subprocess.Popen[str], master: int) -> None:
        self.process = process
        self.shown = ""
        self._master = master
        self._unread = 0

    def until(self, text: str, timeout: float = 60) -> str:
        """Wait until a text is shown; returns all that was shown since the last time."""
        deadline = time.monotonic() + timeout
        while text not in self.shown[self._unread :]:
            assert self._read(deadline - time.monotonic()), f"{text!r} never came: {self.shown}"
        begin, self._unread = self._unread, self.shown.index(text, self._unread) + len(text)
        return self.shown[begin : self._unread]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """Wait until it ends; returns its exit code and all that was shown since the last time."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0, deadline - time.monotonic())), self.shown[self._unread :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, timeout: float) -> bool:
        """Read what there is, or wait for more. False at the end."""
        assert timeout > 0 and select.select([self._master], [], [], timeout)[0], f"nothing comes: {self.shown}"
        try:
            data = os.read(self._master, 10_000)
        except OSError:  # EIO: the other side is closed
            return False
        self.shown += data.decode().replace("\r\n", "\n")
        return bool(data)


class Command:
    """Runs ``python -m agentkit`` in an environment with no configuration, no keys and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.terminals: list[Terminal] = []
        self.site = folder / "site"
        self.site.mkdir()
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AGENTKIT_", "OPENAI_", "HF_", "XDG_", "FORCE_COLOR", "NO_COLOR"))
        }
        path = os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH")]))
        self.env |= {"PYTHONPATH": path, "HOME": str(folder), "PYTHONUTF8": "1"}

    def install(self, distribution: str, groups: Mapping[str, Mapping[str, str]], source: str = "") -> None:
        """Install a distribution with these entry points and one module, named like it."""
        info = self.site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        if source:
            (self.site / f"{distribution}.py").write_text(textwrap.dedent(source))

    def install_model(self, source: str, **tools: str) -> None:
        """Install the provider ``scripted``: ``source`` sets ``SCRIPTS``, from names to scripts or providers.

        ``tools`` are those that the same module offers: an entry point's name, and the attribute.
        """
        groups = {
            "agentkit.providers": {"scripted": "scripted:make"},
            "agentkit.tools": {name: f"scripted:{attribute}" for name, attribute in tools.items()},
        }
        self.install("scripted", groups, textwrap.dedent(SCRIPTED) + textwrap.dedent(source))

    def __call__(self, *arguments: str, stdin: str = "", timeout: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agentkit", *arguments],
            env=self.env, cwd=self.folder, input=stdin, capture_output=True, encoding="utf-8",
            timeout=timeout, check=False,
        )  # fmt: skip

    def start(
        self, *arguments: str, stdout: int | IO[str] = subprocess.PIPE, stderr: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start it, and leave the rest to the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "agentkit", *arguments],
            env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, encoding="utf-8",
        )  # fmt: skip

    def program(self, source: str, *arguments: str) -> None:
        """Run a program of somebody's own."""
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), *arguments],
            env=self.env, cwd=self.folder, timeout=100, check=True,
        )  # fmt: skip

    def at_terminal(self, *arguments: str) -> Terminal:
        """Start it at a terminal."""
        master, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "agentkit", *arguments],
            env=self.env | {"TERM": "dumb", "COLUMNS": "100"}, cwd=self.folder,
            stdin=terminal, stdout=terminal, stderr=terminal, encoding="utf-8",
        )  # fmt: skip
        os.close(terminal)
        self.terminals.append(Terminal(process, master))
        return self.terminals[-1]


@pytest.fixture
def agentkit(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    for terminal in command.terminals:
        terminal.close()
