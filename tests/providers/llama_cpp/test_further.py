"""Which further calls of a turn count."""

from __future__ import annotations

import pytest

from agentkit.events import ModelEvent, ProblemFound, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.messages import JsonObject, Problem, ToolCall
from agentkit.providers.llama_cpp.further import FurtherCalls


def events(index: int, arguments: JsonObject) -> list[ModelEvent]:
    call = ToolCall("f", arguments, f"call_{index}")
    return [ToolCallStart("f", call.id), ToolCallDelta(call.id, "…"), ToolCallEnd(call)]


CASES: list[tuple[str, list[JsonObject], int]] = [
    ("Weather in Boston and in San Francisco?", [{"city": "Boston"}, {"city": "San Francisco"}], 2),
    ("weather in boston and san francisco", [{"city": "Boston"}, {"city": "San Francisco"}, {"city": "Boston"}], 2),
    ("Weather in Boston?", [{"city": "Boston"}, {"city": "Boston"}], 1),
    ("Weather in Boston?", [{"city": "Boston"}, {"city": "Paris"}, {"city": "Boston"}], 1),
    ("A triangle of base 10 and height 5", [{"base": 10, "height": 5}, {"base": 5, "height": 10}], 1),
    ("Factorials of 5, 10 and 1,500", [{"n": 5}, {"n": 10}, {"n": 1500}, {"n": 2}], 3),
    ("Is 15 in the list?", [{"n": 1}, {"n": 5}], 1),  # a part of a number is no number
    ("Both, please", [{"x": True}, {"x": False}], 1),
    ("Weather in Boston, MA and San Francisco", [{"city": "Boston, MA"}, {"city": "San Francisco, CA"}], 2),
    ("Weather in Boston", [{"city": "Boston"}, {"city": "In the city"}], 1),  # its words are not the request's
    ("Trains on April 3rd and on April 12th", [{"day": "2025-04-03"}, {"day": "2025-04-12"}, {"day": "2025-04-07"}], 2),
    ("Add 'call Bob' and delete 'buy milk'", [{"todo": "call Bob"}, {"todo": "buy milk"}], 2),
    ("Weather in Łódź and Kraków", [{"at": {"city": ["Łódź"]}}, {"at": {"city": ["Kraków"]}}], 2),
]


@pytest.mark.parametrize(("request_", "calls", "counted"), CASES)
def test_what_counts(request_: str, calls: list[JsonObject], counted: int) -> None:
    further = FurtherCalls(request_)
    passed = [event for index, call in enumerate(calls) for event in further.passed(events(index, call))]
    assert passed == [event for index, call in enumerate(calls[:counted]) for event in events(index, call)]
    assert further.finished == (counted < len(calls))


def test_another_tool_counts_if_its_name_is_in_the_request() -> None:
    further = FurtherCalls("What were the life expectancy and the GDP of the USA in 1900?")
    calls = [
        ToolCall("us_history.lifeExpectancy", {"year": 1900}),
        ToolCall("us_history.gdp", {"year": 1900}),
        ToolCall("us_history.population", {"year": 1900}),
    ]
    counted = [event for call in calls for event in further.passed([ToolCallEnd(call)])]
    assert counted == [ToolCallEnd(call) for call in calls[:2]]


def test_text_and_a_first_call_are_passed_on_at_once() -> None:
    further = FurtherCalls("Weather in Boston?")
    assert list(further.passed([TextDelta("Let me see."), ToolCallStart("f", "1")])) == [
        TextDelta("Let me see."),
        ToolCallStart("f", "1"),
    ]


def test_a_further_call_that_is_cut_off_is_nobodys_problem() -> None:
    further = FurtherCalls("Weather in Boston and Rome?")
    list(further.passed(events(0, {"city": "Boston"})))
    cut = [ToolCallStart("f", "call_1"), ProblemFound(Problem("truncated", "cut off"))]
    assert list(further.passed(cut)) == []
