"""What a context evaluates at once: the next tokens of several sequences, or an image of one."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BATCH", "OUTPUTS", "Batch", "ImageBatch", "ImageChunk"]

BATCH: Final = 512
"""Tokens evaluated at once, at most."""

OUTPUTS: Final = 64
"""Predictions that can be asked for in one batch, beside one a sequence: each is a number a vocabulary entry."""


class Batch:
    """Tokens of several sequences, to be evaluated together. Filled in place, since it is filled at every step."""

    causal = True

    def __init__(self, llama_batch: type) -> None:
        import numpy as np

        self.size = 0
        self.outputs = 0
        self._tokens = np.zeros(BATCH, np.int32)
        self._positions = np.zeros(BATCH, np.int32)
        self._sequences = np.zeros(BATCH, np.int32)
        self._counts = np.ones(BATCH, np.int32)
        self._wanted = np.zeros(BATCH, np.int8)
        ids, step = self._sequences.ctypes.data, self._sequences.itemsize
        int32, int8 = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int8)
        self._rows = (int32 * BATCH)(*(ctypes.cast(ids + i * step, int32) for i in range(BATCH)))
        self.struct = llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(int32),
            embd=None,
            pos=self._positions.ctypes.data_as(int32),
            n_seq_id=self._counts.ctypes.data_as(int32),
            seq_id=self._rows,
            logits=self._wanted.ctypes.data_as(int8),
        )

    @property
    def room(self) -> int:
        """Tokens that can still be added."""
        return BATCH - self.size

    def clear(self) -> None:
        """Empty it."""
        self.size = self.outputs = 0

    def add(self, sequence: int, position: int, tokens: Sequence[int], *, outputs: int) -> None:
        """Put a sequence's next tokens in; the predictions of the last ``outputs`` of them are wanted."""
        import numpy as np

        start, end = self.size, self.size + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end] = sequence
        self._wanted[start:end] = 0
        self._wanted[end - outputs : end] = 1
        self.size = end
        self.outputs += outputs


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """An image, or one of the tiles that a model sees it in, where it stands among a sequence's tokens.

    Attributes:
        ids: what stands for it there, a negative number for each position: equal images have equal ones, others never.
            Under M-RoPE they are fewer than the embeddings, of which many share a position.
        embeddings: rows of the model's width.
        places: where the embeddings lie, from where it begins: one row of numbers, or M-RoPE's four.
        causal: an embedding sees only those before it. Otherwise all see all, and must be evaluated at once.
    """

    ids: Sequence[int]
    embeddings: NDArray[np.float32]
    places: NDArray[np.int32]
    causal: bool

    @property
    def hidden(self) -> int:
        """Tokens' worth of memory that it takes beyond its positions."""
        return len(self.embeddings) - len(self.ids)


class ImageBatch:
    """An image chunk of one sequence, to be evaluated. Nothing it predicts is wanted: text follows."""

    outputs = 0

    def __init__(self, llama_batch: type, chunk: ImageChunk, sequence: int, position: int) -> None:
        import numpy as np

        self.size = len(chunk.embeddings)
        self.causal = chunk.causal
        self._embeddings = chunk.embeddings
        self._positions = chunk.places.copy()
        self._positions[:3] += position  # the fourth is no position
        self._counts = np.ones(self.size, np.int32)
        self._wanted = np.zeros(self.size, np.int8)
        self._sequence = np.array([sequence], np.int32)
        int32, int8 = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int8)
        self._rows = (int32 * self.size)(*[self._sequence.ctypes.data_as(int32)] * self.size)
        self.struct = llama_batch(
            n_tokens=self.size,
            token=None,
            embd=self._embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            pos=self._positions.ctypes.data_as(int32),
            n_seq_id=self._counts.ctypes.data_as(int32),
            seq_id=self._rows,
            logits=self._wanted.ctypes.data_as(int8),
        )
