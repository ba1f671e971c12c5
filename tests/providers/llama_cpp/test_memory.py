"""Every kind of model memory: what is shared, cut, copied and restored gives what a fresh evaluation gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agentkit import Message, ModelSettings
from agentkit.providers.llama_cpp import LlamaCppProvider
from tests import tiny_models

KINDS = {
    "recurrent": tiny_models.write_recurrent,
    "hybrid": tiny_models.write_hybrid,
    "sliding": tiny_models.write_sliding,
}
SYSTEM = Message("system", "You are one of many agents, and all of you begin with these same words. " * 3)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Callable[[Path], Path] = KINDS[request.param]
    return write(tmp_path / f"{request.param}.gguf")


async def say(provider: LlamaCppProvider, conversation: Sequence[Message]) -> str:
    return (await provider.complete(conversation, settings=ModelSettings(max_tokens=24))).text


def fresh(model: Path, conversation: Sequence[Message]) -> str:
    """Evaluated by an engine that has seen nothing else."""
    return asyncio.run(say(LlamaCppProvider(model, n_ctx=1024, parallel=1), conversation))


def test_conversations_that_fork_and_interleave_are_as_if_each_were_alone(model: Path) -> None:
    provider = LlamaCppProvider(model, n_ctx=1024, parallel=4)

    async def go() -> list[tuple[list[Message], str]]:
        said: list[tuple[list[Message], str]] = []
        conversations = [[SYSTEM, Message("user", f"Begin {n}")] for n in range(5)]
        for turn in range(3):
            answers = await asyncio.gather(*(say(provider, conversation) for conversation in conversations))
            for conversation, answer in zip(conversations, answers, strict=True):
                said.append((list(conversation), answer))
                conversation += [Message("assistant", answer), Message("user", f"Turn {turn}")]
        fork = [*conversations[0][:4], Message("user", "Another way")]
        said.append((fork, await say(provider, fork)))
        return said

    said = asyncio.run(go())
    statistics = provider.statistics
    assert statistics.reused > statistics.evaluated
    for conversation, answer in said:
        assert fresh(model, conversation) == answer


def test_what_is_forgotten_is_evaluated_again(model: Path) -> None:
    """Room for little more than one conversation: idle ones are evicted, active ones give way to one another."""
    provider = LlamaCppProvider(model, n_ctx=512, parallel=3, kv_cache_bytes=1)
    conversations = [[Message("user", f"{n} " * 70)] for n in range(6)]

    async def go() -> Sequence[str]:
        return await asyncio.gather(*(say(provider, conversation) for conversation in conversations))

    answers = asyncio.run(go())
    if model.stem != "recurrent":  # whose memory does not grow with the conversation
        assert provider.statistics.preempted + provider.statistics.evicted > 0
    for conversation, answer in zip(conversations, answers, strict=True):
        assert fresh(model, conversation) == answer


def test_a_state_on_disk_serves_the_next_process(model: Path, tmp_path: Path) -> None:
    conversation = [SYSTEM, Message("user", "Hello")]

    def another() -> LlamaCppProvider:
        return LlamaCppProvider(model, n_ctx=1024, cache_dir=tmp_path / "states")

    first = another()
    expected = asyncio.run(say(first, conversation))
    assert first.statistics.reused == 0
    asyncio.run(first.close())

    second = another()
    assert asyncio.run(say(second, conversation)) == expected
    assert second.statistics.reused > 200
    asyncio.run(second.close())

    (file,) = (tmp_path / "states").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")  # damaged: as good as none
    third = another()
    assert asyncio.run(say(third, conversation)) == expected
    assert third.statistics.reused == 0
    assert [found.name for found in (tmp_path / "states").iterdir()] == [file.name]  # and written anew
