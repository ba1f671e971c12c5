"""How many tokens something is, also where nobody has counted."""

from __future__ import annotations

import math
from typing import Final

from agentkit.messages import Message, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from agentkit.providers.base import ModelRequest, Provider

__all__ = ["LETTERS_A_TOKEN", "TOKENS_AN_IMAGE", "TokenMeter", "estimated_tokens", "letters"]

LETTERS_A_TOKEN: Final = 4
"""About, in English and in JSON."""

TOKENS_AN_IMAGE: Final = 1_000
"""About: vendors count a few hundred to a few thousand, by its size."""


class TokenMeter:
    """How many tokens a prompt takes: counted by the provider where it can, else estimated.

    The estimate builds on the last prompt that the provider did count: a shorter one has its share of that, of a longer
    one four characters are taken for a token.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._counted, self._estimated = 1, 1  # tokens of one prompt, as they were and as we should have thought

    async def count(self, request: ModelRequest) -> int:
        """The tokens of a request's prompt.

        Raises:
            ProviderError: it could not be counted, nor sent.
        """
        counted = await self._provider.count_tokens(request)
        return self._estimate(request) if counted is None else counted

    def learn(self, request: ModelRequest, tokens: int) -> None:
        """Take note of what a prompt really took. Less than a quarter of the estimate is not believed: some servers
        leave out what they had in their cache."""
        estimated = estimated_tokens(request)
        if tokens * 4 >= estimated:
            self._counted, self._estimated = tokens, estimated

    def _estimate(self, request: ModelRequest) -> int:
        estimated = estimated_tokens(request)
        if estimated > self._estimated:
            return self._counted + estimated - self._estimated
        return math.ceil(self._counted * estimated / self._estimated)


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
