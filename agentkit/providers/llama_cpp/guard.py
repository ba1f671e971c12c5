"""What a template must not read as its own: texts that look like special tokens, and images.

While a prompt is rendered, each is replaced by a name between two private-use characters. No model reads these
characters, and a message that holds them loses only them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agentkit.errors import ImageError, ProviderError, UnsupportedInputError
from agentkit.messages import ImagePart, JsonValue, Message, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from agentkit.providers.llama_cpp.batches import ImageChunk
from agentkit.providers.llama_cpp.model import LlamaModel
from agentkit.providers.llama_cpp.vision import Vision

__all__ = ["Guard", "Prompt", "shows_an_image"]

# A token by its number, or an image by its place among the prompt's.
_NAME: Final = re.compile("\ue000(i?[0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model goes on from.

    Attributes:
        tokens: those of the text, and negative numbers where an image stands.
        images: what they stand for, by where each begins, in this order.
    """

    tokens: list[int]
    images: dict[int, ImageChunk]


def shows_an_image(messages: Sequence[Message]) -> bool:
    """Whether there is one in these messages, a tool's among them."""
    return any(
        isinstance(part, ImagePart) or (isinstance(part, ToolResult) and part.images)
        for message in messages
        for part in message.content
    )


class Guard:
    """Guards one prompt.

    Args:
        special: what looks like a special token of the model.
        vision: reads images, where the model has a projector.
    """

    def __init__(self, model: LlamaModel, special: re.Pattern[str], vision: Vision | None) -> None:
        self._model = model
        self._special = special
        self._vision = vision
        self._images: list[Sequence[Sequence[int] | ImageChunk]] = []

    def message(self, message: Message) -> Message:
        """A message of texts and calls that can be rendered.

        Raises:
            ImageError: an image that cannot be read.
            UnsupportedInputError: an image, and the model has no projector; or one that would have to be fetched.
        """
        return Message(message.role, [self._part(part) for part in message.content])

    def value(self, value: JsonValue) -> JsonValue:
        """A value whose texts can be rendered."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def prompt(self, rendered: str) -> Prompt:
        """The tokens of what was rendered, each thing again in its place.

        Raises:
            ProviderError: the template left an image out, or put one at the end.
        """
        names = _NAME.findall(rendered)
        left_out = sum(f"i{index}" not in names for index in range(len(self._images)))
        if left_out:
            raise self._unfit(f"leaves out {left_out} of {len(self._images)} images")
        tokens: list[int] = []
        images: dict[int, ImageChunk] = {}
        begin = not (self._model.bos_text and rendered.startswith(self._model.bos_text))
        for index, piece in enumerate(_NAME.split(rendered)):
            guarded = index % 2 == 1
            if guarded and piece.startswith("i"):
                for part in self._images[int(piece[1:])]:
                    if isinstance(part, ImageChunk):
                        images[len(tokens)] = part
                    tokens += part.ids if isinstance(part, ImageChunk) else part
                continue
            text = self._model.piece(int(piece)).decode(errors="replace") if guarded else piece
            if text:
                tokens += self._model.tokenize(text, special=not guarded, begin=begin and not tokens)
        if tokens and tokens[-1] < 0:
            raise self._unfit("ends the prompt with an image, and the model goes on only from text")
        return Prompt(tokens, images)

    def _unfit(self, problem: str) -> ProviderError:
        return ProviderError(
            f"The chat template of {self._model.path.name} {problem}: give another with chat_template=…"
        )

    def _part(self, part: Part) -> Part:
        if isinstance(part, ImagePart):
            return TextPart(self._image(part))
        if isinstance(part, TextPart | ReasoningPart):
            return replace(part, text=self._text(part.text))
        if isinstance(part, ToolCall):
            arguments = self.value(part.arguments)
            assert isinstance(arguments, dict)
            return replace(part, arguments=arguments)
        return replace(part, content=self._result(part), images=())

    def _text(self, text: str) -> str:
        cleaned = text.replace("\ue000", "").replace("\ue001", "")
        return self._special.sub(lambda found: f"\ue000{self._model.special_tokens[found[0]]}\ue001", cleaned)

    def _result(self, result: ToolResult) -> str:
        if self._vision is None:
            return self._text(result.in_words)
        text = self._text(result.content)
        for image in result.images:
            try:
                text += self._image(image)
            except (ImageError, UnsupportedInputError) as error:  # the model is told, and the run goes on
                text += self._text(f"\n[{error}]")
        return text

    def _image(self, image: ImagePart) -> str:
        if self._vision is None:
            near = sorted(file.name for file in self._model.path.parent.glob("*mmproj*.gguf"))
            raise UnsupportedInputError(
                f"{self._model.path.name} cannot see without its projector, and a message holds an image: leave it "
                f"out, or give the provider projector=… ({f'beside it: {near}' if near else 'an mmproj file'})"
            )
        self._images.append(self._vision.read(image))
        return f"\ue000i{len(self._images) - 1}\ue001"
