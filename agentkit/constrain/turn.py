"""A whole turn: reasoning, then free text, calls or an answer, whichever may stand there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentkit.constrain.forms import AnyForm, CallWriter, call_writer, literals_of
from agentkit.constrain.lark import Rules, Specials, escaped, quoted
from agentkit.constrain.plain_json import json_rule
from agentkit.constrain.reasoning import ReasoningMarks, thought
from agentkit.messages import JsonObject
from agentkit.tool import AnyTool

__all__ = ["call_grammar"]


def call_grammar(
    tools: Sequence[AnyTool],
    tool_choice: str,
    form: AnyForm,
    special_tokens: Mapping[str, int],
    end_tokens: Iterable[int] = (),
    *,
    max_calls: int = 1,
    reasoning: ReasoningMarks | None = None,
    answer: JsonObject | None = None,
) -> str | None:
    """A grammar for one turn in llguidance's dialect of Lark, or None where nothing is to be constrained.

    Where the model may choose, free text comes first and the grammar of the calls begins at their marker; where a call
    is asked for, it begins at once.

    Args:
        tools: what may be called.
        tool_choice: ``auto``, ``required``, ``none`` or a tool's name.
        form: how calls are written, from their dialect. Calls that begin with nothing but JSON or a call in Python's
            notation cannot be told from text: with ``auto`` they are not constrained.
        special_tokens: the vocabulary's special tokens by text: in a literal they are matched by their ids.
        end_tokens: those that end a turn; they are never part of its text.
        max_calls: in one turn. With 1, a turn ends behind its call: a small model held to a grammar may not find the
            end alone.
        reasoning: how the model reasons: it may do so before anything else, as long as its budget lasts. With free
            text, the reasoning is bounded only if its opening is a special token, or the prompt has written it.
        answer: JSON Schema of an answer. The turn is then calls, or exactly such a value in JSON; with ``none`` or
            without tools it is the value, and where a call is asked for it is calls.

    Nothing is constrained where there is neither a tool nor an answer's schema, unless reasoning has a budget.
    """
    named = [tool for tool in tools if tool.name == tool_choice]
    offered = [] if tool_choice == "none" else named or list(tools)
    turn = _Turn(form, special_tokens, set(end_tokens), max_calls, beside_json=answer is not None)
    if offered and tool_choice != "auto":
        turn.calls(offered)
    elif offered and answer is not None:
        turn.calls_or_answer(offered, answer)
    elif answer is not None:
        turn.answer(answer)
    elif not (offered and turn.free_choice(offered, reasoning)):
        if reasoning is None or reasoning.budget is None:
            return None
        turn.free_text(reasoning)
    return turn.grammar(reasoning)


class _Turn:
    """Writes the rules of one turn; ``turn`` is the rule of what comes after the reasoning."""

    def __init__(
        self, form: AnyForm, vocabulary: Mapping[str, int], end_tokens: set[int], max_calls: int, *, beside_json: bool
    ) -> None:
        self._vocabulary = vocabulary
        self._specials = Specials.within(literals_of(form), vocabulary)
        self._end_tokens = end_tokens
        self._writer: CallWriter = call_writer(form, self._specials, beside_json=beside_json)
        self._max_calls = max_calls if self._writer.parallel else 1
        self._rules: dict[str, str] = {}
        self._free_start = False

    def answer(self, schema: JsonObject) -> None:
        self._rules["turn"] = self._answer(schema)

    def calls(self, tools: Sequence[AnyTool]) -> None:
        self._rules["turn"] = self._section(tools)

    def calls_or_answer(self, tools: Sequence[AnyTool], schema: JsonObject) -> None:
        self._rules |= {"turn": "calls | answer", "answer": self._answer(schema)}
        self._rules["calls"] = self._section(tools)

    def free_choice(self, tools: Sequence[AnyTool], reasoning: ReasoningMarks | None) -> bool:
        """Text, and calls from their marker on; text again after them where there may be several.

        Returns False where calls have no marker.
        """
        marker = self._writer.marker
        if not marker:
            return False
        self._free_start = True
        special = self._specials.first(marker)
        marker = special[0] if special else self._specials.split(marker)[0].rstrip()
        self._text(reasoning, {special[1]} if special else set())
        self._rules |= {
            "turn": "piece* calls?" if self._max_calls == 1 else "(piece | calls)*",
            "calls": f"lead {self._section(tools, begun=len(marker))}",
        }
        if special is None:
            self._rules["lead[lazy]"] = f"/(.|\\n)*/ {quoted(marker)}"
            return True
        self._rules["lead"] = f"<[{special[1]}]>"
        self._share_marker(special[1], self._opening()[len(marker) :])
        return True

    def free_text(self, reasoning: ReasoningMarks) -> None:
        """Nothing but text: there is a grammar only to bound the reasoning before it."""
        self._free_start = True
        self._text(reasoning, set())
        self._rules["turn"] = "piece*"

    def grammar(self, reasoning: ReasoningMarks | None) -> str:
        """All rules. The reasoning, if there is any, comes first."""
        rules = {"start": "turn", **self._rules, **self._writer.rules}
        if reasoning and (reasoning.opened or not self._free_start or reasoning.open in self._vocabulary):
            marker = self._specials.first(self._opening())
            barred = {*self._end_tokens, *([marker[1]] if marker else ())}
            rules |= thought(reasoning, self._vocabulary, barred)
            rules["start"] = "thought turn" if reasoning.opened else "thought? turn"
        return "%llguidance {}\n" + "".join(f"{name}: {rule}\n" for name, rule in rules.items())

    def _answer(self, schema: JsonObject) -> str:
        rules = Rules("a")
        symbols = json_rule(rules, schema, schema, {})
        self._rules |= dict(rules.items())
        return symbols

    def _text(self, reasoning: ReasoningMarks | None, barred: set[int]) -> None:
        """The rule ``piece``: text, which to the lexer holds no special tokens, and those that may stand in it."""
        barred |= self._end_tokens
        if reasoning and not reasoning.opened:
            barred.add(self._vocabulary.get(reasoning.open, -1))
        free = sorted(id for id in self._vocabulary.values() if id not in barred)
        self._rules["TEXT"] = r"/(.|\n)+/"
        self._rules["piece"] = "TEXT" + (f" | <[{','.join(map(str, free))}]>" if free else "")

    def _opening(self) -> str:
        return self._writer.section_open + self._writer.head

    def _share_marker(self, token: int, rest: str) -> None:
        """A token may also open what is no call, by the word after it (a channel's name): only that word is barred."""
        word = self._specials.split(rest)[0]
        if word.strip()[:1].isalpha():
            self._rules["OTHER"] = f"/(?s:.+)/ & ~/{escaped(word)}(?s:.*)/"
            self._rules["piece"] += f" | <[{token}]> OTHER"

    def _section(self, tools: Sequence[AnyTool], begun: int = 0) -> str:
        """All calls of a turn; ``begun`` characters of their opening are written already."""
        writer = self._writer
        first = f"{writer.symbols(self._opening()[begun:], 0)} {self._named(tools, 0)}"
        further = ""
        if self._max_calls > 1 and not writer.numbered:
            another = f"{writer.symbols(writer.separator + writer.head, 1)} {self._named(tools, 1)}"
            further = f"({another}){{0,{self._max_calls - 1}}}"
        elif writer.numbered:
            for index in range(self._max_calls - 1, 0, -1):
                another = f"{writer.symbols(writer.separator + writer.head, index)} {self._named(tools, index)}"
                further = f"({another} {further})?"
        return f"{first} {further} {writer.symbols(writer.section_close, 0)}"

    def _named(self, tools: Sequence[AnyTool], index: int) -> str:
        """The rule of a call of any of the tools, from its name on."""
        name = f"call_{index}" if self._writer.numbered else "call"
        if name not in self._rules:
            self._rules[name] = " | ".join(self._writer.call(tool, index) for tool in tools)
        return name
