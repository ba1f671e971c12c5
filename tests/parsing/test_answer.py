"""One JSON value, out of the text that a model put around it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.parsing.answer import json_in
from agentkit.parsing.literals import Unreadable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, min_size=1)
PROSE = st.text(st.characters(exclude_characters="{}[]`\"'"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ("[1, 2]", [[1, 2]]),
        ("{'a': True,}", [{"a": True}]),
        ('```json\n{"a": 1}\n```', [{"a": 1}]),
        ('It is:\n```\n{"a": 1}\n```\nas you can see.', [{"a": 1}]),
        ('```json\n{"a": 1}', [{"a": 1}]),
        ('```sh\nls\n```\n```json\n[{"a": 1}]\n```', [[{"a": 1}]]),
        ('The answer is {"a": {"b": 1}}. Really.', [{"a": {"b": 1}}]),
        ('Not {curly} prose, but {"a": 1}', [{"a": 1}]),
        ('First {"a": 1}, then {"a": 2}.', [{"a": 1}, {"a": 2}]),
        ('{"code": "```py\\nx\\n```"}', [{"code": "```py\nx\n```"}]),
    ],
)
def test_where_it_stands(text: str, values: list[object]) -> None:
    assert json_in(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I do not know.",
        "see [1]",
        '{"outer": {"inner": 1}, oops',  # the inner one is not the answer
        'First {"a": 1}, then {"a": 2 3}.',
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(Unreadable):
        json_in(text)


@given(OBJECTS, PROSE, PROSE)
def test_prose_and_fences_around_an_object_do_not_matter(value: dict[str, object], before: str, after: str) -> None:
    text = json.dumps(value)
    assert json_in(f"So: {before}{text}{after}") == [value]
    assert json_in(f"{before}\n```json\n{text}\n```\n{after}") == [value]


@given(st.text("{}[]\"':,`\n a1\\") | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert json_in(text)
