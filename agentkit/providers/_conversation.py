"""What a request's JSON has in common in OpenAI's two APIs. No I/O."""

from __future__ import annotations

import base64
import json

from agentkit.errors import UnsupportedInputError
from agentkit.messages import ImagePart, JsonObject, Message, Part, TextPart, ToolCall, ToolResult, clean_text
from agentkit.providers._strict import strict_schema
from agentkit.providers.base import ModelRequest
from agentkit.providers.profiles import Profile

__all__ = [
    "CallIds",
    "check_schema",
    "image_url",
    "may_call",
    "needs_profile",
    "result_text",
    "text_or_parts",
    "wire_arguments",
    "wire_schema",
]


class CallIds:
    """Ids of calls and of their results, made up where there are none: the same call gets the same one each time."""

    def __init__(self) -> None:
        self._made_up = 0
        self._waiting: list[tuple[str, str]] = []  # of the last turn's calls without an id: name, id

    def begin(self, message: Message) -> None:
        """The next message. If it has calls, results after it are theirs."""
        if message.calls:
            self._waiting.clear()

    def of_call(self, call: ToolCall) -> str:
        """Its id."""
        if call.id:
            return call.id
        self._made_up += 1
        call_id = f"call{self._made_up:05}"  # nine letters and digits: some chat templates take nothing else
        self._waiting.append((call.name, call_id))
        return call_id

    def of_result(self, result: ToolResult) -> str:
        """The id of the call that it answers."""
        if result.call_id:
            return result.call_id
        for place, (name, call_id) in enumerate(self._waiting):
            if name == result.name:
                del self._waiting[place]
                return call_id
        return "call00000"  # of a call that is not in the history: the server will say so


def wire_arguments(call: ToolCall) -> str:
    return clean_text(json.dumps(call.arguments, ensure_ascii=False))


def wire_schema(schema: JsonObject) -> JsonObject:
    """An answer's schema, held to strictly where strict mode can."""
    strict = strict_schema(schema)
    return {"name": "answer", "schema": schema if strict is None else strict, "strict": strict is not None}


def image_url(image: ImagePart) -> str:
    return image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def text_or_parts(message: Message, profile: Profile) -> str | list[TextPart | ImagePart]:
    """A message's text; where it has images, its parts.

    Raises:
        UnsupportedInputError: the message cannot hold images, or the model does not see.
    """
    if not any(isinstance(part, ImagePart) for part in message.content):
        return clean_text(message.text)
    if message.role != "user":
        raise UnsupportedInputError(f"OpenAI's APIs take images only from the user, not from {message.role!r}")
    if profile.sees is False:
        raise UnsupportedInputError(
            f"The model at {profile.server} does not see: leave the images out, or take a model with vision"
        )
    return [part for part in message.content if isinstance(part, TextPart | ImagePart)]


def result_text(result: ToolResult, profile: Profile) -> str:
    """What a tool answered; what it showed is said in words to a model that does not see, so that the run goes on."""
    return clean_text(result.in_words if profile.sees is False else result.content)


def may_call(request: ModelRequest) -> bool:
    """Whether the model may call a tool in its answer."""
    return bool(request.tools) and request.tool_choice != "none"


def needs_profile(request: ModelRequest, *kinds: type[Part]) -> bool:
    """Whether the request is written in one way for one server and in another for the next: it has an
    ``output_schema``, a part of these kinds or an image from a tool."""
    if request.output_schema is not None:
        return True
    parts = (part for message in request.messages for part in message.content)
    return any(isinstance(part, kinds) or (isinstance(part, ToolResult) and part.images) for part in parts)


def check_schema(request: ModelRequest, profile: Profile) -> None:
    """Refuse an ``output_schema`` that would keep the model from calling tools.

    Raises:
        UnsupportedInputError: it would.
    """
    if may_call(request) and profile.schema != "with_tools":
        raise UnsupportedInputError(
            f"{profile.server} lets a model call no tools while its answer is held to output_schema: leave one of the "
            "two out (Provider.output_mode says how to ask for the answer instead), or pass profile=… if this server "
            "can do both"
        )
