from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.errors import ModelLoadError, UnknownModelError
from agentkit.parsing import DIALECTS
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.catalog import KNOWN, hub_name, model_path
from agentkit.providers.llama_cpp.gguf_files import GgufModel, choose, gguf_models

REPO = "models--owner--repo-GGUF"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path, file: str, repo: str = REPO, content: bytes = b"GGUF") -> Path:
    path = cache / repo / "snapshots" / "abc" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_pulled_model_is_found_by_file_and_by_quantisation(cache: Path) -> None:
    path = put(cache, "model-Q4_K_M.gguf")
    put(cache, "model-Q8_0.gguf")
    for wanted in ("", ":Q4_K_M", ":q4_k_m", ":model-Q4_K_M.gguf"):
        assert model_path(f"hf/owner/repo-GGUF{wanted}") == path
    assert LlamaCppProvider("hf/owner/repo-GGUF:Q4_K_M").path == path


def test_a_short_name_is_a_repository_and_a_quantisation(cache: Path) -> None:
    path = put(cache, "Qwen3-4B-Q4_K_M.gguf", "models--Qwen--Qwen3-4B-GGUF")
    assert model_path("qwen3-4b") == path


@pytest.mark.parametrize(
    ("name", "pull"),
    [
        ("qwen3-4b", "agentkit models pull qwen3-4b"),
        ("hf/owner/other-GGUF", "agentkit models pull owner/other-GGUF"),
        ("hf/owner/repo-GGUF:Q8_0", "agentkit models pull owner/repo-GGUF:Q8_0"),
        ("hf/owner/repo-GGUF:Q2_K", "agentkit models pull owner/repo-GGUF:Q2_K"),  # a part of it is missing
    ],
)
def test_what_is_not_there_says_how_to_pull_it(cache: Path, name: str, pull: str) -> None:
    put(cache, "model-Q4_K_M.gguf")
    put(cache, "model-Q2_K-00001-of-00002.gguf")
    with pytest.raises(UnknownModelError, match=f"^llama_cpp:{re.escape(name)} is not on this machine yet: {pull}$"):
        model_path(name)


def test_what_is_ambiguous_is_listed(cache: Path) -> None:
    put(cache, "one-Q8_0.gguf")
    put(cache, "two-Q8_0.gguf")
    with pytest.raises(UnknownModelError, match=r"has 2 models that fit 'Q8_0'; name one .*: one-Q8_0.gguf, two-Q8_0"):
        model_path("hf/owner/repo-GGUF:Q8_0")


def test_what_was_pulled_may_be_broken(cache: Path) -> None:
    put(cache, "model.gguf", content=b"<htm")
    with pytest.raises(ModelLoadError, match="no GGUF model"):
        model_path("hf/owner/repo-GGUF")


def test_wrong_names() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'qwen3-4b'"):
        model_path("qwen3-4")
    for name in ("hf/owner", "hf/../../etc/passwd", "hf/a/b/c", "hf/"):
        with pytest.raises(UnknownModelError, match="names no model: write OWNER/REPO"):
            model_path(name)


def test_a_provider_is_made_without_huggingface_hub(cache: Path) -> None:
    put(cache, "model-Q4_K_M.gguf")
    code = (
        "import sys; from agentkit.providers.llama_cpp import LlamaCppProvider; "
        "LlamaCppProvider('hf/owner/repo-GGUF'); print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_table() -> None:
    sizes = [model.size for model in KNOWN.values()]
    assert sizes == sorted(sizes)
    for model in KNOWN.values():
        assert hub_name(f"llama_cpp:{model.name}") == (model.repo, model.quant)
        assert model.dialect in DIALECTS


def one(*files: str, wanted: str = "") -> str:
    return choose(gguf_models(files), wanted, "owner/repo").label


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Model.Q4_K_M.gguf", "q4_k_m"),
        ("model_Q4_K_M.gguf", "Q4_K_M"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Model-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("F16/model-F16-00001-of-00002.gguf", "F16"),
    ],
)
def test_a_quantisation_in_a_name(file: str, quant: str) -> None:
    assert GgufModel((file,)).has_quant(quant)


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("model-Q4_K_M.gguf", "Q4_K"),
        ("model-IQ4_XS.gguf", "Q4_XS"),
        ("model-BF16.gguf", "F16"),
        ("Q8_0/model-Q4_0.gguf", "Q8_0"),
    ],
)
def test_a_part_of_a_word_is_no_quantisation(file: str, quant: str) -> None:
    assert not GgufModel((file,)).has_quant(quant)


def test_the_preferred_quantisation() -> None:
    assert one("m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-F16.gguf") == "m-Q4_K_M.gguf"
    assert one("m-Q2_K.gguf", "m-Q8_0.gguf", "m-F16.gguf") == "m-Q8_0.gguf"
    assert one("m.gguf") == "m.gguf"
    assert one("m-strange.gguf", "mmproj-m-F16.gguf", "m-imatrix.gguf", "README.md") == "m-strange.gguf"
    with pytest.raises(UnknownModelError, match=r"2 models of no usual quantisation; name one .*: a.gguf, b.gguf$"):
        one("a.gguf", "b.gguf")


def test_parts_are_one_model() -> None:
    parts = [f"m-Q8_0-{number:05}-of-00003.gguf" for number in (2, 3, 1)]
    [whole] = gguf_models(parts)
    assert (whole.files, whole.complete) == (tuple(sorted(parts)), True)
    assert [model.complete for model in gguf_models(parts[:2])] == [False]
    for wanted in ("Q8_0", "m-Q8_0-00002-of-00003.gguf"):
        assert one(*parts, wanted=wanted) == "m-Q8_0-00001-of-00003.gguf"
