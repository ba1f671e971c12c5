"""The LiteLLM library behind a typed face: loaded out of everybody's way, its errors ours, its connections closed.

It is large and at home in servers: importing it takes some four seconds, fetches a table of prices from the network,
reads ``.env`` into the environment, and prints. What of that can be avoided is avoided here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from agentkit.errors import (
    ContextOverflowError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
    UnknownModelError,
    UnsupportedInputError,
    nearest,
)
from agentkit.messages import JsonObject, clean_text
from agentkit.providers._chat_completions import first_choice
from agentkit.providers._sse import as_object
from agentkit.providers.profiles import Profile
from agentkit.providers.retry import retry_after

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Library", "load"]

_MAX_QUOTE: Final = 500  # characters of a server's own words in a message
_SCHEMA_BESIDE_TOOLS: Final = ("openai", "azure")
"""Vendors whose models may call tools while their answer is held to a schema. Gemini's API refuses the two together,
and LiteLLM holds some of Anthropic's models to a schema by forcing them to call a tool of its own."""
_REASONING_BACK: Final = ("deepseek", "moonshot")  # vendors that want a turn's reasoning_content back with its calls
_SHARED_CLIENT: Final = ("anthropic", "gemini", "vertex_ai")
"""Vendors whose requests the library sends through one client for all event loops, unless it is given another: in two
threads at once they take the connections from each other, and hang."""
_IMPORT_ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the table of prices that is installed, none from the network
    "LITELLM_MODE": "PRODUCTION",  # no .env file
}


async def load() -> Library:
    """The library; the first time, it is imported in a thread."""
    return _load() if _load.cache_info().currsize else await asyncio.to_thread(_load)


_loading: Final = threading.Lock()
_keepers: Final[dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]]] = {}


@cache
def _load() -> Library:
    with _loading:
        with _environment(_IMPORT_ENVIRONMENT):
            import litellm
        litellm.suppress_debug_info = True  # it prints where to get help at each error
        _ = litellm.acompletion, litellm.encoding  # what it would load at the first request, half a second of it
        return Library(litellm)


@contextmanager
def _environment(defaults: dict[str, str]) -> Iterator[None]:
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class Library:
    """What is used of the library."""

    def __init__(self, module: ModuleType) -> None:
        self._litellm: Any = module

    def vendor(self, model: str) -> str:
        """Whose model it is, as the library names vendors.

        Raises:
            UnknownModelError: it knows no such vendor.
        """
        try:
            return str(self._litellm.get_llm_provider(model)[1])
        except self._litellm.BadRequestError:
            known = [getattr(vendor, "value", str(vendor)) for vendor in self._litellm.provider_list]
            raise UnknownModelError(
                f"LiteLLM knows no vendor of {model!r}: write VENDOR/MODEL, 'litellm:gemini/gemini-2.5-pro' for "
                f"example.{nearest(model.partition('/')[0], known)}"
            ) from None

    def profile(self, model: str) -> Profile:
        """What the library's table of models says of it.

        Raises:
            UnknownModelError: it knows no such vendor.
        """
        vendor = self.vendor(model)
        try:
            known = self._litellm.get_model_info(model)
        except Exception:  # a plain one, in most versions: the model is not in the table
            known = {}
        sees, context = known.get("supports_vision"), known.get("max_input_tokens")
        held: Literal["with_tools", "without_tools"] = (
            "with_tools" if vendor in _SCHEMA_BESIDE_TOOLS else "without_tools"
        )
        return Profile(
            f"{vendor} through LiteLLM",
            schema=held if self._litellm.supports_response_schema(model) else "unknown",
            reasoning="reasoning_content" if vendor in _REASONING_BACK else "",
            sees=sees if isinstance(sees, bool) else None,
            context=context if isinstance(context, int) else None,
        )

    def takes(self, model: str, parameter: str) -> bool:
        """Whether the model's API knows a parameter, by its name in OpenAI's."""
        return parameter in (self._litellm.get_supported_openai_params(model) or ())

    async def stream(self, name: str, arguments: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """The chunks of an answer, in the shape of Chat Completions. ``name`` is the model's in messages.

        Closing the generator closes the connection.

        Raises:
            ProviderError: as `agentkit.providers.litellm.LiteLLMProvider.stream` has them.
        """
        await _keep_connections(self._litellm)
        try:
            client = self._own_client(str(arguments["model"]))
            answer = await self._litellm.acompletion(**client | arguments, num_retries=0, max_retries=0)
        except Exception as error:  # the library's own mistakes are no better than the vendor's
            raise self._failed(name, error, arguments) from error
        written = False
        try:
            async for chunk in answer:
                received: JsonObject = chunk.model_dump(exclude_none=True)
                written = written or _says_something(received)
                yield received
        except Exception as error:
            raise self._failed(name, error, arguments) from error
        finally:
            await answer.aclose()
        if not _was_finished(answer):  # the library makes up a reason for what just ended
            if written:
                raise ProviderConnectionError(f"{name} ended its answer without a finish reason: it is not whole")
            raise ProviderProtocolError(f"{name} answered nothing that LiteLLM can read. Is base_url right?")

    def _own_client(self, model: str) -> JsonObject:
        """The argument that gives a request a client of this event loop, where it would have none."""
        from litellm.llms.custom_httpx.http_handler import get_async_httpx_client

        vendor = self.vendor(model)
        return {"client": get_async_httpx_client(vendor)} if vendor in _SHARED_CLIENT else {}

    def _failed(self, name: str, error: Exception, arguments: JsonObject) -> ProviderError:
        import httpx

        causes = list(_causes(error))
        said = _words(causes, str(arguments.get("api_key") or ""))

        def find(*kinds: type[BaseException]) -> Any:
            return next((cause for cause in causes if isinstance(cause, kinds)), None)

        if find(self._litellm.ContextWindowExceededError):
            tokens, limit = _overflow(said)
            return ContextOverflowError(f"{name}: {said}", tokens=tokens, limit=limit)
        if find(self._litellm.UnsupportedParamsError):
            return UnsupportedInputError(f"{name}: {said}")
        if answered := find(httpx.HTTPStatusError):  # the vendor's own status: the library may give it another one
            response = answered.response
            return self._refused(name, said, response.status_code, retry_after(response.headers), arguments)
        if find(httpx.TimeoutException, self._litellm.Timeout) and not find(httpx.ConnectTimeout):
            return ProviderTimeoutError(
                f"{name} was silent for {arguments.get('timeout')} seconds: give the provider a longer timeout=… if "
                "the model is that slow"
            )
        if find(httpx.ConnectError, httpx.ConnectTimeout):
            return ProviderConnectionError(
                f"{name} could not be reached ({said}): is the network up, the server running, and base_url right?"
            )
        if find(json.JSONDecodeError):
            return ProviderProtocolError(f"{name} sent broken JSON: {said}")
        if find(httpx.TransportError, OSError, self._litellm.APIConnectionError):
            return ProviderConnectionError(f"{name} broke off before its answer was complete ({said})")
        status = getattr(causes[-1], "status_code", None) or getattr(error, "status_code", None)
        if isinstance(status, int):
            return self._refused(name, said, status, None, arguments)
        return ProviderProtocolError(f"{name}: LiteLLM failed with {type(error).__name__}: {said}")

    def _refused(
        self, name: str, said: str, status: int, wait: float | None, arguments: JsonObject
    ) -> ProviderStatusError:
        hint = ""
        if status == 401 and not arguments.get("api_key"):
            missing = self._litellm.validate_environment(arguments["model"])["missing_keys"]
            hint = f" Set {' and '.join(missing)}, or pass api_key=…" if missing else ""
        elif status == 404:
            hint = f" Check the model's name, {arguments['model']!r}."
        return ProviderStatusError(f"{name} answered {status}: {said}.{hint}", status=status, retry_after=wait)


def _says_something(chunk: JsonObject) -> bool:
    delta = as_object((first_choice(chunk) or {}).get("delta"))
    return any(delta.get(kind) for kind in ("content", "reasoning_content", "tool_calls"))


def _was_finished(answer: object) -> bool:
    """Whether the vendor said why its answer ended. An object that does not tell is trusted."""
    told = ("received_finish_reason", "intermittent_finish_reason", "received_any_finish_reason")
    return any(getattr(answer, name, True) for name in told)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [getattr(cause, "original_exception", None), cause.__cause__ or cause.__context__]


def _words(causes: list[BaseException], key: str) -> str:
    """The vendor's own words, out of the layers that the library wraps around them: one line, not too long."""
    text = str(getattr(causes[0], "original_exception", None) or causes[0])
    if quoted := re.search(r'"message"\s*:\s*("(?:[^"\\]|\\.)*")', text):
        with suppress(ValueError):
            text = str(json.loads(quoted[1].replace("\\'", "'")))  # it stands in the repr of bytes
    text = re.sub(r"^(?:(?:litellm\.)?\w+(?:Error|Exception|Timeout)\s*[:-]\s*)+", "", text)
    text = re.sub(r"\.? Handle with `litellm\.\w+`\.?$", "", text)
    text = " ".join(clean_text(text).split())
    if len(key) >= 8:  # a shorter one is no secret, but "EMPTY" or the like
        text = text.replace(key, "***")
    return (text if len(text) <= _MAX_QUOTE else text[: _MAX_QUOTE - 1] + "…").rstrip(".")


def _overflow(said: str) -> tuple[int, int]:
    """(tokens, limit) of a prompt that is too long, 0 for what is not said: each vendor has its own order."""
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]{2,}\b", said)][:2]
    return (max(numbers), min(numbers)) if len(numbers) == 2 else (0, sum(numbers))


async def _keep_connections(litellm: Any) -> None:
    """Have the library's connections closed with this event loop. It keeps them for the loop, and would leave them."""
    loop = asyncio.get_running_loop()
    if loop not in _keepers:
        for closed in [other for other in list(_keepers) if other.is_closed()]:
            _keepers.pop(closed, None)
        _keepers[loop] = keeper = _keep(litellm)
        await anext(keeper)


async def _keep(litellm: Any) -> AsyncGenerator[None, None]:
    """Closes the clients of its event loop when it is closed itself, which a loop does to its generators as it shuts
    down."""
    from litellm.caching.evicted_client_closer import running_loop_token

    try:
        yield
    finally:
        ending = f"-{running_loop_token()}"  # of the keys under which the library keeps this loop's clients
        cached = litellm.in_memory_llm_clients_cache.cache_dict
        clients = [cached.pop(key) for key in list(cached) if key.endswith(ending)]
        shared = vars(litellm).get("module_level_aclient")  # for the loop that used it last; it opens again by itself
        if shared is not None and not shared._aiohttp_session_bound_elsewhere(asyncio.get_running_loop()):
            clients.append(shared)
        for client in clients:
            await client.close()
