"""The names of the repairs, and reading JSON with them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from agentkit.messages import JsonValue
from agentkit.parsing.literals import LooseReader, Unreadable, strict_json
from agentkit.parsing.readings import only_reading

__all__ = ["REPAIRS", "TOLD", "read_json"]

REPAIRS: Final = MappingProxyType(
    {
        "missing_marker": "an opening or closing marker of the format was left out",
        "missing_closers": "closing brackets were missing at the end of the turn",
        "extra_closers": "there were closing brackets too many",
        "single_quotes": "strings in single quotes",
        "python_literals": "True, False, None or a tuple instead of JSON",
        "trailing_comma": "a comma after the last item",
        "comments": "comments inside JSON",
        "unquoted_keys": "keys without quotes",
        "raw_newline": "a raw newline, tab or other control character inside a string",
        "bad_escape": "a backslash that escapes nothing",
        "leading_zeros": "digits with leading zeros and no quotes: text, unless the schema wants an integer",
        "literal_newlines": r"the two characters \n between tokens",
        "inner_quotes": "quotes inside a string that were not escaped, with exactly one way to read them",
        "surrounding_prose": "text beside the call between the markers",
        "markdown_fence": "the call stood in a Markdown fence",
        "foreign_format": "the call was written in another model's format",
        "wrong_keys": "other keys than the format's: parameters for arguments, a wrapper, the name as a key, …",
        "double_encoded": "JSON inside a string where the schema wants the value itself",
        "object_to_string": "an object where the schema wants a string: written as JSON",
        "coerced_type": '"5" for 5, "true" for true, 5.0 for 5: without loss',
        "dropped_null": "null for an optional argument, left out",
        "dropped_argument": "an argument that the tool does not have, left out",
        "wrapped_argument": "a list or scalar for the only required argument",
        "renamed_tool": "a prefix, suffix or the case of the tool's name",
        "duplicate_close": "a closing tag written twice",
        "call_in_reasoning": "the turn ended with a call inside the reasoning, and had no answer",
    }
)
"""Each repair, and what was wrong."""

TOLD: Final = frozenset({"missing_closers", "object_to_string", "dropped_argument", "wrapped_argument"})
"""Repairs that the model should be told of: they changed what it may have meant."""


def read_json(text: str) -> tuple[JsonValue, list[str]]:
    """A JSON value, and the repairs it took.

    Raises:
        Unreadable: there is no one way to read it.
    """
    try:
        return strict_json(text), []
    except (ValueError, RecursionError):
        pass
    reader = LooseReader(text)
    try:
        return reader.document(), sorted(reader.repairs)
    except Unreadable as error:
        try:
            return only_reading(text), ["inner_quotes"]
        except Unreadable:
            raise error from None
