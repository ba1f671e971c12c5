"""Logits → the next tokens: one that is chosen, and those that the grammar then forces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agentkit.constrain.limits import grammar_fault
from agentkit.errors import ProviderError
from agentkit.limits import ModelSettings
from agentkit.providers.llama_cpp.circles import Circles

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

    from agentkit.providers.llama_cpp.further import Unmentioned
    from agentkit.providers.llama_cpp.model import LlamaModel

__all__ = ["Sampler"]

MAX_GRAMMARS: Final = 64
"""Compiled grammars that a model keeps: one for each set of tools and choice among them."""


class Sampler:
    """Chooses tokens for one turn, under a grammar if there is one.

    Args:
        settings: ``temperature`` 0, or none given, takes the likeliest token; ``top_p`` is 1 unless given; ``seed``
            repeats a sampled turn, as far as llama.cpp repeats its numbers: their last digits depend on what is
            evaluated in the same batch.
        grammar: in llguidance's Lark.
        unmentioned: the turn ends as soon as it may when nothing of this is left, and not before.

    Raises:
        ProviderError: the grammar does not compile: it is too complex, or a schema in it is not sound.
    """

    def __init__(
        self,
        model: LlamaModel,
        settings: ModelSettings,
        grammar: str | None,
        unmentioned: Unmentioned | None = None,
    ) -> None:
        import numpy as np

        self._model = model
        self._unmentioned = unmentioned
        self._circles = Circles()
        self._temperature = settings.temperature or 0.0
        self._top_p = 1.0 if settings.top_p is None else settings.top_p
        self._random = np.random.default_rng(settings.seed)
        self._matcher = compiled(model, grammar).deep_copy() if grammar else None
        self._beginning: list[int] = []

    def begin_with(self, tokens: Sequence[int]) -> None:
        """Have the turn begin so, if its grammar allows it."""
        matcher = self._matcher.deep_copy() if self._matcher else None
        if matcher and matcher.try_consume_tokens(list(tokens)) == len(tokens):
            self._matcher, self._beginning = matcher, list(tokens)

    @property
    def finished(self) -> bool:
        """The grammar allows nothing more, or all that was asked for has been taken up."""
        if self._matcher is None:
            return False
        done = self._unmentioned is not None and self._matcher.is_accepting() and not self._unmentioned.left
        return done or self._matcher.is_stopped()

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token, from what the last one predicts: one number a vocabulary entry.

        Raises:
            ProviderError: the grammar met one of its limits.
        """
        import numpy as np

        matcher = self._matcher
        if matcher is None:
            return self._choose(logits)
        complete = matcher.is_accepting()
        goes_on = complete and self._unmentioned is not None and self._unmentioned.left
        circling = None if complete else self._circles.going_on()
        if self._temperature == 0.0 and not goes_on and not circling:
            # Most often the likeliest token is allowed, and the mask over the whole vocabulary is not needed.
            token = int(logits.argmax())
            if matcher.try_consume_tokens([token]) == 1:
                return self._noted(token)
        allowed = self._allowed(matcher, logits)
        if goes_on:
            ends = list(self._model.end_tokens)
            further = allowed.copy()
            further[ends] = -np.inf
            allowed = further if np.isfinite(further).any() else allowed
        token = self._away(allowed, circling) if circling else self._choose(allowed)
        if not matcher.consume_token(token):
            raise self._failure(matcher)
        return self._noted(token)

    def forced(self) -> list[int]:
        """The tokens that must come next; they need not be sampled.

        A token that could still be the beginning of a longer one, as the tokenizer would have it, is not among them.
        """
        if self._matcher is None:
            return []
        further: list[int] = self._matcher.compute_ff_tokens()
        if further and not self._matcher.consume_tokens(further):
            raise self._failure(self._matcher)
        tokens, self._beginning = [*self._beginning, *further], []
        for token in tokens:
            self._noted(token)
        return tokens

    def _noted(self, token: int) -> int:
        piece = self._model.piece(token)
        self._circles.add(token, piece)
        if self._unmentioned is not None:
            self._unmentioned.add(piece)
        return token

    def _away(self, allowed: NDArray[np.float32], circling: Callable[[int, bytes], bool]) -> int:
        """The likeliest token that does not go round any further; the likeliest of all if there is none."""
        import numpy as np

        likeliest = np.argsort(allowed)[::-1][: np.isfinite(allowed).sum()]
        away = (token for token in map(int, likeliest) if not circling(token, self._model.piece(token)))
        return next(away, int(likeliest[0]))

    def _allowed(self, matcher: LLMatcher, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.is_error():
            raise self._failure(matcher)
        allowed = np.unpackbits(mask, bitorder="little", count=len(logits)).view(np.bool_)
        return np.where(allowed, logits, -np.inf)

    def _choose(self, logits: NDArray[np.float32]) -> int:
        import numpy as np

        if self._temperature == 0.0:
            return int(logits.argmax())
        scaled = (logits - logits.max()).astype(np.float64) / self._temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        order = np.argsort(weights)[::-1]
        # In the vocabulary's order: sorted by likelihood, two tokens that are nearly equal would change places with the
        # last digits of the logits, which depend on what else is in the batch.
        kept = np.sort(order[: int(np.searchsorted(np.cumsum(weights[order]), self._top_p)) + 1])
        return int(self._random.choice(kept, p=weights[kept] / weights[kept].sum()))

    @staticmethod
    def _failure(matcher: LLMatcher) -> ProviderError:
        return ProviderError(f"The grammar of the tools failed: {grammar_fault(matcher.get_error())}")


def compiled(model: LlamaModel, grammar: str) -> LLMatcher:
    """The grammar's matcher at its beginning, to be copied; kept with the model.

    Raises:
        ProviderError: it does not compile.
    """
    from llguidance import LLMatcher

    found = model.grammars.get(grammar)
    if found is None:
        found = LLMatcher(model.grammar_tokenizer, grammar, log_level=0)
        if found.is_error():
            raise ProviderError(f"The tools' schemas make no grammar: {grammar_fault(found.get_error())}")
        model.grammars[grammar] = found
        for oldest in list(model.grammars)[:-MAX_GRAMMARS]:
            model.grammars.pop(oldest, None)
    return found
