"""`agentkit models`: which models are at hand, and getting others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final

import typer

from agentkit.cli.screen import ERR, print_table, size
from agentkit.errors import MissingExtraError, UnknownModelError
from agentkit.providers import default_model, provider_names

__all__ = ["list_models", "models", "pull", "rm"]

MOST_CACHED: Final = 200
"""Models of the cache that are listed."""

_KEYS: Final = dict.fromkeys(("openai", "openai_responses", "completions"), "OPENAI_API_KEY")
_NEEDS: Final = {"litellm": "reads the vendor's key", "llama_cpp": "runs here, needs no key"}

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A short name, or OWNER/REPO[:QUANT_OR_FILE] on the Hugging Face hub.")
]


def models(context: typer.Context) -> None:
    """List the models at hand; pull others from the Hugging Face hub, and remove them."""
    if context.invoked_subcommand is None:
        list_models()


def list_models(
    available: Annotated[
        bool, typer.Option("--available", help="List the models that have a short name to pull.")
    ] = False,
) -> None:
    """List the models at hand: the default, the bundled, the pulled, and which providers have a key."""
    if available:
        print_table(_available())
    else:
        print_table([*_default(), *_bundled(), *_pulled(), *_partial(), *_providers()])


def pull(name: Name) -> None:
    """Download a model from the Hugging Face hub. Interrupted, it goes on where it stopped when asked again."""
    from agentkit.providers.llama_cpp import hub
    from agentkit.providers.llama_cpp.catalog import hub_name

    model = hub.find(*hub_name(name))
    parts = f" in {len(model.files)} parts" if len(model.files) > 1 else ""
    ERR.print(f"{model.repo}: {model.label}, {size(model.size)}{parts}")
    try:
        path = model.download()
    except KeyboardInterrupt:
        ERR.print(f"What was downloaded is kept; to go on: agentkit models pull {name}")
        raise
    ERR.print(f"To use it: -m {_model_string(model.repo, model.label)}")
    print(path)


def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a pulled model, or with OWNER/REPO all models of a repository."""
    from agentkit.providers.llama_cpp import hub
    from agentkit.providers.llama_cpp.catalog import BUNDLED, hub_name

    if name.removeprefix("llama_cpp:") in BUNDLED:
        raise UnknownModelError(f"{name} is part of an installed package: pip uninstall {BUNDLED[name][0]}")
    repo, wanted = hub_name(name)
    one = hub.cached(repo, wanted) if wanted else None
    found = [one] if one else [] if wanted else list(hub.cached_models(repo))
    unfinished = any(partial.repo == repo for partial in hub.partial_models())
    if not found and not unfinished:
        raise UnknownModelError(f"{name} is not on this machine: `agentkit models` lists what is")
    for model in found:
        ERR.print(f"{model.repo}: {model.model.label}, {size(model.size)}")
    if unfinished:
        ERR.print(f"{repo}: an unfinished download")
    if not yes and not typer.confirm("Delete?", err=True):
        raise typer.Exit(1)
    ERR.print(f"{size(hub.remove(found, repo))} are free again")


def _model_string(repo: str, label: str) -> str:
    """The shortest string that means this model."""
    from agentkit.providers.llama_cpp.catalog import KNOWN
    from agentkit.providers.llama_cpp.gguf_files import GgufModel

    model = GgufModel((label,))
    short = (known.name for known in KNOWN.values() if known.repo == repo and model.has_quant(known.quant))
    return f"llama_cpp:{next(short, f'hf/{repo}:{label}')}"


def _default() -> Iterator[tuple[str, ...]]:
    chosen = "AGENTKIT_MODEL says so" if os.environ.get("AGENTKIT_MODEL") else "AGENTKIT_MODEL is not set"
    yield "default", default_model(), chosen


def _bundled() -> Iterator[tuple[str, ...]]:
    from agentkit.providers.llama_cpp.catalog import BUNDLED, bundled_path

    for name in BUNDLED:
        try:
            details = size(bundled_path(name).stat().st_size)
        except MissingExtraError as error:
            details = f"not installed: {error}"
        except OSError as error:
            details = f"broken: {error}"
        yield "bundled", f"llama_cpp:{name}", details


def _pulled() -> Iterator[tuple[str, ...]]:
    from agentkit.providers.llama_cpp.hub import cached_models

    for model in islice(cached_models(), MOST_CACHED):
        yield "pulled", _model_string(model.repo, model.model.label), size(model.size)


def _partial() -> Iterator[tuple[str, ...]]:
    from agentkit.providers.llama_cpp.hub import partial_models

    for partial in partial_models():
        yield "unfinished", partial.repo, f"{size(partial.size)}: pull it again to go on"


def _available() -> Iterator[tuple[str, ...]]:
    from agentkit.providers.llama_cpp.catalog import KNOWN
    from agentkit.providers.llama_cpp.hub import cached

    for known in KNOWN.values():
        here = "pulled" if cached(known.repo, known.quant) else "to pull"
        source = f"{known.repo}:{known.quant}"
        yield here, known.name, known.parameters, size(known.size), known.licence, known.dialect, source


def _providers() -> Iterator[tuple[str, ...]]:
    for name in provider_names():
        key = _KEYS.get(name)
        if key is not None:
            yield "provider", name, f"{key} is {'set' if os.environ.get(key) else 'not set'}"
        else:
            yield "provider", name, _NEEDS.get(name, "installed by a plugin")
