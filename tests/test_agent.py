"""Making agents: models and tools from what users write; run_sync and its background loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from agentkit import Agent, tool
from agentkit.errors import (
    AgentKitError,
    DuplicateToolError,
    ModelLoadError,
    PluginError,
    ToolDefinitionError,
    UnknownModelError,
)
from agentkit.messages import Message, ToolCall
from agentkit.providers import default_model, provider_names, resolve_model
from agentkit.testing import ScriptedProvider


@pytest.mark.parametrize(
    ("model", "way_out"),
    [
        ("nothing", "names no provider"),
        ("openia:gpt-5", r"Did you mean 'openai'\?"),
        ("openai:", "no model behind the colon"),
        ("", "names no provider"),
        ("llama_cpp:no/such/file.gguf", "neither a bundled model"),
        ("llama_cpp:smolm2", r"Did you mean 'smollm2'\?"),
    ],
)
def test_a_model_string_that_names_nothing(model: str, way_out: str) -> None:
    with pytest.raises(UnknownModelError, match=way_out):
        Agent(model) if model else resolve_model(model)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_text("hello")
    with pytest.raises(ModelLoadError, match="no GGUF model: it begins with b'hell'"):
        Agent(f"llama_cpp:{file}")


def test_the_default_model_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTKIT_MODEL", raising=False)
    assert default_model() == "llama_cpp:smollm2"
    monkeypatch.setenv("AGENTKIT_MODEL", "nowhere:x")
    with pytest.raises(UnknownModelError, match="nowhere"):
        Agent()


def test_installed_providers_are_found_and_broken_ones_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "echo_provider.py").write_text(
        "from agentkit.testing import ScriptedProvider\ndef make(model): return ScriptedProvider([f'I am {model}'])\n"
    )
    info = tmp_path / "echo_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentkit.providers]\necho = echo_provider:make\nbroken = echo_provider:missing\n"
    )
    assert {"echo", "broken", "openai", "llama_cpp"} <= set(provider_names())
    assert Agent("echo:parrot").run_sync("hi").output == "I am parrot"
    with pytest.raises(PluginError, match="'broken' does not load"):
        Agent("broken:x")


def test_tools_from_what_people_have() -> None:
    def plain(a: int) -> int:
        """A plain function."""
        return a

    described = {"type": "function", "function": {"name": "dict", "description": "d", "parameters": {}}}
    agent = Agent(
        ScriptedProvider([]), tools=[plain, tool(name="made")(plain), "calculator", described, [tool(_other)]]
    )
    assert list(agent.tools) == ["plain", "made", "calculator", "dict", "_other"]


def _other(b: int) -> None: ...


def test_tools_that_are_none() -> None:
    with pytest.raises(DuplicateToolError):
        Agent(ScriptedProvider([]), tools=[tool(_other), tool(_other)])
    with pytest.raises(ToolDefinitionError, match="5 is no tool"):
        Agent(ScriptedProvider([]), tools=[5])  # type: ignore[list-item]


class TestRunSync:
    def test_it_works_where_a_loop_is_running(self) -> None:
        async def notebook() -> str:
            return Agent(ScriptedProvider(["hi"])).run_sync("x").output

        assert asyncio.run(notebook()) == "hi"

    def test_it_works_from_many_threads(self) -> None:
        outputs: list[str] = []

        def work(name: str) -> None:
            outputs.append(Agent(ScriptedProvider([name])).run_sync("x").output)

        threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outputs) == [str(n) for n in range(8)]

    def test_tools_see_the_callers_context_variables(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

        @tool
        def read() -> str:
            return variable.get()

        variable.set("mine")
        result = Agent(ScriptedProvider([[ToolCall("read", {})], "ok"]), tools=[read]).run_sync("x")
        assert result.messages[2].results[0].content == "mine"

    def test_errors_come_out_as_they_are(self) -> None:
        with pytest.raises(AgentKitError, match="broken"):
            Agent(ScriptedProvider([AgentKitError("broken")])).run_sync("x")

    def test_ctrl_c_cancels_the_run_and_cleans_up(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
                import asyncio, sys
                from agentkit import Agent, ToolCall, tool
                from agentkit.testing import ScriptedProvider

                @tool
                async def hangs() -> None:
                    print("running", flush=True)
                    try:
                        await asyncio.sleep(60)
                    finally:
                        print("cleaned", flush=True)

                try:
                    Agent(ScriptedProvider([ToolCall("hangs", {})]), tools=[hangs]).run_sync("x")
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                    sys.exit(130)
            """)
        )
        with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.read() == "cleaned\ninterrupted\n"
            assert process.wait(timeout=10) == 130

    def test_a_hung_sync_tool_does_not_keep_the_interpreter(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
                import time
                from agentkit import Agent, Limits, ToolCall, tool
                from agentkit.testing import ScriptedProvider

                @tool
                def hangs() -> None:
                    time.sleep(60)

                agent = Agent(ScriptedProvider([ToolCall("hangs", {}), "left it"]), tools=[hangs])
                print(agent.run_sync("x", limits=Limits(tool_timeout=0.1)).output)
            """)
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == "left it\n"


def test_a_message_can_be_the_prompt() -> None:
    provider = ScriptedProvider(["ok"])
    Agent(provider).run_sync(Message("user", "hi"))
    assert provider.requests[0].messages == [Message("user", "hi")]
