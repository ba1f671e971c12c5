"""A request's JSON: written once, and the same as if it were written anew."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit.limits import ModelSettings
from agentkit.messages import ImagePart, Message, ReasoningPart, TextPart, ToolCall, ToolResult
from agentkit.providers._chat_completions import request_body, written_body
from agentkit.providers._json import Kept, json_list, json_object, json_text
from agentkit.providers.base import ModelRequest
from agentkit.providers.profiles import LLAMA_CPP, OPENAI, UNKNOWN, VLLM, Profile
from agentkit.tool import tool

names = st.sampled_from(["add", "look_up"])
ids = st.sampled_from(["", "call_1", "call_2"])
texts = st.text(max_size=20)
arguments = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(texts), max_size=3)
calls = st.builds(ToolCall, names, arguments, ids)
images = st.builds(ImagePart, st.binary(max_size=20))
results = st.builds(ToolResult, ids, names, texts, st.none(), st.lists(images, max_size=1).map(tuple))
said = st.builds(TextPart, texts) | st.builds(ReasoningPart, texts)
messages = st.one_of(
    st.builds(Message, st.just("user"), st.lists(st.builds(TextPart, texts) | images, max_size=3)),
    st.builds(Message, st.just("assistant"), st.lists(said | calls, max_size=3)),
    st.builds(Message, st.just("tool"), st.lists(results, min_size=1, max_size=3)),
)


@tool
def add(a: int, b: int) -> int:
    """Add – even ünicode."""
    return a + b


@given(st.lists(messages, max_size=6), st.sampled_from([UNKNOWN, OPENAI, VLLM, LLAMA_CPP]))
@example([Message("assistant", ToolCall("add", {})), Message("tool", ToolResult("", "add", "1"))] * 2, UNKNOWN)
@example([Message("assistant", [ReasoningPart("hm"), TextPart("hi")])], VLLM)
def test_each_step_sends_what_it_would_if_nothing_had_been_sent_before(
    conversation: list[Message], profile: Profile
) -> None:
    """Whichever servers the same messages were sent to before."""
    for end in range(len(conversation) + 1):
        request = ModelRequest(conversation[:end], [add], "required", ModelSettings(temperature=0.5, stop=("\n",)))
        written = json_object(written_body(request, "model", profile))
        assert json.loads(written) == request_body(request, "model", profile)


def test_without_tools_none_are_sent() -> None:
    request = ModelRequest([Message("user", "go")])
    assert "tools" not in written_body(request, "model")


def test_a_thing_is_made_once_and_what_was_made_goes_with_it() -> None:
    class Made:
        pass

    kept: Kept[Message, Made] = Kept(lambda message: Made())
    first, equal = Message("user", "hi"), Message("user", "hi")
    made = weakref.ref(kept(first))
    assert kept(first) is made()
    assert kept(equal) is not made()
    del first
    gc.collect()
    assert made() is None
    assert kept(equal) is kept(equal)


def test_texts_are_put_in_as_they_are() -> None:
    inner = json_text({"ü": [1, None]})
    assert inner == '{"ü":[1,null]}'.encode()
    assert json_object({"a": json_list([inner, inner]), "b": "c"}) == b'{"a":[%s,%s],"b":"c"}' % (inner, inner)
    assert json_object({}) == b"{}"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))
