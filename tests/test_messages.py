"""Messages: the forms they take, and that JSON gives back what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ImageError
from agentkit.messages import (
    ImagePart,
    Message,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    as_messages,
    clean_json,
    clean_text,
    dump_messages,
    load_messages,
)

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=4),
    max_leaves=10,
)
parts = st.one_of(
    st.builds(TextPart, text),
    st.builds(ReasoningPart, text),
    st.builds(ImagePart, st.binary(), st.sampled_from(["image/png", "image/jpeg"]), text),
    st.builds(ToolCall, text, st.dictionaries(text, json_values, max_size=4), text, st.lists(text, max_size=2)),
    st.builds(ToolResult, text, text, text, st.sampled_from([None, "timeout", "exception"])),
)
messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(parts, max_size=4)),
    max_size=4,
)


@given(messages)
def test_json_round_trips_exactly(given_messages: list[Message]) -> None:
    again = load_messages(dump_messages(given_messages))
    assert again == given_messages
    assert repr(again) == repr(given_messages)  # equality alone would take 1 for 1.0 and True


@pytest.mark.parametrize("broken", ["", "{}", "[", '[{"role": "king", "content": []}]', '[{"role": "user"}]', "[1]"])
def test_broken_json_is_refused(broken: str) -> None:
    with pytest.raises(ValueError):
        load_messages(broken)


def test_content_may_be_text_a_part_or_parts() -> None:
    assert Message("user", "hi") == Message("user", TextPart("hi")) == Message("user", [TextPart("hi")])


def test_a_message_tells_its_parts_apart() -> None:
    call, result = ToolCall("f", {"a": 1}, "1"), ToolResult("1", "f", "ok")
    message = Message("assistant", [ReasoningPart("hm"), TextPart("a"), call, TextPart("b"), result])
    assert (message.text, message.reasoning, message.calls, message.results) == ("ab", "hm", [call], [result])
    response = ModelResponse(message)
    assert (response.text, response.reasoning, response.calls) == ("ab", "hm", [call])


def test_messages_from_what_people_have() -> None:
    assert as_messages("hi") == [Message("user", "hi")]
    assert as_messages(Message("user", "hi")) == [Message("user", "hi")]
    assert as_messages([{"role": "system", "content": "be brief"}, Message("user", "hi")]) == [
        Message("system", "be brief"),
        Message("user", "hi"),
    ]
    with pytest.raises(ValueError, match="role"):
        as_messages([{"role": "king", "content": "hi"}])


def test_usage_adds_up() -> None:
    total = Usage(10, 2, 4, 1) + Usage(1, 1)
    assert total == Usage(11, 3, 4, 1)
    assert total.total_tokens == 14


@given(st.text())
def test_cleaned_text_can_always_be_sent(given_text: str) -> None:
    cleaned = clean_text(given_text)
    cleaned.encode()
    assert cleaned == given_text or any("\ud800" <= character <= "\udfff" for character in given_text)


def test_cleaning_json_goes_to_its_depth() -> None:
    assert clean_json({"a\ud800": ["\udc00", {"b": 1.5, "c": None}]}) == {"a\ufffd": ["\ufffd", {"b": 1.5, "c": None}]}


IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n....",
    "image/jpeg": b"\xff\xd8\xff\xe0....",
    "image/gif": b"GIF89a....",
    "image/webp": b"RIFF\n\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("media_type", IMAGES)
def test_images_say_themselves_what_they_are(media_type: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.txt"
    file.write_bytes(IMAGES[media_type])
    assert ImagePart.from_path(file) == ImagePart.from_path(str(file)) == ImagePart(IMAGES[media_type], media_type)
    assert ImagePart.from_bytes(IMAGES[media_type]) == ImagePart(IMAGES[media_type], media_type)


@pytest.mark.parametrize("data", [b"", b"RIFF....WAVE", b"<svg/>", b"x\x89PNG\r\n\x1a\n"])
def test_what_is_no_image(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=r"picture\.png is no PNG"):
        ImagePart.from_path(file)
    with pytest.raises(ImageError, match="is no PNG"):
        ImagePart.from_bytes(data)


def test_images_that_are_too_large(tmp_path: Path) -> None:
    file = tmp_path / "picture.gif"
    file.write_bytes(b"GIF89a" + bytes(20_000_000 - 6))
    assert len(ImagePart.from_path(file).data) == 20_000_000
    with file.open("ab") as growing:
        growing.write(b"x")
    with pytest.raises(ImageError, match=r"picture\.gif has more than 20 MB"):
        ImagePart.from_path(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ImagePart.from_path(tmp_path / "none.png")
