"""A job's prompt in other tokens: what lies in it is still where it was."""

from __future__ import annotations

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentkit.providers.llama_cpp.batches import ImageChunk
from agentkit.providers.llama_cpp.jobs import Job

TEXT = st.lists(st.integers(0, 99), max_size=5)
IMAGES = st.lists(st.integers(-(2**31), -1), min_size=1, max_size=4)


def image(ids: list[int]) -> ImageChunk:
    shared = 3  # each position is that of three embeddings
    size = shared * len(ids)
    return ImageChunk(ids, np.zeros((size, 2), np.float32), np.zeros((4, size), np.int32), causal=True)


def job(begin: list[int], parts: list[tuple[list[int], list[int]]]) -> Job:
    """Text, and images that are followed by text."""
    prompt, images = [*begin], {}
    for ids, text in parts:
        images[len(prompt)] = image(ids)
        prompt += [*ids, *text]
    return Job(prompt, images=images)


@given(st.lists(IMAGES), st.data())
def test_images_move_with_their_prompt(images: list[list[int]], data: st.DataObject) -> None:
    written, wanted = (job(data.draw(TEXT), [(ids, data.draw(TEXT)) for ids in images]) for _ in range(2))
    respelled = written.respelled(array("i", wanted.prompt))
    assert list(respelled.prompt) == wanted.prompt
    assert {begin: chunk.ids for begin, chunk in respelled.images.items()} == {
        begin: chunk.ids for begin, chunk in wanted.images.items()
    }
    assert respelled.size() == len(wanted.prompt) + sum(2 * len(ids) for ids in images)


def test_what_is_scored_moves_too() -> None:
    moved = Job([1, 2, 3, 4], scored=range(2, 4)).respelled(array("i", [1, 7, 8, 3, 4]))
    assert moved.scored == range(3, 5)
