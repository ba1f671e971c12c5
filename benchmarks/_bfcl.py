"""The Berkeley Function Calling Leaderboard's cases and its own checker, from its package `bfcl-eval` (Apache-2.0).

The package is installed without its dependencies (`pip install --no-deps bfcl-eval==2026.3.23`): they are fifty, with
versions pinned that nothing else can live beside, and data and checker need none of them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from agentkit.errors import InvalidArgumentsError
from agentkit.tool import AnyTool, as_tool

VERSION = "2026.3.23"

CATEGORIES = {
    "simple": "simple_python",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel_multiple",
    "irrelevance": "irrelevance",
    "live_simple": "live_simple",
    "live_multiple": "live_multiple",
    "live_parallel": "live_parallel",
    "live_parallel_multiple": "live_parallel_multiple",
    "live_irrelevance": "live_irrelevance",
    "live_relevance": "live_relevance",
}
"""As they are called here → as their files are."""

IRRELEVANCE = ("irrelevance", "live_irrelevance")  # right: no call
RELEVANCE = ("live_relevance",)  # right: any call
AST = tuple(name for name in CATEGORIES if name not in IRRELEVANCE + RELEVANCE)

_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""Their types that JSON Schema lacks. ``any`` is a string to their own conversion, and to their checker."""


@dataclass(frozen=True)
class Call:
    """A call as an engine hands it out; arguments that are no JSON stay the text that they are."""

    name: str
    arguments: object


@dataclass(frozen=True)
class Case:
    """One request of a user, with the functions that it is made with."""

    id: str
    category: str
    messages: Sequence[Mapping[str, str]]
    functions: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]] | None
    dots: bool
    """Whether names keep their dots, which OpenAI does not take."""

    @cached_property
    def tools(self) -> list[dict[str, Any]]:
        """In OpenAI's shape."""
        return [
            {
                "type": "function",
                "function": {
                    "name": self._written(function["name"]),
                    "description": function["description"],
                    "parameters": _json_schema(function["parameters"]),
                },
            }
            for function in self.functions
        ]

    def fits(self, calls: Iterable[Call]) -> bool:
        """Whether all calls are of offered tools, with arguments that fit their schemas."""
        offered: dict[str, AnyTool] = {tool.name: tool for tool in map(as_tool, self.tools)}
        for call in calls:
            if call.name not in offered or not isinstance(call.arguments, dict):
                return False
            try:
                offered[call.name].validate(call.arguments)
            except InvalidArgumentsError:
                return False
        return True

    def fault(self, calls: Sequence[Call]) -> str:
        """What is wrong with the calls of a turn, in the checker's words; empty if they are right."""
        if self.category in IRRELEVANCE:
            return f"{len(calls)} calls where none helps" if calls else ""
        if not calls:
            return "no call"
        if self.answers is None:
            return ""
        names = {self._written(function["name"]): function["name"] for function in self.functions}
        decoded = [{names.get(call.name, call.name): call.arguments} for call in calls]
        if not all(isinstance(call.arguments, dict) for call in calls):
            return "arguments are no JSON object"
        try:
            verdict = _checker()(self.functions, decoded, self.answers, CATEGORIES[self.category])
        except Exception as error:  # it reads some values without looking, such as a list where it has none to compare
            return f"the checker cannot read this: {error!r}"
        return "" if verdict["valid"] else f"{verdict['error_type']}: {verdict['error']}"

    def _written(self, name: str) -> str:
        return name if self.dots else name.replace(".", "_")


def load_cases(categories: Iterable[str], count: int, seed: int, *, dots: bool) -> list[Case]:
    """``count`` cases of each category, or all that it has; one of each category after another, so that a run that is
    broken off is a smaller run. With one seed, fewer are the first of more."""
    drawn = [_drawn(category, count, seed, dots=dots) for category in categories]
    return [case for cases in zip_longest(*drawn) for case in cases if case]


def _drawn(category: str, count: int, seed: int, *, dots: bool) -> list[Case]:
    file = f"BFCL_v4_{CATEGORIES[category]}.json"
    entries = _lines(_data() / file)
    answered = _lines(_data() / "possible_answer" / file) if category in AST else []
    answers = {entry["id"]: entry["ground_truth"] for entry in answered}
    random.Random(f"{seed} {category}").shuffle(entries)
    return [
        Case(entry["id"], category, entry["question"][0], entry["function"], answers.get(entry["id"]), dots)
        for entry in entries[:count]
    ]


def _json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(schema)
    if "type" in found:
        found["type"] = _JSON_TYPES.get(found["type"], found["type"])
    if "properties" in found:
        found["properties"] = {name: _json_schema(inner) for name, inner in found["properties"].items()}
    for place in ("items", "additionalProperties"):
        if isinstance(found.get(place), dict):
            found[place] = _json_schema(found[place])
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


@cache
def _data() -> Path:
    spec = find_spec("bfcl_eval")
    if spec is None or spec.origin is None:
        sys.exit(f"bfcl-eval is not installed: pip install --no-deps bfcl-eval=={VERSION}")
    return Path(spec.origin).parent / "data"


@cache
def _checker() -> Callable[..., dict[str, Any]]:
    """Their `ast_checker` for Python. Its model is one whose names are left alone: ours are mapped back before."""
    kept = SimpleNamespace(underscore_to_dot=False)
    with _standing_in("bfcl_eval.constants.model_config", MODEL_CONFIG_MAPPING={"agentkit": kept}):
        ast_checker = import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    python = import_module("bfcl_eval.constants.enums").Language.PYTHON
    return lambda functions, calls, answers, category: ast_checker(
        functions, calls, answers, python, category, "agentkit"
    )


@contextmanager
def _standing_in(name: str, **contents: object) -> Iterator[None]:
    """A module in place of one that would import every vendor's SDK to say which of them write dots."""
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
