"""The doubles: a script that is not consumed fails its test, and one that is too short says so."""

from __future__ import annotations

import pytest

from agentkit import Agent, Message, ToolCall
from agentkit.messages import ImagePart, ModelResponse, Problem, ReasoningPart, TextPart
from agentkit.providers.base import ModelRequest
from agentkit.testing import ScriptedProvider

pytest_plugins = ["pytester"]

CODE = """
from agentkit import Agent
from agentkit.testing import ScriptedProvider

def test_left_over():
    Agent(ScriptedProvider(["one", "two"], name="mine:1")).run_sync("x")

def test_consumed():
    assert Agent(ScriptedProvider(["one"])).run_sync("x").output == "one"

def test_fails_on_its_own():
    ScriptedProvider(["never asked"])
    assert False, "my own failure"
"""


def test_unconsumed_steps_fail_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CODE)
    result = pytester.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*unconsumed steps: mine:1 has 1 left*"])
    result.stdout.fnmatch_lines(["*my own failure*"])


def test_a_script_that_is_too_short() -> None:
    agent = Agent(ScriptedProvider(["one"]))
    agent.run_sync("x")
    with pytest.raises(AssertionError, match="the script has 1 steps"):
        agent.run_sync("x")


def test_steps_of_every_kind() -> None:
    def echo(request: ModelRequest) -> str:
        return f"you said {request.messages[-1].text}"

    problem = Problem("invalid_json", "Try again.")
    provider = ScriptedProvider(
        [ToolCall("f", {}), echo, ModelResponse(Message("assistant", "hm"), [problem]), ValueError("mine")]
    )
    agent = Agent(provider)
    result = agent.run_sync("hi")  # the call's tool does not exist: the model is told, and answers
    assert result.output == "you said "
    assert result.messages[1].calls[0].id == "call_1_0"
    with pytest.raises(ValueError, match="mine"):
        agent.run_sync("hi")


def test_a_model_cannot_say_an_image() -> None:
    with pytest.raises(TypeError, match="ImagePart"):
        Agent(ScriptedProvider([ImagePart(b"x")])).run_sync("hi")


def test_reasoning_keeps_what_its_provider_wants_back() -> None:
    thoughts = [
        ReasoningPart("hm, well", {"signature": "s1"}),
        ReasoningPart("", {"item": "opaque"}),
        ReasoningPart("so"),
    ]
    result = Agent(ScriptedProvider([[*thoughts, TextPart("yes")]])).run_sync("?")
    assert list(result.messages[-1].content) == [*thoughts, TextPart("yes")]
