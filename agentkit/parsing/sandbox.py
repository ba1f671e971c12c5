"""Somebody else's Jinja, rendered within bounds.

jinja2's immutable sandbox keeps a template from Python's inside, but not from running for ever or filling the memory.
Here every loop and call costs a step, every value that is assigned, passed or returned has a largest size, and so has
the output. Counted, not timed: the same template gives the same answer on any machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, Final, NoReturn

from agentkit.messages import JsonValue

__all__ = ["compile_template", "raise_exception", "strftime_now", "tojson"]

MAX_SOURCE: Final = 200_000
"""Characters of a template."""
MAX_SIZE: Final = 300_000
"""Characters of a render, and of any value within."""
_MAX_STEPS: Final = 20_000
"""Rounds of loops, calls and filters in one render."""
_MAX_WORK: Final = 100_000_000
"""Steps times the template's length: what constant text in loops can add up to."""
_WIDE: Final = re.compile(r"[0-9]{4}|\*")
"""A width in a format string that makes much out of little."""


class _TooMuchError(Exception):
    """The template went over a bound."""


def compile_template(source: str) -> Callable[[Mapping[str, object]], str | None] | None:
    """A function from variables to the rendered text.

    None if there is no jinja2 or the template is not valid or too long. The function returns None where the template
    raises or goes over a bound.
    """
    if len(source) > MAX_SOURCE:
        return None
    try:
        environment = _environment(_Budget(max(1000, min(_MAX_STEPS, _MAX_WORK // (len(source) + 1)))))
        template = environment.from_string(source)
    except Exception:  # no jinja2, or a source on which it fails; it raises more than its own errors
        return None

    def render(variables: Mapping[str, object]) -> str | None:
        environment.budget.reset()
        try:
            return _limited(template.generate(dict(variables)))
        except Exception:  # a template is a program: it may fail in any way
            return None

    return render


def _limited(pieces: Iterable[str]) -> str:
    written: list[str] = []
    length = 0
    for piece in pieces:
        written.append(piece)
        length += len(piece)
        if length > MAX_SIZE:
            raise _TooMuchError
    return "".join(written)


class _Budget:
    """What one render may still do."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.reset()

    def reset(self) -> None:
        self._left = self._steps
        self._output = MAX_SIZE

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError

    def each(self, items: Iterable[object]) -> Iterator[object]:
        """The items of a loop, counted."""
        for item in items:
            self.step()
            yield item

    def printed(self, value: object) -> object:
        """A value that goes into the output, or into a macro's or a block's."""
        self._output -= _size(value)
        if self._output < 0:
            raise _TooMuchError
        return value

    def checked(self, value: object) -> object:
        """A value that is kept."""
        _size(value)
        return value

    def operands(self, given: Iterable[object]) -> None:
        """What a call or an operator is given: the two largest cannot multiply to more than is allowed."""
        weights = sorted((_weight(value) for value in given), reverse=True)[:2]
        if len(weights) == 2 and weights[0] * weights[1] > _MAX_WORK:
            raise _TooMuchError


def _size(value: object, most: int = MAX_SIZE) -> int:
    """Characters and members of a value, as if nothing in it were shared."""
    if isinstance(value, str):
        total = len(value)
    elif isinstance(value, int):
        total = value.bit_length() // 8
    else:
        total = 1
        members: Iterable[object] = ()
        if isinstance(value, Mapping):
            members = (part for item in value.items() for part in item)
        elif isinstance(value, list | tuple | set | frozenset):
            members = value
        for member in members:
            total += 1 + _size(member, most - total)
            if total > most:
                break
    if total > most:
        raise _TooMuchError
    return total


def _weight(value: object) -> int:
    """How large a value can make another; a number can be a width or a count."""
    if isinstance(value, int):
        if abs(value) > MAX_SIZE:
            raise _TooMuchError
        return abs(value)
    return _size(value)


def _environment(budget: _Budget) -> Any:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        """The sandbox, with a budget."""

        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            for loop in tree.find_all(nodes.For):
                loop.iter = _through("_each", loop.iter)
            for assignment in tree.find_all(nodes.Assign):
                assignment.node = _through("_checked", assignment.node)
            for concat in tree.find_all(nodes.Concat):
                concat.nodes = [_through("_checked", node) for node in concat.nodes]
            return tree

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            budget.step()
            method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
            owner = getattr(method, "__self__", None)
            budget.operands([owner, *args, *kwargs.values()])
            if getattr(method, "__name__", "") in ("format", "format_map") and _WIDE.search(str(owner)):
                raise _TooMuchError
            return budget.checked(super().call(context, function, *args, **kwargs))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            budget.operands([left, right])
            if (operator == "**" and (abs(left) > 1000 or abs(right) > 100)) or (
                operator == "%" and isinstance(left, str) and _WIDE.search(left)
            ):
                raise _TooMuchError
            return budget.checked(super().call_binop(context, operator, left, right))

    environment: Any = Bounded(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
        optimized=False,  # constants are then computed when it runs, within the budget
        finalize=budget.printed,
    )
    environment.budget = budget
    environment.filters["tojson"] = tojson
    for name, function in environment.filters.items():
        environment.filters[name] = _guarded(function, budget)
    environment.filters |= {"_each": budget.each, "_checked": budget.checked}
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment


def _through(name: str, node: Any) -> Any:
    """The expression with a filter behind it."""
    from jinja2 import nodes

    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _guarded(function: Callable[..., object], budget: _Budget) -> Callable[..., object]:
    wide = function.__name__ == "do_format"

    @wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        budget.step()
        budget.operands([*args, *kwargs.values()])
        if wide and any(isinstance(value, str) and _WIDE.search(value) for value in args[:1]):
            raise _TooMuchError
        return budget.checked(function(*args, **kwargs))

    return guarded


def tojson(
    value: JsonValue,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's renderer has it; jinja2's own escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message: str) -> NoReturn:
    """A template refuses what it is given."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def strftime_now(form: str) -> str:
    """The local time, as templates ask for it."""
    return datetime.now().astimezone().strftime(form)
