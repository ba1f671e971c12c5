"""A GGUF model in memory: its weights, its vocabulary, and one context to decode in.

Everything here goes through llama-cpp-python's low-level functions, which are llama.cpp's C API one to one
(``llama.h``). Nothing here is safe to call from two threads at once: the engine's thread owns it.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentkit.errors import ContextOverflowError, MissingExtraError, ModelLoadError, ProviderError

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLTokenizer
    from numpy.typing import NDArray

__all__ = ["LlamaContext", "LlamaModel", "check_gguf", "import_llama_cpp"]

PREFILL_BATCH: Final = 512
"""Prompt tokens evaluated at once; between two batches a cancelled run can leave."""

_MARKER: Final = re.compile(r"<.*>|\[.*\]", re.DOTALL)

_log_tail: list[str] = []  # llama.cpp says why it fails only in its log


def import_llama_cpp() -> ModuleType:
    """llama-cpp-python, with its log kept from the terminal.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with _short_spin():
            import llama_cpp
        import llguidance  # noqa: F401 - the other half of the extra
    except ImportError as error:
        raise MissingExtraError("a local model", "local") from error
    library: ModuleType = llama_cpp
    _silence(library)
    return library


def check_gguf(path: Path) -> None:
    """Refuse at once what is certainly no model file.

    Raises:
        ModelLoadError: missing, not a file, unreadable, or without the magic bytes of a GGUF.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelLoadError(f"Model file {str(path)!r} cannot be read: {error.strerror}") from error
    if magic != b"GGUF":
        raise ModelLoadError(
            f"{str(path)!r} is no GGUF model: it begins with {magic!r}, not b'GGUF'. "
            "Convert the model with llama.cpp's convert_hf_to_gguf.py, or download a .gguf file"
        )


class LlamaModel:
    """Weights and vocabulary.

    Args:
        path: a GGUF file.
        n_gpu_layers: layers on the GPU, -1 for all of them.

    Raises:
        ModelLoadError: llama.cpp cannot load the file; the message holds what llama.cpp said.
    """

    def __init__(self, path: Path, n_gpu_layers: int) -> None:
        check_gguf(path)
        self.path = path
        self._lib = import_llama_cpp()
        self._lib.llama_backend_init()
        parameters = self._lib.llama_model_default_params()
        parameters.n_gpu_layers = n_gpu_layers
        _log_tail.clear()
        self.handle = self._lib.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.handle:
            raise ModelLoadError(f"llama.cpp cannot load {str(path)!r}: {_last_log() or 'it does not say why'}")
        self.vocab = self._lib.llama_model_get_vocab(self.handle)
        self.n_vocab: int = self._lib.llama_vocab_n_tokens(self.vocab)
        self.n_ctx_train: int = self._lib.llama_model_n_ctx_train(self.handle)

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja source in the GGUF, if there is one."""
        return self.metadata("tokenizer.chat_template")

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn."""
        return frozenset(t for t in range(self.n_vocab) if self._lib.llama_vocab_is_eog(self.vocab, t))

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The tokens that are more than their text, by it: no ordinary text may turn into one of them.

        Control tokens, and user-defined ones that look like markers: many vocabularies also define runs of spaces.
        """
        control, defined = self._lib.LLAMA_TOKEN_ATTR_CONTROL, self._lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        found: dict[str, int] = {}
        for token in range(self.n_vocab):
            attributes: int = self._lib.llama_vocab_get_attr(self.vocab, token)
            if attributes & (control | defined):
                text = self.piece(token).decode(errors="replace")
                if text and (attributes & control or _MARKER.fullmatch(text)):
                    found[text] = token
        return found

    @cached_property
    def grammar_tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance reads it. Takes about a second for a large one."""
        from llguidance import LLTokenizer

        special = set(self.special_tokens.values())
        # As llguidance's own bridge does it, which calls a deprecated function: 0xFF marks a special token.
        pieces = [b"\xff" * (token in special) + self.piece(token) for token in range(self.n_vocab)]
        tokenize = ctypes.cast(self._lib.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
        return LLTokenizer.from_llamacpp(
            tokens=pieces, vocab_ptr=self.vocab, tokenize_fptr=tokenize, eos_token=sorted(self.end_tokens), slices=None
        )

    @property
    def bos_text(self) -> str:
        """The text of the token that begins a prompt; empty if the vocabulary has none."""
        return self._token_text(self._lib.llama_vocab_bos(self.vocab))

    @property
    def eos_text(self) -> str:
        """The text of the token that ends a text; empty if the vocabulary has none."""
        return self._token_text(self._lib.llama_vocab_eos(self.vocab))

    def metadata(self, key: str) -> str | None:
        """A string from the GGUF's metadata."""
        size: int = self._lib.llama_model_meta_val_str(self.handle, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, size + 1)
        return buffer.value.decode(errors="replace")

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        """Text → tokens.

        Args:
            special: read special tokens' texts as these tokens, as a template means them.
            begin: put the begin-of-sequence token first, if the model wants one.
        """
        raw = text.encode(errors="replace")
        size = len(raw) + 2
        tokens = (ctypes.c_int32 * size)()
        count: int = self._lib.llama_tokenize(self.vocab, raw, len(raw), tokens, size, begin, special)
        if count < 0:
            raise ProviderError(f"llama.cpp needs {-count} tokens for {len(raw)} bytes of text: this should not happen")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """A token's bytes, special tokens as their text; a character may be split over several tokens."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length: int = self._lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def close(self) -> None:
        """Free the memory. Contexts must be closed first."""
        if self.handle:
            self._lib.llama_model_free(self.handle)
            self.handle = None

    def _token_text(self, token: int) -> str:
        return self.piece(token).decode(errors="replace") if token >= 0 else ""


class LlamaContext:
    """One sequence being decoded. It keeps what it has evaluated: a prompt that goes on from there costs only the new.

    Args:
        n_ctx: tokens that it can hold.
        n_threads: CPU threads.

    Raises:
        ModelLoadError: llama.cpp cannot make the context, most likely for lack of memory.
    """

    def __init__(self, model: LlamaModel, n_ctx: int, n_threads: int) -> None:
        self._lib = import_llama_cpp()
        self._model = model
        parameters = self._lib.llama_context_default_params()
        parameters.n_ctx = n_ctx
        parameters.n_batch = PREFILL_BATCH
        parameters.n_ubatch = PREFILL_BATCH
        parameters.n_threads = n_threads
        parameters.n_threads_batch = n_threads
        _log_tail.clear()
        self.handle = self._lib.llama_init_from_model(model.handle, parameters)
        if not self.handle:
            raise ModelLoadError(
                f"llama.cpp cannot make a context of {n_ctx} tokens for {model.path.name}: "
                f"{_last_log() or 'out of memory?'}. Try a smaller n_ctx"
            )
        self.n_ctx = n_ctx
        self._evaluated: list[int] = []  # the tokens whose state is in memory

    def prefill(self, prompt: Sequence[int]) -> Iterator[int]:
        """Evaluate a prompt batch by batch, reusing what it shares with what is in memory.

        Yields the number of tokens taken from memory, once, before anything is evaluated, and then after every batch.

        Raises:
            ContextOverflowError: the prompt leaves no room for one token.
        """
        if len(prompt) >= self.n_ctx:
            raise ContextOverflowError(
                f"The prompt has {len(prompt)} tokens, the context holds {self.n_ctx} and needs one for the answer: "
                "shorten the conversation, or give the provider a larger n_ctx",
                tokens=len(prompt),
                limit=self.n_ctx,
            )
        shared = self._rewind(prompt)
        yield shared
        for start in range(shared, len(prompt), PREFILL_BATCH):
            self.decode(prompt[start : start + PREFILL_BATCH])
            yield shared

    def decode(self, tokens: Sequence[int]) -> None:
        """Evaluate tokens behind those in memory.

        Raises:
            ContextOverflowError: no room is left.
            ProviderError: llama.cpp failed; what is in memory is dropped.
        """
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        status: int = self._lib.llama_decode(self.handle, self._lib.llama_batch_get_one(array, len(tokens)))
        if status == 0:
            self._evaluated += tokens
            return
        used = len(self._evaluated)
        self.clear()
        if status == 1:
            raise ContextOverflowError(
                f"The context of {self.n_ctx} tokens is full", tokens=used + len(tokens), limit=self.n_ctx
            )
        raise ProviderError(f"llama.cpp's decode failed with status {status}: {_last_log() or 'it does not say why'}")

    def logits(self) -> NDArray[np.float32]:
        """What the last evaluated token predicts: one number a vocabulary entry. Valid until the next decode."""
        import numpy as np

        pointer = self._lib.llama_get_logits_ith(self.handle, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._model.n_vocab,))

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.n_ctx - len(self._evaluated)

    def clear(self) -> None:
        """Forget everything."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self.handle), True)
        self._evaluated.clear()

    def close(self) -> None:
        """Free the memory."""
        if self.handle:
            self._lib.llama_free(self.handle)
            self.handle = None

    def _rewind(self, prompt: Sequence[int]) -> int:
        """Cut the memory back to what it shares with the prompt; the prompt's last token is always evaluated anew."""
        shared = 0
        for mine, theirs in zip(self._evaluated, prompt[:-1], strict=False):
            if mine != theirs:
                break
            shared += 1
        if shared == len(self._evaluated):
            return shared
        memory = self._lib.llama_get_memory(self.handle)
        # A recurrent or sliding-window memory cannot be cut: llama.cpp says no, and all of it is evaluated again.
        if shared == 0 or not self._lib.llama_memory_seq_rm(memory, 0, shared, -1):
            self.clear()
            return 0
        del self._evaluated[shared:]
        return shared


@contextmanager
def _short_spin() -> Iterator[None]:
    """Have OpenMP's threads sleep soon when they wait for one another, while its library is loaded.

    It reads its settings only then. By default they spin, and on a machine with other work they spin away the time
    that the thread they wait for would need: decoding was 100 times slower on two busy cores.
    """
    if "llama_cpp" in sys.modules or {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "10000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _silence(llama_cpp: ModuleType) -> None:
    if not hasattr(_silence, "callback"):

        @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
        def keep(level: int, text: bytes, data: object) -> None:
            if level in (3, 4, 5) or level == 2:  # errors and warnings, and their continuations
                _log_tail.append(text.decode(errors="replace"))
                del _log_tail[:-20]

        _silence.callback = keep  # type: ignore[attr-defined]  # llama.cpp keeps only the address
    llama_cpp.llama_log_set(_silence.callback, ctypes.c_void_p(0))  # type: ignore[attr-defined]


def _last_log() -> str:
    lines = [line.strip() for line in "".join(_log_tail).splitlines() if line.strip()]
    return "; ".join(lines[-2:])
