"""What a model writes → text, reasoning, tool calls and typed problems. Stands alone: no model, no provider."""

from agentkit.parsing.detect import detect, dialect_for
from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.stream import Parsed, StreamParser, parse

__all__ = ["DIALECTS", "Parsed", "StreamParser", "detect", "dialect_for", "parse"]
