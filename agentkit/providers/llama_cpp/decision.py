"""Whether a request needs a tool, for models that cannot be relied on to say so themselves.

A model that was trained on tools opens a call where one is needed, and is left to it. One that was not, and a small one
that opens none even where a call is plainly asked for, is asked something that every language model knows: how likely
the request is. With the offered tools in the prompt a request for one of them becomes likelier than with unrelated
tools in their place, and any other does not. Format, examples and wording are the same on both sides and cancel out, so
one threshold serves all models. It costs one evaluation of the request; the rest is shared or kept.

Measured on the Berkeley Function Calling data (``benchmarks/tool_accuracy.py``); the figures are in docs/local.md.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

from agentkit.messages import Message, ToolCall
from agentkit.parsing.dialects.base import Dialect
from agentkit.providers.base import ModelRequest
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.engine import Predicted
from agentkit.providers.llama_cpp.made_up import made_up_examples
from agentkit.providers.llama_cpp.sequences import shared_length
from agentkit.tool import AnyTool, Tool

__all__ = ["Decider", "Look", "Verdict"]

Verdict: TypeAlias = Literal["model", "call", "answer"]
"""Who decides: the ``model``, token by token; or it is decided that the turn is a ``call``, or an ``answer``."""

Look: TypeAlias = Callable[[Sequence[int], range], Awaitable[Predicted]]
"""What the model makes of a prompt: its tokens, and which of them to score."""

THRESHOLD: Final = 5.0
"""Nats by which the offered tools must make the request likelier."""

SCORED: Final = 100
"""Tokens of a request that are scored, the last ones: where people say what they want."""

_KEPT: Final = 256
"""Sets of tools for which it is kept whether the model opens calls by itself."""

_UNRELATED: Final = (
    Tool.from_schema(
        "water_plants",
        "Water the plants in a room.",
        {
            "type": "object",
            "properties": {"room": {"type": "string", "description": "The room."}},
            "required": ["room"],
        },
    ),
    Tool.from_schema(
        "polish_shoes",
        "Polish a number of pairs of shoes.",
        {
            "type": "object",
            "properties": {
                "pairs": {"type": "integer", "description": "How many pairs."},
                "color": {"type": "string", "description": "Their color."},
            },
            "required": ["pairs", "color"],
        },
    ),
)


class Decider:
    """Decides for one model and template.

    Args:
        native: the dialect in which the template shows tools; None where they are taught.
        look: asks the engine.
    """

    def __init__(self, template: ChatTemplate, native: Dialect | None) -> None:
        self._template = template
        self._native = native
        self._opens: dict[str, bool] = {}

    async def decide(self, request: ModelRequest, look: Look) -> Verdict:
        """Who decides whether this turn calls a tool.

        Only a request of the user's is decided on, and only where no tool has been called yet: after that the
        conversation itself shows the model what to do.
        """
        asked = request.messages[-1] if request.messages else None
        if (
            request.tool_choice != "auto"
            or not request.tools
            or request.output_schema is not None
            or asked is None
            or asked.role != "user"
            or not asked.text.strip()
            or any(message.calls for message in request.messages)
        ):
            return "model"
        system = [message for message in request.messages[:1] if message.role == "system"]
        if self._native and await self._opens_calls(self._native, system, request.tools, look):
            return "model"
        offered = await self._likelihood(system, asked, request.tools, look)
        unrelated = await self._likelihood(system, asked, _UNRELATED, look)
        return "call" if offered - unrelated > THRESHOLD else "answer"

    async def _opens_calls(
        self, dialect: Dialect, system: Sequence[Message], tools: Sequence[AnyTool], look: Look
    ) -> bool:
        """Whether the model opens a call where its first tool is plainly asked for."""
        key = json.dumps([*(message.text for message in system), *(tool.openai_schema for tool in tools)], default=str)
        known = self._opens.get(key)
        if known is None:
            ((name, example),) = made_up_examples([tools[0].openai_schema])
            prompt = self._template.tokens([*system, Message("user", example.request)], tools, taught=False)
            written = dialect.write_calls([ToolCall(name, example.arguments)])
            opening = self._template.model.tokenize(written, special=True)[0]
            predicted = await look(prompt, range(0))
            known = bool(predicted.next.argmax() == opening)
            self._opens[key] = known
            for oldest in list(self._opens)[:-_KEPT]:
                del self._opens[oldest]
        return known

    async def _likelihood(
        self, system: Sequence[Message], asked: Message, tools: Sequence[AnyTool], look: Look
    ) -> float:
        """The log-probability of the request behind these tools."""
        prompt = self._tokens(system, asked, tools)
        other = self._tokens(system, Message("user", "?"), tools)
        begin = shared_length(array("i", prompt), array("i", other))
        end = len(prompt) - shared_length(array("i", prompt[::-1]), array("i", other[::-1]))
        # The first token tells how the text before it ends more than what is asked.
        scored = range(max(begin + 1, end - SCORED), end)
        return (await look(prompt[:end], scored)).likelihood if scored else 0.0

    def _tokens(self, system: Sequence[Message], asked: Message, tools: Sequence[AnyTool]) -> list[int]:
        return self._template.tokens([*system, asked], tools, taught=self._native is None)
