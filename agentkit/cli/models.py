"""`agentkit models`: which models are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from agentkit.cli.screen import print_table, size
from agentkit.errors import MissingExtraError
from agentkit.providers import default_model, provider_names

__all__ = ["models"]

MOST_CACHED: Final = 200
"""GGUF files of the cache that are listed."""

_KEYS: Final = {"openai": "OPENAI_API_KEY"}

Row = tuple[str, str, str]


def models() -> None:
    """List the models at hand: the default, the bundled, the cached, and which providers have a key."""
    print_table([_default(), *_bundled(), *_cached(), *_providers()])


def _default() -> Row:
    chosen = "AGENTKIT_MODEL says so" if os.environ.get("AGENTKIT_MODEL") else "AGENTKIT_MODEL is not set"
    return "default", default_model(), chosen


def _bundled() -> Iterator[Row]:
    from agentkit.providers.llama_cpp.catalog import BUNDLED, bundled_path

    for name in BUNDLED:
        try:
            details = size(bundled_path(name).stat().st_size)
        except MissingExtraError as error:
            details = f"not installed: {error}"
        except OSError as error:
            details = f"broken: {error}"
        yield "bundled", f"llama_cpp:{name}", details


def _cached() -> Iterator[Row]:
    # A snapshot's files are links to blobs: a link whose download was not finished leads nowhere.
    found = sorted(path for path in islice(_hub_cache().glob("models--*/snapshots/*/**/*.gguf"), MOST_CACHED))
    for path in found:
        if path.is_file():
            yield "cached", f"llama_cpp:{path}", size(path.stat().st_size)


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloaded, by the variables that it reads."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _providers() -> Iterator[Row]:
    for name in provider_names():
        key = _KEYS.get(name)
        if key is not None:
            yield "provider", name, f"{key} is {'set' if os.environ.get(key) else 'not set'}"
        else:
            yield "provider", name, "runs here, needs no key" if name == "llama_cpp" else "installed by a plugin"
