"""What is said in a conversation: messages made of typed parts, and what a model's turn consists of.

This is the only language spoken inside agentkit; a vendor's wire format ends at the provider that speaks it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, cast

from agentkit.errors import ImageError

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

__all__ = [
    "JSON_CONFIG",
    "FinishReason",
    "ImagePart",
    "JsonObject",
    "JsonValue",
    "Message",
    "ModelResponse",
    "Part",
    "Problem",
    "ReasoningPart",
    "Role",
    "TextPart",
    "ToolCall",
    "ToolErrorKind",
    "ToolResult",
    "Usage",
    "canonical",
    "clean_json",
    "clean_text",
    "dump_messages",
    "load_messages",
]

# A recursive alias would need pydantic at import; `object` is as strict for a reader and is narrowed where it is read.
JsonValue: TypeAlias = object
JsonObject: TypeAlias = dict[str, JsonValue]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "refusal"]
"""Why the model stopped. ``length``: the token limit cut it off."""

ToolErrorKind: TypeAlias = Literal[
    "unknown_tool",
    "invalid_arguments",
    "exception",
    "timeout",
    "unserializable",
    "not_run",
    "denied",
    "unknown_outcome",
]
"""``denied``: the policy or a person refused the call. ``unknown_outcome``: it was interrupted, and nobody knows
whether it took effect."""

_MAX_NESTING: Final = 100  # of a call's arguments; what reads JSON gives up at 200, and a record is around them
_MAX_IMAGE: Final = 20 * 10**6  # bytes
_BEGINNINGS: Final = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBP",
}

# How pydantic writes what JSON has no form for: bytes as base64, infinities as the constants that Python reads back.
JSON_CONFIG: Final[ConfigDict] = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "constants",
}


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text that is meant to be read. ``untrusted`` says that strangers may have had a hand in it (see `Policy`)."""

    text: str
    untrusted: bool = False
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What the model thought before it answered; not part of the answer.

    ``state`` is what its provider wants to see again with the next request, as it gave it (a signature, an encrypted
    item); ``text`` may be empty then. Each provider sends back its own and leaves others' out.
    """

    text: str
    state: JsonObject = field(default_factory=dict)
    kind: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: its bytes, or a URL that the provider can read."""

    data: bytes = b""
    media_type: str = "image/png"
    url: str = ""
    kind: Literal["image"] = "image"

    __pydantic_config__: ClassVar[ConfigDict] = JSON_CONFIG

    def __str__(self) -> str:
        """What it is, in words: ``image image/png, 12 kB``, or its URL."""
        return f"image {self.url or f'{self.media_type}, {len(self.data) / 1000:,.0f} kB'}"

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> ImagePart:
        """The image in a file; what kind it is, its content says, not its name.

        Raises:
            ImageError: not a PNG, JPEG, GIF or WebP, or more than 20 MB.
            OSError: the file cannot be read.
        """
        with Path(path).open("rb") as file:
            return cls._read(file.read(_MAX_IMAGE + 1), f"The image {os.fspath(path)}")

    @classmethod
    def from_bytes(cls, data: bytes) -> ImagePart:
        """The image that these bytes are.

        Raises:
            ImageError: not a PNG, JPEG, GIF or WebP, or more than 20 MB.
        """
        return cls._read(data, "The image")

    @classmethod
    def _read(cls, data: bytes, what: str) -> ImagePart:
        if len(data) > _MAX_IMAGE:
            raise ImageError(
                f"{what} has more than {_MAX_IMAGE // 10**6} MB, which is all that models take: make it smaller"
            )
        for media_type, beginning in _BEGINNINGS.items():
            if re.match(beginning, data, re.DOTALL):
                return cls(data, media_type)
        raise ImageError(
            f"{what} is no PNG, JPEG, GIF or WebP (it begins with {data[:12]!r}), and models take no other: convert it"
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. ``arguments`` is always an object that was really read, never a guess.

    ``repairs`` names each change that was made to read it; clean input has none.
    """

    name: str
    arguments: JsonObject
    id: str = ""
    repairs: list[str] = field(default_factory=list)
    kind: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered, as the model reads it. ``error`` says which kind of failure it was, if it was one;
    ``images`` are shown to models that see; ``untrusted`` says that strangers may have had a hand in it."""

    call_id: str
    name: str
    content: str
    error: ToolErrorKind | None = None
    images: tuple[ImagePart, ...] = ()
    untrusted: bool = False
    kind: Literal["tool_result"] = "tool_result"

    @property
    def in_words(self) -> str:
        """The content, with a line for each image: what a model that does not see is told."""
        notes = [f"[{image}: this model cannot see it]" for image in self.images]
        return "\n".join(filter(None, [self.content, *notes]))


Part: TypeAlias = TextPart | ReasoningPart | ImagePart | ToolCall | ToolResult


@dataclass(frozen=True, slots=True, init=False, weakref_slot=True)
class Message:
    """One turn of a conversation.

    ``content`` may be given as a string, one part, or several; it is kept as a tuple of parts. Nothing in it may be
    changed once it was sent: providers keep what they wrote of it.
    """

    role: Role
    content: tuple[Part, ...]

    def __init__(self, role: Role, content: str | Part | Iterable[Part]) -> None:
        parts: tuple[Part, ...]
        if isinstance(content, str):
            parts = (TextPart(clean_text(content)),)
        elif isinstance(content, TextPart | ReasoningPart | ImagePart | ToolCall | ToolResult):
            parts = (content,)
        else:
            parts = tuple(content)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "content", parts)

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def reasoning(self) -> str:
        """All reasoning parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, ReasoningPart))

    @property
    def untrusted(self) -> bool:
        """Whether strangers may have had a hand in it: whatever is said after it is tainted."""
        return any(isinstance(part, TextPart | ToolResult) and part.untrusted for part in self.content)

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls, in order."""
        return [part for part in self.content if isinstance(part, ToolCall)]

    @property
    def results(self) -> list[ToolResult]:
        """The tool results, in order."""
        return [part for part in self.content if isinstance(part, ToolResult)]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a model's turn that could not be used as it stood.

    ``kind`` is a short constant, ``message`` is for the model to read, ``name`` the tool if one was named,
    ``raw`` the text as the model wrote it.
    """

    kind: str
    message: str
    name: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counted them.

    ``cached_tokens`` are part of the input, ``reasoning_tokens`` of the output. ``cost`` is in US dollars, 0 where the
    provider names no price.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost + other.cost,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One turn of the model, complete."""

    message: Message
    problems: list[Problem] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.message.text

    @property
    def reasoning(self) -> str:
        """What the model thought."""
        return self.message.reasoning

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls, in order."""
        return self.message.calls


def clean_text(text: str) -> str:
    """Replace lone surrogates, which JSON escapes can smuggle in and UTF-8 cannot carry, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_json(value: JsonValue) -> JsonValue:
    """`clean_text`, for every string in a JSON value."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


def canonical(arguments: JsonObject) -> JsonObject:
    """A copy with all keys sorted: equal arguments are written to the same JSON, in every process.

    Raises:
        TypeError: a value that JSON cannot say.
        ValueError: nested deeper than 100, or a number of more than 4,300 digits: it could not be read again.
    """
    if _is_deeper(arguments, _MAX_NESTING):
        raise ValueError(f"nested deeper than {_MAX_NESTING}")
    return cast("JsonObject", json.loads(json.dumps(arguments, sort_keys=True)))


def _is_deeper(value: JsonValue, depth: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list | tuple) and (depth == 0 or any(_is_deeper(item, depth - 1) for item in value))


def dump_messages(messages: Sequence[Message]) -> str:
    """Messages as JSON; `load_messages` gives back equal ones."""
    return _adapter().dump_json(list(messages)).decode()


def load_messages(text: str | bytes) -> list[Message]:
    """Messages from JSON.

    Raises:
        pydantic.ValidationError: the text is no JSON, or not messages.
    """
    return _adapter().validate_json(text)


def as_messages(messages: str | Message | Iterable[Message | Mapping[str, object]]) -> list[Message]:
    """What people pass as messages: a string, one message, several, or dicts with ``role`` and ``content``."""
    if isinstance(messages, str):
        return [Message("user", messages)]
    if isinstance(messages, Message):
        return [messages]
    return [m if isinstance(m, Message) else _from_dict(m) for m in messages]


def _from_dict(message: Mapping[str, object]) -> Message:
    content = message.get("content")
    if isinstance(content, str) and set(message) == {"role", "content"}:
        return _adapter().validate_python([{"role": message["role"], "content": [TextPart(content)]}])[0]
    return _adapter().validate_python([message])[0]


@cache
def _adapter() -> TypeAdapter[list[Message]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Message], config=JSON_CONFIG)
