"""Tokens of what a model wrote, found again in a prompt that the tokenizer splits otherwise."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from agentkit.providers.llama_cpp.sequences import respelled, shared_length

SPECIAL = 9
"""More than its text, which is ``ab``."""
PIECES = {1: b"a", 2: b"b", 3: b"ab", 4: b"ba", 5: b"aba", 6: b"c", SPECIAL: b"ab"}


def text_of(token: int) -> bytes | None:
    return None if token == SPECIAL else PIECES[token]


def text(tokens: array[int]) -> bytes:
    return b"".join(PIECES[token] for token in tokens)


def lists(of: list[int]) -> st.SearchStrategy[array[int]]:
    return st.lists(st.sampled_from(of), max_size=12).map(lambda found: array("i", found))


tokens = lists(list(PIECES))
words = lists([token for token in PIECES if token != SPECIAL])


@given(tokens, tokens)
def test_a_prompt_keeps_its_text_and_shares_more(prompt: array[int], written: array[int]) -> None:
    spelled, shared = respelled(prompt, written, text_of)
    assert text(spelled) == text(prompt)
    assert spelled.count(SPECIAL) == prompt.count(SPECIAL)
    assert shared == shared_length(spelled, written) >= shared_length(prompt, written)


@given(tokens, words, words, tokens)
def test_what_is_the_same_text_is_shared(
    before: array[int], one: array[int], other: array[int], after: array[int]
) -> None:
    """As far as there is a place in it where a token ends in both."""
    written = before + other
    _, shared = respelled(before + one + after, written, text_of)
    ends = [{text(before + words[:end]) for end in range(len(words) + 1)} for words in (one, other)]
    assert len(text(written[:shared])) >= len(max(ends[0] & ends[1], key=len))
