"""The litellm provider against real HTTP servers that speak three vendors' APIs."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Limits, Message, ModelSettings, ToolCall, ToolResult, tool
from agentkit.errors import (
    ConfigError,
    ContextOverflowError,
    ProviderConnectionError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
    UnknownModelError,
    UnsupportedInputError,
)
from agentkit.events import ModelEvent, ModelFinished, ReasoningDelta, ReasoningEnd, TextDelta, ToolCallDelta
from agentkit.messages import ImagePart, ModelResponse, ReasoningPart, TextPart, Usage
from agentkit.providers.base import ModelRequest
from agentkit.providers.litellm import LiteLLMProvider
from agentkit.providers.profiles import VLLM
from agentkit.providers.retry import Retry
from tests.servers import (
    DONE,
    Answer,
    Server,
    answer_text,
    call,
    chunk,
    close_at_once,
    hang,
    reply,
    serve,
    sse,
    sse_then_close,
    sse_then_hang,
    usage,
)

OPENAI, ANTHROPIC, GEMINI = "openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"
KEY = "sk-very-secret"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return f"7 degrees in {city}"


def provider(server: Server, model: str = OPENAI, *, timeout: float = 30.0, **more: Any) -> LiteLLMProvider:
    base_url = server.base_url if model == OPENAI else server.url
    return LiteLLMProvider(model, base_url, KEY, timeout=timeout, retry=Retry(attempts=1), **more)


def ask(server: Server, model: str = OPENAI, prompt: Any = "hi", tools: Any = (weather,), **more: Any) -> ModelResponse:
    return asyncio.run(provider(server, model, **more).complete(prompt, tools=tools))


def events_of(server: Server, model: str) -> list[ModelEvent]:
    async def collect() -> list[ModelEvent]:
        request = ModelRequest([Message("user", "hi")], [weather])
        return [event async for event in provider(server, model).stream(request)]

    return asyncio.run(collect())


# ── Anthropic's Messages API ─────────────────────────────────────────────────────────────────────────────────────────


def anthropic(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def block(index: int, start: object, *deltas: object) -> list[bytes]:
    return [
        anthropic("content_block_start", index=index, content_block=start),
        *[anthropic("content_block_delta", index=index, delta=delta) for delta in deltas],
        anthropic("content_block_stop", index=index),
    ]


COUNTS = {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5, "output_tokens": 1}
BEGIN = anthropic("message_start", message={"id": "msg_1", "type": "message", "role": "assistant", "usage": COUNTS})
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "aGlkZGVu"}


def end(reason: str) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [anthropic("message_delta", delta=delta, usage={"output_tokens": 40}), anthropic("message_stop")]


THINKS = [
    BEGIN,
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(1, REDACTED),
    *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I look."}),
    *block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Oslo"}'},
    ),
    *end("tool_use"),
]


def anthropic_text(text: str, reason: str = "end_turn") -> list[bytes]:
    said = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
    return [BEGIN, *said, *end(reason)]


def test_thinking_is_shown_kept_and_sent_back_as_it_was_signed() -> None:
    with serve(sse(*THINKS), sse(*anthropic_text("7 degrees."))) as server:
        agent = Agent(provider(server, ANTHROPIC, options={"reasoning_effort": "low"}), tools=[weather])
        result = agent.run_sync("How is the weather?")
        first, second = (request.json for request in server.requests)
    assert result.output == "7 degrees."
    assert first["thinking"]["type"] == "enabled"
    assert server.requests[0].headers["x-api-key"] == KEY
    parts = result.messages[1].content
    assert [type(part) for part in parts] == [ReasoningPart, ReasoningPart, TextPart, ToolCall]
    assert parts[0] == ReasoningPart("Let me see.", {"litellm": {"vendor": "anthropic", "block": THINKING}})
    assert parts[3] == ToolCall("weather", {"city": "Oslo"}, "toolu_1")
    sent = second["messages"][1]["content"]
    assert sent[:2] == [THINKING, REDACTED]
    assert [item["type"] for item in sent[2:]] == ["text", "tool_use"]
    assert "7 degrees in Oslo" in json.dumps(second["messages"][2])


def test_thinking_of_another_vendor_is_left_out() -> None:
    with serve(sse(*THINKS), answer_text("Yes.")) as server:
        first = ask(server, ANTHROPIC)
        history = [Message("user", "hi"), first.message, Message("tool", ToolResult("toolu_1", "weather", "rain"))]
        assert ask(server, OPENAI, history).text == "Yes."
        assert b"c2ln" not in server.requests[1].body


def test_events_come_in_the_order_of_what_was_written() -> None:
    with serve(sse(*THINKS)) as server:
        events = events_of(server, ANTHROPIC)
    kinds = [type(event).__name__ for event in events]
    assert kinds[:5] == ["ReasoningDelta", "ReasoningDelta", "ReasoningEnd", "ReasoningEnd", "TextDelta"]
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["Let me ", "see."]
    assert "".join(event.arguments for event in events if isinstance(event, ToolCallDelta)) == '{"city": "Oslo"}'
    assert len([event for event in events if isinstance(event, ReasoningEnd)]) == 2
    assert isinstance(events[-1], ModelFinished)


def test_usage_counts_the_cache_and_has_a_cost() -> None:
    with serve(sse(*THINKS)) as server:
        counted = ask(server, ANTHROPIC).usage
    assert (counted.input_tokens, counted.output_tokens, counted.cached_tokens) == (105, 40, 90)
    assert 0 < counted.cost < 0.01
    with serve(answer_text("Hello.")) as server:
        unpriced = LiteLLMProvider("openai/no-such-model", server.base_url, KEY)
        assert asyncio.run(unpriced.complete("hi")).usage == Usage(7, 5)


@pytest.mark.parametrize(("reason", "ours"), [("max_tokens", "length"), ("refusal", "content_filter")])
def test_why_a_model_stopped(reason: str, ours: str) -> None:
    with serve(sse(*anthropic_text("Well", reason))) as server:
        response = ask(server, ANTHROPIC)
    assert (response.text, response.finish_reason) == ("Well", ours)


# ── Gemini ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def gemini(*parts: object, finish: str | None = None, **more: object) -> dict[str, object]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **more}


GEMINI_CALL = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"}
GEMINI_COUNTS = {
    "promptTokenCount": 100,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "cachedContentTokenCount": 60,
    "totalTokenCount": 150,
}


def test_gemini_thinks_calls_and_gets_its_signature_back() -> None:
    thought = gemini({"text": "Hm.", "thought": True})
    called = gemini(GEMINI_CALL, finish="STOP", usageMetadata=GEMINI_COUNTS)
    with serve(sse(thought, called), sse(gemini({"text": "7 degrees."}, finish="STOP"))) as server:
        result = Agent(provider(server, GEMINI), tools=[weather]).run_sync("How is the weather?")
        sent = server.requests[1].json["contents"]
    assert result.output == "7 degrees."
    assert result.messages[1].reasoning == "Hm."
    assert result.messages[1].calls[0].arguments == {"city": "Oslo"}
    assert result.usage.cached_tokens == 60
    assert result.usage.reasoning_tokens == 30
    assert result.usage.cost > 0
    assert "c2ln" in json.dumps(sent[1])


# ── compatible servers, and what gets lost on the way ────────────────────────────────────────────────────────────────


def test_a_request_as_it_is_sent() -> None:
    settings = ModelSettings(temperature=0.5, max_tokens=9, seed=3, stop=("END",))
    picture = Message("user", [TextPart("What is it?"), ImagePart(b"\x89PNG")])
    with serve(answer_text("A cat.")) as server:
        model = provider(server, options={"user": "u1"})
        conversation = [Message("system", "Be brief."), picture]
        asyncio.run(model.complete(conversation, tools=[weather], tool_choice="weather", settings=settings))
        sent = server.requests[0].json
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert sent["tools"] == [weather.openai_schema]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    wanted = {"temperature": 0.5, "max_tokens": 9, "seed": 3, "stop": ["END"], "user": "u1", "stream": True}
    assert wanted.items() <= sent.items()


def test_a_seed_is_left_out_where_the_vendor_knows_none_and_tools_are_not_changed() -> None:
    schema = json.dumps(weather.openai_schema)
    with serve(sse(*anthropic_text("Yes."))) as server:
        asyncio.run(provider(server, ANTHROPIC).complete("hi", tools=[weather], settings=ModelSettings(seed=3)))
        assert "seed" not in server.requests[0].json
    with serve(sse(gemini({"text": "Yes."}, finish="STOP"))) as server:
        ask(server, GEMINI)
    assert json.dumps(weather.openai_schema) == schema


def test_calls_written_as_text_are_found() -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    with serve(answer_text(text)) as server:
        response = ask(server)
    assert [(found.name, found.arguments) for found in response.calls] == [("weather", {"city": "Oslo"})]
    assert response.finish_reason == "tool_calls"


def test_two_calls_with_one_index_and_one_with_broken_json() -> None:
    calls = [
        chunk(tool_calls=[call(0, id="a", name="weather", arguments='{"city": "Oslo"}')]),
        chunk(tool_calls=[call(0, id="b", name="weather", arguments='{"city": "Rome"}')]),
        chunk(tool_calls=[call(1, id="c", name="weather", arguments='{"city" "Bonn" 5')]),
    ]
    with serve(sse(*calls, chunk(finish="tool_calls"), usage(), DONE)) as server:
        response = ask(server)
    assert [found.arguments for found in response.calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert [problem.kind for problem in response.problems] == ["invalid_json"]


def test_a_call_that_was_cut_off_is_a_problem() -> None:
    cut = chunk(tool_calls=[call(0, id="a", name="weather", arguments='{"city": "Os')])
    with serve(sse(cut, chunk(finish="length"), usage(), DONE)) as server:
        response = ask(server)
    assert (response.calls, response.finish_reason) == ([], "length")
    assert [problem.kind for problem in response.problems] == ["truncated"]


def test_null_content_and_an_empty_answer() -> None:
    with serve(sse(chunk(role="assistant", content=None), chunk(finish="stop"), usage(), DONE)) as server:
        response = ask(server)
    assert (response.text, response.calls, response.finish_reason) == ("", [], "stop")


# ── answers of a type ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "without_tools", "with_tools"),
    [(OPENAI, "native", "native"), (GEMINI, "native", "tool"), ("openai/unheard-of", "tool", "tool")],
)
def test_how_an_answer_of_a_type_is_asked_for(model: str, without_tools: str, with_tools: str) -> None:
    async def modes() -> list[str]:
        asked = LiteLLMProvider(model)
        return [await asked.output_mode(False), await asked.output_mode(True)]

    assert asyncio.run(modes()) == [without_tools, with_tools]


@pytest.mark.parametrize(("model", "size"), [(GEMINI, True), ("openai/unheard-of", False)])
def test_context_size_is_what_the_table_says(model: str, size: bool) -> None:
    known = asyncio.run(LiteLLMProvider(model).context_size())
    assert (known is not None and known > 100_000) is size


def test_an_answer_is_held_to_a_schema() -> None:
    with serve(answer_text('{"n": 1}')) as server:
        response = asyncio.run(provider(server).complete("hi", tools=[weather], output_schema=SCHEMA))
        sent = server.requests[0].json
    assert response.text == '{"n": 1}'
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert len(sent["tools"]) == 1
    with serve(sse(gemini({"text": '{"n": 1}'}, finish="STOP"))) as server:
        assert asyncio.run(provider(server, GEMINI).complete("hi", output_schema=SCHEMA)).text == '{"n": 1}'
        assert server.requests[0].json["generationConfig"]["response_mime_type"] == "application/json"


def test_a_schema_that_would_suppress_tools_or_is_not_known_to_work_is_refused() -> None:
    with serve() as server:
        with pytest.raises(UnsupportedInputError, match="gemini through LiteLLM lets a model call no tools"):
            asyncio.run(provider(server, GEMINI).complete("hi", tools=[weather], output_schema=SCHEMA))
        with pytest.raises(UnsupportedInputError, match=r"no way to hold an answer of openai/own .* profile=…"):
            asyncio.run(LiteLLMProvider("openai/own", server.base_url, KEY).complete("hi", output_schema=SCHEMA))
    with serve(answer_text('{"n": 1}')) as server:
        own = LiteLLMProvider("openai/own", server.base_url, KEY, profile=VLLM)
        assert asyncio.run(own.complete("hi", output_schema=SCHEMA)).text == '{"n": 1}'


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(status: int, message: str, **headers: str) -> Answer:
    error = {"type": "error", "error": {"message": message, "type": "some_error"}}
    return reply(error, status=status, **headers)


VENDORS = pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, GEMINI])
FIRST = {
    OPENAI: [chunk(role="assistant", content="He")],
    ANTHROPIC: anthropic_text("He")[:3],
    GEMINI: [gemini({"text": "He"})],
}


@VENDORS
@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_http_errors(model: str, status: int) -> None:
    with (
        serve(refusal(status, f"no, it's {KEY}", retry_after="7")) as server,
        pytest.raises(ProviderStatusError) as caught,
    ):
        ask(server, model)
    assert (caught.value.status, caught.value.retry_after) == (status, 7.0)
    assert str(caught.value).startswith(f"litellm:{model} answered {status}: no, it's ***.")


@VENDORS
def test_what_may_pass_is_tried_again_by_us_alone(model: str) -> None:
    good = {OPENAI: answer_text("Yes."), ANTHROPIC: sse(*anthropic_text("Yes."))}
    good[GEMINI] = sse(gemini({"text": "Yes."}, finish="STOP"))
    with serve(refusal(503, "busy"), refusal(429, "slow", retry_after="0"), good[model]) as server:
        patient = LiteLLMProvider(model, server.base_url if model == OPENAI else server.url, KEY, retry=Retry(3, 0.0))
        assert asyncio.run(patient.complete("hi")).text == "Yes."


@VENDORS
def test_a_prompt_that_is_too_long(model: str) -> None:
    answer = refusal(400, "prompt is too long: 210000 tokens > 200000 maximum")
    with serve(answer) as server, pytest.raises(ContextOverflowError) as caught:
        ask(server, model)
    assert (caught.value.tokens, caught.value.limit) == (210_000, 200_000)


@VENDORS
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("closed", ProviderConnectionError),
        ("broken off", ProviderConnectionError),
        ("empty", ProviderProtocolError),
        ("web page", ProviderProtocolError),
    ],
)
def test_answers_that_are_none(model: str, kind: str, error: type[Exception]) -> None:
    answers = {
        "closed": close_at_once,
        "broken off": sse_then_close(*FIRST[model]),
        "empty": sse(),
        "web page": reply(b"<html>hello</html>", content_type="text/html"),
    }
    with serve(answers[kind]) as server, pytest.raises(error) as caught:
        ask(server, model)
    assert type(caught.value) is error


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])  # of Gemini's LiteLLM does not tell: docs/litellm.md
def test_an_answer_that_just_ends_is_not_whole(model: str) -> None:
    with serve(sse(*FIRST[model])) as server, pytest.raises(ProviderConnectionError, match="finish_reason"):
        ask(server, model)


@VENDORS
@pytest.mark.parametrize("begun", [False, True])
def test_silence_has_a_limit(model: str, begun: bool) -> None:
    answer = sse_then_hang(*FIRST[model]) if begun else hang
    with serve(answer) as server, pytest.raises(ProviderTimeoutError, match=r"silent for 0\.2 seconds"):
        ask(server, model, timeout=0.2)


def test_errors_inside_a_stream() -> None:
    overloaded = anthropic("error", error={"type": "overloaded_error", "message": "Overloaded"})
    with serve(sse(*FIRST[ANTHROPIC], overloaded)) as server, pytest.raises(ProviderStatusError, match="Overloaded"):
        ask(server, ANTHROPIC)
    broken = b'data: {"id": "chatcmpl-1", "cho\n\n'
    with serve(sse(*FIRST[OPENAI], broken)) as server, pytest.raises(ProviderProtocolError, match="broken JSON"):
        ask(server)


@VENDORS
def test_a_server_that_is_not_there(model: str) -> None:
    with serve() as server:
        pass
    with pytest.raises(ProviderConnectionError, match=r"could not be reached .* base_url right\?"):
        ask(server, model)


def test_names_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(UnknownModelError, match="Did you mean 'gemini'"):
        asyncio.run(LiteLLMProvider("gemmini/x").complete("hi"))
    with pytest.raises(ProviderStatusError, match=r"Set ANTHROPIC_API_KEY, or pass api_key=…"):
        asyncio.run(LiteLLMProvider(ANTHROPIC).complete("hi"))
    with pytest.raises(ConfigError, match=r"timeout is 0.*above 0"):
        LiteLLMProvider(ANTHROPIC, timeout=0)


# ── connections, and the library's own habits ────────────────────────────────────────────────────────────────────────


@VENDORS
@pytest.mark.parametrize("how", ["close", "cancel", "deadline"])
def test_leaving_an_answer_closes_its_connection(model: str, how: str) -> None:
    async def leave(server: Server) -> None:
        events = provider(server, model).stream(ModelRequest([Message("user", "hi")]))
        assert isinstance(await anext(events), TextDelta)
        if how == "close":
            await events.aclose()
        else:
            task = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert await asyncio.to_thread(server.left.wait, 10)

    with serve(sse_then_hang(*FIRST[model])) as server:
        if how == "deadline":
            asyncio.run(provider(server, model).output_mode(False))  # the library is imported before the clock runs
            agent = Agent(provider(server, model), limits=Limits(deadline=2.0))
            assert agent.run_sync("hi").stop_reason == "deadline"
            assert server.left.wait(10)
        else:
            asyncio.run(leave(server))


@VENDORS
def test_event_loops_in_several_threads_do_not_disturb_each_other(model: str) -> None:
    gate = threading.Barrier(3)
    last = {OPENAI: chunk(finish="stop"), ANTHROPIC: b"".join(end("end_turn")), GEMINI: gemini(finish="STOP")}

    def together(exchange: Any) -> None:
        gate.wait(20)  # all three have sent their request
        sse(*FIRST[model], last[model])(exchange)

    with serve(*[together] * 3) as server:
        texts: list[str] = []
        threads = [threading.Thread(target=lambda: texts.append(ask(server, model).text)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert texts == ["He"] * 3


def test_the_library_stays_out_of_the_way() -> None:
    code = """
import asyncio, os, sys, threading
before = dict(os.environ)
from agentkit.providers.litellm import LiteLLMProvider
model = LiteLLMProvider("openai/x", sys.argv[1], "key")
assert "litellm" not in sys.modules

async def main():
    asking, ticks = asyncio.create_task(model.complete("hi")), 0
    while not asking.done():  # the import, in a thread, leaves the event loop free
        ticks += 1
        await asyncio.sleep(0.01)
    assert ticks > 20, ticks
    print((await asking).text)

asyncio.run(main())
assert dict(os.environ) == before
assert [thread.name for thread in threading.enumerate() if not thread.daemon] == ["MainThread"]
"""
    with serve(answer_text("Hello.")) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", code, server.base_url],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("Hello.\n", "", 0)


def test_the_page_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "litellm.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["agent"].provider.name == "litellm:anthropic/claude-sonnet-4-5"
