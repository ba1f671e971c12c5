"""How many tokens something is, where nobody has counted."""

from __future__ import annotations

from typing import Final

from agentkit.messages import Message, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from agentkit.providers.base import ModelRequest

__all__ = ["LETTERS_A_TOKEN", "TOKENS_AN_IMAGE", "estimated_tokens", "letters"]

LETTERS_A_TOKEN: Final = 4
"""About, in English and in JSON."""

TOKENS_AN_IMAGE: Final = 1_000
"""About: vendors count a few hundred to a few thousand, by its size."""


def estimated_tokens(request: ModelRequest) -> int:
    """The tokens of a request's prompt, from its length: at least 1, and an image for `TOKENS_AN_IMAGE`."""
    written = sum(len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in request.tools)
    return 1 + (written + sum(map(letters, request.messages))) // LETTERS_A_TOKEN


def letters(message: Message) -> int:
    """The characters of a message, an image for those of `TOKENS_AN_IMAGE`."""
    return sum(map(_letters, message.content))


def _letters(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return len(text)
        case ToolCall(name, arguments):
            return len(name) + len(str(arguments))
        case ToolResult(content=content, images=images):
            return len(content) + len(images) * TOKENS_AN_IMAGE * LETTERS_A_TOKEN
        case _:
            return TOKENS_AN_IMAGE * LETTERS_A_TOKEN
