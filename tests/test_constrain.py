"""The grammar of the offered tools: what a decoder can and cannot write under it, with the real tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from llguidance import LLMatcher

from agentkit import Tool, ToolCall
from agentkit.constrain import call_grammar
from agentkit.parsing import DIALECTS
from agentkit.parsing.dialects.hermes import HERMES as HERMES_DIALECT
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.model import LlamaModel

HERMES = HERMES_DIALECT.literals
assert HERMES is not None
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
    assert grammar is not None
    matcher = LLMatcher(model.grammar_tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    pattern = "|".join(map(re.escape, special))
    tokens: list[int] = []
    for piece in re.split(f"({pattern})", text):
        tokens += [special[piece]] if piece in special else model.tokenize(piece, special=False)
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


WRITABLE = [name for name, dialect in DIALECTS.items() if dialect.literals]


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_what_a_dialect_writes_its_grammar_allows(model: LlamaModel, name: str, choice: str) -> None:
    dialect = DIALECTS[name]
    literals = dialect.literals
    assert literals is not None
    grammar = call_grammar([ADD, NOW], choice, literals, model.special_tokens, model.end_tokens, max_calls=3)
    if not (literals.section_open + literals.call_open).strip() and choice == "auto":
        assert grammar is None  # such a call cannot be told from text
        return
    calls = [ToolCall("add", {"a": 12, "note": "x"}), ToolCall("now", {}), ToolCall("add", {"a": -1})]
    for given in (calls[:1], calls[: 3 if literals.parallel else 1]):
        matcher = LLMatcher(model.grammar_tokenizer, grammar)
        assert not matcher.is_error(), matcher.get_error()
        tokens = model.tokenize(dialect.write_calls(given), special=True)
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        assert matcher.is_accepting()


def test_nothing_to_constrain() -> None:
    assert call_grammar([], "auto", HERMES, {}) is None
    assert call_grammar([ADD], "none", HERMES, {}) is None
