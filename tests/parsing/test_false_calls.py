"""Text that talks about tools is text: no passage here is a call, in whatever dialect."""

from __future__ import annotations

import pytest

from agentkit.parsing import DIALECTS, parse

TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
    {
        "name": "search",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
    {"name": "now", "parameters": {"type": "object", "properties": {}}},
]

PASSAGES = [
    "The weather in Paris is mild; I did not need a tool for that.",
    "You would call get_weather with a city, and search with a query.",
    "A model wraps its calls in `<tool_call>` and `</tool_call>`.",
    'Write `<tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call>` and stop.',
    'He typed "<tool_call>" and nothing happened.',
    "The tokens <tool_call> and </tool_call> are special in Qwen.",
    'The format is <tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call> in Hermes.',
    'For example:\n<tool_call>\n{"name": "search", "arguments": {"query": "cats"}}\n</tool_call>\nThat is all.',
    "```python\nprint(search(query='x'))\n```\nThis prints the hits.",
    "```python\nimport weather\n\nweather.get_weather('Paris')\n```",
    '```json\n{"name": "search", "arguments": {"query": "x"}}\n```\nThat is what a call looks like.',
    '```json\n{"name": "search", "description": "Search.", "parameters": {"type": "object", "properties": {}}}\n```',
    '{"name": "search", "description": "Search.", "parameters": {"type": "object", "properties": {"query": {}}}}',
    '{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}',
    '{"city": "Paris", "days": 3}',
    '[{"name": "Ada", "born": 1815}, {"name": "Grace", "born": 1906}]',
    '{"name": "Ada", "arguments": ["for", "against"]}',
    '{"name": "search", "version": "1.0.0", "main": "index.js"}',
    'payload = {"name": "search", "arguments": {"query": "x"}}',
    'curl -d \'{"name": "search", "arguments": {"query": "x"}}\' localhost:8080',
    '    <tool_call>\n    {"name": "x", "arguments": {}}\n    </tool_call>\n\nis indented.',
    '> <tool_call>{"name": "x", "arguments": {}}</tool_call>\n\nsaid the manual.',
    "| tool | arguments |\n|---|---|\n| search | query |\n| get_weather | city, days |",
    "- search(query): searches\n- get_weather(city, days=3): the weather",
    "def search(query):\n    return now()\n",
    "Use [search](https://example.com/search) or [now](#now) for more.",
    "See [1], [2] and [search(…)] in the appendix.",
    "Action is needed. Action: none.",
    "My plan of action: search the docs, then answer.",
    "The JSON array [1, 2, 3] has three items; {} is an empty object.",
    "<function> is not an HTML tag, nor is <parameter>.",
    "<b>bold</b> <i>it</i> <invoke> </invoke> <tool>",
    'In XML: <invoke name="x"> opens and </invoke> closes.',
    "[TOOL_CALLS] is a token of Mistral's.",
    "functions.search is the name in that namespace.",
    "Kimi's ids are functions.search:0, functions.search:1 and so on.",
    "The markers ✿FUNCTION✿ and ✿ARGS✿ belong to Qwen-Agent.",
    "<|python_tag|> marks code in Llama 3.",
    "~~~\n<function=search>\n<parameter=query>\nx\n</parameter>\n</function>\n~~~\nis Qwen3-Coder's way.",
    "She said: 'call now() now', and left.",
    'Traceback:\n  File "x.py", line 3\n    search()\nTypeError: search() missing 1 argument',
    "1. now\n2. later\n{not json}\n",
    "x < y and y > z; a | b; {a, b}; `[` and `]`",
]


@pytest.mark.parametrize("dialect", [None, *DIALECTS])
def test_no_call_in_ordinary_text(dialect: str | None) -> None:
    for passage in PASSAGES:
        parsed = parse(passage, TOOLS, dialect)
        assert parsed.calls == [], passage


@pytest.mark.parametrize("passage", PASSAGES)
def test_text_is_kept_word_for_word(passage: str) -> None:
    parsed = parse(passage, TOOLS)
    assert parsed.text == passage
    assert parsed.problems == []


def test_the_same_words_do_call_where_they_mean_it() -> None:
    call = '{"name": "search", "arguments": {"query": "x"}}'
    for text in (call, f"```json\n{call}\n```", f"<tool_call>{call}</tool_call>", f"I will search now.\n{call}"):
        assert [found.arguments for found in parse(text, TOOLS).calls] == [{"query": "x"}], text
