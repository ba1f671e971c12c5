"""What a tool returns → what the model reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agentkit.messages import ImagePart, TextPart, clean_text

__all__ = ["MAX_IMAGES", "MAX_IMAGE_BYTES", "READ_OUTPUT", "Output", "UnserializableError", "as_output", "cut"]

MAX_IMAGES: Final = 8
"""Images of one result."""

MAX_IMAGE_BYTES: Final = 5 << 20
"""Bytes of one image."""

READ_OUTPUT: Final = "read_output"
"""The name of the tool that reads on in what was cut."""


@dataclass(frozen=True, slots=True)
class Output:
    """A tool's return value as text and images. ``is_untrusted``: it says so itself, by a `TextPart` that does."""

    text: str
    images: tuple[ImagePart, ...] = ()
    is_untrusted: bool = False


class UnserializableError(Exception):
    """A tool returned what cannot be shown to a model."""


def as_output(value: object, name: str) -> Output:
    """What a tool of this name returned, for the model: an image or a `TextPart`, alone or in a list or tuple with
    other things, is taken as it is; of the rest, strings stay as they are and everything else becomes JSON.

    Raises:
        UnserializableError: it has no form that a model could read; the message is for the model.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    if not any(isinstance(part, ImagePart | TextPart) for part in parts):
        return Output(_text(value, name))
    images: list[ImagePart] = []
    lines: list[str] = []
    for part in parts:
        if isinstance(part, TextPart):
            lines.append(clean_text(part.text))
        elif not isinstance(part, ImagePart):
            lines.append(_text(part, name))
        elif len(images) == MAX_IMAGES or len(part.data) > MAX_IMAGE_BYTES:
            lines.append(f"[{part}: left out, the limit is {MAX_IMAGES} images of {MAX_IMAGE_BYTES >> 20} MiB each]")
        else:
            images.append(part)
    is_untrusted = any(isinstance(part, TextPart) and part.untrusted for part in parts)
    return Output("\n".join(lines), tuple(images), is_untrusted)


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        return clean_text(value)
    if value is None:
        return "(no output)"
    if isinstance(value, Iterator):  # it may have no end
        raise UnserializableError(_unserializable(value, name, "it is an iterator: return a list"))
    from pydantic_core import to_json

    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except (ValueError, RecursionError) as error:
        raise UnserializableError(_unserializable(value, name, str(error).splitlines()[0])) from error


def _unserializable(value: object, name: str, why: str) -> str:
    return (
        f"{name!r} ran, but its result cannot be shown: a {type(value).__name__} is not text and not JSON ({why}). "
        "The tool must return a string, an ImagePart, numbers, lists, dicts, dataclasses or pydantic models."
    )


def cut(text: str, limit: int, name: str = "") -> str:
    """The text, without its middle where it is longer than so many characters. For an output with a name the notice
    says how to read on."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    reading = f"; to read on: {READ_OUTPUT}(call={name!r}, start={head})" if name else ""
    notice = f"\n[… {len(text) - limit} of {len(text)} characters left out: the limit is {limit}{reading} …]\n"
    return text[:head] + notice + text[len(text) - (limit - head) :]
