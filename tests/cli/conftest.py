"""The `agentkit` command as a real process, with plugins that are installed for one test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
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


class Command:
    """Runs ``python -m agentkit`` in an environment with no configuration, no keys and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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


@pytest.fixture
def agentkit(tmp_path: Path) -> Command:
    return Command(tmp_path)
