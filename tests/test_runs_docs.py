"""docs/runs.md, hooks.md and subagents.md: their Python runs, and does what they say."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Tool, ToolCall
from agentkit.errors import ProviderConnectionError
from agentkit.journal.memory import MemoryJournal
from agentkit.policy import Decision, Policy, Rule
from agentkit.testing import ScriptedProvider, Step

ROOT = Path(__file__).parents[1]


@pytest.fixture
def names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What a page's snippets define, run one after another."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / request.param).read_text(encoding="utf-8")
    defined: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(snippet, request.param, "exec", dont_inherit=True), defined)
    return defined


def scripted(made: Callable[[], Agent[str]], *steps: Step) -> Agent[str]:
    agent = made()
    agent.provider = ScriptedProvider(steps)
    return agent


@pytest.mark.parametrize("names", ["runs.md"], indirect=True)
class TestRuns:
    def test_resume(self, names: dict[str, Any]) -> None:
        steps: list[Step] = [ToolCall("balance", {"account": "1"}), ProviderConnectionError("gone"), "Paid."]
        agent = scripted(names["make_agent"], *steps)
        result = asyncio.run(names["pay_the_rent"](agent))
        assert (result.output, result.run_id) == ("Paid.", "rent-2026-11")
        agent = scripted(names["make_agent"])
        assert agent.resume_sync("rent-2026-11") == result

    def test_decide(self, names: dict[str, Any]) -> None:
        steps = [[ToolCall("balance", {"account": "1"}), ToolCall("pay", {"account": "1", "amount": 3})], "No, then."]
        agent = Agent(
            ScriptedProvider(steps), tools=[names["balance"], names["pay"]], policy=Policy([Rule("*", "ask")])
        )
        paused = agent.run_sync("Go.")
        result = asyncio.run(names["decide"](agent, paused.run_id))
        assert [made.content.split(":")[0] for made in result.messages[2].results] == ["120", "'pay' was not run"]

    def test_pending_calls_are_decided_elsewhere(self, names: dict[str, Any]) -> None:
        model = ScriptedProvider([ToolCall("pay", {"account": "é", "amount": 100}), "Done."])
        agent = Agent(model, tools=[names["pay"]], policy=Policy([Rule("pay", "ask")]))
        paused = agent.run_sync("Pay the rent.")
        calls = names["received"](names["to_send"](paused))
        assert calls == paused.pending
        decision = Decision(**json.loads(json.dumps(asdict(Decision(False, "too much")))))
        result = agent.resume_sync(paused.run_id, {calls[0].key: decision})
        assert "too much" in result.messages[2].results[0].content

    def test_sessions_and_forks(self, names: dict[str, Any]) -> None:
        agent = Agent(ScriptedProvider(["Hello.", "Ada.", "Otherwise."]), journal=MemoryJournal())
        talked = asyncio.run(names["talk"](agent))
        assert [message.text for message in talked.messages] == ["I am Ada.", "Hello.", "Who am I?", "Ada."]
        forked = asyncio.run(names["try_otherwise"](agent, talked.run_id))
        assert forked.messages[:4] == talked.messages
        lines = asyncio.run(names["write_lines"](agent.journal))
        assert len(lines) == 3
        assert json.loads(lines[-1])["conversations"][0] == {"from": "human", "value": "I am Ada."}

    def test_an_idempotency_key(self, names: dict[str, Any]) -> None:
        agent = Agent(ScriptedProvider([ToolCall("transfer", {"amount": 3}), "Done."]), tools=[names["transfer"]])
        assert agent.run_sync("Go.").messages[2].results[0].content == "Transferred 3."
        assert list(names["BANK"].values()) == [3]


@pytest.mark.parametrize("names", ["hooks.md"], indirect=True)
def test_hooks(names: dict[str, Any]) -> None:
    agent = Agent(ScriptedProvider(["this is confidential"]), hooks=[names["Guard"]()])
    assert agent.run_sync("hi").stop_reason == "guardrail"
    assert Agent(ScriptedProvider([]), hooks=[names["Guard"]()]).run_sync("4111 1111").stop_reason == "guardrail"
    look = Tool.from_schema("look", "Look.", {"type": "object"}, lambda: "4111 1111")
    agent = Agent(ScriptedProvider([ToolCall("look", {})]), tools=[look], hooks=[names["Guard"]()])
    assert agent.run_sync("hi").stop_reason == "guardrail"


@pytest.mark.parametrize("names", ["subagents.md"], indirect=True)
def test_subagents(names: dict[str, Any]) -> None:
    assert list(names["writer"].tools) == ["researcher"]
    assert list(names["front"].tools) == ["transfer_to_billing"]


def test_an_approval_in_another_process(tmp_path: Path) -> None:
    def example(*arguments: str) -> str:
        command = [sys.executable, str(ROOT / "examples" / "approval.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    waits = example()
    assert re.fullmatch(r"waits for a decision: order \{'item': .*\}: it costs money \(rules\[0\] order\)\n", waits)
    assert example() == waits
    done = example("yes")
    assert done.startswith("Ordered: ")
    assert example() == done
