"""Arguments as they were read → arguments that fit a tool's schema, where that loses nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from agentkit.errors import ToolDefinitionError
from agentkit.messages import JsonObject, JsonValue, clean_json
from agentkit.parsing.literals import Digits, RawText, Repeated, Unreadable, strict_json
from agentkit.parsing.repair import read_json

if TYPE_CHECKING:
    from agentkit.tool import AnyTool

__all__ = ["Misfit", "ToolSchema", "plain", "type_text"]

EXCERPT: Final = 600
"""Characters of a schema that an error message quotes."""

_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0+)?\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z")
_MAX_DEPTH: Final = 60
_FAILED: Final = object()


class Misfit(ValueError):
    """The arguments do not fit; the message is for the model."""


class ToolSchema:
    """A tool's schema, ready to check and to type arguments. Make one a tool and keep it."""

    def __init__(self, tool: AnyTool) -> None:
        self.name = tool.name
        try:
            self.root: JsonObject = tool.parameters
        except ToolDefinitionError:  # said where the tool is used; a model's turn is no place to raise it
            self.root = {}
        self._validators: dict[int, tuple[object, Callable[[JsonValue], bool]]] = {}

    # ── reading schemas ────────────────────────────────────────────────────────────────────────────────────────────

    def resolve(self, schema: JsonValue) -> Mapping[str, JsonValue]:
        """The schema with its local ``$ref`` followed; siblings of the ``$ref`` stay."""
        for _ in range(20):
            if not isinstance(schema, dict):
                return {}
            ref = schema.get("$ref")
            if not isinstance(ref, str):
                return schema
            target = self._pointer(ref)
            if target is None:
                return schema
            siblings = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **siblings}
        return {}

    def _pointer(self, ref: str) -> JsonObject | None:
        if not ref.startswith("#"):
            return None
        found: JsonValue = self.root
        for step in ref[1:].strip("/").split("/") if ref != "#" else []:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or step not in found:
                return None
            found = found[step]
        return found if isinstance(found, dict) else None

    def branches(self, schema: JsonValue, depth: int = 0) -> Iterator[Mapping[str, JsonValue]]:
        """The schema and everything that its allOf, anyOf and oneOf add."""
        resolved = self.resolve(schema)
        yield resolved
        if depth > 8:
            return
        for word in ("allOf", "anyOf", "oneOf"):
            options = resolved.get(word)
            for option in options if isinstance(options, list) else ():
                yield from self.branches(option, depth + 1)

    def property(self, key: str, schema: JsonValue | None = None) -> JsonValue:
        """The schema of one argument; empty if there is none."""
        for branch in self.branches(self.root if schema is None else schema):
            properties = branch.get("properties")
            if isinstance(properties, dict) and key in properties:
                return cast("JsonValue", properties[key])
        for branch in self.branches(self.root if schema is None else schema):
            patterns = branch.get("patternProperties")
            for pattern, found in patterns.items() if isinstance(patterns, dict) else ():
                if _searches(pattern, key):
                    return cast("JsonValue", found)
            extra = branch.get("additionalProperties")
            if isinstance(extra, dict):
                return extra
        return {}

    def known(self) -> set[str]:
        """The arguments that the schema names."""
        found: set[str] = set()
        for branch in self.branches(self.root):
            properties = branch.get("properties")
            if isinstance(properties, dict):
                found.update(properties)
        return found

    def required(self, schema: JsonValue | None = None) -> list[str]:
        """The arguments that must be there."""
        names = self.resolve(self.root if schema is None else schema).get("required")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def types(self, schema: JsonValue) -> set[str]:
        """The JSON types that a schema allows as far as it says; empty if it says nothing."""
        found: set[str] = set()
        for branch in self.branches(schema):
            kind = branch.get("type")
            if isinstance(kind, str):
                found.add(kind)
            elif isinstance(kind, list):
                found.update(item for item in kind if isinstance(item, str))
            elif isinstance(branch.get("enum"), list):
                found.update(_type_of(item) for item in cast("list[JsonValue]", branch["enum"]))
            elif "const" in branch:
                found.add(_type_of(branch["const"]))
            elif "properties" in branch:
                found.add("object")
            elif "items" in branch:
                found.add("array")
        return found

    # ── validation ─────────────────────────────────────────────────────────────────────────────────────────────────

    def accepts(self, value: JsonValue, schema: JsonValue) -> bool:
        """Whether a value fits a part of this tool's schema. A schema that is itself broken accepts all."""
        if not isinstance(schema, dict):
            return schema is not False
        cached = self._validators.get(id(schema))
        if cached is None or cached[0] is not schema:
            cached = (schema, self._checker(schema))
            if len(self._validators) < 4096:
                self._validators[id(schema)] = cached
        return cached[1](value)

    def _checker(self, schema: JsonObject) -> Callable[[JsonValue], bool]:
        validator = self._validator(schema)

        def check(value: JsonValue) -> bool:
            try:
                return next(iter(validator.iter_errors(value)), None) is None
            except RecursionError:
                return False
            except Exception:  # a broken schema, or a reference that leads nowhere: no reason to lose a call
                return True

        return check

    def _validator(self, schema: JsonObject) -> Any:  # jsonschema's classes are made at run time
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

        definitions: dict[str, Any] = {
            key: self.root[key] for key in ("$defs", "definitions", "$schema") if key in self.root
        }
        try:
            checker = validator_for({**definitions, **schema}, default=Draft202012Validator)
            return checker({**definitions, **schema}, registry=REGISTRY)  # no reference is fetched
        except Exception:
            return Draft202012Validator({})

    def faults(self, arguments: JsonObject) -> str:
        """What is wrong with the arguments, and the part of the schema that says so; empty if nothing is."""
        try:
            errors = list(self._validator(self.root).iter_errors(arguments))
        except Exception:
            return ""
        if not errors:
            return ""
        said = "; ".join(
            f"{'.'.join(str(step) for step in error.absolute_path) or 'arguments'}: {_short(error.message)}"
            for error in errors[:5]
        )
        return f"{said}. Expected: {self.excerpt([str(e.absolute_path[0]) for e in errors if e.absolute_path])}"

    def excerpt(self, keys: Sequence[str] = ()) -> str:
        """The schema of these arguments, or all of it, as far as a message can carry it."""
        properties = self.root.get("properties")
        wanted: JsonValue = self.root
        if isinstance(properties, dict):
            chosen = {key: properties[key] for key in keys if key in properties} or properties
            wanted = {"properties": chosen, "required": self.required()}
        text = json.dumps(wanted, ensure_ascii=False, default=str)
        return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"

    # ── fitting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, arguments: JsonValue, *, drop_unknown: bool = True) -> tuple[JsonObject, list[str]]:
        """Arguments that fit, and the repairs it took; unchanged if they fit as they are.

        Raises:
            Misfit: they do not.
        """
        repairs: set[str] = set()
        named = self._as_object(arguments, repairs)
        fitted = self._coerce(named, self.root, repairs, 0)
        if not isinstance(fitted, dict):
            raise Misfit("the arguments are not an object")
        fitted = _object(plain(self._known_only(fitted, repairs, drop_unknown)))
        if not self.accepts(fitted, self.root):
            raise Misfit(self.faults(fitted) or f"arguments: they do not fit. Expected: {self.excerpt()}")
        return cast("JsonObject", clean_json(fitted)), sorted(repairs)

    def _as_object(self, arguments: JsonValue, repairs: set[str]) -> JsonObject:
        if isinstance(arguments, str) and not isinstance(arguments, RawText):
            try:
                value, more = read_json(arguments)
            except Unreadable:
                value, more = None, []
            if isinstance(value, dict):
                repairs.update(["double_encoded", *more])
                return value
        if isinstance(arguments, dict):
            return arguments
        required = self.required() or list(self.known())
        if len(required) == 1 and arguments is not None:
            value = self._coerce(arguments, self.property(required[0]), set(), 0)
            if self.accepts(value, self.property(required[0])):
                repairs.add("wrapped_argument")
                return {required[0]: arguments}
        raise Misfit(
            f"arguments: {_short(json.dumps(arguments, default=str))} is not an object. Expected: {self.excerpt()}"
        )

    def _known_only(self, arguments: JsonObject, repairs: set[str], drop: bool) -> JsonObject:
        known = self.known()
        unknown = [key for key in arguments if key not in known]
        if not unknown or not known or not self._is_closed_by_habit():
            return arguments
        if not drop:
            raise Misfit(f"unknown arguments: {', '.join(unknown)}. Expected: {self.excerpt()}")
        repairs.add("dropped_argument")
        return {key: value for key, value in arguments.items() if key in known}

    def _is_closed_by_habit(self) -> bool:
        """Whether nothing is said about further arguments: JSON Schema then allows them, functions do not."""
        words = ("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames")
        return not any(word in branch for branch in self.branches(self.root) for word in words)

    def _typed(self, value: JsonValue, schema: JsonValue) -> JsonValue:
        """A raw text as what the schema wants; anything else unchanged."""
        if isinstance(value, Repeated) and "array" not in self.types(schema):
            value = value[-1]
        if isinstance(value, RawText) and not isinstance(value, Digits):
            return type_text(str(value), schema, self)
        return value

    def _coerce(self, value: JsonValue, schema: JsonValue, repairs: set[str], depth: int) -> JsonValue:
        if depth > _MAX_DEPTH or not isinstance(schema, dict):
            return value
        resolved = self.resolve(schema)
        value = self._typed(value, schema)
        value = self._coerce_choice(value, resolved, repairs, depth)
        types = self.types(resolved)
        if isinstance(value, Digits):
            value = self._coerce_digits(value, types, repairs)
        if isinstance(value, float) and value.is_integer() and "integer" in types and "number" not in types:
            repairs.add("coerced_type")
            value = int(value)
        if isinstance(value, dict):
            value = self._coerce_object(value, resolved, repairs, depth)
        elif isinstance(value, list) and isinstance(resolved.get("items"), dict):
            value = [self._coerce(item, resolved["items"], repairs, depth + 1) for item in value]
        if not types or self.accepts(value, schema):
            return value
        changed, repair = self._other_type(value, types)
        if changed is _FAILED:
            return value
        if repair == "double_encoded":
            changed = self._coerce(changed, schema, repairs, depth + 1)
        if not self.accepts(changed, schema):
            return value
        repairs.add(repair)
        return changed

    def _coerce_choice(
        self, value: JsonValue, schema: Mapping[str, JsonValue], repairs: set[str], depth: int
    ) -> JsonValue:
        """Through allOf one after another; through anyOf and oneOf by the first branch that then accepts."""
        every = schema.get("allOf")
        for part in every if isinstance(every, list) else ():
            value = self._coerce(value, part, repairs, depth + 1)
        for word in ("anyOf", "oneOf"):
            options = schema.get(word)
            if not isinstance(options, list) or (
                not _has_float(value) and any(self.accepts(value, option) for option in options)
            ):
                continue
            for option in sorted(options, key=lambda option: not self.accepts(value, option)):
                tried: set[str] = set()
                candidate = self._coerce(value, option, tried, depth + 1)
                if self.accepts(candidate, option):
                    repairs |= tried
                    value = candidate
                    break
        return value

    def _coerce_object(
        self, value: JsonObject, schema: Mapping[str, JsonValue], repairs: set[str], depth: int
    ) -> JsonObject:
        found: JsonObject = {}
        required = self.required(dict(schema))
        for key, item in value.items():
            wanted = self.property(key, dict(schema))
            item = self._coerce(item, wanted, repairs, depth + 1)
            if item is None and wanted and key not in required and not self.accepts(None, wanted):
                repairs.add("dropped_null")
                continue
            found[key] = item
        return found

    def _coerce_digits(self, value: Digits, types: set[str], repairs: set[str]) -> JsonValue:
        if "string" not in types and types & {"integer", "number"} and len(value) <= 300:
            repairs.add("coerced_type")
            return int(value)
        return str(value)

    def _other_type(self, value: JsonValue, types: set[str]) -> tuple[Any, str]:
        """The value as another of the allowed types, and the name of the repair."""
        if isinstance(value, str):
            return _from_string(value, types)
        if "string" in types:
            if isinstance(value, dict | list):
                return json.dumps(value, ensure_ascii=False, default=str), "object_to_string"
            if isinstance(value, bool):
                return str(value).lower(), "coerced_type"
            if isinstance(value, int):
                return _digits(value), "coerced_type"
        return _FAILED, ""


def type_text(text: str, schema: JsonValue, tool: ToolSchema | None = None) -> JsonValue:
    """The value of a parameter that a format writes as bare text.

    A string where the schema allows nothing else; otherwise what it says if it reads as one of the allowed types, and
    the text where it does not. Without a type in the schema: JSON if it is JSON, else the text.
    """
    types = tool.types(schema) if tool else set[str]()
    if types == {"string"}:
        return text
    if types:
        return _typed(text, types, lambda value: tool is None or tool.accepts(value, schema))
    try:
        value = strict_json(text.strip())
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) and "string" in types else value


def plain(value: JsonValue) -> JsonValue:
    """A value without marks for the schema, where there is no schema."""
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, RawText):
        return type_text(str(value), {})
    if isinstance(value, Repeated):
        return plain(list(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _typed(text: str, types: set[str], accepts: Callable[[JsonValue], bool]) -> JsonValue:
    bare = text.strip()
    candidates: list[JsonValue] = []
    if "null" in types and bare in ("null", "None"):
        candidates.append(None)
    if "boolean" in types and bare.lower() in ("true", "false"):
        candidates.append(bare.lower() == "true")
    if types & {"integer", "number"}:
        number, _ = _from_string(bare, types & {"integer", "number"})
        if number is not _FAILED:
            candidates.append(number)
    if types & {"object", "array"} and bare[:1] in ("{", "[", '"', "("):
        value = _read_container(bare, types)
        if value is not _FAILED:
            candidates.append(value)
    for candidate in candidates:
        if "string" not in types or accepts(candidate):
            return candidate
    return text


def _read_container(text: str, types: set[str]) -> Any:
    try:
        value, _ = read_json(text)
    except Unreadable:
        return _FAILED
    wanted = {"object": dict, "array": list}
    return value if any(kind in types and isinstance(value, wanted[kind]) for kind in wanted) else _FAILED


def _from_string(text: str, types: set[str]) -> tuple[Any, str]:
    bare = text.strip()
    if types & {"integer", "number"} and len(bare) <= 300:
        if "integer" in types and _INTEGER.match(bare):
            return int(bare.partition(".")[0]), "coerced_type"
        if "number" in types and _NUMBER.match(bare):
            try:
                return json.loads(bare, parse_float=_finite), "coerced_type"
            except ValueError:
                return _FAILED, ""
    if "boolean" in types and bare.lower() in ("true", "false"):
        return bare.lower() == "true", "coerced_type"
    if "null" in types and bare in ("null", "None", ""):
        return None, "coerced_type"
    if types & {"object", "array"} and bare[:1] in ("{", "["):
        return _read_container(bare, types), "double_encoded"
    return _FAILED, ""


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _digits(number: int) -> Any:
    try:
        return str(number)
    except ValueError:  # beyond the interpreter's limit of digits
        return _FAILED


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(digits)
    return number


def _has_float(value: JsonValue) -> bool:
    return isinstance(value, float | dict | list)


def _searches(pattern: object, key: str) -> bool:
    try:
        return re.search(str(pattern), key) is not None
    except re.error:
        return False


def _type_of(value: JsonValue) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "object"


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
