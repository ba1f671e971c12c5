"""What servers are taken for, and what follows from it; the servers are scripted as the real ones answer."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from agentkit.errors import UnsupportedInputError
from agentkit.limits import ModelSettings
from agentkit.messages import ImagePart, JsonObject, Message, ReasoningPart, TextPart, ToolResult
from agentkit.providers.base import OutputMode
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.profiles import LLAMA_CPP, LM_STUDIO, OLLAMA, OPENAI, UNKNOWN, VLLM, Profile
from agentkit.providers.retry import Retry
from agentkit.tool import tool
from tests.servers import Answer, Exchange, Server, answer_text, reply, serve

ANSWERS: dict[str, dict[str, JsonObject]] = {
    "llama.cpp": {
        "/props": {"default_generation_settings": {"n_ctx": 2048}, "modalities": {"vision": True, "audio": False}},
        "/v1/models": {"object": "list", "data": [{"id": "m", "owned_by": "llamacpp"}]},
    },
    "Ollama": {
        "/api/version": {"version": "0.14.1"},
        "/v1/models": {"object": "list", "data": [{"id": "qwen3:8b", "owned_by": "library"}]},
    },
    "LM Studio": {
        "/api/v0/models": {
            "object": "list",
            "data": [
                {"id": "other", "type": "vlm", "compatibility_type": "gguf"},
                {"id": "test", "type": "llm", "compatibility_type": "mlx", "loaded_context_length": 8192},
            ],
        },
        "/props": {"error": "Unexpected endpoint or method. (GET /props)"},  # with status 200, as for any other path
        "/api/version": {"error": "Unexpected endpoint or method. (GET /api/version)"},
    },
    "vLLM": {
        "/version": {"version": "0.27.1"},
        "/v1/models": {"object": "list", "data": [{"id": "test", "owned_by": "vllm", "max_model_len": 4096}]},
    },
    "nobody": {},
}
EXPECTED = {
    "llama.cpp": replace(LLAMA_CPP, sees=True, context=2048),
    "Ollama": OLLAMA,
    "LM Studio": Profile(LM_STUDIO.server, schema="without_tools", sees=False, context=8192),
    "vLLM": replace(VLLM, context=4096),
    "nobody": UNKNOWN,
}
QUESTIONS = {"/props", "/api/version", "/api/v0/models", "/v1/models"}
SCHEMA: JsonObject = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PNG = ImagePart(b"\x89PNG", "image/png")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def search(query: str, limit: int = 10) -> str:
    """Search."""
    return query


def as_server(name: str) -> Answer:
    """An answer that depends on what is asked."""

    def answer(exchange: Exchange) -> None:
        found = ANSWERS[name].get(exchange.request.path)
        chosen = (
            answer_text("hi") if exchange.request.method == "POST" else reply(found or {}, status=200 if found else 404)
        )
        chosen(exchange)

    return answer


def provider_at(server: Server, **options: Any) -> OpenAIProvider:
    return OpenAIProvider("test", server.base_url, "key", retry=Retry(attempts=1), **options)


def sent(profile: Profile, messages: list[Message], **options: Any) -> Any:
    with serve(answer_text("hi")) as server:
        asyncio.run(provider_at(server, profile=profile).complete(messages, **options))
        return server.requests[0].json


# ── how a server is recognised ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ANSWERS)
def test_servers_that_say_what_they_are(name: str) -> None:
    async def run() -> list[Profile]:
        provider = provider_at(server)
        return [await provider.profile() for _ in range(2)]

    with serve(*[as_server(name)] * 4) as server:
        assert asyncio.run(run()) == [EXPECTED[name]] * 2
        assert {request.path for request in server.requests} == QUESTIONS
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer key"}


@pytest.mark.parametrize(("name", "size"), [("llama.cpp", 2048), ("vLLM", 4096), ("LM Studio", 8192), ("Ollama", None)])
def test_context_size_is_what_the_server_says(name: str, size: int | None) -> None:
    with serve(*[as_server(name)] * 4) as server:
        assert asyncio.run(provider_at(server).context_size()) == size


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://mine.openai.azure.com/openai/v1"])
def test_openai_is_known_by_its_address(url: str) -> None:
    assert asyncio.run(OpenAIProvider("gpt-5", url, "key").profile()) is OPENAI


def test_address_that_only_looks_like_openai() -> None:
    with serve(*[as_server("nobody")] * 4) as server:
        provider = OpenAIProvider("test", f"{server.url}/openai.com/v1")
        assert asyncio.run(provider.profile()) is UNKNOWN


def test_who_is_told_does_not_ask() -> None:
    with serve() as server:
        assert asyncio.run(provider_at(server, profile=VLLM).profile()) is VLLM


def test_nothing_is_asked_where_nothing_depends_on_it() -> None:
    with serve(answer_text("hi")) as server:
        asyncio.run(provider_at(server).complete("hello", tools=[add]))
        assert [request.method for request in server.requests] == ["POST"]


@pytest.mark.parametrize(
    ("message", "schema"),
    [
        (Message("user", PNG), None),
        (Message("tool", ToolResult("c1", "draw", "drawn", images=(PNG,))), None),
        (Message("assistant", ReasoningPart("hm")), None),
        (Message("user", "hi"), SCHEMA),
    ],
)
def test_what_depends_on_the_server(message: Message, schema: JsonObject | None) -> None:
    with serve(*[as_server("llama.cpp")] * 5) as server:
        asyncio.run(provider_at(server).complete(message, output_schema=schema))
        assert [request.method for request in server.requests] == [*["GET"] * 4, "POST"]


def test_many_at_once_ask_once() -> None:
    async def run() -> None:
        provider = provider_at(server)
        await asyncio.gather(*[provider.complete(Message("user", PNG)) for _ in range(5)])

    with serve(*[as_server("llama.cpp")] * 9) as server:
        asyncio.run(run())
        assert len([request for request in server.requests if request.method == "GET"]) == 4


def test_server_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.providers._openai_server._ASKING_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and that is all
        provider = OpenAIProvider("test", f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        assert asyncio.run(provider.profile()) is UNKNOWN


def test_server_that_is_still_loading_is_asked_again() -> None:
    async def run() -> list[Profile]:
        provider = provider_at(server)
        return [await provider.profile() for _ in range(2)]

    with serve(*[reply({"error": "loading"}, status=503)] * 4, *[as_server("Ollama")] * 4) as server:
        assert asyncio.run(run()) == [UNKNOWN, OLLAMA]


@pytest.mark.parametrize("nonsense", [b"<html>", b"[1]", b'{"data": [1, {"id": 2}], "version": 3, "object": null}'])
def test_server_that_answers_nonsense(nonsense: bytes) -> None:
    with serve(*[reply(nonsense)] * 4) as server:
        assert asyncio.run(provider_at(server).profile()) is UNKNOWN


# ── what follows from it ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("profile", "without_tools", "with_tools"),
    [
        (OPENAI, "native", "native"),
        *[(profile, "native", "tool") for profile in (VLLM, LLAMA_CPP, OLLAMA, LM_STUDIO)],
        (UNKNOWN, "tool", "tool"),
    ],
)
def test_output_mode(profile: Profile, without_tools: OutputMode, with_tools: OutputMode) -> None:
    with serve() as server:
        provider = provider_at(server, profile=profile)
        assert asyncio.run(provider.output_mode(has_tools=False)) == without_tools
        assert asyncio.run(provider.output_mode(has_tools=True)) == with_tools


def test_output_mode_asks_the_server() -> None:
    with serve(*[as_server("vLLM")] * 4) as server:
        assert asyncio.run(provider_at(server).output_mode(has_tools=False)) == "native"


@pytest.mark.parametrize("profile", [OPENAI, VLLM, UNKNOWN])
def test_output_schema(profile: Profile) -> None:
    body = sent(profile, [Message("user", "hi")], output_schema=SCHEMA)
    strict = {**SCHEMA, "additionalProperties": False}
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": strict, "strict": True},
    }


def test_output_schema_that_strict_mode_cannot_hold() -> None:
    loose: JsonObject = {"type": "object", "additionalProperties": {"type": "integer"}}
    body = sent(OPENAI, [Message("user", "hi")], output_schema=loose)
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": loose, "strict": False}


def test_output_schema_beside_tools() -> None:
    assert sent(OPENAI, [Message("user", "hi")], output_schema=SCHEMA, tools=[add])["tools"]
    unused = sent(VLLM, [Message("user", "hi")], output_schema=SCHEMA, tools=[add], tool_choice="none")
    assert unused["response_format"]
    for profile in (VLLM, LLAMA_CPP, OLLAMA, LM_STUDIO, UNKNOWN):
        with serve() as server, pytest.raises(UnsupportedInputError, match=f"{profile.server}.*profile="):
            asyncio.run(provider_at(server, profile=profile).complete("hi", output_schema=SCHEMA, tools=[add]))


def test_strict_tools_only_where_they_are_known() -> None:
    strict, loose = (tool["function"] for tool in sent(OPENAI, [Message("user", "hi")], tools=[add, search])["tools"])
    assert (strict["strict"], strict["parameters"]["additionalProperties"]) == (True, False)
    assert loose == search.openai_schema["function"]  # limit may be left out
    (described,) = sent(VLLM, [Message("user", "hi")], tools=[add])["tools"]
    assert described == add.openai_schema


@pytest.mark.parametrize(
    ("profile", "field"),
    [(VLLM, "reasoning"), (OLLAMA, "reasoning"), (LLAMA_CPP, "reasoning_content"), (OPENAI, ""), (UNKNOWN, "")],
)
def test_reasoning_is_sent_back_where_it_is_read(profile: Profile, field: str) -> None:
    turn = Message("assistant", [ReasoningPart("hm"), TextPart("hi")])
    (message,) = sent(profile, [turn])["messages"]
    assert message == {"role": "assistant", "content": "hi", **({field: "hm"} if field else {})}


@pytest.mark.parametrize(("profile", "field"), [(OPENAI, "max_completion_tokens"), (UNKNOWN, "max_tokens")])
def test_token_limit(profile: Profile, field: str) -> None:
    assert sent(profile, [Message("user", "hi")], settings=ModelSettings(max_tokens=9))[field] == 9


def test_what_tools_show_is_shown_by_the_user() -> None:
    """Chat Completions have no place for an image in a tool's message."""
    results = [ToolResult("c1", "draw", "drawn", images=(PNG,)), ToolResult("c2", "add", "3")]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    shown = [{"type": "text", "text": "Shown by draw:"}, picture]
    of_tools = [
        {"role": "tool", "tool_call_id": "c1", "content": "drawn"},
        {"role": "tool", "tool_call_id": "c2", "content": "3"},
    ]
    together = Message("tool", results)
    assert sent(UNKNOWN, [together])["messages"] == [*of_tools, {"role": "user", "content": shown}]
    apart = [Message("tool", result) for result in results]
    assert sent(UNKNOWN, apart)["messages"] == [*of_tools, {"role": "user", "content": shown}]
    asked = [*shown, {"type": "text", "text": "Nice?"}]
    for message, content in (
        (Message("user", "Nice?"), asked),
        (Message("user", [TextPart("Nice?"), PNG]), [*asked, picture]),
    ):
        assert sent(UNKNOWN, [together, message])["messages"] == [*of_tools, {"role": "user", "content": content}]
    answered = sent(UNKNOWN, [together, Message("assistant", "Nice.")])["messages"]
    assert answered[2:] == [{"role": "user", "content": shown}, {"role": "assistant", "content": "Nice."}]


def test_model_that_does_not_see() -> None:
    blind = Profile("test", sees=False)
    (message,) = sent(blind, [Message("tool", ToolResult("c1", "draw", "drawn", images=(PNG,)))])["messages"]
    assert message["content"] == "drawn\n[image image/png, 0 kB: this model cannot see it]"
    with serve() as server, pytest.raises(UnsupportedInputError, match="test does not see"):
        asyncio.run(provider_at(server, profile=blind).complete(Message("user", PNG)))
