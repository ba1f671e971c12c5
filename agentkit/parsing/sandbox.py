"""Somebody else's Jinja, rendered within bounds.

jinja2's immutable sandbox keeps a template from Python's inside, but not from running for ever or filling the memory.
Here every loop and call costs steps, every value that is made has a largest size, and so has the output. Counted, not
timed: the same template gives the same answer on any machine. Both grow with what is rendered: a long conversation may
take longer than a short one.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView
from datetime import datetime
from functools import wraps
from typing import Any, Final, NoReturn, cast

from agentkit.messages import JsonValue

__all__ = ["BoundedTemplate", "TemplateBoundError", "compile_template", "raise_exception", "strftime_now", "tojson"]

MAX_SOURCE: Final = 200_000
"""Characters of a template."""
MAX_SIZE: Final = 300_000
"""Characters of a render, and of any value within; eight more for each character that is given to it."""
MAX_STEPS: Final = 50_000
"""Steps of a render, a tenth of a second; 3,000 more for each list or dict that is given to it."""
MAX_NODES: Final = 8_000
"""Expressions and statements of a template: compiling them takes a second. The longest known template has 1,300."""
MAX_BITS: Final = 4096
"""Bits of a number."""

_NODES_A_STEP: Final = 10  # of straight-line code
_CONSTANT_A_STEP: Final = 100  # characters of the template's own text
_READ_A_STEP: Final = 1000  # characters that a function is given
_MADE_A_STEP: Final = 100  # characters that it gives back
_MEMBERS_A_STEP: Final = 4

_METHODS: Final = """
append capitalize casefold copy count endswith find get index isalnum isalpha isdecimal isdigit islower isnumeric
isspace isupper items keys lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip
split splitlines startswith strip swapcase title upper values
"""
_FILTERS: Final = """
attr d default dictsort e escape first float int last length list map reject rejectattr reverse round safe select
selectattr sort string tojson trim unique
"""
_LINEAR: Final = frozenset((_METHODS + _FILTERS).split())
"""What cannot make more than it is given."""
_LONG_TESTS: Final = ("in", "==", "eq", "equalto", "!=", "ne", "lower", "upper")
_LEFT_OUT: Final = ("pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters that are slow, or that give another answer each time. No chat template has a use for them."""

# A width in a format that makes much out of little, or one that is taken from a value.
_WIDE_PERCENT: Final = re.compile(r"[%)][-#0 +]*(?:\*|[0-9]{4}|[0-9]*\.(?:\*|[0-9]{4}))")
_WIDE_BRACES: Final = re.compile(r"\{[^{}]*(?:\{|[0-9]{4})")


class TemplateBoundError(Exception):
    """The template went over a bound; the message says which, and its value."""


class BoundedTemplate:
    """A template, compiled. It can be used from several threads; they wait for one another.

    Raises:
        MissingExtraError: jinja2 is not installed.
        Exception: the source is not valid, or longer than 200,000 characters. jinja2 raises more than its own errors.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise TemplateBoundError(f"it has {len(source):,} characters, of {MAX_SOURCE:,} allowed")
        self._budget = _Budget()
        self._template = _environment(self._budget).from_string(source)
        self._rendering = threading.Lock()

    def render(self, variables: Mapping[str, object]) -> str:
        """The text.

        Raises:
            TemplateBoundError: the template went over a bound.
            Exception: a template is a program: it may fail in any way.
        """
        with self._rendering:
            self._budget.reset(variables)
            try:
                return self._limited(self._template.generate(dict(variables)))
            finally:
                self._budget.reset({})

    def _limited(self, pieces: Iterable[str]) -> str:
        written: list[str] = []
        length = 0
        for piece in pieces:
            written.append(piece)
            length += len(piece)
            if length > self._budget.size:
                self._budget.too_large()
        return "".join(written)


def compile_template(source: str) -> Callable[[Mapping[str, object]], str | None] | None:
    """A function from variables to the rendered text.

    None if there is no jinja2 or the template is not valid or too long. The function returns None where the template
    raises or goes over a bound.
    """
    try:
        template = BoundedTemplate(source)
    except Exception:
        return None

    def render(variables: Mapping[str, object]) -> str | None:
        try:
            return template.render(variables)
        except Exception:
            return None

    return render


class _Budget:
    """What one render may still do.

    Attributes:
        size: characters of a value.
    """

    def __init__(self) -> None:
        self._given: dict[int, int] = {}
        self.reset({})

    def reset(self, variables: Mapping[str, object]) -> None:
        # The sizes of what is given are kept: a template asks for the length of the conversation at every message.
        # Nothing changes these values while they are rendered, so that their addresses stay theirs.
        self._given.clear()
        self.size = self._left = sys.maxsize
        characters = sum(map(self._sized, variables.values()))
        self.size = self._output = MAX_SIZE + 8 * characters
        self._steps = self._left = MAX_STEPS + 3000 * len(self._given) + characters // 2

    def is_given(self, value: object) -> bool:
        """Whether it belongs to the caller: nothing may change it."""
        return id(value) in self._given

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            self._too_long()

    def too_large(self) -> NoReturn:
        raise TemplateBoundError(f"it makes a text or a value of more than {self.size:,} characters")

    def _too_long(self) -> NoReturn:
        raise TemplateBoundError(f"it takes more than {self._steps:,} steps (rounds of loops, calls, filters)")

    def each(self, items: Iterable[object], weight: int = 1) -> Iterator[object]:
        """The items of a loop, counted."""
        for item in items:
            self._left -= weight
            if self._left < 0:
                self._too_long()
            yield item

    def printed(self, value: object) -> object:
        """A value that goes into the output, or into a macro's or a block's."""
        self._output -= len(value) if type(value) is str else self._size(value)
        self._left -= 1
        if self._output < 0:
            self.too_large()
        if self._left < 0:
            self._too_long()
        return value

    def kept(self, value: object) -> object:
        """A value that is given a name."""
        if type(value) is not str:  # one has been looked at where it was made
            self._size(value)
        return value

    def made(self, value: object) -> object:
        """What a function gives back."""
        kind = type(value)
        if kind is bool or value is None:
            self.spend()
        elif kind is str:
            self.spend(1 + len(value) // _MADE_A_STEP)  # type: ignore[arg-type]
            if len(value) > self.size:  # type: ignore[arg-type]
                self.too_large()
        elif isinstance(value, Iterator):
            self.spend()
            return self.each(value)  # what is lazy is counted when it is taken
        else:
            self.spend(1 + self._size(value) // _MADE_A_STEP)
        return value

    def joined(self, values: list[object]) -> str:
        """The values of ``a ~ b ~ c``."""
        if sum(map(self._size, values)) > self.size:
            self.too_large()
        text = "".join(map(str, values))
        self.made(text)
        return text

    def read(self, given: Iterable[object]) -> None:
        """What a function is given. Texts are gone through; what is made of a container is counted when it is made."""
        for value in given:
            if type(value) is not str:
                self._size(value)
            elif len(value) >= _READ_A_STEP:
                self.spend(len(value) // _READ_A_STEP)

    def looked_at(self, value: object) -> object:
        """A value that is compared."""
        if type(value) is not bool and value is not None:
            self.read((value,))
        return value

    def multiplied(self, given: Iterable[object]) -> None:
        """What may be multiplied: the two largest cannot make more than is allowed, by far."""
        weights = sorted((self._weight(value) for value in given), reverse=True)[:2]
        if len(weights) == 2 and max(1, weights[0]) * max(1, weights[1]) > 64 * self.size:
            self.too_large()

    def _weight(self, value: object) -> int:
        """How large a value can make another; a number can be a width or a count."""
        return abs(value) if isinstance(value, int) else self._size(value)

    def _sized(self, value: object) -> int:
        """The size of a value that is given, kept for it and for all within."""
        kind = type(value)
        if kind is str:
            return len(value)  # type: ignore[arg-type]
        total = 1
        if kind is dict:
            for key, item in value.items():  # type: ignore[attr-defined]
                total += 2 + len(key) + (len(item) if type(item) is str else self._sized(item))
        elif kind is list:
            for item in value:  # type: ignore[attr-defined]
                total += 1 + self._sized(item)
        else:
            return self._size(value)
        self._given[id(value)] = total
        return total

    def _size(self, value: object) -> int:
        """Characters and members of a value, as if nothing in it were shared."""
        if isinstance(value, str | bytes):
            total = len(value)
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise TemplateBoundError(f"it makes a number of more than {MAX_BITS:,} bits")
            total = 1
        elif id(value) in self._given:
            return self._given[id(value)]
        else:
            total = self._size_of_members(value)
        if total > self.size:
            self.too_large()
        return total

    def _size_of_members(self, value: object) -> int:
        total = 1
        members = 0
        for member in _members(value) or ():
            total += 1 + self._size(member)
            members += 1
            if total > self.size:
                self.too_large()
        self.spend(members // _MEMBERS_A_STEP)
        return total


def _members(value: object) -> Iterable[object] | None:
    if isinstance(value, Mapping):
        return (part for item in value.items() for part in item)
    if isinstance(value, list | tuple | set | frozenset | range):
        return value
    return cast("Iterable[object]", value) if isinstance(value, MappingView) else None


def _taken(value: object) -> object:
    """What is lazy as a list: its size is to be known."""
    return list(value) if isinstance(value, Iterator) else value


def _environment(budget: _Budget) -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what a model is trained on: as if it were not there."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            inside: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return inside

    class Bounded(ImmutableSandboxedEnvironment):
        """The sandbox, with a budget."""

        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            _count_in(tree)
            return tree

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if attr == "append" and type(obj) is list:  # as Kimi's templates keep a queue
                return not budget.is_given(obj)
            return super().is_safe_attribute(obj, attr, value)

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
            owner = getattr(method, "__self__", None)
            if isinstance(owner, str | bytes | int | float | list | tuple | dict):
                args = tuple(map(_taken, args))
                given = [owner, *args, *kwargs.values()]
                _check(budget, method.__name__, given)
                budget.read(given)
            return budget.made(super().call(context, function, *args, **kwargs))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "+" and type(left) is str and type(right) is str:
                return budget.made(left + right)
            budget.read([left, right])
            if operator == "*" and not (isinstance(left, int | float) and isinstance(right, int | float)):
                budget.multiplied([left, right])
            if operator == "%" and isinstance(left, str | bytes):
                _check_format(budget, left, [left, right])
            if operator == "**" and (abs(left) > 1000 or abs(right) > 100):
                budget.too_large()
            return budget.made(super().call_binop(context, operator, left, right))

    environment: Any = Bounded(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", Generation],
        optimized=False,  # constants are then computed when it runs, within the budget
        finalize=budget.printed,
    )
    environment.filters["tojson"] = tojson
    for name in _LEFT_OUT:
        del environment.filters[name]
    del environment.globals["lipsum"]
    for name, function in environment.filters.items():
        environment.filters[name] = _guarded(name, function, budget)
    for name in _LONG_TESTS:
        environment.tests[name] = _reading(environment.tests[name], budget)
    environment.filters |= {
        "_each": budget.each,
        "_kept": budget.kept,
        "_joined": budget.joined,
        "_made": budget.made,
        "_read": budget.looked_at,
        "_spend": budget.spend,
    }
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment


def _count_in(tree: Any) -> None:
    """Write what counts into the template."""
    from jinja2 import nodes

    count = sum(1 for _ in tree.find_all(nodes.Node))
    if count > MAX_NODES:
        raise TemplateBoundError(f"it has {count:,} expressions and statements, of {MAX_NODES:,} allowed")
    for repeated in [*tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block))]:
        weight = nodes.Const(_cost(repeated), lineno=repeated.lineno)
        if isinstance(repeated, nodes.For):
            repeated.iter = _through("_each", repeated.iter, weight)
        if repeated.body and getattr(repeated, "recursive", True):  # a loop that calls itself counts there, too
            repeated.body.insert(0, nodes.ExprStmt(_through("_spend", weight), lineno=repeated.lineno))
    for assignment in [*tree.find_all(nodes.Assign)]:
        assignment.node = _through("_kept", assignment.node)
    for comparison in [*tree.find_all(nodes.Compare)]:
        _count_comparison(comparison)
    _rewriter().visit(tree)


def _count_comparison(comparison: Any) -> None:
    """Looking for one text in another, or comparing two lists, takes its time. Comparing with a constant does not."""
    from jinja2 import nodes

    if any(operand.op in ("in", "notin") or not isinstance(operand.expr, nodes.Const) for operand in comparison.ops):
        for operand in comparison.ops:
            if not isinstance(operand.expr, nodes.Const):
                operand.expr = _through("_read", operand.expr)


def _rewriter() -> Any:
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Rewriter(NodeTransformer):
        """What jinja2 does without asking, as filters: ``a ~ b`` and ``a[1:]``."""

        def visit_Concat(self, node: Any) -> Any:
            self.generic_visit(node)
            return _through("_joined", nodes.List(node.nodes, lineno=node.lineno))

        def visit_Getitem(self, node: Any) -> Any:
            self.generic_visit(node)
            return _through("_made", node) if isinstance(node.arg, nodes.Slice) else node

    return Rewriter()


def _cost(node: Any) -> int:
    """Steps of one round of straight-line code, all that is nested in it included."""
    from jinja2 import nodes

    count = constant = 0
    for inner in node.find_all(nodes.Node):
        count += 1
        constant += len(inner.data) if isinstance(inner, nodes.TemplateData) else 0
    return 1 + count // _NODES_A_STEP + constant // _CONSTANT_A_STEP


def _through(name: str, node: Any, *arguments: Any) -> Any:
    """The expression with a filter behind it."""
    from jinja2 import nodes

    return nodes.Filter(node, name, [*arguments], [], None, None, lineno=node.lineno)


def _guarded(name: str, function: Callable[..., object], budget: _Budget) -> Callable[..., object]:
    @wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        if name not in _LINEAR:
            args = tuple(map(_taken, args))
            # Some are given the environment first, which is of no account.
            _check(budget, name, [*args[getattr(function, "jinja_pass_arg", None) is not None :], *kwargs.values()])
        budget.read([*args, *kwargs.values()])
        if name == "title":
            budget.spend(len(str(args[0])) // 4)  # it is slow
        return budget.made(function(*args, **kwargs))

    return guarded


def _reading(test: Callable[..., bool], budget: _Budget) -> Callable[..., bool]:
    @wraps(test)
    def reading(*args: object) -> bool:
        budget.read(args)
        return test(*args)

    return reading


def _check(budget: _Budget, name: str, given: list[Any]) -> None:
    """Refuse a method or a filter that would make too much; ``given``: what it is of, and its arguments."""
    if name in ("format", "format_map"):
        _check_format(budget, given[0], given)
    elif name == "replace" and len(given) > 2 and given[1]:
        budget.multiplied([given[0], given[2]])
    elif name == "sum" and any(isinstance(start, list | tuple) for start in given[1:]):
        budget.multiplied([given[0], given[0]])  # every sum on the way is copied
    elif name not in _LINEAR:
        budget.multiplied(given)


def _check_format(budget: _Budget, form: Any, given: list[Any]) -> None:
    text = str(form)
    if _WIDE_PERCENT.search(text) or _WIDE_BRACES.search(text.replace("{{", "").replace("}}", "")):
        raise TemplateBoundError(f"it formats with a width of four digits or one from a value: {text[:80]!r}")
    budget.multiplied(given)


def tojson(
    value: JsonValue,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's renderer has it; jinja2's own escapes for HTML. What a filter left lazy is a list."""
    if isinstance(indent, int | str) and (indent if isinstance(indent, int) else len(indent)) > 16:
        raise TemplateBoundError(f"it indents JSON by {indent!r}, of 16 allowed")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=_lazy
    )


def _lazy(value: object) -> list[object]:
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def raise_exception(message: str) -> NoReturn:
    """A template refuses what it is given."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def strftime_now(form: str) -> str:
    """The local time, as templates ask for it."""
    return datetime.now().astimezone().strftime(form)
