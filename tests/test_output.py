"""Answers of a type: how each mode asks for one, what is taken, what is corrected, and what is streamed."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, NotRequired, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from agentkit import Agent, Limits, Message, OutputError, RunContext, ToolCall, ToolError, ToolResult, tool
from agentkit.errors import ConfigError
from agentkit.events import (
    Event,
    ModelEvent,
    ModelFinished,
    PartialOutput,
    Restarted,
    RunFinished,
    TextDelta,
    ToolStarted,
)
from agentkit.messages import ModelResponse, Problem, TextPart
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.testing import ScriptedProvider, Step

MODES: tuple[OutputMode, ...] = get_args(OutputMode)


class Colour(Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Point:
    x: int
    y: int


class Line(BaseModel):
    item: str
    quantity: int = 1


class Invoice(BaseModel):
    """What somebody is to pay."""

    customer: str
    due: date
    lines: list[Line]


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Labels(TypedDict):
    title: str
    tags: NotRequired[list[str]]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = ToolCall("add", {"a": 1, "b": 2}, "a1")


def final(value: object, call_id: str = "f1") -> ToolCall:
    return ToolCall("final_answer", {"value": value}, call_id)


def numbers(steps: Sequence[Step], mode: OutputMode = "tool", **options: object) -> Agent[list[int]]:
    """An agent that answers with a list of integers."""
    provider = ScriptedProvider(steps, output_mode=mode)
    return Agent(provider, output=list[int], **options)  # type: ignore[arg-type]


def requests(agent: Agent[list[int]]) -> list[ModelRequest]:
    assert isinstance(agent.provider, ScriptedProvider)
    return agent.provider.requests


# ── every type, in every mode ──────────────────────────────────────────────────────────────────────────────────────

WORDS = st.text(max_size=12)
NUMBERS = st.integers(-(2**40), 2**40)
LINES = st.builds(Line, item=WORDS, quantity=NUMBERS)
NODES: st.SearchStrategy[Node] = st.recursive(
    st.builds(Node, name=WORDS), lambda inner: st.builds(Node, name=WORDS, children=st.lists(inner, max_size=2))
)
POINTS = st.builds(Point, NUMBERS, NUMBERS)
FAMILY: list[tuple[object, st.SearchStrategy[object]]] = [
    (Invoice, st.builds(Invoice, customer=WORDS, due=st.dates(), lines=st.lists(LINES, max_size=3))),
    (Node, NODES),
    (Point, POINTS),
    (Labels, st.fixed_dictionaries({"title": WORDS}, optional={"tags": st.lists(WORDS, max_size=2)})),
    (dict[str, int], st.dictionaries(WORDS, NUMBERS, max_size=3)),
    (list[Line], st.lists(LINES, max_size=3)),
    (set[int], st.sets(NUMBERS, max_size=3)),
    (tuple[int, str], st.tuples(NUMBERS, WORDS)),
    (Point | Line, POINTS | LINES),
    (int | None, NUMBERS | st.none()),
    (Literal["yes", "no"], st.sampled_from(["yes", "no"])),
    (Colour, st.sampled_from(Colour)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (date, st.dates()),
    (Annotated[str, Field(max_length=20)], WORDS),
]


@pytest.mark.parametrize("mode", MODES)
@given(st.data(), st.sampled_from(FAMILY))
def test_an_answer_of_any_type_arrives_in_every_mode(
    mode: OutputMode, data: st.DataObject, member: tuple[object, st.SearchStrategy[object]]
) -> None:
    kind, values = member
    value = data.draw(values)
    adapter: TypeAdapter[object] = TypeAdapter(kind)

    def answer(request: ModelRequest) -> ToolCall | str:
        """A model that does as it is told."""
        schema = _told(request)
        written = adapter.dump_python(value, mode="json")
        if list(schema["properties"]) == ["value"]:  # type: ignore[call-overload]
            written = {"value": written}
        return ToolCall(request.tools[0].name, written) if mode == "tool" else json.dumps(written)

    provider = ScriptedProvider([answer], output_mode=mode)
    result = Agent(provider, output=kind).run_sync("go")  # type: ignore[arg-type]
    assert (result.output, result.steps, result.problems) == (value, 1, [])


def _told(request: ModelRequest) -> dict[str, object]:
    """The schema that the model is shown; always of an object."""
    schema = request.tools[0].parameters if request.tools else json.loads(request.messages[0].text.partition("\n")[2])
    assert schema["type"] == "object"
    return {"properties": {}, **schema}


# ── how it is asked for ────────────────────────────────────────────────────────────────────────────────────────────


class TestAsking:
    def test_natively_the_schema_goes_beside_the_tools(self) -> None:
        agent = numbers([ADD, '{"value": [3]}'], "native", tools=[add], instructions="Be exact.")
        assert agent.run_sync("go").output == [3]
        for request in requests(agent):
            assert request.output_schema == agent.output.schema
            assert ([made.name for made in request.tools], request.tool_choice) == (["add"], "auto")
            assert request.messages[0].text.startswith("Be exact.\n\nYour final answer must be one JSON object")

    def test_in_the_prompt_nothing_else_changes(self) -> None:
        agent = numbers([ADD, '{"value": [3]}'], "prompt", tools=[add])
        assert agent.run_sync("go").output == [3]
        for request in requests(agent):
            assert request.output_schema is None
            assert ([made.name for made in request.tools], request.tool_choice) == (["add"], "auto")
            assert json.dumps(agent.output.schema) in request.messages[0].text

    def test_as_a_tool_among_the_others(self) -> None:
        agent = numbers([ADD, final([3])], tools=[add])
        assert agent.run_sync("go").output == [3]
        for request in requests(agent):
            assert request.output_schema is None
            assert ([made.name for made in request.tools], request.tool_choice) == (["add", "final_answer"], "required")
            assert request.messages[0].text == "Give your final answer by calling final_answer, not as text."

    @pytest.mark.parametrize("mode", MODES)
    def test_a_call_that_is_due_comes_first(self, mode: OutputMode) -> None:
        agent = numbers([ADD, final([3]) if mode == "tool" else "[3]"], mode, tools=[add], tool_choice="required")
        assert agent.run_sync("go").output == [3]
        first, second = requests(agent)
        assert (first.output_schema, [made.name for made in first.tools]) == (None, ["add"])
        assert (second.output_schema is not None) == (mode == "native")
        assert (len(second.tools) == 2) == (mode == "tool")

    def test_an_answer_before_the_call_that_is_due(self) -> None:
        agent = numbers([final([3]), ADD, final([3], "f2")], tools=[add], tool_choice="add")
        result = agent.run_sync("go")
        assert (result.output, result.steps) == ([3], 3)
        assert result.messages[2].results[0].error == "not_run"
        assert "a tool is to be called first" in result.messages[2].results[0].content

    def test_no_other_tools_may_be_called(self) -> None:
        agent = numbers([final([3])], tools=[add], tool_choice="none")
        assert agent.run_sync("go").output == [3]
        assert requests(agent)[0].tool_choice == "final_answer"

    def test_the_provider_is_asked_once_whether_it_can_beside_tools(self) -> None:
        asked: list[bool] = []

        class Asked(ScriptedProvider):
            async def output_mode(self, has_tools: bool) -> OutputMode:
                asked.append(has_tools)
                return "prompt"

        Agent(Asked([ADD, "[1]"]), output=list[int], tools=[add]).run_sync("go")
        Agent(Asked(["[1]"]), output=list[int], tools=[add], tool_choice="none").run_sync("go")
        Agent(Asked(["[1]"]), output=list[int]).run_sync("go")
        Agent(Asked(["text"])).run_sync("go")
        assert asked == [True, False, False]

    def test_the_output_tool_takes_no_name_that_is_taken(self) -> None:
        @tool
        def final_answer(text: str) -> str:
            """Somebody's own."""
            return text

        agent = numbers(
            [ToolCall("final_answer", {"text": "a"}), ToolCall("final_answer_2", {"value": [1]})], tools=[final_answer]
        )
        result = agent.run_sync("go")
        assert result.output == [1]
        assert result.messages[2].results[0].content == "a"

    def test_types_that_cannot_be_answers(self) -> None:
        with pytest.raises(ConfigError, match="cannot be an answer: it has no JSON form"):
            Agent(ScriptedProvider([]), output=Callable[[], int])
        with pytest.raises(ConfigError, match=r"output=list\['Nowhere'\] cannot be an answer: .* not fully defined"):
            Agent(ScriptedProvider([]), output=list["Nowhere"])  # type: ignore[name-defined]  # noqa: F821

    def test_a_hanging_provider_ends_with_the_deadline(self) -> None:
        class Hangs(ScriptedProvider):
            async def output_mode(self, has_tools: bool) -> OutputMode:
                await asyncio.sleep(30)
                return "prompt"

        with pytest.raises(OutputError, match="stop_reason is 'deadline'"):
            Agent(Hangs([]), output=int, limits=Limits(deadline=0.05)).run_sync("go")


# ── what is taken ──────────────────────────────────────────────────────────────────────────────────────────────────


class TestTaking:
    @pytest.mark.parametrize(
        "text",
        [
            '{"value": [1, 2]}',
            "[1, 2]",
            '```json\n{"value": [1, 2]}\n```',
            'The numbers are {"value": [1, 2]}, as far as I see.',
            'That is {"value": [1, 2]}, so:\n{"value": [1, 2]}',
            '{"value": ["1", "2",]}',
            '{"value": [1, 2',
        ],
    )
    @pytest.mark.parametrize("mode", MODES)
    def test_a_text_that_holds_the_answer(self, mode: OutputMode, text: str) -> None:
        assert numbers([text], mode).run_sync("go").output == [1, 2]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("One and two.", "answer: Input should be a valid array, not 'One and two.'"),
            ("", "The answer is not JSON"),
            ("see [1]", "The answer is not JSON"),
            ('{"value": [1.5]}', "0: Input should be a valid integer"),
            ('{"values": [1]}', "answer: Input should be a valid array"),
            ('{"value": [1]} or {"value": [2]}', "There are 2 answers in this text: give one"),
        ],
    )
    def test_a_text_that_does_not_is_corrected(self, text: str, said: str) -> None:
        result = numbers([text, "[3]"], "prompt").run_sync("go")
        assert (result.output, result.steps) == ([3], 2)
        assert said in result.messages[2].text
        assert [problem.kind for problem in result.problems] == ["invalid_output"]
        assert result.problems[0].raw == text

    @pytest.mark.parametrize("text", ["red", " red\n", '"red"', '{"value": "red"}'])
    def test_a_bare_word(self, text: str) -> None:
        assert Agent(ScriptedProvider([text]), output=Colour).run_sync("go").output is Colour.RED

    def test_a_text_instead_of_the_output_tool_is_told_of_it(self) -> None:
        result = numbers(["One.", final([1])]).run_sync("go")
        assert result.output == [1]
        assert result.messages[2].text.endswith("\nCall final_answer with the answer.")

    def test_arguments_that_do_not_fit_are_the_calls_result(self) -> None:
        result = numbers([final(["x"]), final([1], "f2")]).run_sync("go")
        assert result.messages[2].results[0].error == "invalid_arguments"
        assert "0: Input should be a valid integer" in result.messages[2].results[0].content
        assert [problem.name for problem in result.problems] == ["final_answer"]

    def test_the_conversation_can_go_on(self) -> None:
        result = numbers([final([1])]).run_sync("go")
        assert result.messages[-1] == Message("tool", ToolResult("f1", "final_answer", "Taken."))
        assert numbers(["[2]"], "prompt").run_sync("more", history=result.messages).output == [2]

    def test_other_calls_in_the_same_turn_are_run_and_the_answer_is_asked_for_again(self) -> None:
        """It was written before their results were known."""
        result = numbers([[final([0]), ADD], final([3], "f2")], tools=[add]).run_sync("go")
        assert (result.output, result.steps) == ([3], 2)
        told = result.messages[2].results
        assert [(found.call_id, found.error) for found in told] == [("f1", "not_run"), ("a1", None)]
        assert "read their results first" in told[0].content

    def test_text_beside_a_call_is_no_answer(self) -> None:
        result = numbers([[TextPart("[0]"), ADD], "[3]"], "prompt", tools=[add]).run_sync("go")
        assert result.output == [3]

    def test_beside_a_call_that_could_not_be_read_it_is_none_yet(self) -> None:
        broken = ModelResponse(Message("assistant", [final([0])]), [Problem("invalid_json", "Write it again.", "add")])
        result = numbers([broken, final([3], "f2")], tools=[add]).run_sync("go")
        assert result.output == [3]
        assert [message.role for message in result.messages] == [
            *("user", "assistant", "tool"),
            "user",
            "assistant",
            "tool",
        ]

    def test_of_two_answers_the_first_counts(self) -> None:
        result = numbers([[final([1]), final([2], "f2")]]).run_sync("go")
        assert result.output == [1]
        assert [found.error for found in result.messages[-1].results] == [None, "not_run"]

    def test_answers_beside_calls_that_come_to_nothing_are_bounded(self) -> None:
        turns: list[Step] = [[final([1]), ToolCall("nope", {}, "n")]] * 3
        with pytest.raises(OutputError, match="'corrections' after 3 turns"):
            numbers(turns, tools=[add]).run_sync("go")

    def test_the_last_step_may_be_the_answer(self) -> None:
        assert numbers([final([1])], limits=Limits(steps=1)).run_sync("go").stop_reason == "answer"

    def test_text_is_as_it_was(self) -> None:
        provider = ScriptedProvider(["{}"], output_mode="tool")
        result = Agent(provider, output=str).run_sync("go")
        assert result.output == "{}"
        assert provider.requests[0].messages == [Message("user", "go")]


class TestValidators:
    def test_a_complaint_goes_to_the_model(self) -> None:
        def positive(value: list[int]) -> None:
            if any(number <= 0 for number in value):
                raise ValueError("Only numbers above 0.")

        async def short(value: list[int]) -> None:
            if len(value) > 2:
                raise ToolError("At most two.")

        agent = numbers(["[0]", "[1, 2, 3]", "[1]"], "prompt", validators=[positive, short])
        result = agent.run_sync("go")
        assert result.output == [1]
        assert [message.text for message in result.messages[2::2]] == ["Only numbers above 0.", "At most two."]

    def test_they_know_the_run(self) -> None:
        seen: list[tuple[RunContext[str], list[int]]] = []

        def look(ctx: RunContext[str], value: list[int]) -> None:
            seen.append((ctx, value))

        result = numbers([final([1])], validators=[look]).run_sync("go", deps="mine")
        numbers(["[1]"], "prompt", validators=[look]).run_sync("go")
        assert [(ctx.deps, ctx.step, ctx.call.id, value) for ctx, value in seen] == [
            ("mine", 1, "f1", [1]),
            (None, 1, "", [1]),
        ]
        assert seen[0][0].run_id == result.run_id

    def test_text_may_have_them_too(self) -> None:
        def polite(text: str) -> None:
            if "please" not in text:
                raise ValueError("Say please.")

        provider = ScriptedProvider(["Go.", "Go, please."], output_mode="native")
        assert Agent(provider, validators=[polite]).run_sync("go").output == "Go, please."
        assert [request.output_schema for request in provider.requests] == [None, None]
        with pytest.raises(OutputError, match="answer that is str"):
            Agent(ScriptedProvider(["Go."] * 3), validators=[polite]).run_sync("go")

    def test_a_faulty_one_is_the_callers_error(self) -> None:
        def faulty(value: list[int]) -> None:
            raise KeyError("bug")

        with pytest.raises(KeyError, match="bug"):
            numbers(["[1]"], "prompt", validators=[faulty]).run_sync("go")

        async def impatient(value: list[int]) -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            numbers(["[1]"], "prompt", validators=[impatient]).run_sync("go")

    def test_one_that_hangs_ends_with_the_deadline(self) -> None:
        async def hangs(value: list[int]) -> None:
            await asyncio.sleep(30)

        agent = numbers([final([1])], validators=[hangs], limits=Limits(deadline=0.2))
        with pytest.raises(OutputError, match="'deadline'") as caught:
            agent.run_sync("go")
        assert "not checked" in caught.value.messages[-1].results[0].content


class TestEndsWithoutAnAnswer:
    def test_the_error_has_all_there_is(self) -> None:
        with pytest.raises(
            OutputError, match=r"without an answer that is list\[int\]: .*'corrections' after 3"
        ) as caught:
            numbers(["no", "no", "No!"], "prompt").run_sync("go")
        error = caught.value
        assert (error.result.output, error.result.stop_reason, error.result.steps) == ("No!", "corrections", 3)
        assert error.result.usage.output_tokens == 3
        assert [problem.kind for problem in error.result.problems] == ["invalid_output"] * 3
        assert [message.role for message in error.messages] == ["user", "assistant"] * 3 + ["user"]
        assert str(error).endswith(error.result.problems[-1].message)

    @pytest.mark.parametrize("reason", ["length", "refusal", "content_filter"])
    def test_the_models_own_reasons_are_no_answers(
        self, reason: Literal["length", "refusal", "content_filter"]
    ) -> None:
        with pytest.raises(OutputError) as caught:
            numbers([ModelResponse(Message("assistant", "[1]"), finish_reason=reason)], "prompt").run_sync("go")
        assert caught.value.result.stop_reason == reason

    def test_a_limit(self) -> None:
        with pytest.raises(OutputError, match="'steps' after 1 turns"):
            numbers([ADD], "native", tools=[add], limits=Limits(steps=1)).run_sync("go")

    def test_a_stream_ends_with_the_error(self) -> None:
        seen: list[Event[list[int]]] = []

        async def collect() -> None:
            async for event in numbers(["no"] * 3, "prompt").stream("go"):
                seen.append(event)  # noqa: PERF401 - kept although it ends with an error

        with pytest.raises(OutputError):
            asyncio.run(collect())
        assert seen
        assert not [event for event in seen if isinstance(event, RunFinished)]


# ── what is streamed ───────────────────────────────────────────────────────────────────────────────────────────────


class Chunks(Provider):
    """Streams the events that it is given."""

    name = "chunks:test"

    def __init__(self, events: Sequence[ModelEvent]) -> None:
        self._events = events

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        for event in self._events:
            yield event
        yield ModelFinished()


def parts(agent: Agent[object]) -> list[object]:
    async def collect() -> list[object]:
        return [event.value async for event in agent.stream("go") if isinstance(event, PartialOutput)]

    return asyncio.run(collect())


def written(text: str, size: int = 4) -> list[ModelEvent]:
    return [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]


class TestPartialOutput:
    def test_an_object_grows(self) -> None:
        text = 'Sure: {"customer": "Ann", "due": "2026-01-01", "lines": [{"item": "ham"}]} Done.'
        found = parts(Agent(Chunks(written(text)), output=Invoice))
        assert found[:3] == [{"customer": ""}, {"customer": "Ann"}, {"customer": "Ann", "due": "20"}]
        assert found[-1] == {"customer": "Ann", "due": "2026-01-01", "lines": [{"item": "ham"}]}
        assert all(before != after for before, after in itertools.pairwise(found))

    def test_a_list_grows_out_of_its_wrapper(self) -> None:
        found = parts(Agent(Chunks(written('{"value": ["one", "two"]}')), output=list[str]))
        assert found[0] in ([], [""], ["on"], ["one"])
        assert found[-1] == ["one", "two"]

    def test_what_stands_in_no_wrapper_does_not_stream_as_one_of_its_parts(self) -> None:
        agent = Agent(Chunks(written('[{"item": "ham"}]')), output=list[Line])
        assert parts(agent) == []

    def test_the_output_tools_arguments_grow(self) -> None:
        agent = numbers([[TextPart('{"value": [9]}'), ADD], final(list(range(5)), "f2")], tools=[add])
        found = parts(agent)
        assert found[-1] == [0, 1, 2, 3, 4]
        assert all(isinstance(value, list) and value == list(range(len(value))) for value in found)

    def test_a_turn_that_begins_anew(self) -> None:
        events = [*written('{"value": [1, 2'), Restarted("lost"), *written('{"value": [3]}')]
        found = parts(Agent(Chunks(events), output=list[int]))
        assert (found[0], found[-1]) == ([1], [3]) or found[-1] == [3]
        assert [1, 2, 3] not in found

    def test_text_has_none(self) -> None:
        assert parts(Agent(Chunks(written('{"a": 1}')))) == []

    def test_a_long_answer_is_not_read_again_with_every_token(self) -> None:
        """10,000 tokens: the number of readings grows with the logarithm of the length."""
        rows = [{"item": f"item number {number}", "quantity": number} for number in range(900)]
        found = parts(Agent(Chunks(written(json.dumps({"value": rows}))), output=list[Line]))
        assert 500 < len(found) < 1500
        lengths = [len(value) for value in found if isinstance(value, list)]
        assert lengths == sorted(lengths)
        assert lengths[-1] > 890


def test_what_a_type_checker_sees(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from typing import Literal\n"
        "from agentkit import Agent\n"
        "from agentkit.events import RunFinished\n"
        "class Invoice: ...\n"
        "def check(invoice: Invoice) -> None: ...\n"
        "reveal_type(Agent('m').run_sync('x').output)\n"
        "reveal_type(Agent('m', output=Invoice, validators=[check]).run_sync('x').output)\n"
        "reveal_type(Agent('m', output=list[Invoice] | None).run_sync('x').output)\n"
        "reveal_type(Agent('m', output=Literal['a', 'b']).run_sync('x').output)\n"
        "def show(agent: Agent, any: Agent[object]) -> None: reveal_type(agent)\n"
        "show(Agent('m'), Agent('m', output=int))\n"
        "async def stream() -> None:\n"
        "    async for event in Agent('m', output=Invoice).stream('x'):\n"
        "        if isinstance(event, RunFinished):\n"
        "            reveal_type(event.result.output)\n"
        "Agent('m', output=int, validators=[check])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    revealed = [
        line.partition("Revealed type is ")[2].strip('"') for line in done.stdout.splitlines() if "note: R" in line
    ]
    assert revealed == [
        "str",
        "script.Invoice",
        "list[script.Invoice] | None",
        "Literal['a'] | Literal['b']",
        "agentkit.agent.Agent[str]",
        "script.Invoice",
    ], done.stdout
    (error,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert ":16: error:" in error


def test_tools_run_before_the_answer_as_always() -> None:
    async def collect() -> list[str]:
        agent = numbers([ADD, final([3])], tools=[add])
        return [event.call.name async for event in agent.stream("go") if isinstance(event, ToolStarted)]

    assert asyncio.run(collect()) == ["add"]
