"""Logits → the next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.errors import ProviderError
from agentkit.limits import ModelSettings

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

    from agentkit.providers.llama_cpp.model import LlamaModel

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens for one turn, under a grammar if there is one.

    Args:
        settings: ``temperature`` 0, or none given, takes the likeliest token; ``top_p`` is 1 unless given; ``seed``
            repeats a sampled turn.
        grammar: in llguidance's Lark.

    Raises:
        ProviderError: the grammar does not compile: it is too complex, or a schema in it is not sound.
    """

    def __init__(self, model: LlamaModel, settings: ModelSettings, grammar: str | None) -> None:
        import numpy as np

        self._model = model
        self._temperature = settings.temperature or 0.0
        self._top_p = 1.0 if settings.top_p is None else settings.top_p
        self._random = np.random.default_rng(settings.seed)
        self._matcher = _matcher(model, grammar) if grammar else None

    @property
    def finished(self) -> bool:
        """The grammar allows nothing more."""
        return self._matcher is not None and self._matcher.is_stopped()

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token.

        Raises:
            ProviderError: the grammar met one of its limits.
        """
        if self._matcher is None:
            return self._choose(logits)
        token = self._choose(self._allowed(self._matcher, logits))
        if not self._matcher.consume_token(token):
            raise ProviderError(f"The grammar of the tools failed: {self._matcher.get_error()}")
        return token

    def _allowed(self, matcher: LLMatcher, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.is_error():
            raise ProviderError(f"The grammar of the tools failed: {matcher.get_error()}")
        allowed = np.unpackbits(mask, bitorder="little", count=len(logits))
        return np.where(allowed, logits, -np.inf)

    def _choose(self, logits: NDArray[np.float32]) -> int:
        import numpy as np

        if self._temperature == 0.0:
            return int(logits.argmax())
        scaled = (logits - logits.max()).astype(np.float64) / self._temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        order = np.argsort(weights)[::-1]
        kept = order[: int(np.searchsorted(np.cumsum(weights[order]), self._top_p)) + 1]
        return int(self._random.choice(kept, p=weights[kept] / weights[kept].sum()))


def _matcher(model: LlamaModel, grammar: str) -> LLMatcher:
    from llguidance import LLMatcher

    matcher = LLMatcher(model.grammar_tokenizer, grammar, log_level=0)
    if matcher.is_error():
        raise ProviderError(f"The tools' schemas make no grammar: {matcher.get_error()}")
    return matcher
