"""How often a model takes an arithmetic question to the calculator rightly, and repeats its result in the answer.

    python benchmarks/sums.py [--model MODEL] [--quick] [--json FILE]

The call is asked for (`tool_choice="required"`); what is measured is the expression, and what is said of the result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from agentkit import Agent

QUESTIONS = [
    ("What is 1234 * 5678?", "7006652"),
    ("How much is 12.5 * 8?", "100"),
    ("Compute 987 + 654", "1641"),
    ("what's 15 divided by 4", "3.75"),
    ("Calculate 2 to the power of 10", "1024"),
    ("99 minus 45?", "54"),
    ("Please add 17 and 25.", "42"),
    ("What is the product of 21 and 19?", "399"),
    ("(5 + 3) * 7 = ?", "56"),
    ("Tell me 144 / 12", "12"),
    ("multiply 333 by 3", "999"),
    ("What is 1000 - 387?", "613"),
    ("How much is 56 plus 78?", "134"),
    ("What do you get if you divide 81 by 9?", "9"),
    ("Subtract 15 from 100", "85"),
    ("Calculate 45 * 67", "3015"),
    ("What is the sum of 123 and 456?", "579"),
    ("23 times 17", "391"),
    ("Evaluate 8 * (2 + 3)", "40"),
    ("What is 3.5 + 2.25?", "5.75"),
    ("I need 640 divided by 16.", "40"),
    ("Work out 71 * 89 for me, please.", "6319"),
    ("What's (12 + 8) * 3?", "60"),
    ("Compute 7 * (100 - 58)", "294"),
    ("How many is 17 minus 38?", "-21"),
    ("I have 12 boxes with 24 apples each. How many apples are there?", "288"),
    ("What is 2 ** 16?", "65536"),
    ("What is 19 × 21?", "399"),
    ("Could you tell me what 48 divided by 6 is?", "8"),
    ("13 + 29", "42"),
    ("What is 5000 minus 1234?", "3766"),
    ("Please multiply 64 by 32", "2048"),
    ("How much is 3/8?", "0.375"),
    ("Find the sum of 2.5 and 4.75", "7.25"),
    ("I have 50 dollars and spend 18. How much is left?", "32"),
    ("What is 100 divided by 8?", "12.5"),
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="llama_cpp:smollm2")
    options.add_argument("--quick", action="store_true", help="every third question")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    questions = QUESTIONS[:: 3 if chosen.quick else 1]
    agent = Agent(chosen.model, tools=["calculator"], tool_choice="required")
    computed = said = 0
    for question, expected in questions:
        result = agent.run_sync(question)
        results = [found.content for message in result.messages for found in message.results]
        right = expected in results
        computed += right
        said += right and expected in result.output
        if not right:
            print(f"wrong: {question} -> {[call.arguments for call in result.messages[1].calls]} {results}")
    print(f"{chosen.model}: {computed} of {len(questions)} computed rightly, {said} of these also said")
    if chosen.json:
        figures = {"questions": len(questions), "computed": computed, "said": said}
        chosen.json.write_text(json.dumps({"model": chosen.model, **figures}))


if __name__ == "__main__":
    main()
