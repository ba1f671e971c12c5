"""Doubles for tests, ours and yours.

`ScriptedProvider` answers from a script, `RecordedProvider` from a recording of a real model; `agentkit.testing.http`
records what goes over the wire, and `agentkit.testing.conformance` tests a provider of yours. With pytest, a test that
leaves part of its script or recording unconsumed fails; this needs no set-up, since agentkit is a pytest plugin.
"""

from agentkit.testing.cassette import CassetteMismatch, RecordedProvider
from agentkit.testing.scripted import ScriptedProvider, Step

__all__ = ["CassetteMismatch", "RecordedProvider", "ScriptedProvider", "Step"]
