"""What the engine is asked to do, and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from agentkit.errors import AgentKitError
from agentkit.messages import Usage
from agentkit.providers.llama_cpp.batches import ImageChunk
from agentkit.providers.llama_cpp.sampling import Sampler
from agentkit.providers.llama_cpp.sequences import Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DEFAULT_MAX_TOKENS", "Emit", "Finished", "Job", "Output", "Predicted", "Written"]

DEFAULT_MAX_TOKENS: Final = 2048
"""Tokens of one turn where nobody said: a small model may never find its end."""


@dataclass(frozen=True, slots=True)
class Written:
    """More of a turn: its bytes, which may end within a character, and how many tokens they are."""

    data: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a look saw.

    Attributes:
        next: log-probabilities of what comes after the prompt, one a vocabulary entry.
        scores: the log-probability of each of the prompt's scored tokens, given those before it.
    """

    next: NDArray[np.float32]
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class Finished:
    """A job's end. ``stop``: the model ended its turn, or the grammar did."""

    reason: Literal["stop", "length"]
    usage: Usage


Output: TypeAlias = Written | Predicted | Finished
Emit: TypeAlias = Callable[[Output | AgentKitError], None]


@dataclass(slots=True)
class Job:
    """One turn to decode, or one look at what a prompt predicts.

    Args:
        prompt: its tokens.
        sampler: chooses the tokens; None for a look.
        max_tokens: of the turn.
        stable: tokens at the prompt's beginning that other conversations share: instructions and tools.
        scored: where in the prompt the tokens lie whose log-probabilities a look asks for.
        images: in the prompt, by where they begin.
    """

    prompt: Sequence[int]
    sampler: Sampler | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    stable: int = 0
    scored: range = range(0)
    images: Mapping[int, ImageChunk] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def respelled(self, prompt: Tokens[int]) -> Job:
        """The same with its prompt's text in other tokens: what lies in it moves along."""
        import numpy as np

        longer = len(prompt) - len(self.prompt)
        scored = range(self.scored.start + longer, self.scored.stop + longer) if self.scored else self.scored
        entries = np.flatnonzero(np.frombuffer(prompt, np.int32) < 0) if self.images else ()
        firsts = accumulate((len(image.ids) for image in self.images.values()), initial=0)
        images = {int(entries[first]): image for first, image in zip(firsts, self.images.values(), strict=False)}
        return replace(self, prompt=prompt, scored=scored, images=images)

    def size(self, length: int | None = None) -> int:
        """How many tokens the prompt is, or its first entries: an image may be more of them than it has entries."""
        end = len(self.prompt) if length is None else length
        return end + sum(image.hidden for begin, image in self.images.items() if begin < end)
