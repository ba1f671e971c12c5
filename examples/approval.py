"""A call that a person must allow, and a run that waits for it. Runs offline, on the bundled model, with no key.

    python examples/approval.py              pauses: prints what waits
    python examples/approval.py yes          goes on, in another process, an hour or a week later
    python examples/approval.py no           goes on without the call

The record of the run is in the file approval.db, here: delete it to begin anew.
"""

import sys

from agentkit import Agent, ModelSettings, RunResult, tool
from agentkit.errors import RunNotFoundError
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.policy import Decision, Policy, Rule

RUN = "the-order"


@tool(effect="egress")
def order(item: str, quantity: int) -> str:
    """Order something from the shop."""
    return f"Ordered: {quantity} {item}."


def main(said: str | None) -> RunResult[str]:
    agent = Agent(
        "llama_cpp:smollm2",
        tools=[order],
        tool_choice="order",
        policy=Policy([Rule("order", "ask", reason="it costs money")]),
        settings=ModelSettings(temperature=0, max_tokens=100),
        journal=SQLiteJournal("approval.db"),
    )
    try:
        result = agent.resume_sync(RUN)
    except RunNotFoundError:
        result = agent.run_sync("Order hammers. I need 3 of them.", run_id=RUN)
    if said and result.pending:
        decision = Decision(said == "yes", "it is too expensive")
        result = agent.resume_sync(RUN, {call.key: decision for call in result.pending})
    return result


if __name__ == "__main__":
    result = main(sys.argv[1] if len(sys.argv) > 1 else None)
    for call in result.pending:
        print(f"waits for a decision: {call.tool} {call.arguments}: {call.why}")
    if result.stop_reason == "answer":
        print(result.messages[2].results[0].content)
        print(result.output)
