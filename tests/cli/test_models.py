from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Command


def rows(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_with_nothing_configured(agentkit: Command) -> None:
    found = rows(agentkit("models"))
    assert found[0] == ["default", "llama_cpp:smollm2", "AGENTKIT_MODEL is not set"]
    assert ["bundled", "llama_cpp:smollm2", "98 MB"] in found
    assert ["provider", "openai", "OPENAI_API_KEY is not set"] in found
    for name in ("openai_responses", "completions"):
        assert ["provider", name, "OPENAI_API_KEY is not set"] in found
    assert ["provider", "litellm", "reads the vendor's key"] in found
    assert not [row for row in found if row[0] == "pulled"]


def test_configured_and_pulled(agentkit: Command) -> None:
    secret = "sk-very-secret"
    agentkit.env |= {"AGENTKIT_MODEL": "openai:gpt-5", "OPENAI_API_KEY": secret}
    agentkit.env["HF_HOME"] = str(agentkit.folder / "hf")
    snapshot = agentkit.folder / "hf/hub/models--owner--repo/snapshots/abc"
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "sub/model.gguf").write_bytes(b"x" * 2_000_000)
    (snapshot / "unfinished.gguf").symlink_to(snapshot / "nowhere")
    done = agentkit("models")
    found = rows(done)
    assert found[0] == ["default", "openai:gpt-5", "AGENTKIT_MODEL says so"]
    pulled = [row for row in found if row[0] == "pulled"]
    assert pulled == [["pulled", "llama_cpp:hf/owner/repo:sub/model.gguf", "2 MB"]]
    assert agentkit("models", "list").stdout == done.stdout
    assert ["provider", "openai", "OPENAI_API_KEY is set"] in found
    assert secret not in done.stdout
