"""The openai_responses provider against scripted servers on the loopback interface. What it shares with the openai
provider (connections, retries, HTTP errors) is tested there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent
from agentkit.errors import (
    ContextOverflowError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    UnsupportedInputError,
)
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    ReasoningEnd,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.limits import ModelSettings
from agentkit.messages import (
    ImagePart,
    JsonObject,
    Message,
    ModelResponse,
    Problem,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    dump_messages,
)
from agentkit.providers import resolve_model
from agentkit.providers._responses import ResponsesTurn
from agentkit.providers.base import ModelRequest, ResponseBuilder
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.profiles import OPENAI, Profile
from agentkit.providers.retry import Retry
from agentkit.tool import tool
from tests.servers import Answer, Server, reply, serve, sse, sse_then_close

THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA="}
PNG = ImagePart(b"\x89PNG", "image/png")
PNG_URL = "data:image/png;base64,iVBORw=="


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def search(query: str, limit: int = 10) -> str:
    """Search."""
    return query


# ── what a server says ───────────────────────────────────────────────────────────────────────────────────────────────


def delta(kind: str, text: str, index: int = 0, **more: object) -> JsonObject:
    return {"type": f"response.{kind}.delta", "delta": text, "output_index": index, "item_id": f"item{index}", **more}


def added(item: JsonObject, index: int = 0) -> JsonObject:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(item: JsonObject, index: int = 0) -> JsonObject:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def call_item(name: str, arguments: object, call_id: str = "c1", **more: object) -> JsonObject:
    return {"type": "function_call", "id": "fc", "call_id": call_id, "name": name, "arguments": arguments, **more}


def message_item(*content: JsonObject) -> JsonObject:
    return {"type": "message", "id": "msg", "role": "assistant", "content": list(content)}


def text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": []}


def whole(*output: JsonObject, incomplete: str | None = None, **more: object) -> JsonObject:
    counts = {
        "input_tokens": 7,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    details = {"incomplete_details": {"reason": incomplete} if incomplete else None}
    return {"object": "response", "output": list(output), "usage": counts, "error": None, **details, **more}


def completed(*output: JsonObject, incomplete: str | None = None, **more: object) -> JsonObject:
    kind = "incomplete" if incomplete else "completed"
    return {"type": f"response.{kind}", "response": whole(*output, incomplete=incomplete, **more)}


def streamed_call(name: str, *pieces: str, index: int = 0, call_id: str = "c1") -> list[JsonObject]:
    return [
        added(call_item(name, "", call_id), index),
        *[delta("function_call_arguments", piece, index) for piece in pieces],
        done(call_item(name, "".join(pieces), call_id), index),
    ]


HELLO = sse(delta("output_text", "hi"), completed())
USED = Usage(7, 5, 3, 2)


def provider_at(server: Server, **options: Any) -> OpenAIResponsesProvider:
    options = {"retry": Retry(attempts=1), "profile": OPENAI, **options}
    return OpenAIResponsesProvider("test", server.base_url, "key", **options)


def events_of(*items: object, tools: Any = (add, search)) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        request = ModelRequest([Message("user", "hello")], tools)
        return [event async for event in provider_at(server).stream(request)]

    with serve(sse(*items)) as server:
        return asyncio.run(run())


def response_of(*answers: Answer, **options: Any) -> ModelResponse:
    with serve(*answers) as server:
        return asyncio.run(provider_at(server).complete("hello", tools=[add, search], **options))


def error_of(*answers: Answer) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        response_of(*answers)
    return caught.value


def sent(messages: list[Message], *, tools: Any = (), profile: Profile = OPENAI, **options: Any) -> Any:
    with serve(HELLO) as server:
        asyncio.run(provider_at(server, profile=profile).complete(messages, tools=tools, **options))
        return server.requests[0].json


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_request() -> None:
    with serve(HELLO) as server:
        asyncio.run(provider_at(server, extra_body={"reasoning": {"effort": "low"}}).complete("hello"))
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.headers["authorization"] == "Bearer key"
    assert request.json == {
        "model": "test",
        "input": [{"type": "message", "role": "user", "content": "hello"}],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"},
    }


def test_model_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    provider = resolve_model("openai_responses:gpt-5")
    assert isinstance(provider, OpenAIResponsesProvider)
    assert provider.name == "openai_responses:gpt-5"


def test_conversation_on_the_wire() -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", [TextPart("What is "), TextPart("1 + 2?\ud800")]),
        Message(
            "assistant",
            [
                ReasoningPart("a summary", {"openai_responses": THOUGHT}),
                ReasoningPart("somebody else's", {"signature": "x"}),
                TextPart("I add."),
                ToolCall("add", {"a": 1, "é": "ü"}, "c1"),
                ToolCall("add", {}),
            ],
        ),
        Message("tool", [ToolResult("c1", "add", "3"), ToolResult("", "add", "4")]),
    ]
    assert sent(messages)["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": "What is 1 + 2?\ufffd"},
        THOUGHT,
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add."}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1, "é": "ü"}'},
        {"type": "function_call", "call_id": "call00001", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "function_call_output", "call_id": "call00001", "output": "4"},
    ]


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    """The API refuses reasoning that no item of its turn follows."""
    cut_off = Message("assistant", [ReasoningPart("", {"openai_responses": THOUGHT})])
    assert sent([Message("user", "a"), cut_off, Message("user", "b")])["input"] == [
        {"type": "message", "role": "user", "content": "a"},
        {"type": "message", "role": "user", "content": "b"},
    ]


def test_images() -> None:
    messages = [
        Message("user", [TextPart("what is this?"), PNG, ImagePart(url="https://example.com/a.jpg")]),
        Message("tool", ToolResult("c1", "draw", "drawn", images=(PNG,))),
    ]
    asked, result = sent(messages)["input"]
    assert asked["content"] == [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.com/a.jpg", "detail": "auto"},
    ]
    assert result["output"] == [
        {"type": "input_text", "text": "drawn"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
    ]


def test_model_that_does_not_see() -> None:
    blind = Profile("test", sees=False)
    (result,) = sent([Message("tool", ToolResult("c1", "draw", "drawn", images=(PNG,)))], profile=blind)["input"]
    assert result["output"] == "drawn\n[image image/png, 0 kB: this model cannot see it]"
    with serve() as server, pytest.raises(UnsupportedInputError, match="does not see"):
        asyncio.run(provider_at(server, profile=blind).complete(Message("user", [PNG])))


def test_image_from_the_assistant_is_refused() -> None:
    with serve() as server, pytest.raises(UnsupportedInputError, match="assistant"):
        asyncio.run(provider_at(server).complete(Message("assistant", PNG)))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", None), ("required", "required"), ("none", "none"), ("add", {"type": "function", "name": "add"})],
)
def test_tools_and_tool_choice(choice: str, expected: object) -> None:
    body = sent([Message("user", "hi")], tools=[add, search], tool_choice=choice)
    assert body.get("tool_choice") == expected
    first, second = body["tools"]
    assert (first["type"], first["name"], first["description"], first["strict"]) == (
        "function",
        "add",
        "Add two numbers.",
        True,
    )
    assert first["parameters"]["additionalProperties"] is False
    assert second["strict"] is False  # limit may be left out
    assert second["parameters"] == search.parameters


def test_settings() -> None:
    settings = ModelSettings(temperature=0.0, top_p=0.5, max_tokens=9, seed=1)
    body = sent([Message("user", "hi")], settings=settings)
    assert (body["temperature"], body["top_p"], body["max_output_tokens"]) == (0.0, 0.5, 9)
    assert "seed" not in body


def test_stop_strings_are_refused() -> None:
    with serve() as server, pytest.raises(UnsupportedInputError, match="stop strings"):
        asyncio.run(provider_at(server).complete("hi", settings=ModelSettings(stop=("END",))))


def test_output_schema() -> None:
    schema: JsonObject = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = sent([Message("user", "hi")], tools=[add], output_schema=schema)
    strict = {**schema, "additionalProperties": False}
    assert body["text"] == {"format": {"type": "json_schema", "name": "answer", "schema": strict, "strict": True}}
    assert body["tools"]


def test_output_schema_where_it_may_be_ignored() -> None:
    with serve() as server:
        provider = provider_at(server, profile=Profile("test", schema="without_tools"))
        assert asyncio.run(provider.output_mode(has_tools=False)) == "tool"
        with pytest.raises(UnsupportedInputError, match="not known"):
            asyncio.run(provider.complete("hi", output_schema={"type": "object"}))


def test_output_mode() -> None:
    with serve() as server:
        assert asyncio.run(provider_at(server).output_mode(has_tools=True)) == "native"


def test_model_that_does_not_reason_is_asked_again_without() -> None:
    """It refuses to be asked for encrypted reasoning; the provider remembers."""

    async def run() -> None:
        provider = provider_at(server)
        for _ in range(2):
            assert (await provider.complete("hi")).text == "hi"

    refused = reply({"error": {"message": "Encrypted content is not supported with this model."}}, status=400)
    with serve(refused, HELLO, HELLO) as server:
        asyncio.run(run())
        assert ["include" in request.json for request in server.requests] == [True, False, False]


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_text() -> None:
    items = [
        {"type": "response.created", "response": {"status": "in_progress"}},
        added(message_item()),
        delta("output_text", "Hel"),
        delta("output_text", "lo"),
        {"type": "response.output_text.done", "text": "Hello", "output_index": 0},
        done(message_item(text_part("Hello"))),
        completed(message_item(text_part("Hello"))),
    ]
    assert events_of(*items, tools=()) == [TextDelta("Hel"), TextDelta("lo"), ModelFinished("stop", USED)]


def test_reasoning_is_kept_and_sent_back() -> None:
    first = sse(
        added({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gA"}),
        delta("reasoning_summary_text", "I must "),
        delta("reasoning_summary_text", "add."),
        {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1},
        delta("reasoning_summary_text", "So I do.", summary_index=1),
        done({**THOUGHT, "status": "completed", "content": None}),
        *streamed_call("add", '{"a": 1, "b": 2}', index=1),
        completed(),
    )
    with serve(first, HELLO) as server:
        result = Agent(provider_at(server), tools=[add]).run_sync("1 + 2?")
        again = server.requests[1].json["input"]
    thought = ReasoningPart("I must add.\n\nSo I do.", {"openai_responses": THOUGHT})
    assert result.messages[1].content[0] == thought
    assert [item["type"] for item in again[1:]] == ["reasoning", "function_call", "function_call_output"]
    assert again[1] == THOUGHT


def test_reasoning_in_the_clear() -> None:
    """As open models are served: not encrypted, and not a summary."""
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    for items in ([delta("reasoning_text", "hm"), done(item)], [done(item)]):
        events = events_of(*items, completed())
        assert events[:2] == [ReasoningDelta("hm"), ReasoningEnd({"openai_responses": item})]


def test_reasoning_that_cannot_be_sent_back_has_no_state() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    assert events_of(done(item), completed()) == [ReasoningDelta("hm"), ModelFinished("stop", USED)]


def test_phases_are_kept_and_sent_back() -> None:
    response = response_of(
        sse(
            added({**message_item(), "phase": "commentary"}),
            delta("output_text", "Let me see."),
            added({**message_item(), "phase": "final_answer"}, 1),
            delta("output_text", "3", 1),
            completed(),
        )
    )
    assert response.text == "Let me see.3"
    assert [(item["phase"], item["content"][0]["text"]) for item in sent([response.message])["input"]] == [
        ("commentary", "Let me see."),
        ("final_answer", "3"),
    ]


def test_calls_are_streamed_live() -> None:
    events = events_of(
        added(call_item("add", "")),
        delta("function_call_arguments", '{"a": 1,'),
        added(call_item("search", "", "c2"), 1),
        delta("function_call_arguments", ' "b": 2}'),
        delta("function_call_arguments", '{"query": "x"}', 1),
        done(call_item("add", '{"a": 1, "b": 2}')),
        done(call_item("search", '{"query": "x"}', "c2"), 1),
        completed(),
    )
    assert events == [
        ToolCallStart("add", "c1"),
        ToolCallDelta("c1", '{"a": 1,'),
        ToolCallStart("search", "c2"),
        ToolCallDelta("c1", ' "b": 2}'),
        ToolCallDelta("c2", '{"query": "x"}'),
        ToolCallEnd(ToolCall("add", {"a": 1, "b": 2}, "c1")),
        ToolCallEnd(ToolCall("search", {"query": "x"}, "c2")),
        ModelFinished("stop", USED),
    ]


@pytest.mark.parametrize(
    "items",
    [
        [done(call_item("add", '{"a": 1, "b": 2}')), completed()],  # no pieces
        [completed(call_item("add", '{"a": 1, "b": 2}'))],  # nothing but the end
        [done(call_item("add", {"a": 1, "b": 2})), completed()],  # an object instead of its text
        [added(call_item("add", "")), delta("function_call_arguments", '{"a": 1, "b": 2}'), completed()],  # no end
        [
            added(call_item("add", "")),
            {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a": 1, "b": 2}'},
            completed(),
        ],
        [  # pieces lost
            added(call_item("add", "")),
            delta("function_call_arguments", '{"a": 1'),
            done(call_item("add", '{"a": 1, "b": 2}')),
            completed(),
        ],
        [  # neither places nor ids
            {"type": "response.output_item.added", "item": {"type": "function_call", "call_id": "c1", "name": "add"}},
            {"type": "response.function_call_arguments.delta", "delta": '{"a": 1, "b": 2}'},
            completed(),
        ],
    ],
)
def test_servers_that_speak_half_the_protocol(items: list[object]) -> None:
    response = response_of(sse(*items))
    assert response.calls == [ToolCall("add", {"a": 1, "b": 2}, "c1")]
    assert response.problems == []


def test_server_that_does_not_stream() -> None:
    answer = reply(whole(message_item(text_part("hi")), call_item("add", "{}")))
    response = response_of(answer)
    assert (response.text, response.calls, response.usage) == ("hi", [ToolCall("add", {}, "c1")], USED)


def test_calls_without_ids_are_told_apart() -> None:
    calls = [{"type": "function_call", "name": "add", "arguments": f'{{"a": {number}}}'} for number in (1, 2)]
    for answer in (reply(whole(*calls)), sse(*map(done, calls, (0, 1)), completed())):
        first, second = response_of(answer).calls
        assert (first.arguments, second.arguments) == ({"a": 1}, {"a": 2})
        assert first.id != second.id


def test_text_is_not_read_twice() -> None:
    item = message_item(text_part("hi"))
    assert response_of(sse(delta("output_text", "hi"), completed(item))).text == "hi"
    assert response_of(sse(done(item), completed(item))).text == "hi"
    assert response_of(sse(completed(item))).text == "hi"


def test_ids_that_change_on_the_way() -> None:
    events = streamed_call("add", '{"a": 1, ', '"b": 2}')
    for number, event in enumerate(events):
        event["item_id"] = f"id{number}"
    assert response_of(sse(*events, completed())).calls == [ToolCall("add", {"a": 1, "b": 2}, "c1")]


def test_calls_that_the_server_left_in_the_text_are_read() -> None:
    text = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    (call,) = response_of(sse(delta("output_text", text), completed())).calls
    assert (call.name, call.arguments) == ("add", {"a": 1, "b": 2})


# ── what a model or server gets wrong ────────────────────────────────────────────────────────────────────────────────


def test_refusal() -> None:
    refusal = message_item({"type": "refusal", "refusal": "No."})
    for items in ([delta("refusal", "No."), completed(refusal)], [completed(refusal)]):
        response = response_of(sse(*items))
        assert (response.text, response.finish_reason) == ("No.", "refusal")


@pytest.mark.parametrize(("word", "reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_incomplete_answers(word: str, reason: str) -> None:
    response = response_of(sse(delta("output_text", "hi"), completed(incomplete=word)))
    assert (response.text, response.finish_reason) == ("hi", reason)


def test_empty_answer() -> None:
    response = response_of(sse(completed(message_item())))
    assert (response.text, response.calls, response.finish_reason) == ("", [], "stop")


def test_null_content() -> None:
    assert response_of(sse(completed({"type": "message", "content": None}))).text == ""


def test_broken_arguments_are_a_problem() -> None:
    response = response_of(sse(*streamed_call("add", '{"a": ]'), *streamed_call("add", "{}", index=1), completed()))
    assert [call.arguments for call in response.calls] == [{}]
    (problem,) = response.problems
    assert (problem.kind, problem.name, problem.raw) == ("invalid_json", "add", '{"a": ]')


def test_two_calls_with_one_id() -> None:
    items = [*streamed_call("add", "{}"), *streamed_call("search", "{}", index=1), completed()]
    first, second = response_of(sse(*items)).calls
    assert (first.name, first.id, second.name) == ("add", "c1", "search")
    assert second.id not in ("", "c1")


@pytest.mark.parametrize("ended", [True, False])
def test_call_cut_off_by_the_token_limit(ended: bool) -> None:
    cut_off = [added(call_item("add", "")), delta("function_call_arguments", '{"a": 1, "b": ')]
    if ended:
        cut_off.append(done(call_item("add", '{"a": 1, "b": ', status="incomplete")))
    response = response_of(sse(*cut_off, completed(incomplete="max_output_tokens")))
    assert (response.calls, response.finish_reason) == ([], "length")
    (problem,) = response.problems
    assert (problem.kind, problem.name) == ("truncated", "add")


def test_call_that_was_whole_at_the_token_limit() -> None:
    response = response_of(
        sse(*streamed_call("add", "{}"), delta("output_text", "and", 1), completed(incomplete="max_output_tokens"))
    )
    assert response.calls == [ToolCall("add", {}, "c1")]


def test_token_limit_that_the_server_keeps_to_itself() -> None:
    """llama.cpp's server says "completed"; OpenAI's field for the reason is not there at all."""
    ending: JsonObject = {"object": "response", "usage": {"output_tokens": 5}}
    answer = sse(delta("output_text", "hi"), {"type": "response.completed", "response": ending})
    assert response_of(answer, settings=ModelSettings(max_tokens=5)).finish_reason == "length"
    assert response_of(answer, settings=ModelSettings(max_tokens=6)).finish_reason == "stop"
    openai = sse(delta("output_text", "hi"), completed())  # says itself that it is complete, with 5 tokens too
    assert response_of(openai, settings=ModelSettings(max_tokens=5)).finish_reason == "stop"


def test_call_without_a_name() -> None:
    (problem,) = response_of(sse(done(call_item("", "{}")), completed())).problems
    assert problem.kind == "missing_name"


def test_history_with_a_problem_is_valid_for_the_next_request() -> None:
    with serve(sse(done(THOUGHT), *streamed_call("add", "[1]", index=1), completed()), HELLO) as server:
        Agent(provider_at(server), tools=[add]).run_sync("hi")
        again = server.requests[1].json["input"]
    assert {item["type"] for item in again} == {"message"}
    assert again[-1]["role"] == "user"


@pytest.mark.parametrize(
    "answer",
    [
        sse(),
        sse("[DONE]"),
        sse({"choices": []}),
        sse(b"data: {broken\n\n"),
        reply(b"<html>Sign in</html>", content_type="text/html"),
    ],
)
def test_answer_that_is_none_of_this_api(answer: Answer) -> None:
    assert isinstance(error_of(answer), ProviderProtocolError)


@pytest.mark.parametrize(
    "answer",
    [
        sse(delta("output_text", "hi")),
        sse_then_close(delta("output_text", "hi")),
        sse_then_close(b'data: {"type": "response.outp'),
        sse(*streamed_call("add", "{}")),
    ],
)
def test_answer_that_breaks_off(answer: Answer) -> None:
    error = error_of(answer)
    assert isinstance(error, ProviderConnectionError)
    assert "http://127.0.0.1" in str(error)


def test_connection_lost_after_the_answer_is_no_error() -> None:
    assert response_of(sse_then_close(delta("output_text", "hi"), completed())).text == "hi"


def failed(**error: object) -> JsonObject:
    return {"type": "response.failed", "response": whole(error=error or None)}


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (failed(code="server_error", message="it broke"), 500),
        (failed(code="rate_limit_exceeded", message="it broke"), 429),
        (failed(code="invalid_prompt", message="it broke"), 400),
        ({"type": "error", "code": "server_error", "message": "it broke", "param": None}, 500),
        ({"error": {"message": "it broke", "code": 503}}, 503),
    ],
)
def test_error_in_the_stream(item: object, status: int) -> None:
    error = error_of(sse(delta("output_text", "hi"), item))
    assert isinstance(error, ProviderStatusError)
    assert (error.status, "it broke" in str(error)) == (status, True)


def test_error_in_the_stream_without_a_reason() -> None:
    assert "failed" in str(error_of(sse(failed())))
    error = error_of(sse({"type": "error", "message": "it broke"}))
    assert isinstance(error, ProviderConnectionError)
    assert "it broke" in str(error)
    error = error_of(sse({"error": "it broke"}))
    assert "it broke" in str(error)


@pytest.mark.parametrize(("code", "status"), [("server_error", 500), ("invalid_prompt", 400)])
def test_error_in_an_answer_that_is_not_streamed(code: str, status: int) -> None:
    error = error_of(reply(whole(error={"code": code, "message": "it broke"})))
    assert isinstance(error, ProviderStatusError)
    assert (error.status, "it broke" in str(error)) == (status, True)


def test_prompt_that_is_too_long() -> None:
    said = {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}
    for answer in (sse({"type": "error", **said}), sse(failed(**said)), reply({"error": said}, status=400)):
        assert isinstance(error_of(answer), ContextOverflowError)


@pytest.mark.parametrize(("status", "hint"), [(401, "Check api_key"), (404, "'test'"), (500, "because")])
def test_http_errors(status: int, hint: str) -> None:
    error = error_of(reply({"error": {"message": "because"}}, status=status))
    assert isinstance(error, ProviderStatusError)
    assert error.status == status
    assert hint in str(error)


def test_error_before_the_first_event_is_tried_again() -> None:
    async def sleep(seconds: float) -> None:
        pass

    broken = sse({"type": "response.created", "response": {}}, failed(code="server_error", message="it broke"))
    with serve(broken, HELLO) as server:
        provider = provider_at(server, retry=Retry(sleep=sleep))
        assert asyncio.run(provider.complete("hello")).text == "hi"


def test_problems_do_not_reach_the_wire() -> None:
    problem = Problem("invalid_json", "Make it again.", "add", "[1]")
    assert [
        item["content"] for item in sent([Message("assistant", []), Message("user", problem.message)])["input"]
    ] == ["Make it again."]


# ── whatever a server sends ──────────────────────────────────────────────────────────────────────────────────────────

KINDS = [
    *("response.created", "response.completed", "response.incomplete", "response.output_item.added"),
    *("response.output_item.done", "response.output_text.delta", "response.refusal.delta"),
    *("response.reasoning_text.delta", "response.reasoning_summary_part.added"),
    *("response.function_call_arguments.delta", "response.function_call_arguments.done", "response.unheard_of"),
]
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "a", "add", '{"a": 1}', "\ud83d", "\ude42"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "id", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
items = st.fixed_dictionaries(
    {"type": st.sampled_from(["function_call", "message", "reasoning"]) | junk},
    optional=dict.fromkeys(
        ("id", "call_id", "name", "arguments", "content", "summary", "encrypted_content", "phase", "status"), junk
    ),
)
stream_events = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        **dict.fromkeys(("delta", "output_index", "item_id", "arguments", "summary_index"), junk),
        "item": items | junk,
        "response": st.fixed_dictionaries(
            {},
            optional={"output": st.lists(items | junk, max_size=3) | junk, "usage": junk, "incomplete_details": junk},
        )
        | junk,
    },
)


@given(st.lists(stream_events, max_size=8))
def test_any_events_are_an_answer_or_a_typed_error(given_events: list[JsonObject]) -> None:
    turn = ResponsesTurn("the server", [add, search], 5)
    events = [event for given_event in given_events for event in turn.feed(given_event)]
    with suppress(ProviderError):
        events += turn.finish()
        assert isinstance(events[-1], ModelFinished)
    started: list[str] = []
    builder = ResponseBuilder()
    for event in events:
        builder.add(event)
        if isinstance(event, ToolCallStart):
            started.append(event.id)
        elif isinstance(event, ToolCallEnd):
            assert event.call.id in started
    assert "" not in started
    assert len(set(started)) == len(started)
    dump_messages([builder.partial()]).encode()  # no lone surrogates, and JSON
