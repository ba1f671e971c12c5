"""The grammar of the offered tools: what a decoder can and cannot write under it, with the real tokenizer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np
import pytest
from llguidance import LLMatcher, LLParserLimits

from agentkit import Tool, ToolCall
from agentkit.constrain import ReasoningMarks, call_grammar
from agentkit.constrain.limits import grammar_fault
from agentkit.messages import JsonObject
from agentkit.parsing import DIALECTS, parse
from agentkit.parsing.dialects import Dialect
from agentkit.parsing.dialects.hermes import HERMES as HERMES_DIALECT
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.model import LlamaModel

HERMES = HERMES_DIALECT.form
ADD = Tool.from_schema(
    "add",
    "",
    {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/N"}, "note": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"N": {"type": "integer"}},
    },
)
NOW = Tool.from_schema("now", "", {"type": "object", "properties": {}, "additionalProperties": False})
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 12}}\n</tool_call>'
NOW_CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    provider = LlamaCppProvider("smollm2")
    yield provider._load()[0].model


def verdict(model: LlamaModel, text: str, choice: str, special: dict[str, int], max_calls: int = 8) -> str:
    """``ends``: the text is a whole turn; ``goes on``: it may begin one; ``no``: it cannot be written."""
    grammar = call_grammar([ADD, NOW], choice, HERMES, special, model.end_tokens, max_calls=max_calls)
    return read(model, grammar, text, special)


def read(model: LlamaModel, grammar: str | None, text: str, special: Mapping[str, int] | None = None) -> str:
    assert grammar is not None
    matcher = LLMatcher(model.grammar_tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    pattern = "|".join(map(re.escape, special or ())) or "(?!)"
    tokens: list[int] = []
    for piece in re.split(f"({pattern})", text):
        tokens += [special[piece]] if special and piece in special else model.tokenize(piece, special=False)
    if matcher.try_consume_tokens(tokens) < len(tokens):
        return "no"
    return "ends" if matcher.is_accepting() else "goes on"


CASES = [
    ("auto", "Hello there.", "ends"),
    ("auto", "", "ends"),
    ("auto", CALL, "ends"),
    ("auto", f"Let me see. {CALL}\n{NOW_CALL} Done.", "ends"),
    ("auto", "I write <tool_call> here", "no"),
    ("auto", "<tool_call>\n", "goes on"),
    ("auto", CALL.replace("12", '"x"'), "no"),
    ("required", CALL, "ends"),
    ("required", f"{CALL}\n{NOW_CALL}", "ends"),
    ("required", "Hello", "no"),
    ("required", "", "goes on"),
    ("required", CALL.replace("add", "sub"), "no"),
    ("required", CALL.replace('{"a": 12}', "{}"), "no"),
    ("required", CALL.replace('{"a": 12}', '{"a": 12, "b": 1}'), "no"),
    ("now", NOW_CALL, "ends"),
    ("now", CALL, "no"),
]


@pytest.mark.parametrize(("choice", "text", "expected"), CASES)
@pytest.mark.parametrize("markers", ["as text", "as special tokens"])
def test_what_can_be_written(model: LlamaModel, choice: str, text: str, expected: str, markers: str) -> None:
    special = dict(model.special_tokens)
    if markers == "as special tokens":  # two ids that SmolLM2 has no other use for
        special["<tool_call>"] = special.pop("<jupyter_start>")
        special["</tool_call>"] = special.pop("<jupyter_text>")
    assert verdict(model, text, choice, special) == expected


def test_the_closing_marker_may_stand_inside_a_string(model: LlamaModel) -> None:
    call = CALL.replace('{"a": 12}', '{"a": 1, "note": "a \\"</tool_call>\\" in it"}')
    assert verdict(model, call, "required", model.special_tokens) == "ends"


def test_arguments_cannot_be_made_up_where_the_schema_names_them(model: LlamaModel) -> None:
    nested = {"type": "object", "properties": {"properties": {"type": "integer"}}, "default": {"properties": 1}}
    schema = {"type": "object", "properties": {"x": nested, "free": {"type": "object"}}}
    grammar = call_grammar([Tool.from_schema("f", "", schema)], "required", HERMES, model.special_tokens)
    for arguments, allowed in [
        ('{"x": {"properties": 1}}', True),
        ('{"x": {"properties": 1, "y": 2}}', False),
        ('{"x": {}, "y": 1}', False),
        ('{"free": {"y": 1}}', True),
    ]:
        matcher = LLMatcher(model.grammar_tokenizer, grammar)
        tokens = model.tokenize(f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>', special=False)
        assert (matcher.try_consume_tokens(tokens) == len(tokens)) is allowed, arguments


UNCOMPILABLE = [
    {"type": "string", "pattern": "^(?=a).*$"},
    {"type": "object", "patternProperties": {"(?<=x)y": {}}},
    {"type": "string", "format": "no-such-format", "pattern": "(?!b)a"},
    {"allOf": [{"type": "string", "pattern": "(?=a)"}, {"type": "string"}]},
]


NUMBER: JsonObject = {"type": "number", "description": "A number."}
OPTIONAL: JsonObject = {"anyOf": [NUMBER, {"type": "null"}], "default": None}
TREE: JsonObject = {
    "type": "object",
    "properties": {"weight": NUMBER, "below": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    "required": ["weight"],
}
WITH_NUMBERS: list[tuple[JsonObject, str]] = [
    (NUMBER, "{}"),
    (OPTIONAL, "{}"),
    ({"type": ["number", "null"]}, "{}"),
    ({"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 3}, "[1, {}, -2.5]"),
    ({"type": "object", "properties": {"deep": OPTIONAL, "name": {"type": "string"}}}, '{"deep": {}, "name": "a"}'),
    ({"type": "object", "additionalProperties": NUMBER}, '{"any key": 1, "other": {}}'),
    ({"$ref": "#/$defs/Tree"}, '{"weight": 1, "below": [{"weight": {}, "below": []}]}'),
    (
        {"type": "object", "properties": {"d": {"$ref": "#/$defs/Tree", "description": "A tree."}}},
        '{"d": {"weight": {}}}',
    ),
]


@pytest.mark.parametrize(("schema", "written"), WITH_NUMBERS)
@pytest.mark.parametrize("place", ["arguments", "beside an answer", "answer"])
def test_a_number_is_one_that_can_be_kept(model: LlamaModel, schema: JsonObject, written: str, place: str) -> None:
    tool = Tool.from_schema(
        "f", "", {"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": {"Tree": TREE}}
    )
    if place == "arguments":
        grammar, call = (
            call_grammar([tool], "required", HERMES, {}),
            '<tool_call>\n{"name": "f", "arguments": {"x": %s}}\n</tool_call>',
        )
    elif place == "answer":
        grammar, call = call_grammar([], "none", HERMES, {}, answer=tool.parameters), '{"x": %s}'
    else:
        bare = DIALECTS["llama3_json"]
        grammar = call_grammar([tool], "auto", bare.form, {}, answer={"type": "integer"})
        call = bare.write_calls([ToolCall("f", {"x": "X"})]).replace('"X"', "%s")
    for number, expected in [("6.02e23", "ends"), ("-1E-5", "ends"), ("0", "ends"), ("1e999", "no"), ("+1", "no")]:
        assert read(model, grammar, call % written.replace("{}", number, 1)) == expected
    assert read(model, grammar, call % written.replace("{}", '"1"', 1)) == "no"


def test_what_is_said_beside_the_alternatives_holds_too(model: LlamaModel) -> None:
    """A schema with a free number in it, of which nothing may be lost on the way into the grammar."""
    schema: JsonObject = {"type": "integer", "anyOf": [{"type": "number"}, {"type": "string"}]}
    grammar = call_grammar([], "none", HERMES, {}, answer={"type": "array", "items": schema})
    assert read(model, grammar, "[1, 2]") == "ends"
    assert read(model, grammar, "[1.5]") == "no"
    assert read(model, grammar, '["a"]') == "no"
    root: JsonObject = {"$ref": "#/$defs/N", "$defs": {"N": {"type": "number"}}}
    grammar = call_grammar([], "none", HERMES, {}, answer=root)
    assert read(model, grammar, "1.5") == "ends"
    assert read(model, grammar, "1e999") == "no"


@pytest.mark.parametrize("unknown", UNCOMPILABLE)
def test_what_the_compiler_does_not_know_is_left_to_validation(model: LlamaModel, unknown: dict[str, object]) -> None:
    properties = {"pattern": {"type": "integer"}, "x": unknown}
    tool = Tool.from_schema("f", "", {"type": "object", "properties": properties, "additionalProperties": False})
    grammar = call_grammar([tool], "required", HERMES, model.special_tokens)
    matcher = LLMatcher(model.grammar_tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    call = '<tool_call>\n{"name": "f", "arguments": {"pattern": 1}}\n</tool_call>'
    tokens = model.tokenize(call, special=False)
    assert matcher.try_consume_tokens(tokens) == len(tokens)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call_at_most(model: LlamaModel, choice: str) -> None:
    assert verdict(model, CALL, choice, model.special_tokens, max_calls=1) == "ends"
    assert verdict(model, f"{CALL}\n{NOW_CALL}", choice, model.special_tokens, max_calls=1) == "no"


def test_special_tokens_may_stand_in_free_text_but_not_the_end_of_the_turn(model: LlamaModel) -> None:
    special = model.special_tokens
    assert verdict(model, "<filename>a.py", "auto", special) == "ends"
    assert verdict(model, "a<|im_end|>b", "auto", special) == "no"


# ── every dialect ──────────────────────────────────────────────────────────────────────────────────────────────────

UNMARKED = {"bare_json", "llama3_json", "glm4_9b", "functions_colon", "pythonic", "gemma3"}
"""Their calls cannot be told from text."""

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "body": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "mode": {"enum": ["fast", 'slow, or "so"', "é\n"]},
        "level": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[a-z]{2,4}-[0-9]+$"},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "point": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "label": {"type": "string"}},
            "required": ["x"],
        },
        "tree": {"$ref": "#/$defs/Tree"},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "pick": {"enum": [1, "a", None, True, 2.5]},
        "anything": {},
    },
    "required": ["title", "count", "tags"],
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
            },
            "required": ["name"],
        }
    },
}
MAKE = Tool.from_schema("make", "", SCHEMA)
OPEN = Tool.from_schema(
    "open_ended", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True}
)
TOOLS = [MAKE, NOW, OPEN]
NEEDED: JsonObject = {"title": "t", "count": 3, "tags": []}
SAMPLES: list[JsonObject] = [
    NEEDED,
    {"title": 'it\'s "quoted" \\ and\n\ntwo lines — ünïcode 漢字 🎉', "count": 0, "tags": ["a", "b, c"]},
    {"title": "<b>bold</b> & {braces} [x] </p>", "body": "if (a < b) { return '<'; }", "count": 99, "tags": ["</b>"]},
    {"title": "", "count": 7, "ratio": -2.5, "flag": True, "mode": 'slow, or "so"', "level": None, "tags": []},
    {**NEEDED, "ratio": 3, "flag": False, "level": -4, "note": None, "code": "abc-12", "day": "2026-11-25"},
    {**NEEDED, "point": {"x": 1.5, "label": "here"}, "pair": [1, "one"], "counts": {"a": 1, "b": 2}, "pick": None},
    {**NEEDED, "tree": {"name": "r", "kids": [{"name": "x", "kids": [{"name": "y"}]}, {"name": "z"}]}, "pick": 2.5},
    {**NEEDED, "anything": "just text"},
]  # the arguments stand in the schema's order


def ordered(arguments: JsonObject) -> JsonObject:
    properties = SCHEMA["properties"]
    assert isinstance(properties, dict)
    return {key: arguments[key] for key in properties if key in arguments}


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_what_a_dialect_writes_its_grammar_allows(model: LlamaModel, name: str, choice: str) -> None:
    dialect = DIALECTS[name]
    parallel = not dialect.literals or dialect.literals.parallel
    grammar = call_grammar(TOOLS, choice, dialect.form, model.special_tokens, model.end_tokens, max_calls=3)
    if choice == "auto" and name in UNMARKED:
        assert grammar is None
        return
    calls = [ToolCall("make", ordered(arguments)) for arguments in SAMPLES]
    if name == "minimax_m3":  # a tag that no schema names cannot be held to be closed by its own name
        calls[5].arguments.pop("counts")
    for given in [[call] for call in calls] + ([[calls[0], ToolCall("now", {}), calls[1]]] if parallel else []):
        written = dialect.write_calls(given)
        assert read(model, grammar, written) == "ends", written
        if choice == "auto":
            assert read(model, grammar, f"Let me see.\n{written}") == "ends"


MISFITS = [
    ToolCall("unmake", NEEDED),
    ToolCall("make", {**NEEDED, "zzz": 1}),
    ToolCall("make", {"title": "t", "tags": []}),
    ToolCall("make", {"title": "t", "count": "three", "tags": []}),
    ToolCall("make", {"title": "t", "count": 100, "tags": []}),
    ToolCall("make", {"title": "t", "count": 1, "flag": "maybe", "tags": []}),
    ToolCall("make", {"title": "t", "count": 1, "mode": "slow", "tags": []}),
    ToolCall("make", {"title": "t", "count": 1, "code": "ABC", "tags": []}),
    ToolCall("make", {"title": "t", "count": 1, "tags": ["a", "b", "c", "d"]}),
    ToolCall("make", {**NEEDED, "point": {"label": "here"}}),
    ToolCall("make", {**NEEDED, "point": {"x": 1.5, "y": 2.5}}),
    ToolCall("make", {**NEEDED, "counts": {"a": "b"}}),
    ToolCall("make", {**NEEDED, "tree": {"name": "r", "kids": [{"kids": [{"name": "z"}]}]}}),
]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("choice", ["auto", "make"])
def test_what_does_not_fit_cannot_be_written(model: LlamaModel, name: str, choice: str) -> None:
    dialect = DIALECTS[name]
    grammar = call_grammar(TOOLS, choice, dialect.form, model.special_tokens, model.end_tokens)
    if choice == "auto" and name in UNMARKED:
        return
    for call in MISFITS:
        assert read(model, grammar, dialect.write_calls([call])) != "ends", call
    if choice == "make":
        assert read(model, grammar, dialect.write_calls([ToolCall("now", {})])) == "no"


# ── random turns ───────────────────────────────────────────────────────────────────────────────────────────────────


class Walk:
    """Writes a turn by chance from what the grammar allows, with a taste for whatever could break the format."""

    def __init__(self, model: LlamaModel, grammar: str, dialect: Dialect, seed: int) -> None:
        self.matcher = LLMatcher(model.grammar_tokenizer, grammar, log_level=0)
        assert not self.matcher.is_error(), self.matcher.get_error()
        self._model = model
        self._random = np.random.default_rng(seed)
        literals = [str(getattr(dialect.form, field.name)) for field in fields(dialect.form)]
        pieces = [piece for literal in literals for piece in re.split(r"\{\w+\}", literal)]
        self._markup = sorted({part for piece in pieces for part in (piece, piece.strip(), *piece.split("\n")) if part})
        self._markup += ["\\", "<![CDATA[", "]]>", "</", "<", "// x", "# y", " ", ",", "\n<parameter=body>"]
        self._closers = [
            "}",
            "]",
            ")",
            '"',
            "'",
            "\n",
            "0",
            *sorted(filter(None, (p[-1] for p in map(_values, literals)))),
        ]
        self._tokens: list[int] = []

    def text(self, limit: int = 90) -> str | None:
        """The turn; None if it did not come to an end."""
        for _ in range(40 * limit):
            late = len(self._tokens) > limit
            if self.matcher.is_stopped() or (self.matcher.is_accepting() and (late or self._random.random() < 0.3)):
                return b"".join(map(self._model.piece, self._tokens)).decode()
            self._step(late)
        return None

    def push(self, text: str) -> bool:
        """Write this, if it may be written."""
        tokens = self._model.tokenize(text, special=False)
        fits = bool(tokens) and self.matcher.validate_tokens(tokens) == len(tokens)
        if fits:
            assert self.matcher.consume_tokens(tokens), self.matcher.get_error()
            self._tokens += tokens
        return fits

    def _step(self, late: bool) -> None:
        mask = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        assert not self.matcher.is_error(), self.matcher.get_error()
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little", count=self._model.n_vocab))
        allowed = allowed[~np.isin(allowed, list(self._model.end_tokens))]
        chance = self._random.random() if len(allowed) > 300 else 1.0
        if (late or chance < 0.3) and any(self.push(str(text)) for text in self._random.permutation(self._closers)):
            return
        if chance < 0.6 and self.push(str(self._random.choice(self._markup))):
            return
        token = int(self._random.choice(allowed))
        # An exponent may make a number that no float holds, and no grammar of JSON can count its digits.
        written = self._model.piece(self._tokens[-1]) if self._tokens else b""
        if not (written[-1:].isdigit() and self._model.piece(token)[:1] in b"eE"):
            assert self.matcher.consume_token(token), self.matcher.get_error()
            self._tokens.append(token)


def _values(literal: str) -> Sequence[str]:
    """What follows a value in a literal, unless it varies."""
    after = literal.partition("{value}")[2] if "{value}" in literal else literal
    return [after if "{" not in after else ""]


def check(text: str, dialect: Dialect, least: int = 1) -> None:
    found = parse(text, tools=TOOLS, dialect=dialect)
    assert not found.problems, (text, found.problems)
    assert len(found.calls) >= least, text
    for call in found.calls:
        assert not call.repairs, (text, call.repairs)
        {tool.name: tool for tool in TOOLS}[call.name].validate(call.arguments)


@pytest.mark.parametrize("name", DIALECTS)
def test_whatever_can_be_written_is_read_back_and_fits(model: LlamaModel, name: str) -> None:
    dialect = DIALECTS[name]
    grammar = call_grammar(TOOLS, "required", dialect.form, model.special_tokens, model.end_tokens, max_calls=3)
    assert grammar is not None
    ended = 0
    for seed in range(4):
        text = Walk(model, grammar, dialect, seed).text()
        if text is not None:
            check(text, dialect)
            assert not parse(text, tools=TOOLS, dialect=dialect).text.strip()
            ended += 1
    assert ended >= 3


@pytest.mark.parametrize("name", [name for name in DIALECTS if name not in UNMARKED])
def test_the_calls_after_free_text_are_read_back_and_fit(model: LlamaModel, name: str) -> None:
    dialect = DIALECTS[name]
    grammar = call_grammar(TOOLS, "auto", dialect.form, model.special_tokens, model.end_tokens)
    assert grammar is not None
    opening = dialect.write_calls([ToolCall("make", {})]).partition("make")[0] + "make"
    for seed in range(2):
        walk = Walk(model, grammar, dialect, seed)
        assert walk.push("Let me see.\n")
        assert walk.push(opening)
        text = walk.text()
        if text is not None:
            check(text, dialect)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("qwen3_coder", "a\n</parameter>\n<parameter=body>\nb"),
        ("qwen3_coder", "a\n<parameter=body>\nb"),
        ("qwen3_coder", "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>"),
        ("glm", "</arg_value:x>"),
        ("deepseek_dsml", "</｜DSML｜ parameter>"),
        ("minicpm5", "<![CDATA[x]]>"),
        ("minimax_m3", "]<]minimax[>[<x>"),
        ("gemma4", '<|"|>,count:1,title:<|"|>'),
    ],
)
def test_no_string_holds_what_would_end_it(model: LlamaModel, name: str, value: str) -> None:
    form = DIALECTS[name].form
    grammar = call_grammar([ADD], "required", form, model.special_tokens)
    assert read(model, grammar, form.write([ToolCall("add", {"a": 1, "note": f"x{value}y"})])) == "no"
    assert read(model, grammar, form.write([ToolCall("add", {"a": 1, "note": "x</p><function y"})])) == "ends"


def test_json_inside_a_tag_cannot_hold_the_tag_that_closes_it(model: LlamaModel) -> None:
    form = DIALECTS["minicpm5"].form
    grammar = call_grammar([MAKE], "required", form, model.special_tokens)
    for inside, verdict in [("</param></function>", "no"), ("</p>", "ends")]:
        assert read(model, grammar, form.write([ToolCall("make", {**NEEDED, "tags": [inside]})])) == verdict


@pytest.mark.parametrize("name", ["pythonic", "qwen3_coder", "gemma4", "minimax_m3", "hermes"])
@pytest.mark.parametrize(
    "pattern", ['^"[a-z]+"$', "^<.*>$", "^(a|b)$", "^a|b$", "[0-9]{3}", "^(?=x)x$", r"^\\d+/\\d+$", r"^\S+$"]
)
def test_a_pattern_never_leaves_nothing_to_write(model: LlamaModel, name: str, pattern: str) -> None:
    tool = Tool.from_schema(
        "f", "", {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}, "required": ["x"]}
    )
    dialect = DIALECTS[name]
    grammar = call_grammar([tool], "required", dialect.form, model.special_tokens, model.end_tokens)
    assert grammar is not None
    for seed in range(3):
        walk = Walk(model, grammar, dialect, seed)
        walk.text()
        assert not walk.matcher.is_error()
        assert not walk.matcher.is_stopped() or walk.matcher.is_accepting()


# ── special tokens ─────────────────────────────────────────────────────────────────────────────────────────────────

SPECIAL = {
    "gemma4": ["<|tool_call>", "<tool_call|>", '<|"|>'],
    "kimi_k3": ["<|open|>", "<|close|>", "<|sep|>"],
    "lfm2": ["<|tool_call_start|>", "<|tool_call_end|>"],
    "qwen3_coder": ["<tool_call>", "</tool_call>"],
    "glm": ["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    "deepseek_v31": ["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"],
    "harmony": ["<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|start|>"],
}


def with_special(model: LlamaModel, texts: Sequence[str]) -> dict[str, int]:
    """The model's special tokens, of which some stand for these: ids that SmolLM2 has no other use for."""
    known = dict(model.special_tokens)
    spare = [text for text, token in known.items() if token not in model.end_tokens and token > 1]
    return known | {text: known.pop(old) for text, old in zip(texts, spare, strict=False)}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_markers_that_are_special_tokens(model: LlamaModel, name: str, choice: str) -> None:
    form = DIALECTS[name].form
    special = with_special(model, SPECIAL[name])
    grammar = call_grammar(TOOLS, choice, form, special, model.end_tokens, max_calls=2)
    calls = [ToolCall("make", ordered(arguments)) for arguments in SAMPLES[:4]]
    for call in calls:
        assert read(model, grammar, form.write([call]), special) == "ends", form.write([call])
    assert read(model, grammar, form.write(calls[:2]), special) == "ends"
    for call in MISFITS:
        assert read(model, grammar, form.write([call]), special) != "ends"
    if choice == "auto":
        assert read(model, grammar, "Text.", special) == "ends"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("harmony", "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Hello"),
        ("harmony", "<|channel|>commentary<|message|>I will call."),
        ("kimi_k3", "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>Hello"),
    ],
)
def test_a_token_that_also_opens_what_is_no_call(model: LlamaModel, name: str, text: str) -> None:
    special = with_special(model, SPECIAL[name])
    form = DIALECTS[name].form
    grammar = call_grammar(TOOLS, "auto", form, special, model.end_tokens)
    assert read(model, grammar, text, special) == "ends"
    assert read(model, grammar, text + form.write([ToolCall("now", {})]), special) == "ends"
    assert read(model, grammar, text + form.write([ToolCall("unmake", {})]), special) == "no"


# ── reasoning and answers ──────────────────────────────────────────────────────────────────────────────────────────

THINKING = [
    (ReasoningMarks(), f"<think>\nHm, <tool_call>?\n</think>\n\n{CALL}", "ends"),
    (ReasoningMarks(), CALL, "ends"),
    (ReasoningMarks(), f"Hm.</think>{CALL}", "no"),
    (ReasoningMarks(), "<think>Hm.</think>", "goes on"),
    (ReasoningMarks(), "<think>Hm.</think> Hello", "no"),
    (ReasoningMarks(opened=True), f"Hm.\n</think>\n\n{CALL}", "ends"),
    (ReasoningMarks(opened=True), f"</think>{CALL}", "ends"),
    (ReasoningMarks(opened=True), CALL, "goes on"),
    (ReasoningMarks(budget=100), f"<think>\nHm, a < b </thin\n</think>\n\n{CALL}", "ends"),
    (ReasoningMarks("[THINK]", "[/THINK]", budget=100), f"[THINK]Hm.[/THINK]{CALL}", "ends"),
]


@pytest.mark.parametrize(("marks", "text", "expected"), THINKING)
@pytest.mark.parametrize("as_tokens", [False, True])
def test_reasoning_before_a_call(
    model: LlamaModel, marks: ReasoningMarks, text: str, expected: str, as_tokens: bool
) -> None:
    special = with_special(model, [marks.open, marks.close] if as_tokens else [])
    grammar = call_grammar([ADD, NOW], "required", HERMES, special, model.end_tokens, reasoning=marks)
    assert read(model, grammar, text, special) == expected


@pytest.mark.parametrize("as_tokens", [False, True])
@pytest.mark.parametrize("choice", ["required", "auto"])
def test_reasoning_ends_with_its_budget(model: LlamaModel, as_tokens: bool, choice: str) -> None:
    marks = ReasoningMarks(opened=True, budget=5)
    special = with_special(model, [marks.open, marks.close] if as_tokens else [])
    grammar = call_grammar([ADD, NOW], choice, HERMES, special, model.end_tokens, reasoning=marks)
    matcher = LLMatcher(model.grammar_tokenizer, grammar)
    word = model.tokenize(" yes", special=False)
    assert len(word) == 1
    assert matcher.try_consume_tokens(word * 50) == 5  # four characters count as a token where tokens do not
    close = [special["</think>"]] if as_tokens else model.tokenize("</think>", special=False)
    assert matcher.try_consume_tokens(close) == len(close)
    assert matcher.rollback(1), "what runs ahead of the model must be able to take tokens back"


def test_free_text_after_reasoning(model: LlamaModel) -> None:
    special = with_special(model, ["<think>", "</think>"])
    marks = ReasoningMarks(budget=3)
    grammar = call_grammar([ADD, NOW], "auto", HERMES, special, model.end_tokens, reasoning=marks)
    assert read(model, grammar, "<think>I see</think>Hello", special) == "ends"
    assert read(model, grammar, f"<think>I see</think>Well: {CALL}", special) == "ends"
    assert read(model, grammar, "Hello", special) == "ends"
    assert read(model, grammar, "<think>one two three four five six", special) == "no"


ANSWER: JsonObject = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}


@pytest.mark.parametrize("name", ["hermes", "qwen3_coder", "pythonic", "llama3_json", "bare_json"])
def test_calls_or_an_answer_of_a_type(model: LlamaModel, name: str) -> None:
    form = DIALECTS[name].form
    grammar = call_grammar([ADD, NOW], "auto", form, model.special_tokens, model.end_tokens, answer=ANSWER)
    assert read(model, grammar, '{"total": 3}') == "ends"
    assert read(model, grammar, form.write([ToolCall("add", {"a": 1})])) == "ends"
    for text in ('{"total": "3"}', '{"total": 3, "more": 1}', "The total is 3", form.write([ToolCall("add", {})])):
        assert read(model, grammar, text) == "no", text


@pytest.mark.parametrize("name", ["llama3_json", "bare_json"])
def test_an_answer_that_begins_like_a_call(model: LlamaModel, name: str) -> None:
    form = DIALECTS[name].form
    answer: JsonObject = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    schema = answer if name == "llama3_json" else {"type": "array", "items": answer}
    grammar = call_grammar(TOOLS, "auto", form, model.special_tokens, max_calls=2, answer=schema)
    written = [form.write([ToolCall("make", ordered(arguments))]) for arguments in SAMPLES]
    written.append(form.write([ToolCall("make", NEEDED), ToolCall("now", {})]))
    written.append('{"name": "make"}' if name == "llama3_json" else '[{"name": "make"}, {"name": "x"}]')
    for text in written:
        assert read(model, grammar, text) == "ends", text
    for call in MISFITS:
        assert read(model, grammar, form.write([call])) == "no"


def test_an_answer_alone(model: LlamaModel) -> None:
    for tools, choice in (([], "auto"), ([ADD], "none")):
        grammar = call_grammar(tools, choice, HERMES, {}, reasoning=ReasoningMarks(), answer=ANSWER)
        assert read(model, grammar, '{"total": 3}') == "ends"
        assert read(model, grammar, '<think>1 + 2</think>\n{"total": 3}') == "ends"
        assert read(model, grammar, CALL) == "no"
    numbers: JsonObject = {"type": "array", "items": {"type": "integer"}}
    assert read(model, call_grammar([], "auto", HERMES, {}, answer=numbers), "[1, 2]") == "ends"
    grammar = call_grammar([ADD], "required", HERMES, {}, answer=ANSWER)
    assert read(model, grammar, '{"total": 3}') == "no"  # a call was asked for


# ── many tools, and limits ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["hermes", "qwen3_coder", "minimax_m3", "gemma4", "lfm2"])
def test_a_hundred_tools(model: LlamaModel, name: str) -> None:
    tools = [Tool.from_schema(f"make_{index}", "", {**SCHEMA, "title": f"{index}"}) for index in range(100)]
    form = DIALECTS[name].form
    call_grammar(tools, "required", form, model.special_tokens, max_calls=8)
    started = time.process_time()
    grammar = call_grammar(tools, "required", form, model.special_tokens, max_calls=8)
    assert time.process_time() - started < 0.5, "what was made of a schema is kept"
    assert read(model, grammar, form.write([ToolCall("make_99", NEEDED)])) == "ends"


def test_an_error_names_the_limit_that_was_met(model: LlamaModel) -> None:
    grammar = call_grammar(TOOLS, "required", HERMES, {})
    assert grammar is not None
    for limits, name in [
        (LLParserLimits(max_grammar_size=10), "max_grammar_size"),
        (LLParserLimits(initial_lexer_fuel=10), "initial_lexer_fuel"),
        (LLParserLimits(max_lexer_states=5), "max_lexer_states"),
        (LLParserLimits(max_items_in_row=1), "max_items_in_row"),
        (LLParserLimits(step_lexer_fuel=10), "step_lexer_fuel"),
    ]:
        matcher = LLMatcher(model.grammar_tokenizer, grammar, log_level=0, limits=limits)
        for token in model.tokenize('<tool_call>\n{"name": "make", "arguments": {"title": "a', special=False):
            matcher.compute_bitmask()
            matcher.consume_token(token)
        fault = grammar_fault(matcher.get_error())
        assert f"limit {name}" in fault
        assert "\n" not in fault
    assert grammar_fault("no rule\n<state>x") == "no rule"


def test_nothing_to_constrain() -> None:
    assert call_grammar([], "auto", HERMES, {}) is None
    assert call_grammar([ADD], "none", HERMES, {}) is None
