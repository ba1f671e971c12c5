"""Forms of a conversation: whatever it holds, each is a conversation that a model can be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Message, ToolCall, ToolResult
from agentkit.compaction import MIN_RESULT, compacted, forms, transcript
from agentkit.journal.records import dump_record, load_record
from agentkit.messages import ImagePart, Part, ReasoningPart, TextPart
from agentkit.providers.tokens import letters
from agentkit.tool_output import READ_OUTPUT
from tests.conversations import Conversation, assert_valid, conversations


def sent(messages: Sequence[Message], place: int, task: int = 0, cap: int = 10**9) -> list[Message]:
    record = compacted(messages, forms(messages, task, cap)[place])
    return [*record.instead, *messages[record.count :]]


@given(conversations(), st.integers(0, 5_000))
def test_each_form_is_valid_and_shorter_and_goes_through_the_journal(conversation: Conversation, cap: int) -> None:
    messages, task = conversation
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    before = sum(map(letters, messages))
    for form in forms(messages, task, cap):
        record = compacted(messages, form)
        assert load_record(dump_record(record)) == record
        shown = [*record.instead, *messages[record.count :]]
        assert_valid(shown)
        assert any(all(part in message.content for part in messages[task].content) for message in shown)
        if task < len(messages) - 1:
            assert last in shown
        assert len(shown) <= len(messages)
        notes = 200 + 150 * sum(len(message.results) for message in shown)  # may be longer than what they stand for
        assert sum(map(letters, shown)) <= before + notes
        before = sum(map(letters, shown))


@given(conversations())
def test_nothing_needs_to_change(conversation: Conversation) -> None:
    messages, task = conversation
    record = compacted(messages, forms(messages, task, 10**9)[0])
    assert (record.count, record.instead) == (0, ())


@given(conversations(), st.integers(0, 1_000))
def test_what_stands_for_untrusted_words_is_untrusted(conversation: Conversation, cap: int) -> None:
    messages, task = conversation
    for form in forms(messages, task, cap):
        record = compacted(messages, form, summary="They spoke.")
        shown = [*record.instead, *messages[record.count :]]
        assert any(m.untrusted for m in shown) == any(m.untrusted for m in messages)


def call(*ids: str) -> Message:
    return Message("assistant", [ToolCall("look", {"place": id_}, id_) for id_ in ids])


def result(*ids: str, text: str = "a chair") -> Message:
    return Message("tool", [ToolResult(id_, "look", text) for id_ in ids])


QUESTION = Message("user", "Which rooms are empty?")
ROUNDS = [QUESTION, call("hall", "attic"), result("hall", "attic"), call("loft"), result("loft"), call("yard")]


def test_rounds_of_the_run_are_dropped_behind_the_task() -> None:
    messages = [*ROUNDS, result("yard")]
    note = (
        "\n\n[2 earlier messages, about 57 characters, are left out here to save room.]\n"
        "[Earlier results that read_output can still read, by number: 2-1 look, 2-2 look]"
    )
    assert sent(messages, 1) == [Message("user", [*QUESTION.content, TextPart(note)]), *messages[3:]]
    assert len(sent(messages, 2)) == 3
    assert sent(messages, 2) == sent(messages, -1, cap=MIN_RESULT)


def test_exchanges_of_the_history_are_dropped_in_front_of_a_question() -> None:
    history = [
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Bye"),
        Message("assistant", "Bye"),
    ]
    messages = [*history, QUESTION]
    note = TextPart("[2 earlier messages, about 7 characters, are left out here to save room.]\n\n")
    assert sent(messages, 1, task=4) == [Message("user", [note, TextPart("Bye")]), *messages[3:]]
    (only,) = sent(messages, 2, task=4)
    assert only.text.endswith("room.]\n\nWhich rooms are empty?")


def test_correction_is_not_taken_for_a_question() -> None:
    correction = Message("user", "Call 'look' with a place.")
    messages = [Message("user", "Hi"), call("hall"), result("hall"), correction, Message("assistant", "Hm"), QUESTION]
    assert [form.start for form in forms(messages, 5, MIN_RESULT)] == [0, 6]


def test_only_the_last_results_that_were_dropped_are_named() -> None:
    messages = [QUESTION, *[message for n in range(30) for message in (call(f"c{n}"), result(f"c{n}"))]]
    read = [*messages, Message("tool", [ToolResult("r", READ_OUTPUT, "…")]), call("last")]
    assert sent(read, -1)[0].text.endswith(f"by number: {', '.join(f'{2 * n + 2}-1 look' for n in range(20, 30))}]")


def test_a_result_that_is_too_long_is_cut_before_anything_is_dropped() -> None:
    images = (ImagePart(b"\x89PNG"),)
    long = Message("tool", [ToolResult("yard", "look", "x" * 999 + "y", None, images, untrusted=True)])
    messages = [*ROUNDS, long]
    shown = sent(messages, 0, cap=500)
    assert shown[:-1] == messages[:-1]
    assert shown[-1].results == [replace(long.results[0], content=shown[-1].results[0].content)]
    assert "read_output(call='6-1', start=333)" in shown[-1].results[0].content
    assert [len(sent(messages, place, cap=500)[-1].results[0].content) > 500 for place in (1, 2)] == [True] * 2
    assert len(sent(messages, -1, cap=500)[-1].results[0].content) < 350


def test_what_was_read_on_is_read_on_where_it_comes_from() -> None:
    part = Message("tool", [ToolResult("r", READ_OUTPUT, "x" * 1000)])
    assert "read_output(" not in sent([QUESTION, call("r"), part], -1)[-1].results[0].content


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (TextPart("Hi"), "user: Hi"),
        (ReasoningPart("hm"), ""),
        (ToolCall("look", {"place": "Köln"}), 'user: calls look with {"place": "Köln"}'),
        (ToolResult("1", "look", "a chair"), "user: look returned a chair"),
        (ImagePart(url="https://example.org/a.png"), "user: [image https://example.org/a.png]"),
    ],
)
def test_transcript(part: Part, line: str) -> None:
    assert transcript([Message("user", part)], 100) == line


def test_transcript_that_is_too_long_misses_its_middle() -> None:
    text = transcript([Message("user", "a" * 100), Message("assistant", "b" * 100)], 60)
    assert text.startswith("user: aaa")
    assert text.endswith("bbb")
    assert len(text) < 150
