"""The calculator: what it reads, what it refuses, and how it writes a result."""

from __future__ import annotations

import json
import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ToolError
from agentkit_tools.calculator import calculator


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1234 * 5678", "7006652"),
        ("8 / 2", "4"),
        ("1/8", "0.125"),
        ("0.1 + 0.2", "0.3"),
        ("2.50 * 4", "10"),
        ("1/3", "0.333333333333333"),
        ("1/3*3", "1"),
        ("123456789.123456789 * 2", "246913578.246913578"),
        ("10**20 / 3", "3.33333333333333e+19"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-3", "0.125"),
        ("2**0.5", "1.4142135623731"),
        ("0**0", "1"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("-7.5 // 2", "-4"),
        ("-7.5 % 2", "0.5"),
        ("7.5 % -2", "-0.5"),
        ("007 + .5", "7.5"),
        ("1e3", "1000"),
        ("1e-9", "1e-9"),
        ("- -3", "3"),
        ("+3", "3"),
        ("2**1000 % 10", "6"),
    ],
)
def test_arithmetic(expression: str, result: str) -> None:
    assert calculator(expression) == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("sqrt(16)", "4"),
        ("sqrt(2)", "1.4142135623731"),
        ("sqrt(10**40)", "100000000000000000000"),
        ("abs(-3)", "3"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(3.14159, 2)", "3.14"),
        ("round(1250, -2)", "1300"),
        ("round(1.5, 4)", "1.5"),
        ("min(3, 1, 2)", "1"),
        ("max(1, 2.5)", "2.5"),
        ("floor(-1.5)", "-2"),
        ("ceil(1.2)", "2"),
        ("floor(1/3*3)", "1"),
        ("log(e)", "1"),
        ("log(8, 2)", "3"),
        ("exp(0)", "1"),
        ("sin(pi)", "0"),
        ("cos(pi)", "-1"),
        ("tan(pi/4)", "1"),
        ("sin(1e-100)", "1e-100"),
        ("pi", "3.14159265358979"),
        ("e", "2.71828182845905"),
    ],
)
def test_functions_and_constants(expression: str, result: str) -> None:
    assert calculator(expression) == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12 × 3", "36"),
        ("12 ÷ 3", "4"),
        ("5 − 7", "-2"),
        ("2^10", "1024"),
        ("1,234 * 2", "2468"),
        ("(1,234,567.5 + 0.5) * 2", "2469136"),
        ("max(1,234)", "234"),
        ("max((1,234), 5)", "1234"),
    ],
)
def test_signs_that_people_write(expression: str, result: str) -> None:
    assert calculator(expression) == result


@pytest.mark.parametrize("expression", ["1,23", "0,500", "1,2345", "1,234,5", "(1, 2)"])
def test_a_comma_that_could_mean_two_things_is_refused(expression: str) -> None:
    with pytest.raises(ToolError, match="comma"):
        calculator(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "10**10**10",
        "9**9**9",
        "(2**1000)**1000",
        "10**1000",
        "2**(10**300)",
        "10**999 * 10",
        "1e999 * 10",
        "1e5000",
        "1.1**1000000",
        "1.0000000001**1e300",
        "exp(10000)",
        "10**-5000",
    ],
)
def test_a_result_beyond_the_limit_is_refused_at_once(expression: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ToolError, match="1,000 digits"):
        calculator(expression)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1/0", "Division by zero"),
        ("1.5 // 0", "Division by zero"),
        ("1 % 0", "Division by zero"),
        ("0 ** -1", "Division by zero"),
        ("sqrt(-1)", "real result"),
        ("(-8) ** 0.5", "real result"),
        ("log(0)", "above 0"),
        ("log(2, 1)", "base"),
        ("tan(pi / 2)", "tan"),
        ("sin(1e16)", "1e15"),
        ("exp(-10000)", "closer to zero"),
        ("round(1, 0.5)", "whole number"),
        ("sqrt(1,234)", "takes 1 argument"),
        ("max()", "takes 1 to 100"),
        ("sqr(2)", "Did you mean 'sqrt'"),
        ("2 +", "not one complete"),
        ("2pi", "not one complete"),
        ("", "not one complete"),
        ("max(*1)", "not one complete"),
        ("1 2", "not one complete"),
        ("sqrt", "not one complete"),
        ("2 & 3", "'&' has no meaning"),
        ("١", "no meaning"),
        ("__import__('os').system('true')", "not known"),
        ("(lambda: 1)()", "not known"),
        ("9 if 1 else 2", "not known"),
        ("(" * 51 + "1" + ")" * 51, "50 deep"),
        ("-" * 60 + "1", "50 deep"),
        ("1" * 301, "limit is 300"),
    ],
)
def test_what_has_no_result_says_why(expression: str, message: str) -> None:
    with pytest.raises(ToolError, match=re.escape(message)):
        calculator(expression)


def test_a_long_sum_is_not_a_deep_one() -> None:
    assert calculator("+".join(["1"] * 150)) == "150"


def test_the_docstring_names_every_function() -> None:
    text = json.dumps(calculator.parameters)
    for name in ["abs", "ceil", "cos", "exp", "floor", "log", "max", "min", "round", "sin", "sqrt", "tan", "pi"]:
        assert re.search(rf"\b{name}\b", text)


def schema() -> dict[str, object]:
    properties = calculator.parameters["properties"]
    assert isinstance(properties, dict)
    return properties["expression"]


WRITTEN = ["1234 * 5678", "2**10", "sqrt(2) / 3", "-5 + (2 - 1)", "max(1, 2.5)", "3 // 2 % 4", "pi", "exp(1)", "((1))"]
NOT_WRITTEN = ["", "hello", "2 +", "12 34", " 1", "1  + 2", "* 2", "What is 2?", "1 +\n1", "foo(1)", "1.", "2 * * 2"]


@pytest.mark.parametrize("expression", WRITTEN)
def test_the_pattern_lets_arithmetic_through(expression: str) -> None:
    assert re.search(str(schema()["pattern"]), expression)
    calculator(expression)


@pytest.mark.parametrize("expression", NOT_WRITTEN)
def test_the_pattern_lets_nothing_else_through(expression: str) -> None:
    assert not re.search(str(schema()["pattern"]), expression)


def test_a_constrained_decoder_understands_the_pattern() -> None:
    import llguidance

    tokenizer = llguidance.LLTokenizer("byte")
    grammar = llguidance.LLMatcher.grammar_from_json_schema(calculator.parameters)
    assert llguidance.LLMatcher.validate_grammar(grammar, tokenizer) == ""

    def accepted(expression: str) -> bool:
        matcher = llguidance.LLMatcher(tokenizer, grammar)
        tokens = tokenizer.tokenize_str(json.dumps({"expression": expression}))
        return matcher.try_consume_tokens(tokens) == len(tokens)

    assert [text for text in WRITTEN if not accepted(text)] == []
    assert [text for text in NOT_WRITTEN if accepted(text)] == []
    assert accepted("1" * 300)
    assert not accepted("1" * 301)


def test_an_expression_wider_than_the_pattern_still_validates() -> None:
    assert calculator.validate({"expression": " 1,234  ×  2 "}) == {"expression": " 1,234  ×  2 "}


operands = st.integers(0, 9999).map(str)
expressions = st.recursive(
    operands,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(inner, st.integers(0, 4)).map(lambda parts: f"({parts[0]})**{parts[1]}"),
    ),
    max_leaves=8,
)


@given(expressions)
def test_whole_numbers_agree_with_python(expression: str) -> None:
    try:
        expected = str(eval(expression, {"__builtins__": {}}))
    except ZeroDivisionError:
        with pytest.raises(ToolError, match="Division by zero"):
            calculator(expression)
        return
    try:
        assert calculator(expression) == expected
    except ToolError as error:
        assert "limit" in str(error)
        assert len(expected) > 999 or len(expression) > 300 or expression.count("(") > 50


@given(st.floats(-1e6, 1e6), st.sampled_from(["sin({})", "cos({})", "exp({} / 1e5)", "sqrt(abs({}))", "{} / 7"]))
def test_decimals_agree_with_the_math_module(x: float, form: str) -> None:
    expected = eval(form.format(f"({x!r})"), {name: getattr(math, name) for name in ("sin", "cos", "exp", "sqrt")})
    assert math.isclose(float(calculator(form.format(f"({x!r})"))), expected, rel_tol=1e-9, abs_tol=1e-9)


words = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "9",
        "99",
        "1e9",
        "1e999",
        ".5",
        "1,234",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "^",
        "(",
        ")",
        ",",
        "sqrt(",
        "max(",
        "log(",
        "round(",
        "exp(",
        "sin(",
        "tan(",
        "pi",
        "e",
        "x",
    ]
)


@given(st.one_of(st.text(max_size=400), st.lists(words, max_size=40).map(" ".join), st.lists(words).map("".join)))
def test_any_text_ends_in_a_short_result_or_a_tool_error(text: str) -> None:
    started = time.perf_counter()
    try:
        assert len(calculator(text)) <= 1001  # the digits and a sign
    except ToolError as error:
        assert len(str(error)) < 1000
    assert time.perf_counter() - started < 5
