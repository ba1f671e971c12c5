"""llguidance's limits: what its errors mean, and what can be done."""

from __future__ import annotations

from typing import Final

__all__ = ["grammar_fault"]

# A piece of llguidance's message → the limit by its name, and the way out.
_FEWER: Final = "offer fewer tools at once, or smaller schemas"
_SIMPLER: Final = "simplify the patterns and lengths of strings in the tools' schemas"
_LIMITS: Final = (
    ("symbols.len() < u16::MAX", "65,525 symbols in a grammar", _FEWER),
    ("number of symbols) too big", "max_grammar_size", _FEWER),
    ("initial lexer configuration", "initial_lexer_fuel", _SIMPLER),
    ("too many expressions constructed", "step_lexer_fuel", _SIMPLER),
    ("too many states", "max_lexer_states", _SIMPLER),
    ("Too many items", "step_max_items", _FEWER),
    ("Current row has", "max_items_in_row (2,000 by default: about as many tools)", _FEWER),
)


def grammar_fault(message: str) -> str:
    """An error of llguidance's as one line: the limit that was met and the way out, if it was one, and its words."""
    first = message.partition("<state>")[0].partition("<backtrace>")[0].strip().splitlines()
    said = first[0][:200] if first else "it does not say why"
    for piece, limit, way_out in _LIMITS:
        if piece in message:
            return f"llguidance's limit {limit} is met ({said}): {way_out}"
    return said
