"""What a context has evaluated: sequences of tokens, found again by the prefix that a new prompt shares with them.

Every sequence whose turn is over stays until its room is needed, the least recently used one going first. A new prompt
begins as a copy of the sequence with which it shares most: the shared tokens lie in memory once. So a system prompt is
evaluated once for all agents, and a conversation's next turn evaluates only what is new.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import count

from agentkit.errors import ProviderError
from agentkit.providers.llama_cpp.context import LlamaContext

__all__ = ["PrefixCache", "Sequence", "Tokens", "respelled", "shared_length"]

Tokens = array  # of C ints: compact, and compared at memory speed


class Sequence:
    """Tokens whose state is in the context's memory, under an id.

    Attributes:
        busy: a turn is going on in it; it is not evicted then.
    """

    __slots__ = ("busy", "id", "last_used", "tokens")

    def __init__(self, id: int) -> None:
        self.id = id
        self.tokens: Tokens[int] = array("i")
        self.busy = True
        self.last_used = 0


class PrefixCache:
    """The sequences of a context.

    Args:
        size: sequences that can exist at once, busy ones among them.
    """

    def __init__(self, context: LlamaContext, size: int) -> None:
        self._context = context
        self._free = list(range(size))
        self._sequences: list[Sequence] = []
        self._clock = count(1)

    def open(self, prompt: Tokens[int], fresh: int = 1) -> Sequence:
        """A busy sequence that holds as much of the prompt as is in memory already, but never its last tokens.

        Args:
            fresh: tokens at the end that are evaluated in any case, since what they predict is wanted and not kept.

        Raises:
            ProviderError: all sequences are busy.
        """
        source, shared = self.longest(prompt, fresh)
        if source is None:
            return self._new()
        if not source.busy and (self._owned(source, shared) or not self._make_free(keep=source)):
            self._cut(source, shared)
            source.busy = True
            return source
        sequence = self._new()
        self._context.copy(source.id, sequence.id, shared)
        sequence.tokens = source.tokens[:shared]
        return sequence

    def open_empty(self) -> Sequence:
        """A busy sequence with nothing in it.

        Raises:
            ProviderError: all sequences are busy.
        """
        return self._new()

    def longest(self, prompt: Tokens[int], fresh: int = 1) -> tuple[Sequence | None, int]:
        """The sequence that can be gone on from with the most of the prompt, and how many tokens these are."""
        best: tuple[Sequence | None, int] = None, 0
        for sequence, shared in self._shared(prompt, fresh):
            usable = shared if self._context.cuttable or shared == len(sequence.tokens) else 0
            if usable > best[1]:
                best = sequence, usable
        return best

    def as_written(self, prompt: Tokens[int], start: int, text_of: Callable[[int], bytes | None]) -> Tokens[int]:
        """The prompt in the tokens that are in memory for the same text.

        What a model wrote comes back as text, which the tokenizer may split otherwise than the model did; the model
        would then have to read its own words again.

        Args:
            start: what comes before is left as it is.
            text_of: a token's bytes; None for one that is more than its text.
        """
        found = list(self._shared(prompt))
        nearest = max((shared for _, shared in found), default=0)
        if nearest < start:
            return prompt
        same = [respelled(prompt, sequence.tokens, text_of) for sequence, shared in found if shared == nearest]
        return max(same, key=lambda spelled: spelled[1], default=(prompt, 0))[0]

    def parting(self, prompt: Tokens[int]) -> int:
        """Where the prompt parts from what was seen before. A memory that cannot be cut is worth keeping there."""
        return max((shared for _, shared in self._shared(prompt)), default=0)

    def keep_copy(self, sequence: Sequence) -> None:
        """Keep the sequence as it is now, to be gone on from by others."""
        if self._make_free(keep=sequence):
            copy = self._new()
            self._context.copy(sequence.id, copy.id, len(sequence.tokens))
            copy.tokens = sequence.tokens[:]
            self.release(copy)

    def release(self, sequence: Sequence) -> None:
        """A turn is over: keep what it evaluated. What is a mere beginning of it is kept no longer."""
        sequence.busy = False
        sequence.last_used = next(self._clock)
        if self._context.cuttable:
            for other in self._idle():
                if other is not sequence and shared_length(other.tokens, sequence.tokens) == len(other.tokens):
                    self.drop(other)
        if not sequence.tokens:
            self.drop(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence."""
        self._context.cut(sequence.id, 0)
        self._sequences.remove(sequence)
        self._free.append(sequence.id)

    def evict(self, *, keep: Sequence | None = None) -> bool:
        """Forget the idle sequence that was used least recently. False if there is none."""
        oldest = min((s for s in self._idle() if s is not keep), key=lambda s: s.last_used, default=None)
        if oldest is None:
            return False
        self.drop(oldest)
        return True

    def clear(self) -> None:
        """Forget everything, busy sequences too."""
        self._context.clear()
        self._free += [sequence.id for sequence in self._sequences]
        self._sequences.clear()

    def _new(self) -> Sequence:
        if not self._make_free():
            raise ProviderError("all sequences of the context are busy: more turns were admitted than it can hold")
        sequence = Sequence(self._free.pop())
        self._sequences.append(sequence)
        return sequence

    def _make_free(self, *, keep: Sequence | None = None) -> bool:
        return bool(self._free) or self.evict(keep=keep)

    def _owned(self, source: Sequence, shared: int) -> bool:
        """The prompt goes on from all of the source, whose state on the way is still there if others want it."""
        return self._context.cuttable and shared == len(source.tokens)

    def _cut(self, sequence: Sequence, length: int) -> None:
        if length < len(sequence.tokens):
            self._context.cut(sequence.id, length)
            del sequence.tokens[length:]

    def _idle(self) -> list[Sequence]:
        return [sequence for sequence in self._sequences if not sequence.busy]

    def _shared(self, prompt: Tokens[int], fresh: int = 1) -> Iterator[tuple[Sequence, int]]:
        for sequence in self._sequences:
            yield sequence, min(shared_length(sequence.tokens, prompt), len(prompt) - fresh)


def shared_length(one: Tokens[int], other: Tokens[int]) -> int:
    """How many tokens two sequences begin with alike."""
    import numpy as np

    length = min(len(one), len(other))
    if not length:
        return 0
    differ = np.frombuffer(one, np.int32, length) != np.frombuffer(other, np.int32, length)
    first = int(differ.argmax())
    return first if differ[first] else length


def respelled(
    prompt: Tokens[int], written: Tokens[int], text_of: Callable[[int], bytes | None]
) -> tuple[Tokens[int], int]:
    """The prompt in the tokens of what was written, as far as both are the same text, and how many these are."""
    spelled = prompt[:]
    while True:
        parted = shared_length(spelled, written)
        met = _meeting(spelled[parted:], written[parted:], text_of)
        if met is None:
            return spelled, parted
        spelled[parted : parted + met[0]] = written[parted : parted + met[1]]


def _meeting(one: Tokens[int], other: Tokens[int], text_of: Callable[[int], bytes | None]) -> tuple[int, int] | None:
    """How many tokens of two sequences, which begin otherwise, are the same text; the fewest. None if none are."""
    taken = [0, 0]
    texts = [b"", b""]
    while not texts[0] or texts[0] != texts[1]:
        behind = 0 if len(texts[0]) <= len(texts[1]) else 1
        tokens = (one, other)[behind]
        text = text_of(tokens[taken[behind]]) if taken[behind] < len(tokens) else None
        if text is None:
            return None
        taken[behind] += 1
        texts[behind] += text
        if not (texts[0].startswith(texts[1]) or texts[1].startswith(texts[0])):
            return None
    return taken[0], taken[1]
