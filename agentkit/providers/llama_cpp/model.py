"""A GGUF model in memory: its weights and its vocabulary.

Everything here goes through llama-cpp-python's low-level functions, which are llama.cpp's C API one to one
(``llama.h``). A model does not change once it is loaded: any thread may ask it.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentkit.errors import MissingExtraError, ModelLoadError, ProviderError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["LlamaModel", "begin_log", "check_gguf", "import_llama_cpp", "last_log", "log_callback"]

_END: Final = 32
"""Tokens of a prompt's end that are looked at."""

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
    library.llama_log_set(log_callback(), ctypes.c_void_p(0))
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
        vocabulary_only: load no weights, for a look at the rest.

    Raises:
        ModelLoadError: llama.cpp cannot load the file; the message holds what llama.cpp said.
    """

    def __init__(self, path: Path, n_gpu_layers: int, *, vocabulary_only: bool = False) -> None:
        check_gguf(path)
        self.path = path
        self.library = import_llama_cpp()
        self.library.llama_backend_init()
        parameters = self.library.llama_model_default_params()
        parameters.n_gpu_layers = n_gpu_layers
        parameters.vocab_only = vocabulary_only
        begin_log()
        self.handle = self.library.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.handle:
            raise ModelLoadError(f"llama.cpp cannot load {str(path)!r}: {last_log() or 'it does not say why'}")
        self.vocab = self.library.llama_model_get_vocab(self.handle)
        self.n_vocab: int = self.library.llama_vocab_n_tokens(self.vocab)
        self.n_ctx_train: int = self.library.llama_model_n_ctx_train(self.handle)
        self.grammars: dict[str, LLMatcher] = {}  # compiled ones; `sampling` fills it
        if self.library.llama_model_has_encoder(self.handle) or not self.library.llama_model_has_decoder(self.handle):
            self.close()
            raise ModelLoadError(f"{path.name} does not write text by itself: it is an encoder, or needs one")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja source in the GGUF, if there is one."""
        return self.metadata("tokenizer.chat_template")

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn."""
        return frozenset(t for t in range(self.n_vocab) if self.library.llama_vocab_is_eog(self.vocab, t))

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The tokens that are more than their text, by it: no ordinary text may turn into one of them.

        Control tokens, and user-defined ones that look like markers: many vocabularies also define runs of spaces.
        """
        control, defined = self.library.LLAMA_TOKEN_ATTR_CONTROL, self.library.LLAMA_TOKEN_ATTR_USER_DEFINED
        found: dict[str, int] = {}
        for token in range(self.n_vocab):
            attributes: int = self.library.llama_vocab_get_attr(self.vocab, token)
            if attributes & (control | defined):
                text = self.piece(token).decode(errors="replace")
                if text and (attributes & control or _MARKER.fullmatch(text)):
                    found[text] = token
        return found

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.special_tokens.values())

    @cached_property
    def grammar_tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance reads it. Takes about a second for a large one."""
        from llguidance import LLTokenizer

        # As llguidance's own bridge does it, which calls a deprecated function: 0xFF marks a special token.
        pieces = [b"\xff" * (token in self._special_ids) + self.piece(token) for token in range(self.n_vocab)]
        tokenize = ctypes.cast(self.library.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
        return LLTokenizer.from_llamacpp(
            tokens=pieces, vocab_ptr=self.vocab, tokenize_fptr=tokenize, eos_token=sorted(self.end_tokens), slices=None
        )

    @property
    def kv_width(self) -> int:
        """Numbers that one token adds to the memory of keys and values, over all layers, by the metadata."""
        layers, width = self.number("block_count") or 1, self.number("embedding_length") or 1
        heads = self._per_layer("attention.head_count", layers, 1)
        kv_heads = self._per_layer("attention.head_count_kv", layers, max(heads))
        head = width // max(1, *heads)
        lengths = (self.number("attention.key_length") or head) + (self.number("attention.value_length") or head)
        return max(1, sum(kv_heads) * lengths)

    def number(self, key: str) -> int | None:
        """A whole number from the metadata of the model's architecture."""
        found = self.metadata(f"{self.metadata('general.architecture')}.{key}")
        return int(found) if found and found.isdigit() else None

    def _per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """One number for each layer: some models have one for all of them, some a list."""
        found = self.metadata(f"{self.metadata('general.architecture')}.{key}") or str(default)
        numbers = [int(digits) for digits in re.findall(r"[0-9]+", found)]
        return numbers if len(numbers) > 1 else numbers * layers

    @property
    def bos_text(self) -> str:
        """The text of the token that begins a prompt; empty if the vocabulary has none."""
        return self._token_text(self.library.llama_vocab_bos(self.vocab))

    @property
    def eos_text(self) -> str:
        """The text of the token that ends a text; empty if the vocabulary has none."""
        return self._token_text(self.library.llama_vocab_eos(self.vocab))

    def metadata(self, key: str) -> str | None:
        """A string from the GGUF's metadata."""
        size: int = self.library.llama_model_meta_val_str(self.handle, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        self.library.llama_model_meta_val_str(self.handle, key.encode(), buffer, size + 1)
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
        count: int = self.library.llama_tokenize(self.vocab, raw, len(raw), tokens, size, begin, special)
        if count < 0:
            raise ProviderError(f"llama.cpp needs {-count} tokens for {len(raw)} bytes of text: this should not happen")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """A token's bytes, special tokens as their text; a character may be split over several tokens."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length: int = self.library.llama_token_to_piece(self.vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def plain_piece(self, token: int) -> bytes | None:
        """A token's bytes; None for a special token, and for what stands for an image."""
        return None if token < 0 or token in self._special_ids else self.piece(token)

    def end_of(self, prompt: Sequence[int]) -> str:
        """The end of a prompt, as text: a template may have opened the model's reasoning in it."""
        return b"".join(self.piece(token) for token in prompt[-_END:] if token >= 0).decode(errors="replace")

    def close(self) -> None:
        """Free the memory. Contexts must be closed first."""
        if self.handle:
            self.library.llama_model_free(self.handle)
            self.handle = None

    def _token_text(self, token: int) -> str:
        return self.piece(token).decode(errors="replace") if token >= 0 else ""


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


def begin_log() -> None:
    """Forget what llama.cpp said so far."""
    _log_tail.clear()


@cache
def log_callback() -> object:
    """Where llama.cpp's libraries are to write their log. It is kept, since they keep only its address."""
    import llama_cpp

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, data: object) -> None:
        if level in (3, 4, 5) or level == 2:  # errors and warnings, and their continuations
            _log_tail.append(text.decode(errors="replace"))
            del _log_tail[:-20]

    return keep


def last_log() -> str:
    """What llama.cpp said last, in one line; empty if nothing."""
    lines = [line.strip() for line in "".join(_log_tail).splitlines() if line.strip()]
    return "; ".join(lines[-2:])
