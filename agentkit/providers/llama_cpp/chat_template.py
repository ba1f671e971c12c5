"""Messages → the prompt that a model was trained on.

The template comes with the model, so it is somebody else's program: it runs in jinja2's immutable sandbox. What users,
tools and documents say can never become a special token of the model, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agentkit.errors import MissingExtraError, ProviderError, UnsupportedInputError
from agentkit.messages import (
    ImagePart,
    JsonObject,
    JsonValue,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from agentkit.parsing.sandbox import raise_exception, strftime_now, tojson
from agentkit.providers.llama_cpp.taught import teach
from agentkit.tool import AnyTool

if TYPE_CHECKING:
    import jinja2

    from agentkit.providers.llama_cpp.model import LlamaModel

__all__ = ["PLAIN_TEMPLATE", "ChatTemplate"]

PLAIN_TEMPLATE: Final = (
    "{% for m in messages %}{{ m.content if m.role == 'system' else m.role.capitalize() + ': ' + m.content }}\n\n"
    "{% endfor %}Assistant:"
)
"""For a model that has no template: the transcript as a text that goes on."""

PLAIN_STOP: Final = ("\nUser:",)

# Stands for a special token's text inside a message until the prompt is tokenized. Private-use characters: no model
# reads them, and a message that holds them loses only these.
_GUARD: Final = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template, compiled.

    Attributes:
        source: Jinja; empty where the model has none.
        stop: strings that end a turn, where no token does.
    """

    model: LlamaModel
    source: str
    stop: tuple[str, ...]
    _template: jinja2.Template
    _special: re.Pattern[str]

    @classmethod
    def of(cls, model: LlamaModel, source: str | None = None) -> ChatTemplate:
        """The template of a model, or ``source`` in its place.

        Raises:
            ProviderError: the template is no valid Jinja.
        """
        source = source or model.chat_template or ""
        try:
            template = _environment().from_string(source or PLAIN_TEMPLATE)
        except MissingExtraError:
            raise
        except Exception as error:  # jinja2 raises more than its own errors on a hostile source
            raise ProviderError(f"The chat template of {model.path.name} is no valid Jinja: {error}") from error
        longest_first = sorted(model.special_tokens, key=len, reverse=True)
        special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        return cls(model, source, () if source else PLAIN_STOP, template, special)

    def tokens(self, messages: Sequence[Message], tools: Sequence[AnyTool], *, taught: bool) -> list[int]:
        """The prompt's tokens, up to where the model goes on.

        Args:
            messages: the conversation, its system message first.
            tools: what is offered.
            taught: teach the tools in the prompt, for a template that does not show them, or not readably.

        Raises:
            ProviderError: the template refuses these messages.
            UnsupportedInputError: an image.
        """
        _refuse_images(messages)
        guarded = [self._guard_message(message) for message in messages]
        described = self._guard([tool.openai_schema for tool in tools])
        assert isinstance(described, list)
        if taught:
            guarded, described = teach(guarded, tools, described), []
        return self._tokenize(self._render(wire_messages(guarded), described))

    def _tokenize(self, prompt: str) -> list[int]:
        tokens: list[int] = []
        begin = not (self.model.bos_text and prompt.startswith(self.model.bos_text))
        for index, piece in enumerate(_GUARD.split(prompt)):
            guarded = index % 2 == 1
            text = self.model.piece(int(piece)).decode(errors="replace") if guarded else piece
            if text:
                tokens += self.model.tokenize(text, special=not guarded, begin=begin and not tokens)
        return tokens

    def _render(self, messages: list[JsonObject], tools: list[JsonObject]) -> str:
        try:
            return self._render_once(messages, tools)
        except Exception as refusal:  # a template is a program: it may fail in any way
            merged = _without_system(messages)
            if merged is None:
                raise ProviderError(f"The chat template refuses this conversation: {refusal}") from refusal
        try:
            return self._render_once(merged, tools)
        except Exception as refusal:
            raise ProviderError(f"The chat template refuses this conversation: {refusal}") from refusal

    def _render_once(self, messages: list[JsonObject], tools: list[JsonObject]) -> str:
        return self._template.render(
            messages=messages,
            tools=tools or None,
            add_generation_prompt=True,
            bos_token=self.model.bos_text,
            eos_token=self.model.eos_text,
        )

    def _guard_message(self, message: Message) -> Message:
        return Message(message.role, [self._guard_part(part) for part in message.content])

    def _guard_part(self, part: Part) -> Part:
        if isinstance(part, TextPart | ReasoningPart):
            return replace(part, text=self._guard_text(part.text))
        if isinstance(part, ToolCall):
            arguments = self._guard(part.arguments)
            assert isinstance(arguments, dict)
            return replace(part, arguments=arguments)
        if isinstance(part, ToolResult):
            return replace(part, content=self._guard_text(part.content))
        return part

    def _guard(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self._guard_text(value)
        if isinstance(value, Mapping):
            return {key: self._guard(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._guard(item) for item in value]
        return value

    def _guard_text(self, text: str) -> str:
        cleaned = text.replace("\ue000", "").replace("\ue001", "")
        return self._special.sub(lambda found: f"\ue000{self.model.special_tokens[found[0]]}\ue001", cleaned)


def wire_messages(messages: Sequence[Message]) -> list[JsonObject]:
    """Messages in the shape that chat templates read: OpenAI's, but with arguments as dicts."""
    wire: list[JsonObject] = []
    for message in messages:
        if message.role == "tool":
            wire += [
                {"role": "tool", "tool_call_id": result.call_id, "name": result.name, "content": result.content}
                for result in message.results
            ]
            continue
        entry: JsonObject = {"role": message.role, "content": message.text}
        if message.calls:
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.calls
            ]
        if message.reasoning:
            entry["reasoning_content"] = message.reasoning
        wire.append(entry)
    return wire


def _refuse_images(messages: Sequence[Message]) -> None:
    if any(isinstance(part, ImagePart) for message in messages for part in message.content):
        raise UnsupportedInputError("This model cannot see: a message holds an image. Use a vision model")


def _without_system(messages: list[JsonObject]) -> list[JsonObject] | None:
    """The system message put before the first user's: some templates know no system role."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    user = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [user, *messages[2:]]


def _environment() -> jinja2.Environment:
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtraError("a local model", "local") from error
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment
