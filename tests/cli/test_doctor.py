from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command


@pytest.mark.timeout(320)  # it imports everything and runs the real model, on whatever else the machine is doing
def test_what_works_and_what_is_broken(agentkit: Command) -> None:
    agentkit.install("broken", {"agentkit.tools": {"bad": "broken:bad"}}, "raise RuntimeError('no luck')")
    (agentkit.folder / "openai.py").write_text("raise RuntimeError('what lies in the current folder does not matter')")
    agentkit.install("hosted", {"agentkit.providers": {"hosted": "hosted:make"}}, "def make(name): return None")
    agentkit.env["AGENTKIT_MODEL"] = "hosted:big"
    done = agentkit("doctor", timeout=300)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith(f"✓ Python {platform.python_version()} on ")
    assert "CPU core" in lines[0]
    assert any(line.startswith("✓ agentkit ") and "pydantic 2." in line for line in lines)
    assert any(line.startswith("✓ extra cli: rich ") for line in lines)
    assert any(line.startswith("✗ tools: 1 of ") for line in lines)
    assert any("'bad' (broken:bad, from broken) does not load: RuntimeError: no luck" in line for line in lines)
    assert any(re.match(r"✓ CPU: .+, \d+ threads? on \d+ logical cores; llama.cpp uses \w", line) for line in lines)
    assert any(re.fullmatch(r"✓ memory: [\d.]+ [MG]B(, [\d.]+ [MG]B of it free)?", line) for line in lines)
    assert any(" GPU offload: " in line for line in lines)
    assert "✓ default model: hosted:big is set up; it was not called" in lines
    assert "✓ model: llama_cpp:smollm2 loads" in lines
    assert lines[-1].startswith("✓ self-test: ok, 'What is 1234 * 5678?' was answered by the calculator in ")


def test_a_model_that_is_no_model(agentkit: Command) -> None:
    (agentkit.folder / "junk.gguf").write_bytes(b"no model")
    agentkit.env["AGENTKIT_MODEL"] = f"llama_cpp:{agentkit.folder}/junk.gguf"
    done = agentkit("doctor")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"✗ model llama_cpp:{agentkit.folder}/junk.gguf: ")
    assert "GGUF" in last
