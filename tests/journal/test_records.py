"""What is put on record can be read again, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Message, ToolCall
from agentkit.errors import JournalError
from agentkit.events import ModelFinished, ToolCallEnd
from agentkit.journal.records import CallStarted, ModelAnswered, Record, RunStarted, dump_record, load_record
from agentkit.messages import ImagePart, JsonObject, JsonValue, ModelResponse, TextPart, canonical, clean_json
from agentkit.providers.base import ResponseBuilder

IMAGE = ImagePart(bytes(range(256)))

texts = st.text() | st.text(st.characters(categories=["Cs"]), max_size=3)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def answered(arguments: JsonObject, text: str = "") -> ModelAnswered:
    return ModelAnswered(ModelResponse(Message("assistant", [TextPart(text), IMAGE, ToolCall("f", arguments)])))


@given(st.dictionaries(st.text(), values), texts)
def test_what_is_written_is_read(arguments: JsonObject, text: str) -> None:
    cleaned = clean_json({"arguments": arguments, "text": text})
    assert isinstance(cleaned, dict)
    assert load_record(dump_record(answered(arguments, text))) == answered(cleaned["arguments"], cleaned["text"])


def nested(depth: int) -> JsonObject:
    value: JsonObject = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("arguments", [nested(100), {"n": 10**4299}])
def test_as_much_as_a_call_may_hold(arguments: JsonObject) -> None:
    assert canonical(arguments) == arguments
    record: Record
    for record in (answered(arguments), CallStarted(0, "k", arguments)):
        assert load_record(dump_record(record)) == record


@pytest.mark.parametrize("arguments", [nested(101), nested(100_000), {"n": 10**4300}, {"b": b"bytes"}])
def test_a_call_that_could_not_be_read_again_is_a_problem(arguments: JsonObject) -> None:
    turn = ResponseBuilder()
    turn.add(ToolCallEnd(ToolCall("f", arguments, "1")))
    turn.add(ToolCallEnd(ToolCall("f", {}, "2")))
    turn.add(ModelFinished())
    response = turn.response()
    assert [call.id for call in response.calls] == ["2"]
    assert [(problem.kind, problem.name) for problem in response.problems] == [("invalid_arguments", "f")]


@pytest.mark.parametrize("value", [object(), nested(1000)])
def test_what_json_cannot_say(value: JsonValue) -> None:
    with pytest.raises(JournalError, match="run_started"):
        dump_record(RunStarted((), metadata={"mine": value}))
