"""Recordings: of a provider's events, and of what goes over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Message, ModelSettings, RunResult, ToolCall, Usage, tool
from agentkit.errors import (
    ContextOverflowError,
    ProviderConnectionError,
    ProviderError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    ReasoningEnd,
    Restarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import FinishReason, ImagePart, ModelResponse, Problem, ReasoningPart, TextPart
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.retry import Retry
from agentkit.testing import CassetteMismatch, RecordedProvider, ScriptedProvider
from agentkit.testing.cassette import Cassette
from agentkit.testing.http import RecordedTransport
from tests.servers import (
    DONE,
    Answer,
    answer_text,
    call,
    chunk,
    close_at_once,
    event,
    reply,
    serve,
    sse,
    sse_then_close,
    sse_then_hang,
    usage,
)

pytest_plugins = ["pytester"]

KEY = "sk-secret-0123456789"
NOBODY = "nobody:at-home"  # names no provider: whoever resolves it fails


JSON = st.dictionaries(
    st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda item: st.lists(item))
)
EVENTS = {
    TextDelta: st.builds(TextDelta, st.text()),
    ReasoningDelta: st.builds(ReasoningDelta, st.text()),
    ReasoningEnd: st.builds(ReasoningEnd, JSON),
    ToolCallStart: st.builds(ToolCallStart, st.text(), st.text()),
    ToolCallDelta: st.builds(ToolCallDelta, st.text(), st.text()),
    ToolCallEnd: st.builds(ToolCallEnd, st.builds(ToolCall, st.text(), JSON, st.text(), st.lists(st.text()))),
    ProblemFound: st.builds(ProblemFound, st.builds(Problem, *[st.text()] * 4)),
    Restarted: st.builds(Restarted, st.text()),
    ModelFinished: st.builds(
        ModelFinished, st.sampled_from(get_args(FinishReason)), st.builds(Usage, *[st.integers(0)] * 4)
    ),
}


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return f"{city}: 7 degrees"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassettes" / "recorded.jsonl"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def collect(provider: Provider, *messages: Message) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        request = ModelRequest(messages or [Message("user", "?")])
        return [event async for event in provider.stream(request)]

    return asyncio.run(run())


class Says(Provider):
    """Streams these events, and may fail then."""

    name = "test:says"

    def __init__(self, *events: ModelEvent, error: ProviderError | None = None) -> None:
        self.events = events
        self.error = error

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        for said in self.events:
            yield said
        if self.error:
            raise self.error


class TestRecordedProvider:
    def test_run_is_played_as_it_was_recorded_without_the_model(self, path: Path) -> None:
        def run(provider: Provider) -> RunResult:
            agent = Agent(provider, tools=[weather], instructions="Be brief.")
            return agent.run_sync(Message("user", [TextPart("How is it?"), ImagePart(b"\x89PNG\xff")]))

        problem = Problem("invalid_json", "Try again.")
        turns = [
            [
                ReasoningPart("hm, well", {"signature": "s"}),
                TextPart("Let me look."),
                ToolCall("weather", {"city": "Oslo"}),
            ],
            ModelResponse(Message("assistant", "hm"), [problem], Usage(5, 6, 7, 8, 0.5)),
            "Seven degrees.",
        ]
        recorded = run(RecordedProvider(ScriptedProvider(turns), path))
        played = run(RecordedProvider(NOBODY, path))
        assert replace(played, run_id="") == replace(recorded, run_id="")
        assert len(lines(path)) == 3

    def test_events_are_played_as_they_came(self, path: Path) -> None:
        model = ScriptedProvider([[TextPart("one two three"), ToolCall("f", {"a": [1, None, "ü"]})]])
        recorded = collect(RecordedProvider(model, path))
        assert collect(RecordedProvider(NOBODY, path)) == recorded

    def test_all_kinds_of_events_are_tried_below(self) -> None:
        assert set(EVENTS) == set(get_args(ModelEvent))

    @given(st.lists(st.one_of(*EVENTS.values())))
    def test_every_event_is_played_as_it_was(self, events: list[ModelEvent]) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "x.jsonl"
            recorded = collect(RecordedProvider(Says(*events, ModelFinished()), path))
            assert collect(RecordedProvider(NOBODY, path)) == recorded

    def test_real_model(self, path: Path) -> None:
        def run(model: str) -> RunResult:
            agent = Agent(RecordedProvider(model, path), tools=[weather], settings=ModelSettings(max_tokens=60))
            return agent.run_sync("How is the weather in Oslo?", tool_choice="weather")

        recorded, played = run("llama_cpp:smollm2"), run(NOBODY)
        assert played.messages == recorded.messages
        assert recorded.messages[1].calls

    @pytest.mark.parametrize(
        "error",
        [
            ProviderStatusError("slow down", status=429, retry_after=3.5),
            ContextOverflowError("too long", tokens=9, limit=5),
            ProviderTimeoutError("silent"),
        ],
    )
    def test_errors_are_played_too(self, path: Path, error: ProviderError) -> None:
        for model in (Says(TextDelta("h"), error=error), NOBODY):
            with pytest.raises(type(error), match=str(error)) as caught:
                collect(RecordedProvider(model, path))
            assert vars(caught.value) == vars(error)

    def test_an_error_that_only_its_provider_knows_is_played_as_a_provider_error(self, path: Path) -> None:
        class OwnError(ProviderError):
            pass

        with pytest.raises(OwnError):
            collect(RecordedProvider(Says(error=OwnError("odd")), path))
        with pytest.raises(ProviderError, match="odd") as caught:
            collect(RecordedProvider(NOBODY, path))
        assert type(caught.value) is ProviderError

    def test_turn_that_was_cancelled_is_not_recorded(self, path: Path) -> None:
        async def run() -> None:
            stream = RecordedProvider(Says(TextDelta("h"), ModelFinished()), path).stream(ModelRequest([]))
            await anext(stream)
            await stream.aclose()

        asyncio.run(run())
        assert not path.exists()

    def test_other_request_shows_the_difference(self, path: Path) -> None:
        Agent(RecordedProvider(ScriptedProvider(["hi"]), path)).run_sync("How is the weather in Oslo?")
        provider = RecordedProvider(NOBODY, path)
        with pytest.raises(CassetteMismatch) as caught:
            Agent(provider, settings=ModelSettings(seed=1)).run_sync("How is the weather in Kyiv?")
        shown = str(caught.value).splitlines()
        assert '-     "text": "How is the weather in Oslo?"' in shown
        assert '+     "text": "How is the weather in Kyiv?"' in shown
        assert '+ "settings": {' in shown
        Agent(provider).run_sync("How is the weather in Oslo?")  # it was not consumed

    def test_one_request_more(self, path: Path) -> None:
        Agent(RecordedProvider(ScriptedProvider(["hi"]), path)).run_sync("a")
        provider = RecordedProvider(NOBODY, path)
        Agent(provider).run_sync("a")
        with pytest.raises(CassetteMismatch, match="all its 1 exchanges were played"):
            Agent(provider).run_sync("a")

    def test_agents_at_the_same_time_find_theirs_and_equal_requests_are_played_in_order(self, path: Path) -> None:
        async def run(provider: Provider, *prompts: str) -> list[str]:
            return [(await provider.complete(prompt)).text for prompt in prompts]

        asyncio.run(run(RecordedProvider(ScriptedProvider(["1", "2", "3"]), path), "a", "b", "a"))
        assert asyncio.run(run(RecordedProvider(NOBODY, path), "b", "a", "a")) == ["2", "1", "3"]

    def test_file_that_is_no_cassette(self, path: Path) -> None:
        path.parent.mkdir()
        for text in ('{"a": 1}', "{", "[1]"):
            path.write_text(text)
            with pytest.raises(ValueError, match="line 1, is no exchange"):
                RecordedProvider(NOBODY, path)

    def test_output_mode_is_recorded_too(self, path: Path) -> None:
        class Knows(Says):
            async def output_mode(self, has_tools: bool) -> OutputMode:
                return "native" if has_tools else "tool"

        for model in (Knows(), NOBODY):
            provider = RecordedProvider(model, path)
            assert [asyncio.run(provider.output_mode(has)) for has in (True, False)] == ["native", "tool"]

    @pytest.mark.parametrize("size", [2048, None])
    def test_context_size_is_recorded_too(self, path: Path, size: int | None) -> None:
        class Knows(Says):
            async def context_size(self) -> int | None:
                return size

        for model in (Knows(), NOBODY):
            assert asyncio.run(RecordedProvider(model, path).context_size()) == size

    def test_closing_closes_the_model(self, path: Path) -> None:
        closed: list[bool] = []

        class Closing(Says):
            async def close(self) -> None:
                closed.append(True)

        asyncio.run(RecordedProvider(Closing(), path).close())
        asyncio.run(RecordedProvider(NOBODY, path).close())
        assert closed == [True]

    def test_unplayed_exchanges_fail_the_test(self, pytester: pytest.Pytester, path: Path) -> None:
        Agent(RecordedProvider(ScriptedProvider(["hi"]), path)).run_sync("a")
        pytester.makepyfile(f"""
            from agentkit.testing import RecordedProvider

            def test_unplayed():
                RecordedProvider("nobody:x", {str(path)!r})
        """)
        result = pytester.runpytest_subprocess()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*unconsumed steps: cassette {path} has 1 left*"])


class TestSecrets:
    def test_none_is_written_wherever_it_stands(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACME_API_KEY", "acme-0123456789abcdef")
        monkeypatch.setenv("SHORT_TOKEN", "weather")
        model = ScriptedProvider([ToolCall("weather", {"city": KEY, KEY: 1}), ProviderConnectionError(f"{KEY}!")])
        agent = Agent(RecordedProvider(model, path, secrets=[KEY]), tools=[weather], instructions=f"It is {KEY}.")
        with pytest.raises(ProviderConnectionError):
            agent.run_sync("The weather for acme-0123456789abcdef?")
        written = path.read_text()
        assert KEY not in written
        assert "acme-0123456789abcdef" not in written
        assert "The weather for ***?" in written

    def test_none_is_written_in_pieces(self, path: Path) -> None:
        pieces = [TextDelta("It is sk-sec"), TextDelta("ret-01234567"), TextDelta("89."), ToolCallDelta("1", "{}")]
        collect(RecordedProvider(Says(*pieces, ModelFinished()), path, secrets=[KEY]))
        assert collect(RecordedProvider(NOBODY, path)) == [
            *(TextDelta("It is ***."), ToolCallDelta("1", "{}"), ModelFinished())
        ]

    def test_secret_that_is_part_of_another(self, path: Path) -> None:
        assert Cassette(path, ["abc", "abcdef"]).clean({"x": ["abcdef abc"]}) == {"x": ["*** ***"]}

    def test_request_with_a_secret_is_found_again(self, path: Path) -> None:
        for model in (ScriptedProvider(["hi"]), NOBODY):
            assert Agent(RecordedProvider(model, path, secrets=[KEY])).run_sync(f"use {KEY}").output == "hi"

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda item: st.lists(item) | st.dictionaries(st.text(), item)
        )
    )
    def test_all_else_stays_as_it_is(self, value: object) -> None:
        assert Cassette("none.jsonl", ["a secret of this test"]).clean({"x": value}) == {"x": value}


def provider(base_url: str, path: Path, *, key: str = "unused") -> OpenAIProvider:
    return OpenAIProvider("m", base_url, key, retry=Retry(max_wait=0), transport=RecordedTransport(path))


class TestRecordedTransport:
    def recorded_and_played(self, path: Path, *answers: Answer) -> tuple[list[ModelEvent], list[ModelEvent]]:
        with serve(*answers) as server:
            recorded = collect(provider(server.base_url, path, key=KEY))
        return recorded, collect(provider(server.base_url, path))

    def test_answer_is_played_byte_for_byte_in_its_pieces(self, path: Path) -> None:
        parts = [
            chunk(content="grün"),
            chunk(tool_calls=[call(id="1", name="f", arguments="{}")]),
            chunk(finish="stop"),
        ]
        recorded, played = self.recorded_and_played(path, sse(*parts, usage(), DONE, pieces=7))
        assert played == recorded
        sent = b"".join(event(part) for part in (*parts, usage(), DONE))
        (exchange,) = lines(path)
        assert all(isinstance(piece, str) for piece in exchange["body"])  # type: ignore[attr-defined]
        assert "".join(exchange["body"]).encode() == sent  # type: ignore[arg-type]

    def test_bytes_that_are_no_text(self, path: Path) -> None:
        sent = b'data: {"choices": [{"delta": {"content": "gr\xc3'
        rest = b'\xbcn \xff"}, "finish_reason": "stop"}]}\n\n'
        recorded, played = self.recorded_and_played(path, sse(sent, rest, DONE))
        assert played == recorded == [TextDelta("grün \ufffd"), ModelFinished()]

    def test_connection_that_broke_off_breaks_off_again(self, path: Path) -> None:
        with serve(sse_then_close(chunk(content="h"))) as server:
            url = server.base_url
            with pytest.raises(ProviderConnectionError) as first:
                collect(provider(url, path))
        with pytest.raises(ProviderConnectionError) as second:
            collect(provider(url, path))
        assert str(second.value) == str(first.value)

    def test_status_with_its_wish_to_wait_and_a_lost_connection_are_tried_again(self, path: Path) -> None:
        busy = reply({"error": {"message": "busy"}}, status=503, retry_after="0", x_other="not needed")
        recorded, played = self.recorded_and_played(path, close_at_once, busy, answer_text("hi"))
        assert played == recorded
        exchanges = lines(path)
        assert len(exchanges) == 3
        assert exchanges[0]["error"]
        assert exchanges[1]["response"] == {
            "status": 503, "headers": {"content-type": "application/json", "retry-after": "0"}
        }  # fmt: skip

    def test_other_request_shows_the_difference_and_is_not_tried_again(self, path: Path) -> None:
        self.recorded_and_played(path, answer_text("hi"))
        url = str(lines(path)[0]["request"]["url"]).removesuffix("/chat/completions")  # type: ignore[index]
        played = provider(url, path)
        with pytest.raises(CassetteMismatch, match='-    "content": "\\?"'):
            collect(played, Message("user", "something else"))
        collect(played)

    def test_no_secret_is_written(self, path: Path) -> None:
        echo = reply({"error": {"message": f"Bearer {KEY}"}}, status=401)
        with serve(echo, sse(chunk(content=KEY), chunk(finish="stop"), DONE, pieces=11)) as server:
            recorded = provider(server.base_url, path, key=KEY)
            with pytest.raises(ProviderStatusError):
                collect(recorded)
            assert collect(recorded, Message("user", f"say {KEY}"))[0] == TextDelta(KEY)
        assert [
            header for request in server.requests if (header := request.headers["accept-encoding"]) != "identity"
        ] == []
        assert KEY not in path.read_text()
        assert "Bearer ***" in path.read_text()
        for exchange in lines(path):
            assert KEY not in "".join(exchange["body"])  # type: ignore[arg-type]

    def test_secret_beside_bytes_that_are_no_text_is_not_written(self, path: Path) -> None:
        echo = reply(b"\xff" + KEY.encode(), status=401)
        with serve(echo) as server, pytest.raises(ProviderStatusError):
            collect(provider(server.base_url, path, key=KEY))
        assert lines(path)[0]["body"] == ["\ufffd***"]

    def test_no_secret_of_the_url_is_written(self, path: Path) -> None:
        echo = reply({"error": {"message": "pass-word and sesame-open"}}, status=401)
        with serve(echo) as server, pytest.raises(ProviderStatusError):
            url = server.base_url.replace("//", "//user:pass-word@") + "?key=sesame-open&plain=x"
            collect(provider(url, path))
        (exchange,) = lines(path)
        assert exchange["body"] == ['{"error": {"message": "*** and ***"}}']
        asked = exchange["request"]
        assert isinstance(asked, dict)
        assert asked["url"].startswith(server.url)
        assert asked["query"] == ["key", "plain"]
        assert "pass-word" not in path.read_text()

    def test_answer_that_was_left_in_its_middle_is_recorded_so_far(self, path: Path) -> None:
        async def run(base_url: str) -> None:
            stream = provider(base_url, path).stream(ModelRequest([Message("user", "?")]))
            assert await anext(stream) == TextDelta("h")
            await stream.aclose()

        with serve(sse_then_hang(chunk(content="h"))) as server:
            asyncio.run(run(server.base_url))
        with pytest.raises(ProviderConnectionError, match="finish_reason"):
            collect(provider(server.base_url, path))
