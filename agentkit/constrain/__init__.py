"""Offered tools and their dialect → a grammar that holds a decoder to calls that can be read and fit their schemas."""

from agentkit.constrain.reasoning import ReasoningMarks
from agentkit.constrain.turn import call_grammar

__all__ = ["ReasoningMarks", "call_grammar"]
