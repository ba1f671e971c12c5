"""The cases collected in `cases/*.jsonl`: each read whole, character by character, and four characters at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.parsing import Parsed, StreamParser

CASES = Path(__file__).parent / "cases"


def load() -> list[Any]:
    return [
        pytest.param(json.loads(line), id=json.loads(line)["id"])
        for file in sorted(CASES.glob("*.jsonl"))
        for line in file.read_text("utf-8").split("\n")
        if line.strip()
    ]


def read(case: dict[str, Any], size: int) -> Parsed:
    parser = StreamParser(
        tools=case["tools"],
        dialect=case["dialect"],
        chat_template=case.get("chat_template"),
        prompt=case.get("prompt", ""),
    )
    for at in range(0, len(case["text"]), size):
        parser.feed(case["text"][at : at + size])
    parser.finish(case.get("truncated", False))
    return parser.result()


def check(parsed: Parsed, expect: dict[str, Any]) -> None:
    if "calls" in expect:
        assert [{"name": call.name, "arguments": call.arguments} for call in parsed.calls] == expect["calls"]
        # 1, 1.0 and True are equal in Python, and not what a tool gets.
        assert json.dumps([call.arguments for call in parsed.calls], sort_keys=True) == json.dumps(
            [call["arguments"] for call in expect["calls"]], sort_keys=True
        )
    if "text" in expect:
        assert parsed.text.strip() == expect["text"].strip()
    if "reasoning" in expect:
        assert parsed.reasoning.strip() == expect["reasoning"].strip()
    problems = [problem.kind for problem in parsed.problems]
    if isinstance(expect.get("problems"), int):
        assert len(problems) == expect["problems"], problems
    elif "problems" in expect:
        assert problems == expect["problems"]
    if "repaired" in expect:
        assert any(call.repairs for call in parsed.calls) == expect["repaired"], [call.repairs for call in parsed.calls]


@pytest.mark.parametrize("case", load())
def test_case(case: dict[str, Any]) -> None:
    whole = read(case, len(case["text"]) + 1)
    check(whole, case["expect"])
    assert read(case, 1) == whole
    assert read(case, 4) == whole
