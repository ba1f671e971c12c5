"""Models of random weights, which find no end by themselves: their calls end all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit import ModelSettings, Tool, tool
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.circles import Circles
from tests import tiny_models


@tool
def note(text: str) -> str:
    """Note something."""
    return text


@tool
def pay(amount: float) -> str:
    """Pay an amount."""
    return str(amount)


@tool
def plot(values: list[int]) -> str:
    """Plot some values."""
    return str(values)


@pytest.mark.parametrize("asked", [note, pay, plot], ids=lambda asked: str(asked.name))
@pytest.mark.parametrize("write", [tiny_models.write_sliding, tiny_models.write_hybrid])
def test_a_call_comes_to_its_end(tmp_path: Path, write: Callable[[Path], Path], asked: Tool[..., str]) -> None:
    provider = LlamaCppProvider(write(tmp_path / "model.gguf"), n_ctx=2048)
    settings = ModelSettings(max_tokens=800)
    response = asyncio.run(provider.complete("Do it.", tools=[asked], tool_choice="required", settings=settings))
    assert response.problems == []
    assert [call.name for call in response.calls] == [asked.name]


def written(pieces: list[str]) -> Callable[[int, bytes], bool] | None:
    """What would go on with these pieces, each a token of its own kind."""
    circles = Circles()
    for piece in pieces:
        circles.add(hash(piece), piece.encode())
    return circles.going_on()


def test_what_repeats_is_left_and_what_people_mean_is_not() -> None:
    words = [f"word {number}" for number in range(16)]
    for pieces in ([" ha"], ["0", ", "], words):
        leaves = written((pieces * 128)[:128])
        assert leaves is not None
        assert all(leaves(hash(piece), piece.encode()) for piece in pieces)
        assert not leaves(hash('"'), b'"')
    assert written((["0", ", "] * 128)[:127]) is None
    assert written([str(number) + ", " for number in range(200)]) is None
    assert written([*([" ha"] * 127), "!", *([" ha"] * 20)]) is None
    assert written([*words, "one more"] * 20) is None


def test_digits_come_to_an_end_whatever_they_are() -> None:
    digits = "".join(str(number * number) for number in range(99))
    leaves = written(["1.", *digits[:128]])
    assert leaves is not None
    assert leaves(1, b"7") and leaves(2, b"e5") and not leaves(3, b"}")
    assert written(["1.", *digits[:127]]) is None
    assert written([digits[start : start + 3] for start in range(0, 129, 3)]) is not None
    assert written([*digits[:100], ", ", *digits[:100]]) is None
