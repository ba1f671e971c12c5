"""The openai provider against real HTTP servers on the loopback interface."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import (
    ConfigError,
    ContextOverflowError,
    MissingExtraError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
    UnsupportedInputError,
)
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.limits import ModelSettings
from agentkit.messages import (
    ImagePart,
    Message,
    ModelResponse,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    dump_messages,
)
from agentkit.providers._chat_completions import Turn
from agentkit.providers.base import ModelRequest, ResponseBuilder
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.profiles import UNKNOWN
from agentkit.providers.retry import Retry
from agentkit.tool import Tool, tool
from tests.servers import (
    DONE,
    Answer,
    Exchange,
    Server,
    answer_text,
    begin_sse,
    call,
    chunk,
    close_at_once,
    event,
    hang,
    head,
    reply,
    serve,
    sse,
    sse_then_close,
    sse_then_hang,
    usage,
)

KEY = "sk-secret-0123456789"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def search(query: str) -> str:
    """Search."""
    return query


@tool
def search_web(query: str) -> str:
    """Search the web."""
    return query


@tool
def now() -> str:
    """The time."""
    return "noon"


TOOLS: list[Any] = [add, search, search_web, now]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """An unclosed socket warns when it is collected, and a warning fails the test that caused it."""
    yield
    gc.collect(1)  # what a test made is young


class Waits:
    """Instead of sleeping."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def provider_at(server: Server, **options: Any) -> OpenAIProvider:
    options.setdefault("retry", Retry(attempts=1))
    options.setdefault("profile", UNKNOWN)  # so that it is not asked
    return OpenAIProvider("test", server.base_url, KEY, **options)


def request_with(*tools: Any, text: str = "hello", **options: Any) -> ModelRequest:
    return ModelRequest([Message("user", text)], tools, **options)


def events_of(*answers: Answer, tools: list[Any] = TOOLS, **options: Any) -> list[ModelEvent]:
    """What one turn streams."""

    async def run() -> list[ModelEvent]:
        return [event async for event in provider.stream(request_with(*tools))]

    with serve(*answers) as server:
        provider = provider_at(server, **options)
        return asyncio.run(run())


def response_of(*answers: Answer, tools: list[Any] = TOOLS, **options: Any) -> ModelResponse:
    """What one turn comes to."""
    with serve(*answers) as server:
        return asyncio.run(provider_at(server, **options).complete("hello", tools=tools))


def error_of(*answers: Answer, **options: Any) -> ProviderError:
    """How one turn fails."""
    with pytest.raises(ProviderError) as caught:
        response_of(*answers, **options)
    assert KEY not in str(caught.value)
    return caught.value


def sent(messages: list[Message], tools: list[Any] = TOOLS, tool_choice: str = "auto", **settings: Any) -> Any:
    """The request's JSON."""
    with serve(answer_text("ok")) as server:
        request = ModelRequest(messages, tools, tool_choice, ModelSettings(**settings))
        asyncio.run(_drain(provider_at(server).stream(request)))
        return server.requests[0].json


async def _drain(stream: AsyncGenerator[ModelEvent, None]) -> None:
    async for _ in stream:
        pass


def calls_answer(*deltas: object, finish: str = "tool_calls") -> Answer:
    return sse(*[chunk(tool_calls=[delta]) for delta in deltas], chunk(finish=finish), usage(), DONE)


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_request() -> None:
    with serve(answer_text("hi")) as server:
        asyncio.run(provider_at(server).complete("hello"))
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json == {
        "model": "test",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_conversation_on_the_wire() -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", [TextPart("What is "), TextPart("1 + 2?")]),
        Message(
            "assistant",
            [ReasoningPart("secret thought"), TextPart("I add."), ToolCall("add", {"a": 1, "é": "ü"}, "c1")],
        ),
        Message("tool", [ToolResult("c1", "add", "3"), ToolResult("c2", "add", "4")]),
        Message("assistant", [ReasoningPart("only a thought")]),
    ]
    assert sent(messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 2?"},
        {
            "role": "assistant",
            "content": "I add.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "é": "ü"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "c2", "content": "4"},
        {"role": "assistant", "content": ""},
    ]


def test_assistant_with_calls_only_has_null_content() -> None:
    message = sent([Message("assistant", ToolCall("now", {}, "c1"))])["messages"][0]
    assert message["content"] is None


def test_llama_cpp_pythons_server_takes_no_null_and_is_known_by_how_it_refuses_it() -> None:
    said = "[{'type': 'literal_error', 'loc': ('body', 'messages', 0, 'ChatCompletionRequestSystemMessage', 'role')}]"
    refusal = reply({"error": {"message": said, "type": "internal_server_error"}}, status=500)
    history = [Message("assistant", ToolCall("now", {}, "c1")), Message("tool", ToolResult("c1", "now", "noon"))]
    with serve(refusal, answer_text("hi"), answer_text("hi"), refusal) as server:
        provider = provider_at(server, retry=Retry(attempts=1))

        async def ask() -> None:
            await provider.complete(history)
            await provider.complete(history)
            with pytest.raises(ProviderStatusError, match="500"):  # not asked again: that was not it
                await provider.complete(history)

        asyncio.run(ask())
    assert [request.json["messages"][0]["content"] for request in server.requests] == [None, "", "", ""]


def test_calls_without_ids_get_stable_ones_that_match_their_results() -> None:
    turn = [
        Message("assistant", [ToolCall("add", {}), ToolCall("now", {}), ToolCall("add", {})]),
        Message("tool", [ToolResult("", "now", "n"), ToolResult("", "add", "1"), ToolResult("", "add", "2")]),
    ]
    once, twice = sent(turn)["messages"], sent([*turn, *turn])["messages"]
    assert once == twice[: len(once)]
    first, middle, last = (call["id"] for call in once[0]["tool_calls"])
    assert [message["tool_call_id"] for message in once[1:]] == [middle, first, last]
    assert len({call["id"] for message in (twice[0], twice[4]) for call in message["tool_calls"]}) == 6


def test_lone_surrogates_are_not_sent() -> None:
    messages = [
        Message("user", [TextPart("a\ud800")]),
        Message("assistant", ToolCall("search", {"query": "b\udfff"}, "c1")),
        Message("tool", ToolResult("c1", "search", "c\ud800")),
    ]
    user, assistant, result = sent(messages)["messages"]
    assert user["content"] == "a\ufffd"
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"query": "b\ufffd"}
    assert result["content"] == "c\ufffd"


def test_images() -> None:
    content: list[Part] = [
        TextPart("what is this?"),
        ImagePart(b"\x89PNG", "image/png"),
        ImagePart(url="https://example.com/a.jpg"),
    ]
    assert sent([Message("user", content)])["messages"][0]["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
    ]


def test_image_from_the_assistant_is_refused() -> None:
    with serve() as server, pytest.raises(UnsupportedInputError, match="assistant"):
        asyncio.run(provider_at(server).complete(Message("assistant", ImagePart(b"x"))))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("required", "required"),
        ("none", "none"),
        ("add", {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tools_and_tool_choice(choice: str, expected: object) -> None:
    body = sent([Message("user", "hi")], [add], choice)
    assert body.get("tool_choice") == expected
    (described,) = body["tools"]
    assert described["type"] == "function"
    assert described["function"]["name"] == "add"
    assert described["function"]["parameters"]["required"] == ["a", "b"]


def test_no_tools_no_tool_fields() -> None:
    body = sent([Message("user", "hi")], [], "none")
    assert not {"tools", "tool_choice"} & set(body)


def test_settings() -> None:
    body = sent([Message("user", "hi")], temperature=0.0, top_p=0.5, max_tokens=7, seed=3, stop=("X",))
    settings = {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed", "stop")}
    assert settings == {"temperature": 0.0, "top_p": 0.5, "max_tokens": 7, "seed": 3, "stop": ["X"]}
    assert "max_completion_tokens" not in body


def test_extra_body() -> None:
    with serve(answer_text("hi")) as server:
        asyncio.run(provider_at(server, extra_body={"top_k": 20, "stream_options": None}).complete("hello"))
        body = server.requests[0].json
    assert (body["top_k"], body["stream_options"]) == (20, None)


# ── set-up ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_key_for_openai() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAIProvider("gpt-5")


def test_local_server_needs_no_key() -> None:
    with serve(answer_text("hi")) as server:
        assert asyncio.run(OpenAIProvider("test", server.base_url).complete("hello")).text == "hi"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(answer_text("hi")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url + "/")
        monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment\n")
        provider = OpenAIProvider("test")
        assert asyncio.run(provider.complete("hello")).text == "hi"
        assert server.requests[0].headers["authorization"] == "Bearer from-the-environment"
    assert provider.name == "openai:test"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://localhost", "http://", "http://localhost:port/v1", "x"])
def test_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        OpenAIProvider("test", url)


def test_key_that_no_header_can_carry() -> None:
    with pytest.raises(ConfigError, match="header") as caught:
        OpenAIProvider("test", "http://localhost", "sk-\x00-secret")
    assert "secret" not in str(caught.value)


def test_timeout_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="timeout"):
        OpenAIProvider("test", "http://localhost", timeout=0)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"agentkit-framework\[openai\]"):
        OpenAIProvider("test", "http://localhost")


def test_importing_and_making_a_provider_loads_no_sdk() -> None:
    code = (
        "import sys; from agentkit.providers.openai import OpenAIProvider; OpenAIProvider('m', 'http://localhost');"
        "print(sorted({'openai', 'httpx2', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ── text and reasoning ───────────────────────────────────────────────────────────────────────────────────────────────


def test_text() -> None:
    counted = usage(prompt_tokens_details={"cached_tokens": 3}, completion_tokens_details={"reasoning_tokens": 2})
    answer = sse(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(finish="stop"),
        counted,
        DONE,
    )
    assert events_of(answer, tools=[]) == [TextDelta("Hel"), TextDelta("lo"), ModelFinished("stop", Usage(7, 5, 3, 2))]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning(field: str) -> None:
    answer = sse(chunk(**{field: "hm"}), chunk(**{field: None}, content="hi"), chunk(finish="stop"), DONE)
    assert events_of(answer) == [ReasoningDelta("hm"), TextDelta("hi"), ModelFinished()]


@pytest.mark.parametrize("pieces", [1, 2, 7, 100_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_stream_cut_anywhere(pieces: int, newline: bytes) -> None:
    items = [
        b": comment\n\n",
        b"event: message\nid: 1\n",
        chunk(content="grüß "),
        chunk(content="🙂"),
        chunk(finish="stop"),
        usage(),
        DONE,
    ]
    data = b"".join(item if isinstance(item, bytes) else event(item) for item in items)
    data = data.replace(json.dumps("🙂").encode(), '"🙂"'.encode()).replace(b"\n", newline)
    assert events_of(sse(data, pieces=pieces), tools=[]) == [
        TextDelta("grüß "),
        TextDelta("🙂"),
        ModelFinished("stop", Usage(7, 5)),
    ]


def test_event_over_several_data_lines() -> None:
    assert (
        response_of(
            sse(b'data: {"choices": [{"delta":\r\ndata: {"content": "hi"}, "finish_reason": "stop"}]}\r\n\r\n')
        ).text
        == "hi"
    )


def test_character_cut_in_two_chunks() -> None:
    halves = [b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude42b")]
    assert response_of(sse(*halves, chunk(finish="stop"), DONE)).text == "a🙂b"


def test_lone_surrogates_are_replaced() -> None:
    bad = b'data: {"choices": [{"delta": {"content": "\\udc00x\\ud800", "reasoning": "\\ud800"}}]}\n\n'
    response = response_of(sse(bad, chunk(finish="stop"), DONE))
    assert (response.text, response.reasoning) == ("\ufffdx\ufffd", "\ufffd")


def test_null_content_and_empty_answer() -> None:
    response = response_of(sse(chunk(role="assistant", content=None), chunk(finish="stop"), DONE))
    assert (response.message, response.finish_reason) == (Message("assistant", []), "stop")


def test_content_as_a_list_of_parts() -> None:
    answer = sse(
        chunk(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "?"]), chunk(finish="stop"), DONE
    )
    assert response_of(answer).text == "ab"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "refusal"),
        ("eos", "stop"),
    ],
)
def test_finish_reasons(word: str, reason: str) -> None:
    assert response_of(sse(chunk(content="x"), chunk(finish=word), DONE)).finish_reason == reason


def test_refusal() -> None:
    response = response_of(sse(chunk(refusal="I can't"), chunk(refusal=" do that."), chunk(finish="stop"), DONE))
    assert (response.text, response.finish_reason) == ("I can't do that.", "refusal")


def test_no_done_and_no_usage() -> None:
    assert events_of(sse(chunk(content="hi"), chunk(finish="stop"))) == [TextDelta("hi"), ModelFinished()]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("pieces", [1, 100_000])
def test_last_event_without_a_blank_line(pieces: int, newline: bytes) -> None:
    data = event(chunk(content="hi")) + event(chunk(finish="stop")).rstrip()
    assert response_of(sse(data.replace(b"\n", newline), pieces=pieces)).text == "hi"


def test_done_without_a_blank_line() -> None:
    assert response_of(sse(chunk(content="hi"), chunk(finish="stop"), b"data: [DONE]")).text == "hi"


def test_usage_of_another_shape() -> None:
    odd = usage(prompt_tokens=None, completion_tokens=-1, prompt_tokens_details=None, completion_tokens_details="?")
    assert response_of(sse(chunk(content="x", finish="stop"), odd, DONE)).usage == Usage()


def test_other_choices_are_ignored() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    assert response_of(sse(chunk(content="mine"), other, chunk(finish="stop"), DONE)).text == "mine"


def test_server_that_does_not_stream() -> None:
    message = {
        "role": "assistant",
        "content": "hi",
        "tool_calls": [call(None, id="c1", name="add", arguments='{"a": 1}')],
    }
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 7}}
    response = response_of(reply(body))
    assert (response.text, response.calls, response.usage) == ("hi", [ToolCall("add", {"a": 1}, "c1")], Usage(7))


# ── tool calls ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_call_is_streamed_live() -> None:
    answer = calls_answer(
        call(id="c1", name="add", arguments=""), call(arguments='{"a": 1,'), call(arguments=' "b": 2}')
    )
    assert events_of(answer) == [
        ToolCallStart("add", "c1"),
        ToolCallDelta("c1", '{"a": 1,'),
        ToolCallDelta("c1", ' "b": 2}'),
        ToolCallEnd(ToolCall("add", {"a": 1, "b": 2}, "c1")),
        ModelFinished("tool_calls", Usage(7, 5)),
    ]


def test_start_comes_before_the_arguments_do() -> None:
    async def run(server: Server) -> None:
        stream = provider_at(server).stream(request_with(*TOOLS))
        assert await anext(stream) == ToolCallStart("add", "c1")  # while the server waits
        await stream.aclose()

    with serve(sse_then_hang(chunk(tool_calls=[call(id="c1", name="add", arguments="")]))) as server:
        asyncio.run(run(server))


def test_interleaved_calls() -> None:
    answer = calls_answer(
        call(0, id="c1", name="add"),
        call(1, id="c2", name="search"),
        call(1, arguments='{"query":'),
        call(0, arguments='{"a":'),
        call(1, arguments=' "x"}'),
        call(0, arguments=" 1}"),
    )
    assert response_of(answer).calls == [ToolCall("add", {"a": 1}, "c1"), ToolCall("search", {"query": "x"}, "c2")]


def test_several_calls_in_one_chunk() -> None:
    both = [call(0, id="c1", name="now", arguments="{}"), call(1, id="c2", name="add", arguments='{"a": 1}')]
    assert [c.id for c in response_of(sse(chunk(tool_calls=both), chunk(finish="tool_calls"), DONE)).calls] == [
        "c1",
        "c2",
    ]


ODD_CALLS = {
    "no index": [
        call(None, id="c1", name="add", arguments='{"a":'),
        call(None, arguments=" 1}"),
        call(None, id="c2", name="now", arguments="{}"),
    ],
    "no index, interleaved by id": [
        call(None, id="c1", name="add"),
        call(None, id="c2", name="now", arguments="{}"),
        call(None, id="c1", arguments='{"a": 1}'),
    ],
    "the same index": [
        call(0, id="c1", name="add", arguments='{"a": 1}'),
        call(0, id="c2", name="now", arguments="{}"),
    ],
    "the same index, no arguments": [
        call(0, id="c1", name="add", arguments='{"a": 1}'),
        call(0, id="c2", name="now"),
    ],
    "another id in each delta": [
        call(0, id="c1", name="add"),
        call(0, id="x1", arguments='{"a":'),
        call(0, id="x2", arguments=" 1}"),
        call(1, id="c2", name="now"),
    ],
    "another id and the name in each delta": [
        call(0, id="c1", name="add", arguments='{"a":'),
        call(0, id="x2", name="add", arguments=" 1}"),
        call(1, id="c2", name="now"),
    ],
    "id and name repeated in each delta": [
        call(0, id="c1", name="add", arguments='{"a":'),
        call(0, id="c1", name="add", arguments=" 1}"),
        call(0, id="c1", name="add", arguments=""),
        call(1, id="c2", name="now"),
    ],
}


@pytest.mark.parametrize("deltas", ODD_CALLS.values(), ids=ODD_CALLS)
def test_calls_of_servers_with_their_own_ideas(deltas: list[object]) -> None:
    assert response_of(calls_answer(*deltas)).calls == [ToolCall("add", {"a": 1}, "c1"), ToolCall("now", {}, "c2")]


@pytest.mark.parametrize("index", [0, None])
def test_calls_without_ids_get_unique_ones(index: int | None) -> None:
    answer = calls_answer(call(index, name="add", arguments='{"a": 1}'), call(index, name="add", arguments='{"a": 1}'))
    first, second = response_of(answer).calls
    assert first.arguments == second.arguments == {"a": 1}
    assert first.id
    assert second.id not in ("", first.id)


@pytest.mark.parametrize("indices", [(0, 1), (0, 0), (None, None)])
def test_two_calls_with_one_id(indices: tuple[int | None, int | None]) -> None:
    deltas = [call(index, id="c", name="now", arguments="{}") for index in indices]
    first, second = response_of(calls_answer(*deltas)).calls
    assert first.id == "c"
    assert second.id not in ("", "c")


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (["add"], "add"),
        (["add", "add"], "add"),
        (["sea", "rch_web"], "search_web"),
        (["search", "_web"], "search_web"),
        (["search", "search_web"], "search_web"),
        (["search", "search"], "search"),
        (["no_such", "_tool"], "no_such_tool"),
    ],
)
def test_names_in_pieces(pieces: list[str], name: str) -> None:
    deltas = [call(0, id="c1", name=piece, arguments="") for piece in pieces]
    events = events_of(calls_answer(*deltas, call(arguments="{}")))
    assert [event for event in events if isinstance(event, ToolCallStart)] == [ToolCallStart(name, "c1")]
    assert ToolCallEnd(ToolCall(name, {}, "c1")) in events


def test_arguments_before_the_name() -> None:
    events = events_of(calls_answer(call(id="c1", arguments='{"a":'), call(name="add", arguments=" 1}")))
    assert events[:3] == [
        ToolCallStart("add", "c1"),
        ToolCallDelta("c1", '{"a": 1}'),
        ToolCallEnd(ToolCall("add", {"a": 1}, "c1")),
    ]


def test_arguments_as_an_object() -> None:
    assert response_of(calls_answer(call(id="c1", name="add", arguments={"a": 1}))).calls == [
        ToolCall("add", {"a": 1}, "c1")
    ]


def test_legacy_function_call() -> None:
    deltas = [chunk(function_call={"name": "add", "arguments": ""}), chunk(function_call={"arguments": '{"a": 1}'})]
    response = response_of(sse(*deltas, chunk(finish="function_call"), DONE))
    (made,) = response.calls
    assert (made.name, made.arguments, response.finish_reason) == ("add", {"a": 1}, "tool_calls")


def test_calls_with_finish_reason_stop() -> None:
    assert response_of(calls_answer(call(id="c1", name="now"), finish="stop")).finish_reason == "tool_calls"


def test_surrogates_in_arguments() -> None:
    whole, lone = b"\\\\ud83d\\\\ude42", b"\\\\ud800"
    raw = (
        b'{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "search", "arguments": '
    )
    raw += b'"{\\"query\\": \\"' + whole + lone + b'\\"}"}}]}, "finish_reason": "tool_calls"}]}'
    assert response_of(sse(b"data: " + raw + b"\n\n", DONE)).calls[0].arguments == {"query": "🙂\ufffd"}


@pytest.mark.parametrize(
    "raw",
    ['{"a": 1, "b', "a=1", '"x"', "null", '{"a": 1}{"a": 2}', "[" * 100_000, "1" * 5_000],
)
def test_arguments_that_are_no_object_are_a_problem_and_not_empty(raw: str) -> None:
    good = call(1, id="c2", name="now", arguments="{}")
    response = response_of(calls_answer(call(0, id="c1", name="add", arguments=raw), good))
    assert response.calls == [ToolCall("now", {}, "c2")]
    (problem,) = response.problems
    assert (problem.kind, problem.name, problem.raw) == ("invalid_json", "add", raw)
    assert "add" in problem.message
    assert len(problem.message) < 600


@pytest.mark.parametrize(
    ("raw", "arguments", "repairs"),
    [
        ("{'a': 1, 'b': 2}", {"a": 1, "b": 2}, ["single_quotes"]),
        ('{"a": 1, "b": 2', {"a": 1, "b": 2}, ["missing_closers"]),
        ('{"a": 1, "b": "2",}', {"a": 1, "b": 2}, ["trailing_comma", "string_to_number"]),
    ],
)
def test_arguments_that_are_broken_in_a_safe_way_are_repaired(
    raw: str, arguments: dict[str, int], repairs: list[str]
) -> None:
    (made,) = response_of(calls_answer(call(id="c1", name="add", arguments=raw))).calls
    assert (made.name, made.arguments, made.id) == ("add", arguments, "c1")
    assert len(made.repairs) == len(repairs)


HERMES_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def test_calls_that_the_server_left_in_the_text_are_read() -> None:
    text = f"Let me add. {HERMES_CALL}"
    answer = sse(*(chunk(content=piece) for piece in re.findall(r"(?s).{1,5}", text)), chunk(finish="stop"), DONE)
    response = response_of(answer)
    assert (response.text.strip(), response.finish_reason) == ("Let me add.", "tool_calls")
    assert [(made.name, made.arguments) for made in response.calls] == [("add", {"a": 1, "b": 2})]
    assert response.message.calls[0].id


def test_calls_in_the_text_are_not_run_beside_structured_ones() -> None:
    structured = call(0, id="c1", name="add", arguments='{"a": 1, "b": 2}')
    answer = sse(chunk(content=HERMES_CALL), chunk(tool_calls=[structured]), chunk(finish="tool_calls"), DONE)
    assert [made.id for made in response_of(answer).calls] == ["c1"]


def test_without_tools_a_call_in_the_text_is_text() -> None:
    answer = sse(chunk(content=HERMES_CALL), chunk(finish="stop"), DONE)
    response = response_of(answer, tools=[])
    assert (response.text, response.calls) == (HERMES_CALL, [])


def test_a_call_in_the_text_that_the_token_limit_cut_off_is_a_problem() -> None:
    response = response_of(sse(chunk(content=HERMES_CALL[:45]), chunk(finish="length"), DONE))
    assert response.calls == []
    assert [problem.kind for problem in response.problems] == ["truncated"]


@pytest.mark.parametrize("arguments", ["", "  ", None])
def test_arguments_never_written_are_none(arguments: str | None) -> None:
    assert response_of(calls_answer(call(id="c1", name="now", arguments=arguments))).calls == [
        ToolCall("now", {}, "c1")
    ]


@pytest.mark.parametrize("raw", ["", '{"a": 1'])
@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_call_cut_off_in_the_middle(raw: str, finish: str) -> None:
    answer = calls_answer(
        call(0, id="c1", name="now", arguments="{}"), call(1, id="c2", name="add", arguments=raw), finish=finish
    )
    response = response_of(answer)
    assert response.calls == [ToolCall("now", {}, "c1")]
    (problem,) = response.problems
    assert (problem.kind, problem.name, problem.raw) == ("truncated", "add", raw)
    assert response.finish_reason == finish


def test_call_that_was_whole_at_the_token_limit() -> None:
    answer = calls_answer(call(id="c1", name="add", arguments='{"a": 1}'), finish="length")
    assert response_of(answer).calls == [ToolCall("add", {"a": 1}, "c1")]


def test_call_without_a_name() -> None:
    events = events_of(calls_answer(call(id="c1", arguments="{}"), call(1, id="c2", name="now")))
    assert [event.problem.kind for event in events if isinstance(event, ProblemFound)] == ["missing_name"]
    assert ToolCallEnd(ToolCall("now", {}, "c2")) in events


def test_history_with_a_problem_is_valid_for_the_next_request() -> None:
    with serve(calls_answer(call(id="c1", name="add", arguments="{a")), answer_text("sorry")) as server:
        provider = provider_at(server)
        first = asyncio.run(provider.complete("hello", tools=TOOLS))
        asyncio.run(
            provider.complete([Message("user", "hello"), first.message, Message("user", first.problems[0].message)])
        )
        assert server.requests[1].json["messages"][1] == {"role": "assistant", "content": ""}


# ── servers that fail ────────────────────────────────────────────────────────────────────────────────────────────────


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_refused() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(ProviderConnectionError, match="could not be reached") as caught:
        asyncio.run(OpenAIProvider("test", url, retry=Retry(attempts=1)).complete("hello"))
    assert url in str(caught.value)


def test_unknown_host() -> None:
    provider = OpenAIProvider("test", "http://no-such-host.invalid/v1", retry=Retry(attempts=1))
    with pytest.raises(ProviderConnectionError, match=r"no-such-host\.invalid"):
        asyncio.run(provider.complete("hello"))


def test_password_in_the_url_is_not_shown() -> None:
    url = f"http://user:hunter2@127.0.0.1:{closed_port()}/v1?token=hunter2"
    with pytest.raises(ProviderConnectionError) as caught:
        asyncio.run(OpenAIProvider("test", url, retry=Retry(attempts=1)).complete("hello"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("answer", [hang, sse_then_hang(chunk(role="assistant")), sse_then_hang(chunk(content="hi"))])
def test_silent_server(answer: Answer) -> None:
    error = error_of(answer, timeout=0.2, retry=Retry())
    assert isinstance(error, ProviderTimeoutError)
    assert "0.2 seconds" in str(error)


def test_silence_after_the_answer_is_no_error() -> None:
    assert response_of(sse_then_hang(chunk(content="hi"), chunk(finish="stop")), timeout=0.2).text == "hi"


def test_connection_left_open_after_done() -> None:
    assert response_of(sse_then_hang(chunk(content="hi"), chunk(finish="stop"), DONE)).text == "hi"


@pytest.mark.parametrize(
    "answer",
    [
        close_at_once,
        sse_then_close(chunk(content="hi")),
        sse_then_close(b'data: {"choices": [{"del'),
        sse(chunk(content="hi")),
        sse(chunk(content="hi"), DONE),
        sse(chunk(tool_calls=[call(id="c1", name="add", arguments='{"a": 1}')])),
    ],
)
def test_answer_that_breaks_off(answer: Answer) -> None:
    error = error_of(answer)
    assert isinstance(error, ProviderConnectionError)
    assert "http://127.0.0.1" in str(error)


def test_connection_lost_after_the_answer_is_no_error() -> None:
    assert response_of(sse_then_close(chunk(content="hi"), chunk(finish="stop"))).text == "hi"


@pytest.mark.parametrize(
    "answer",
    [
        sse(b"data: {broken\n\n"),
        sse(b"data: [1]\n\n"),
        sse(b"data: " + b"[" * 100_000 + b"\n\n"),
        sse(DONE),
        sse({"choices": []}, DONE),
        sse({"choices": None}, DONE),
        sse({"object": "something else"}, DONE),
        reply(b"<html><body>Sign in</body></html>", content_type="text/html"),
        reply(b"", content_type="text/event-stream"),
        reply({"choices": []}),
        reply(b'{"choices": [', content_type="application/json"),
        reply(b"OK"),
    ],
)
def test_answer_that_is_no_chat_completion(answer: Answer) -> None:
    error = error_of(answer)
    assert isinstance(error, ProviderProtocolError)
    assert "http://127.0.0.1" in str(error)
    assert len(str(error)) < 1000


def test_html_instead_of_events_is_quoted() -> None:
    error = error_of(reply(b"<html>Please sign in</html>", content_type="text/html"))
    assert "Please sign in" in str(error)
    assert "text/html" in str(error)


def test_error_in_the_stream_with_a_status() -> None:
    error = error_of(sse(chunk(content="hi"), {"error": {"message": "out of memory", "code": 500}}))
    assert isinstance(error, ProviderStatusError)
    assert (error.status, "out of memory" in str(error)) == (500, True)


@pytest.mark.parametrize(
    "item",
    [
        {"error": {"message": "it broke", "type": "server_error"}},
        {"error": "it broke"},
        b'error: {"error": "it broke"}\n\n',
    ],
)
def test_error_in_the_stream(item: object) -> None:
    error = error_of(sse(chunk(content="hi"), item))
    assert isinstance(error, ProviderConnectionError)
    assert "it broke" in str(error)


def test_error_in_a_json_answer() -> None:
    assert "it broke" in str(error_of(reply({"error": {"message": "it broke"}})))


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, ""), (401, "OPENAI_API_KEY"), (403, ""), (404, "base_url"), (422, ""), (500, ""), (503, "")],
)
def test_http_errors(status: int, hint: str) -> None:
    error = error_of(reply({"error": {"message": "because"}}, status=status))
    assert isinstance(error, ProviderStatusError)
    assert error.status == status
    assert f"{status}: because" in str(error)
    assert hint in str(error)


def test_missing_v1_is_hinted_at() -> None:
    with serve(reply({"detail": "Not Found"}, status=404)) as server:
        provider = OpenAIProvider("test", server.url, retry=Retry(attempts=1))
        with pytest.raises(ProviderStatusError, match=r"Not Found.*ends in /v1"):
            asyncio.run(provider.complete("hello"))


def test_missing_key_is_hinted_at() -> None:
    with serve(reply(b"who are you?", status=401)) as server, pytest.raises(ProviderStatusError, match="No api_key"):
        asyncio.run(OpenAIProvider("test", server.base_url).complete("hello"))


def test_server_that_echoes_the_key() -> None:
    assert "***" in str(error_of(reply({"error": {"message": f"wrong key: {KEY}"}}, status=401)))


@pytest.mark.parametrize(
    "body", [b"x" * 1_000_000, b"<html><h1>Bad Gateway</h1></html>", {"error": {"message": "y" * 10_000}}, b"", [], {}]
)
def test_error_bodies_of_any_kind(body: object) -> None:
    error = error_of(reply(body, status=502))
    assert isinstance(error, ProviderStatusError)
    assert len(str(error)) < 1000
    assert "<h1>" not in str(error)


def test_error_with_a_broken_body() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(head(500, content_length="100") + b"only this")
        exchange.close()

    assert isinstance(error_of(answer), ProviderConnectionError)


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        (
            {
                "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
                "9000 tokens.",
                "code": "context_length_exceeded",
            },
            (9000, 8192),
        ),
        (
            {
                "message": "This model's maximum context length is 4096 tokens. However, your request has 5000 input "
                "tokens.",
                "code": 400,
            },
            (5000, 4096),
        ),
        (
            {
                "message": "request (700 tokens) exceeds the available context size (512 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 700,
                "n_ctx": 512,
            },
            (700, 512),
        ),
        ({"message": "too long", "code": "context_length_exceeded"}, (0, 0)),
    ],
)
def test_prompt_that_is_too_long(said: dict[str, object], numbers: tuple[int, int]) -> None:
    for answer in (reply({"error": said}, status=400), sse({"error": said})):
        error = error_of(answer)
        assert isinstance(error, ContextOverflowError)
        assert (error.tokens, error.limit) == numbers
        assert str(said["message"]).rstrip(".") in str(error)


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "failure",
    [
        close_at_once,
        sse_then_close(),
        sse_then_close(chunk(role="assistant", content="")),
        sse({"error": {"message": "overloaded", "code": 503}}),
        *[reply(b"busy", status=status) for status in (408, 409, 429, 500, 503)],
    ],
)
def test_passing_failures_are_tried_again(failure: Answer) -> None:
    waits = Waits()
    assert response_of(failure, failure, answer_text("hi"), retry=Retry(sleep=waits)).text == "hi"
    assert len(waits.waits) == 2


def test_three_attempts_by_default() -> None:
    busy = reply(b"busy", status=503)
    assert isinstance(error_of(busy, busy, busy, retry=Retry(sleep=Waits())), ProviderStatusError)


@pytest.mark.parametrize(
    "failure", [reply(b"no", status=400), sse(b"data: {\n\n"), sse_then_close(chunk(content="hi there"))]
)
def test_other_failures_are_not(failure: Answer) -> None:
    waits = Waits()
    error_of(failure, retry=Retry(sleep=waits))
    assert waits.waits == []


def test_retry_after_is_obeyed() -> None:
    waits = Waits()
    busy = reply(b"busy", status=429, retry_after="7")
    assert response_of(busy, answer_text("hi"), retry=Retry(sleep=waits)).text == "hi"
    assert waits.waits == [7.0]


def test_retry_after_beyond_the_limit_is_raised() -> None:
    waits = Waits()
    error = error_of(reply(b"busy", status=429, retry_after="3600"), retry=Retry(sleep=waits))
    assert isinstance(error, ProviderStatusError)
    assert (error.retry_after, waits.waits) == (3600.0, [])


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connection_is_kept_between_turns() -> None:
    async def run(provider: OpenAIProvider) -> None:
        for _ in range(3):
            await provider.complete("hello")

    with serve(*[answer_text("hi")] * 3) as server:
        asyncio.run(run(provider_at(server)))
        assert server.connections == 1


def test_provider_outlives_its_event_loops() -> None:
    with serve(*[answer_text("hi")] * 3) as server:
        provider = provider_at(server)
        for _ in range(3):
            assert asyncio.run(provider.complete("hello")).text == "hi"
        assert server.connections == 3


def test_many_at_once() -> None:
    async def run(provider: OpenAIProvider) -> list[ModelResponse]:
        return await asyncio.gather(*[provider.complete("hello") for _ in range(20)])

    with serve(*[answer_text("hi")] * 20) as server:
        assert {response.text for response in asyncio.run(run(provider_at(server)))} == {"hi"}


def test_dropped_provider_closes_its_connections() -> None:
    async def run(server: Server) -> None:
        await provider_at(server).complete("hello")
        gc.collect()
        assert await asyncio.to_thread(server.left.wait, 5)

    def answer(exchange: Exchange) -> None:
        answer_text("hi")(exchange)
        exchange.hang()

    with serve(answer) as server:
        asyncio.run(run(server))


def test_close_closes() -> None:
    async def run(server: Server) -> None:
        provider = provider_at(server)
        await provider.complete("hello")
        await provider.close()
        assert await asyncio.to_thread(server.left.wait, 5)

    def answer(exchange: Exchange) -> None:
        answer_text("hi")(exchange)
        exchange.hang()

    with serve(answer) as server:
        asyncio.run(run(server))


def test_close_reaches_other_loops() -> None:
    """`run_sync` keeps a loop of its own; the provider is closed from the user's."""
    from agentkit._sync import run_sync

    def answer(exchange: Exchange) -> None:
        answer_text("hi")(exchange)
        exchange.hang()

    with serve(answer) as server:
        provider = provider_at(server)
        assert run_sync(provider.complete("hello")).text == "hi"
        asyncio.run(provider.close())
        assert server.left.wait(5)


def test_closing_the_stream_closes_the_connection() -> None:
    async def run(server: Server) -> None:
        stream = provider_at(server).stream(request_with())
        assert await anext(stream) == TextDelta("hi")
        await stream.aclose()
        assert await asyncio.to_thread(server.left.wait, 5)

    with serve(sse_then_hang(chunk(content="hi"))) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("before", [False, True])
def test_cancelling_closes_the_connection(before: bool) -> None:
    """Before the server has answered, and in the middle of its answer."""

    async def run(server: Server) -> None:
        task = asyncio.ensure_future(provider_at(server).complete("hello"))
        await asyncio.to_thread(asked.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.left.wait, 5)

    def answer(exchange: Exchange) -> None:
        if not before:
            begin_sse(exchange)
            exchange.chunk(event(chunk(content="hi")))
        asked.release()
        exchange.hang()

    asked = threading.Semaphore(0)
    with serve(answer) as server:
        asyncio.run(run(server))


def test_cancelling_between_attempts() -> None:
    async def run(server: Server) -> None:
        waiting = asyncio.Event()

        async def sleep(_: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(provider_at(server, retry=Retry(sleep=sleep)).complete("hello"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serve(reply(b"busy", status=503)) as server:
        asyncio.run(run(server))


def test_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.providers._openai_server._MAX_ANSWER", 1_000_000)

    def answer(exchange: Exchange) -> None:
        begin_sse(exchange)
        while True:  # the client closes the connection
            exchange.chunk(b"x" * 65_536)

    assert isinstance(error_of(answer), ProviderProtocolError)


def test_tool_from_schema_is_offered_as_it_is() -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"q": {"type": "string"}}}
    body = sent([Message("user", "hi")], [Tool.from_schema("ask", "Ask.", schema)])
    assert body["tools"] == [
        {"type": "function", "function": {"name": "ask", "description": "Ask.", "parameters": schema}}
    ]


def test_example() -> None:
    call_both = calls_answer(
        call(0, id="c1", name="population", arguments='{"country": "Iceland"}'),
        call(1, id="c2", name="population", arguments='{"country": "Malta"}'),
    )
    script = Path(__file__).parents[2] / "examples" / "openai_compatible.py"
    with serve(call_both, answer_text("973,000 people.")) as server:
        command = [sys.executable, str(script), "test", server.base_url]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "← 399000" in run.stdout
    assert "973,000 people.\n2 steps, 24 tokens\n" in run.stdout
    assert run.stderr == ""


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.sampled_from(["", "a", "now", "{}", '{"a": 1}', "\ud83d", "\ude42"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "id", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def _any_of(*names: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(names, junk), **values})


_deltas = _any_of("index", "id", function=_any_of("name", "arguments") | junk)
_messages = _any_of("content", "reasoning", "refusal", tool_calls=st.lists(_deltas | junk, max_size=2) | junk)
_choices = _any_of("index", "finish_reason", delta=_messages | junk)
_chunks = _any_of("usage", choices=st.lists(_choices | junk, max_size=2) | junk)


@given(st.lists(_chunks, max_size=6))
def test_any_chunks_are_an_answer_or_a_typed_error(given_chunks: list[dict[str, object]]) -> None:
    turn = Turn("the server", TOOLS)
    events = [found for chunk in given_chunks for found in turn.feed(chunk)]
    with suppress(ProviderError):
        events += turn.finish()
        assert isinstance(events[-1], ModelFinished)
    started = [found.id for found in events if isinstance(found, ToolCallStart)]
    assert {found.call.id for found in events if isinstance(found, ToolCallEnd)} <= set(started)
    assert "" not in started
    assert len(set(started)) == len(started)
    builder = ResponseBuilder()
    for found in events:
        builder.add(found)
    dump_messages([builder.partial()]).encode()  # no lone surrogates, and JSON
