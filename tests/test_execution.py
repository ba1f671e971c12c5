"""What a tool returned, as the model gets it."""

from __future__ import annotations

import pytest

from agentkit import Agent, ToolCall, ToolResult, tool
from agentkit.messages import ImagePart, dump_messages, load_messages
from agentkit.testing import ScriptedProvider
from agentkit.tool_output import MAX_IMAGE_BYTES, MAX_IMAGES

RED = ImagePart(b"red", "image/png")
BLUE = ImagePart(url="https://example.com/blue.jpg")


def shown(returned: object) -> ToolResult:
    """The result that a model gets of a tool which returns this."""

    @tool
    def look() -> object:
        """Look."""
        return returned

    run = Agent(ScriptedProvider([ToolCall("look", {}, "c1"), "I see."]), tools=[look]).run_sync("Look!")
    assert load_messages(dump_messages(run.messages)) == run.messages
    (result,) = run.messages[2].results
    assert result.error is None
    return result


@pytest.mark.parametrize(
    ("returned", "content", "images"),
    [
        (RED, "", (RED,)),
        ([RED, BLUE], "", (RED, BLUE)),
        (("Left:", RED, "Right:", BLUE), "Left:\nRight:", (RED, BLUE)),
        ([{"count": 1}, RED, None], '{"count":1}\n(no output)', (RED,)),
        ([], "[]", ()),
        (["a", 1], '["a",1]', ()),
    ],
)
def test_images_are_shown_and_the_rest_is_text(returned: object, content: str, images: tuple[ImagePart, ...]) -> None:
    assert shown(returned) == ToolResult("c1", "look", content, images=images)


def test_too_many_images() -> None:
    result = shown([RED] * (MAX_IMAGES + 2))
    assert result.images == (RED,) * MAX_IMAGES
    assert result.content.count("[image image/png, 0 kB: left out, the limit is 8 images of 5 MiB each]") == 2


def test_an_image_that_is_too_large() -> None:
    largest, larger = (ImagePart(bytes(size)) for size in (MAX_IMAGE_BYTES, MAX_IMAGE_BYTES + 1))
    result = shown(["Two:", larger, largest])
    assert result.images == (largest,)
    assert result.content.startswith("Two:\n[image image/png, 5,243 kB: left out")


def test_images_in_words() -> None:
    assert ToolResult("c1", "look", "Here:\n", images=(RED, BLUE)).in_words == (
        "Here:\n\n[image image/png, 0 kB: this model cannot see it]\n"
        "[image https://example.com/blue.jpg: this model cannot see it]"
    )
    assert ToolResult("c1", "look", "", images=(RED,)).in_words == "[image image/png, 0 kB: this model cannot see it]"
    assert ToolResult("c1", "look", "\n").in_words == "\n"
