"""From messages to a prompt: what templates want, what they must not do, and what stays the same from turn to turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Message, Tool, ToolCall, tool
from agentkit.errors import ConfigError, ProviderError
from agentkit.messages import JsonValue, Part, ReasoningPart, TextPart, ToolResult
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.model import LlamaModel

Turn: TypeAlias = tuple[str, dict[str, JsonValue], str, str]
"""A question, a call's arguments, its result, an answer."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments|tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return "7 degrees"


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    provider = LlamaCppProvider("smollm2")
    engine = provider._load()[0]
    yield engine.model
    asyncio.run(provider.close())


def call(*parts: Part) -> Message:
    return Message("assistant", [*parts, ToolCall("weather", {"city": "Oslo", "days": 3}, "1")])


RESULT = Message("tool", ToolResult("1", "weather", "7 degrees"))


def prompt(template: ChatTemplate, messages: Sequence[Message], *, taught: bool = False) -> str:
    tokens = template.tokens(messages, [weather], taught=taught)
    return b"".join(map(template.model.piece, tokens)).decode()


class TestWhatTemplatesWant:
    TURN = "{% for m in messages %}{% for c in m.tool_calls or [] %}"
    END = "{% endfor %}{{ m.content }}\n{% endfor %}"

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (TURN + "{{ c.function.arguments|tojson }}" + END, '{"city": "Oslo", "days": 3}'),
            (TURN + "{{ '@' + c.function.arguments }}" + END, '@{"city": "Oslo", "days": 3}'),
            (TURN + "{{ c.function.arguments }}" + END, '{"city": "Oslo", "days": 3}'),
            (TURN + "{% for v in c.function.arguments.values() %}[{{ v }}]{% endfor %}" + END, "[Oslo][3]"),
            (
                "{% for m in messages %}{% if m.content is none %}{{ m.tool_calls[0].function.arguments|tojson }}"
                "{% else %}{{ m.content }}{% endif %}{% endfor %}",
                '{"city": "Oslo", "days": 3}',
            ),
        ],
        ids=["an object", "text", "text, without saying so", "an object's members", "no content"],
    )  # fmt: skip
    def test_arguments(self, model: LlamaModel, source: str, expected: str) -> None:
        assert expected in prompt(ChatTemplate.of(model, source), [Message("user", "Hi"), call(), RESULT])

    def test_calls_that_a_template_does_not_show_are_written_as_the_model_wrote_them(self, model: LlamaModel) -> None:
        source = "{# <|tool_call_start|> List of tools #}{% for m in messages %}{{ m.content }}\n{% endfor %}"
        written = "<|tool_call_start|>[weather(city='Oslo', days=3)]<|tool_call_end|>"
        assert written in prompt(ChatTemplate.of(model, source), [Message("user", "Hi"), call(), RESULT])

    @pytest.mark.parametrize(
        ("shown", "expected"),
        [
            ("{{ m.reasoning_content }}|{{ m.content }}", "Hm.|Cold."),
            ("{{ m.thinking }}|{{ m.content }}", "Hm.|Cold."),
            ("{{ m['reasoning'] }}|{{ m.content }}", "Hm.|Cold."),
            ("{% if '</think>' %}{% endif %}{{ m.content }}", "<think>\nHm.\n</think>\n\nCold."),
            ("{{ m.content.split('</think>')[-1].strip() }}", "\nCold."),
            (
                "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
                "{{ '[' ~ p.thinking ~ ']' if p.type == 'thinking' else p.text }}{% endfor %}{% endif %}{{ '' }}",
                "[Hm.]Cold.",
            ),
        ],
        ids=["reasoning_content", "thinking", "reasoning", "inline", "dropped", "parts"],
    )  # fmt: skip
    def test_reasoning(self, model: LlamaModel, shown: str, expected: str) -> None:
        template = ChatTemplate.of(model, "{% for m in messages %}" + shown + "\n{% endfor %}")
        answer = Message("assistant", [ReasoningPart("Hm."), TextPart("Cold.")])
        rendered = prompt(template, [Message("user", "Hi"), answer])
        assert expected + "\n" in rendered
        assert rendered.count("Hm.") == expected.count("Hm.")

    def test_variables(self, model: LlamaModel) -> None:
        source = "{{ 'thinks' if enable_thinking else 'answers' }}: {{ identity }}"
        template = ChatTemplate.of(model, source, {"enable_thinking": True, "identity": "a cat"})
        assert prompt(template, [Message("user", "Hi")]) == "thinks: a cat"
        assert prompt(ChatTemplate.of(model, source), [Message("user", "Hi")]) == "answers: "
        with pytest.raises(ConfigError, match="'messages' has its value from the conversation"):
            ChatTemplate.of(model, source, {"messages": []})

    def test_roles_that_must_alternate(self, model: LlamaModel) -> None:
        source = (
            "{% for m in messages %}{% if m.role != ('user' if loop.index0 is even else 'assistant') %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        )
        said = [Message("system", "Be kind."), Message("user", "Hi"), Message("user", "there")]
        assert prompt(ChatTemplate.of(model, source), said) == "[user] Be kind.\n\nHi\n\nthere\n"
        with pytest.raises(ProviderError, match="refuses this conversation: roles must alternate"):
            prompt(ChatTemplate.of(model, source), [Message("assistant", "Hi")])


class TestBounds:
    def test_a_template_that_goes_over_a_bound_is_named_with_the_bound(self, model: LlamaModel) -> None:
        source = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
        template = ChatTemplate.of(model, source)
        with pytest.raises(ProviderError, match=r"SmolLM2.*more than [\d,]+ steps.*1 messages.*template's fault"):
            template.tokens([Message("user", "Hi")], [], taught=False)

    def test_a_template_that_is_too_long(self, model: LlamaModel) -> None:
        with pytest.raises(ProviderError, match="200,001 characters, of 200,000"):
            ChatTemplate.of(model, "x" * 200_001)

    def test_a_long_conversation_with_many_tools_is_rendered(self, model: LlamaModel) -> None:
        tools = [Tool.from_schema(f"tool_{n}", "Does a thing.", weather.parameters) for n in range(100)]
        talk = [Message("user", "Hi"), call(), RESULT, Message("assistant", "word " * 100)] * 250
        template = ChatTemplate.of(model, "{% for t in tools %}{{ t|tojson }}\n{% endfor %}" + CHATML)
        assert len(template.tokens(talk, tools, taught=False)) > 25_000


class TestAPromptGoesOn:
    """What was evaluated for one turn is the beginning of the next."""

    WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Co"]), min_size=1, max_size=20)
    VALUES: st.SearchStrategy[JsonValue] = st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=5,
    )
    ARGUMENTS = st.dictionaries(st.sampled_from(["city", "days", "unit"]), VALUES, max_size=3)
    TURNS = st.lists(st.tuples(WORDS, ARGUMENTS, WORDS, WORDS), min_size=1, max_size=3)

    @pytest.mark.parametrize("taught", [False, True])
    @settings(max_examples=30, deadline=None)
    @given(turns=TURNS)
    def test_from_turn_to_turn(
        self, model: LlamaModel, taught: bool, turns: list[tuple[str, dict[str, JsonValue], str, str]]
    ) -> None:
        template = ChatTemplate.of(model, None if taught else CHATML)
        talk = [Message("system", "Be kind. Today is a day.")]
        evaluated: list[int] = []
        for number, (question, arguments, result, answer) in enumerate(turns):
            called = ToolCall("weather", arguments, f"c{number}")
            for asked, said, written in (
                (Message("user", question), Message("assistant", called), written_call(called)),
                (
                    Message("tool", ToolResult(called.id, called.name, result)),
                    Message("assistant", answer.strip() or "x"),
                    "",  # its beginning may melt into what stands before it
                ),
            ):
                tokens = template.tokens([*talk, asked], [weather], taught=taught)
                assert tokens[: len(evaluated)] == evaluated
                talk += [asked, said]
                evaluated = [*tokens, *model.tokenize(written, special=False)]
                again = template.tokens(talk, [weather], taught=taught)
                assert again[: len(evaluated)] == evaluated

    def test_the_time_is_when_the_conversation_began(self, model: LlamaModel) -> None:
        template = ChatTemplate.of(model, "{{ strftime_now('%Y-%m-%d %f') }}")
        talk = [Message("system", "Be kind."), Message("user", "Hi")]
        first = prompt(template, talk)
        assert first.startswith(str(datetime.now().astimezone().year))
        assert prompt(template, [*talk, Message("assistant", "Hi"), Message("user", "Bye")]) == first
        assert prompt(template, [talk[0], Message("user", "Another")]) != first

    def test_tools_stay_in_their_order(self, model: LlamaModel) -> None:
        tools = [Tool.from_schema(name, "Does a thing.", weather.parameters) for name in "badce"]
        template = ChatTemplate.of(model, "{% for t in tools %}{{ t.function.name }}{% endfor %}")
        tokens = template.tokens([Message("user", "Hi")], tools, taught=False)
        assert b"".join(map(model.piece, tokens)) == b"badce"


def written_call(called: ToolCall) -> str:
    """A call as the grammar has the model write it."""
    arguments = json.dumps(called.arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{called.name}", "arguments": {arguments}}}\n</tool_call>'
