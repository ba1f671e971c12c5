"""Evaluated prompts on disk: what a long system prompt came to, so that the next process need not evaluate it.

A file is named by all that its content depends on: the model, llama.cpp's build, the type of the cache, and the tokens.
It carries its own checksum, since llama.cpp trusts what it is given.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from agentkit.providers.llama_cpp.model import LlamaModel
from agentkit.providers.llama_cpp.sequences import Tokens

__all__ = ["StateStore"]

MAX_BYTES: Final = 4 << 30
"""Of all files in the folder: the ones used least recently are removed to stay below."""

_FINGERPRINTED: Final = 1 << 20
"""Bytes at each end of a model file that tell it from others, together with its size and date."""


class StateStore:
    """The states of one model's prompts in a folder, which several models and processes may share.

    A file that cannot be read, written or trusted is as good as none: the prompt is then evaluated.
    """

    def __init__(self, folder: Path, model: LlamaModel, cache_type: str) -> None:
        self._folder = folder
        library = model.library
        build = f"{library.__version__} {library.llama_print_system_info().decode(errors='replace')}"
        self._origin = hashlib.sha256(f"{_fingerprint(model.path)} {build} {cache_type}".encode()).digest()

    def load(self, tokens: Tokens[int]) -> bytes | None:
        """The state after these tokens, if it is there and whole."""
        path = self._path(tokens)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        state = content[32:]
        if hashlib.sha256(state).digest() != content[:32]:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # it was used just now
        return state

    def save(self, tokens: Tokens[int], state: bytes) -> None:
        """Keep the state after these tokens. A full disk keeps nothing and harms nothing."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(state))
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(state).digest())
                    file.write(state)
                Path(temporary).replace(self._path(tokens))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _path(self, tokens: Tokens[int]) -> Path:
        return self._folder / f"{hashlib.sha256(self._origin + tokens.tobytes()).hexdigest()}.state"

    def _make_room(self, size: int) -> None:
        files = sorted(
            (file.stat().st_mtime, file.stat().st_size, file) for file in self._folder.glob(f"{'[0-9a-f]' * 64}.state")
        )
        total = size + sum(found[1] for found in files)
        for _, length, file in files:
            if total <= MAX_BYTES:
                return
            file.unlink(missing_ok=True)
            total -= length


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_FINGERPRINTED))
        file.seek(max(0, path.stat().st_size - _FINGERPRINTED))
        digest.update(file.read(_FINGERPRINTED))
    return f"{digest.hexdigest()} {path.stat().st_size} {path.stat().st_mtime_ns}"
