"""Messages → the prompt that a model was trained on.

The template comes with the model, so it is somebody else's program: it runs in a sandbox, within bounds. What users,
tools and documents say can never become a special token of the model, whatever it looks like.

A conversation's prompts go on from one another, so that the engine evaluates only what is new: tools stay in their
order, arguments are written as the model wrote them, and the time that a template asks for is the one at which the
conversation began.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from agentkit.errors import ConfigError, MissingExtraError, ProviderError
from agentkit.messages import JsonObject, JsonValue, Message
from agentkit.parsing import dialect_for
from agentkit.parsing.sandbox import BoundedTemplate, TemplateBoundError
from agentkit.providers.llama_cpp.guard import Guard, Prompt
from agentkit.providers.llama_cpp.model import LlamaModel
from agentkit.providers.llama_cpp.taught import TAUGHT, teach
from agentkit.providers.llama_cpp.vision import Vision
from agentkit.providers.llama_cpp.wire import (
    PROBE_TOOLS,
    Shape,
    alternating,
    in_parts,
    shape_of,
    system_in_user,
    wire_messages,
)
from agentkit.tool import AnyTool

__all__ = ["PLAIN_TEMPLATE", "ChatTemplate"]

PLAIN_TEMPLATE: Final = (
    "{% for m in messages %}{{ '' if m.role == 'system' else m.role.capitalize() + ': ' }}{{ m.content|trim }}\n\n"
    "{% endfor %}Assistant:"
)
"""For a model that has no template: the transcript as a text that goes on."""

PLAIN_STOP: Final = ("\nUser:", "\nAssistant:")

_OURS: Final = ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "strftime_now")
_CONVERSATIONS: Final = 256


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template, compiled.

    Attributes:
        source: Jinja; empty where the model has none.
        stop: strings that end a turn, where no token does.
        variables: what the template is given besides the conversation.
        shape: how it wants the messages.
        vision: reads images, where the model has a projector.
    """

    model: LlamaModel
    source: str
    stop: tuple[str, ...]
    variables: Mapping[str, JsonValue]
    shape: Shape
    vision: Vision | None
    _template: BoundedTemplate
    _special: re.Pattern[str]
    _beginnings: _Beginnings

    @classmethod
    def of(
        cls,
        model: LlamaModel,
        source: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
        vision: Vision | None = None,
    ) -> ChatTemplate:
        """The template of a model, or ``source`` in its place.

        Args:
            variables: more variables that the template reads, such as ``enable_thinking`` or ``reasoning_effort``.

        Raises:
            ConfigError: a variable that has its value from the conversation.
            MissingExtraError: jinja2 is not installed.
            ProviderError: the template is no valid Jinja, or too long.
        """
        taken = sorted((variables or {}).keys() & set(_OURS))
        if taken:
            raise ConfigError(f"Template variable {taken[0]!r} has its value from the conversation: it cannot be given")
        source = source or model.chat_template or ""
        template = _compiled(model, source or PLAIN_TEMPLATE)
        longest_first = sorted(model.special_tokens, key=len, reverse=True)
        special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        stop = PLAIN_STOP if source in ("", PLAIN_TEMPLATE) else ()
        shape = Shape(reasoning="")
        made = cls(model, source, stop, dict(variables or {}), shape, vision, template, special, _Beginnings())
        return replace(made, shape=made._seen_shape()) if source else made

    def tokens(self, messages: Sequence[Message], tools: Sequence[AnyTool], *, taught: bool) -> list[int]:
        """`prompt`'s tokens."""
        return self.prompt(messages, tools, taught=taught).tokens

    def prompt(self, messages: Sequence[Message], tools: Sequence[AnyTool], *, taught: bool) -> Prompt:
        """The prompt, up to where the model goes on.

        Args:
            messages: the conversation, its system message first.
            tools: what is offered.
            taught: teach the tools in the prompt, for a template that does not show them, or not readably.

        Raises:
            ImageError: an image that cannot be read.
            ProviderError: the template refuses these messages, leaves an image out, or goes over a bound.
            UnsupportedInputError: an image, and the model has no projector; or one that would have to be fetched.
        """
        guard = Guard(self.model, self._special, self.vision)
        guarded = [guard.message(message) for message in messages]
        described = guard.value([tool.openai_schema for tool in tools])
        assert isinstance(described, list)
        if taught:
            guarded, described = teach(guarded, tools, described), []
        wire = wire_messages(guarded, self.shape, (dialect_for(self.source) or TAUGHT).write_calls)
        return guard.prompt(self._render(wire, described, self._beginnings.of(messages)))

    def _render(self, messages: list[JsonObject], tools: list[JsonObject], began: datetime) -> str:
        refusal: Exception | None = None
        for attempt in _attempts(messages):
            try:
                return self._render_once(in_parts(attempt) if self.shape.parts else attempt, tools, began)
            except TemplateBoundError as error:
                raise ProviderError(
                    f"The chat template of {self.model.path.name} goes over a bound: {error}, for a conversation of "
                    f"{len(messages)} messages and {len(tools)} tools. This is the template's fault: give another "
                    "with chat_template=…"
                ) from error
            except Exception as error:  # a template is a program: it may fail in any way
                refusal = refusal or error
        raise ProviderError(f"The chat template refuses this conversation: {refusal}") from refusal

    def _render_once(self, messages: list[JsonObject], tools: list[JsonObject], began: datetime) -> str:
        return self._template.render(
            {
                **self.variables,
                "messages": messages,
                "tools": tools or None,
                "add_generation_prompt": True,
                "bos_token": self.model.bos_text,
                "eos_token": self.model.eos_text,
                "strftime_now": began.strftime,
            }
        )

    def _seen_shape(self) -> Shape:
        over = False

        def render(messages: list[JsonObject]) -> str | None:
            nonlocal over
            if over:
                return None
            try:
                return self._render_once(messages, PROBE_TOOLS, datetime.now().astimezone())
            except TemplateBoundError:
                over = True
            except Exception:  # it refuses this shape
                pass
            return None

        return shape_of(render, self.source)


class _Beginnings:
    """When conversations began: what a template is told of the time must not change from turn to turn."""

    def __init__(self) -> None:
        self._known: dict[int, datetime] = {}
        self._lock = threading.Lock()

    def of(self, messages: Sequence[Message]) -> datetime:
        """When a conversation that begins like this was first rendered, at most a day ago."""
        now = datetime.now().astimezone()
        key = hash(tuple(message.text for message in messages[:2]))
        with self._lock:
            began = self._known.pop(key, now)
            if now - began > timedelta(days=1):
                began = now
            self._known[key] = began
            if len(self._known) > _CONVERSATIONS:
                del self._known[next(iter(self._known))]
            return began


def _compiled(model: LlamaModel, source: str) -> BoundedTemplate:
    try:
        return BoundedTemplate(source)
    except ImportError as error:
        raise MissingExtraError("a local model", "local") from error
    except TemplateBoundError as error:
        raise ProviderError(f"The chat template of {model.path.name} goes over a bound: {error}") from error
    except Exception as error:  # jinja2 raises more than its own errors on a hostile source
        raise ProviderError(f"The chat template of {model.path.name} is no valid Jinja: {error}") from error


def _attempts(messages: list[JsonObject]) -> Iterator[list[JsonObject]]:
    """The conversation as it is, and as templates of fewer roles take it."""
    yield messages
    merged = system_in_user(messages)
    if merged is not messages:
        yield merged
    alternated = alternating(merged)
    if len(alternated) < len(merged):
        yield alternated
