"""Whether a request needs a tool, for models that cannot be relied on to say so themselves.

A model that was trained on tools opens a call where one is needed, and one that reasons thinks about it: they are
left to it. One that was not, and a small one that opens none even where a call is plainly asked for, is asked
something that every language model knows: how likely the request's words are. Behind the offered tools the words of a
request for one of them are likelier than behind unrelated tools, and those of any other request are not. Format,
examples and wording are the same on both sides and cancel out. Only the few words that gain most count: over all of
them the sum grows with the request's length, which says nothing of what is asked. To this is added, at half its
weight, by how much the request makes a call the next thing to write, against a request without content.

It costs the evaluation of the request behind the unrelated tools, which are kept; the rest is evaluated anyway.
"""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agentkit.constrain import ReasoningMarks
from agentkit.messages import Message, ToolCall
from agentkit.parsing.dialects.base import Dialect
from agentkit.providers.base import ModelRequest
from agentkit.providers.in_context import made_up_examples
from agentkit.providers.llama_cpp.chat_template import ChatTemplate
from agentkit.providers.llama_cpp.guard import shows_an_image
from agentkit.providers.llama_cpp.jobs import Predicted
from agentkit.providers.llama_cpp.model import LlamaModel
from agentkit.providers.llama_cpp.sequences import shared_length
from agentkit.providers.llama_cpp.taught import TAUGHT
from agentkit.tool import AnyTool, Tool

__all__ = ["Decider", "Decision", "Look"]

Verdict: TypeAlias = Literal["model", "call", "answer"]
"""Who decides: the ``model``, token by token; or it is decided that the turn is a ``call``, or an ``answer``."""

Look: TypeAlias = Callable[[Sequence[int], range], Awaitable[Predicted]]
"""What the model makes of a prompt: its tokens, and which of them to score."""

_THRESHOLD: Final = 2.25
"""Nats of evidence from which on a request is one for a tool, where the model's own template shows the tools."""

_TAUGHT_THRESHOLD: Final = 3.5
"""The same where they are taught, with examples: of these every request has some words in common."""

_WORDS: Final = 3
"""Tokens of a request that count: those that gain most."""

_OPENING_WEIGHT: Final = 0.5

_SCORED: Final = 100
"""Tokens of a request that are scored, the last ones: where people say what they want."""

_CONTENT_FREE: Final = "N/A"

_CALL_LIKE: Final = ("```", "{", '{"', "[")
"""How models begin a call that they were not taught to write, beside their dialect's own opening."""

_NAMES: Final = 24
"""Tools of which it is compared which one to call: each costs the evaluation of its name."""

_PRIOR_WEIGHT: Final = 0.5

_KEPT: Final = 256
"""Sets of tools of which it is kept what is known."""

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


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decides on a turn.

    Attributes:
        verdict: whether it calls.
        trusted: the model knows by itself which tool to call, with what, and when to stop.
    """

    verdict: Verdict = "model"
    trusted: bool = True


@dataclass(slots=True)
class _Tools:
    """What is known of a set of tools behind a system message; None what was not asked for yet.

    Attributes:
        opened: the model opens a call where the first of them is plainly asked for, or thinks before it does.
        opening: log-odds that a call is the next thing to write where nothing is asked.
        names: log-probabilities of each one's name in a call where nothing is asked.
    """

    opened: bool | None = None
    opening: float | None = None
    names: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class _Calls:
    """Calls of several tools, as tokens.

    Attributes:
        tokens: of each call.
        begin: where they part.
        ends: where their names end.
    """

    tokens: Sequence[Sequence[int]]
    begin: int
    ends: Sequence[int]

    @classmethod
    def of(cls, model: LlamaModel, written: Sequence[str]) -> _Calls:
        tokens = [array("i", model.tokenize(text, special=True)) for text in written]
        begin = min(shared_length(tokens[0], other) for other in tokens[1:])
        behind = min(shared_length(tokens[0][::-1], other[::-1]) for other in tokens[1:])
        return cls(tokens, begin, [len(call) - behind for call in tokens])

    async def scores(self, prompt: Sequence[int], look: Look) -> list[float]:
        """The log-probability of each name behind a prompt, with the token that ends it."""
        start = len(prompt)
        await look([*prompt, *self.tokens[0][: self.begin]], range(0))  # once for all of them
        looks = [
            look([*prompt, *call[: end + 1]], range(start + self.begin, start + min(end + 1, len(call))))
            for call, end in zip(self.tokens, self.ends, strict=True)
        ]
        return [sum(predicted.scores) for predicted in await asyncio.gather(*looks)]

    def up_to_name(self, index: int) -> list[int]:
        return list(self.tokens[index][: self.ends[index]])


class Decider:
    """Decides for one model and template.

    Args:
        native: the dialect in which the template shows tools; None where they are taught.
    """

    def __init__(self, template: ChatTemplate, native: Dialect | None) -> None:
        self._template = template
        self._native = native
        self._known: dict[str, _Tools] = {}
        self._opening = template.model.tokenize(self._written("tool"), special=True)[0]
        begun = [template.model.tokenize(text, special=False)[0] for text in _CALL_LIKE]
        self._call_like = sorted({self._opening, *begun})

    async def decide(self, request: ModelRequest, look: Look) -> Decision:
        """Who decides whether this turn calls a tool.

        Only a request of the user's is decided on, and only where no tool has been called yet: after that the
        conversation itself shows the model what to do. Where images are shown, words alone tell nothing.
        """
        asked = request.messages[-1] if request.messages else None
        if request.tool_choice == "none" or not request.tools or request.output_schema is not None or asked is None:
            return Decision()
        if shows_an_image(request.messages):
            return Decision()
        opened = await self._opens(request.lead, request.tools, look)
        if (
            opened
            or request.tool_choice != "auto"
            or asked.role != "user"
            or not asked.text.strip()
            or any(message.calls for message in request.messages[len(request.lead) :])
        ):
            return Decision(trusted=opened)
        evidence = await self._evidence(request.lead, asked, request.tools, look)
        enough = _TAUGHT_THRESHOLD if self._native is None else _THRESHOLD
        return Decision("call" if evidence > enough else "answer", trusted=False)

    async def beginning(self, request: ModelRequest, prompt: Sequence[int], look: Look) -> list[int]:
        """The tokens with which a turn that must call begins, up to the end of a tool's name; none where the model is
        left to choose the tool. For models that are not trusted.

        A small model that writes a name goes by its first token, and by what is the likeliest anyway. So the names are
        compared whole, and against a request without content.

        Args:
            prompt: the request's, with its tools.
        """
        if request.messages[-1].role != "user" or not 1 < len(request.tools) <= _NAMES:
            return []
        known = self._tools(request.lead, request.tools)
        calls = _Calls.of(self._template.model, [self._written(tool.name) for tool in request.tools])
        if known.names is None:
            known.names = await calls.scores(await self._nothing(request.lead, request.tools), look)
        found = await calls.scores(prompt, look)
        gains = [score - _PRIOR_WEIGHT * usual for score, usual in zip(found, known.names, strict=True)]
        return calls.up_to_name(gains.index(max(gains)))

    def _written(self, name: str) -> str:
        return (self._native or TAUGHT).write_calls([ToolCall(name, {})])

    async def _evidence(self, lead: Sequence[Message], asked: Message, tools: Sequence[AnyTool], look: Look) -> float:
        """How much speaks for a call, in nats."""
        known = self._tools(lead, tools)
        if known.opening is None:
            known.opening = self._log_odds(await look(await self._nothing(lead, tools), range(0)))
        offered = await self._read(lead, asked, tools, look)
        unrelated = await self._read(lead, asked, _UNRELATED, look)
        scores = zip(reversed(offered.scores), reversed(unrelated.scores), strict=False)
        gains = sorted((with_tools - without for with_tools, without in scores), reverse=True)
        return sum(gains[:_WORDS]) + _OPENING_WEIGHT * (self._log_odds(offered) - known.opening)

    async def _opens(self, lead: Sequence[Message], tools: Sequence[AnyTool], look: Look) -> bool:
        if self._native is None:
            return False
        known = self._tools(lead, tools)
        if known.opened is None:
            ((_, example),) = made_up_examples([tools[0].openai_schema])
            prompt = await self._tokens(lead, Message("user", example.request), tools)
            # What thinks before it decides is trusted: what it writes first tells nothing.
            thinks = ReasoningMarks.of(self._template.source, self._template.model.end_of(prompt)) is not None
            known.opened = thinks or bool((await look(prompt, range(0))).next.argmax() == self._opening)
        return known.opened

    def _tools(self, lead: Sequence[Message], tools: Sequence[AnyTool]) -> _Tools:
        key = json.dumps([*map(str, lead), *(tool.openai_schema for tool in tools)], default=str)
        known = self._known.setdefault(key, _Tools())
        for oldest in list(self._known)[:-_KEPT]:
            del self._known[oldest]
        return known

    async def _nothing(self, lead: Sequence[Message], tools: Sequence[AnyTool]) -> list[int]:
        """A request without content."""
        return await self._tokens(lead, Message("user", _CONTENT_FREE), tools)

    async def _read(self, lead: Sequence[Message], asked: Message, tools: Sequence[AnyTool], look: Look) -> Predicted:
        """The model reads the request behind these tools."""
        prompt = array("i", await self._tokens(lead, asked, tools))
        other = array("i", await self._tokens(lead, Message("user", "?"), tools))
        begin = shared_length(prompt, other)
        end = len(prompt) - shared_length(prompt[::-1], other[::-1])
        # The first token tells how the text before it ends more than what is asked.
        return await look(prompt, range(max(begin + 1, end - _SCORED), end))

    def _log_odds(self, predicted: Predicted) -> float:
        """That a call comes next."""
        import numpy as np

        chance = float(np.exp(predicted.next[self._call_like]).sum())
        chance = min(max(chance, 1e-9), 1 - 1e-6)
        return math.log(chance) - math.log1p(-chance)

    async def _tokens(self, before: Sequence[Message], asked: Message, tools: Sequence[AnyTool]) -> list[int]:
        # A long prompt takes a while to render, and the event loop is other people's too.
        return await asyncio.to_thread(self._template.tokens, [*before, asked], tools, taught=self._native is None)
