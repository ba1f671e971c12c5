"""llama.cpp's context: many sequences in one memory, evaluated together.

Nothing here is safe to call from two threads at once: the engine's thread owns it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agentkit.errors import ModelLoadError, ProviderError
from agentkit.providers.llama_cpp.batches import BATCH, OUTPUTS, Batch, ImageBatch, ImageChunk
from agentkit.providers.llama_cpp.model import LlamaModel, begin_log, last_log

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CacheType", "ContextOptions", "LlamaContext", "bytes_per_token"]

CacheType = Literal["f32", "f16", "q8_0", "q4_0"]
_BYTES: Final[dict[CacheType, float]] = {"f32": 4, "f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How a context is made.

    Args:
        cells: tokens that all sequences can hold together; one that several share counts once.
        sequences: that can exist at the same time.
        threads: of the CPU.
        flash_attention: True, False, or None where llama.cpp decides by the device.
        cache_type: the numbers in which keys and values are kept.
    """

    cells: int
    sequences: int
    threads: int
    flash_attention: bool | None = None
    cache_type: CacheType = "f16"


class LlamaContext:
    """The memory of a model's sequences, and the means to go on in them.

    Raises:
        ModelLoadError: llama.cpp cannot make the context, most likely for lack of memory.
    """

    def __init__(self, model: LlamaModel, options: ContextOptions) -> None:
        lib = self._lib = model.library
        self._n_vocab = model.n_vocab
        self.cuttable = not (lib.llama_model_is_recurrent(model.handle) or lib.llama_model_is_hybrid(model.handle))
        begin_log()
        self.handle = lib.llama_init_from_model(model.handle, self._parameters(options))
        if not self.handle:
            raise ModelLoadError(
                f"llama.cpp cannot make a context of {options.cells} tokens for {model.path.name}: "
                f"{last_log() or 'out of memory?'}. Try a smaller n_ctx or kv_cache_bytes"
            )
        self._memory = lib.llama_get_memory(self.handle)
        self.batch = Batch(lib.llama_batch)

    def _parameters(self, options: ContextOptions) -> ctypes.Structure:
        parameters: ctypes.Structure = self._lib.llama_context_default_params()
        settings = {
            "n_ctx": options.cells,
            "n_seq_max": options.sequences,
            "n_batch": options.cells,  # an image may be longer than what is computed at once
            "n_ubatch": BATCH,
            "n_outputs_max": options.sequences + OUTPUTS,  # room for all tokens of a batch would be much
            "n_threads": options.threads,
            "n_threads_batch": options.threads,
            "flash_attn_type": -1 if options.flash_attention is None else int(options.flash_attention),
            "type_k": getattr(self._lib, f"GGML_TYPE_{options.cache_type.upper()}"),
            "type_v": getattr(self._lib, f"GGML_TYPE_{options.cache_type.upper()}"),
            "kv_unified": True,  # a prefix that sequences share lies in memory once
            "swa_full": True,  # a sliding window that forgot could not be cut back to a shared prefix
            "no_perf": True,
        }
        for name, value in settings.items():
            setattr(parameters, name, value)
        return parameters

    def image_batch(self, chunk: ImageChunk, sequence: int, position: int) -> ImageBatch:
        """An image chunk, to go on a sequence at its end."""
        return ImageBatch(self._lib.llama_batch, chunk, sequence, position)

    def decode(self, batch: Batch | ImageBatch) -> bool:
        """Evaluate what is in the batch. False, with nothing done, where the memory has no room for it.

        Raises:
            ProviderError: llama.cpp failed; no sequence in the batch can be trusted any more.
        """
        batch.struct.n_tokens = batch.size
        begin_log()
        if not batch.causal:
            self._lib.llama_set_causal_attn(self.handle, False)
        status: int = self._lib.llama_decode(self.handle, batch.struct)
        if not batch.causal:
            self._lib.llama_set_causal_attn(self.handle, True)
        if status in (0, 1):
            return status == 0
        raise ProviderError(f"llama.cpp's decode failed with status {status}: {last_log() or 'it does not say why'}")

    def logits(self) -> NDArray[np.float32]:
        """The predictions that the batch asked for, a row each, one number a vocabulary entry. Valid until `decode`."""
        import numpy as np

        pointer = self._lib.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(self.batch.outputs, self._n_vocab))

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the target, which is empty, share the source's first tokens; all of them where it is not `cuttable`."""
        end = length if self.cuttable else -1
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0 if self.cuttable else -1, end)

    def cut(self, sequence: int, length: int) -> None:
        """Forget a sequence's tokens from ``length`` on. What is not `cuttable` can only be forgotten whole."""
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, length if length else -1, -1):
            raise ProviderError(f"llama.cpp cannot cut a sequence of this model back to {length} tokens")

    def clear(self) -> None:
        """Forget everything."""
        self._lib.llama_memory_clear(self._memory, True)

    def state(self, sequence: int) -> bytes:
        """A sequence's memory, to be kept."""
        size: int = self._lib.llama_state_seq_get_size(self.handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written: int = self._lib.llama_state_seq_get_data(self.handle, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Put a kept memory into a sequence, which is empty. False, with nothing done, if it does not fit."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read: int = self._lib.llama_state_seq_set_data(self.handle, buffer, len(state), sequence)
        return read == len(state)

    def close(self) -> None:
        """Free the memory."""
        if self.handle:
            self._lib.llama_free(self.handle)
            self.handle = None


def bytes_per_token(model: LlamaModel, cache_type: CacheType) -> float:
    """What one token takes in the memory of keys and values, all layers together."""
    return model.kv_width * _BYTES[cache_type]
