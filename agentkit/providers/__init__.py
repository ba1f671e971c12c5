"""Where models come from: a model string → a `Provider`."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

from agentkit.errors import PluginError, UnknownModelError, nearest

if TYPE_CHECKING:
    from agentkit.providers.base import Provider

__all__ = ["DEFAULT_MODEL", "default_model", "provider_names", "resolve_model"]

DEFAULT_MODEL: Final = "llama_cpp:smollm2"

_BUILT_IN: Final = {
    "openai": "agentkit.providers.openai:OpenAIProvider",
    "openai_responses": "agentkit.providers.openai_responses:OpenAIResponsesProvider",
    "litellm": "agentkit.providers.litellm:LiteLLMProvider",
    "completions": "agentkit.providers.completions:CompletionsProvider",
    "llama_cpp": "agentkit.providers.llama_cpp:LlamaCppProvider",
}


def default_model() -> str:
    """The model that is used when none is named: ``AGENTKIT_MODEL``, else the bundled one."""
    return os.environ.get("AGENTKIT_MODEL") or DEFAULT_MODEL


def provider_names() -> list[str]:
    """The prefixes that a model string may have, built in or installed (entry-point group ``agentkit.providers``)."""
    return [*_BUILT_IN, *sorted(set(_installed()) - set(_BUILT_IN))]


def resolve_model(model: str) -> Provider:
    """A provider from ``"prefix:rest"``: the prefix names the provider, the rest is for the provider to read.

    Raises:
        UnknownModelError: no such provider, or nothing behind the prefix.
        MissingExtraError: the provider's dependency is not installed.
        PluginError: an installed provider does not load.
    """
    prefix, _, rest = model.partition(":")
    known = provider_names()
    if prefix not in known or not rest:
        what = "has no model behind the colon" if prefix in known else "names no provider"
        raise UnknownModelError(
            f"Model {model!r} {what}: write PROVIDER:MODEL with one of {', '.join(known)}, "
            f"for example {DEFAULT_MODEL!r} or 'openai:gpt-5'.{nearest(prefix, known)}"
        )
    provider: Provider = _load(prefix)(rest)
    return provider


def _load(prefix: str) -> type:
    if prefix in _BUILT_IN:
        module, _, attribute = _BUILT_IN[prefix].partition(":")
        built_in: type = getattr(import_module(module), attribute)
        return built_in
    try:
        loaded: type = _installed()[prefix].load()
    except Exception as error:
        raise PluginError(f"The installed provider {prefix!r} does not load: {error!r}") from error
    return loaded


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="agentkit.providers")}
