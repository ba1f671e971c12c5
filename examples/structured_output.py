"""An answer of a type, not of text. Runs offline, on the bundled model, with no key.

    python examples/structured_output.py

The bundled model's decoder can write nothing but an `Order`, so the answer always has this form. What it says is the
model's: what the type cannot express, a validator can check, and its complaint goes back to the model.
"""

import asyncio

from pydantic import BaseModel

from agentkit import Agent, ModelSettings
from agentkit.events import PartialOutput, RunFinished


class Line(BaseModel):
    item: str
    quantity: int
    price: float


class Order(BaseModel):
    customer: str
    lines: list[Line]


def is_paid_for(order: Order) -> None:
    if any(line.price <= 0 for line in order.lines):
        raise ValueError("Each line has the price of one item, above 0.")


async def main() -> None:
    settings = ModelSettings(temperature=0, max_tokens=300)
    agent = Agent("llama_cpp:smollm2", output=Order, validators=[is_paid_for], settings=settings)
    async for event in agent.stream("Mrs Berg ordered 3 hammers for 12.50 apiece, and 2 saws for 20.00 apiece."):
        match event:
            case PartialOutput(value):
                print("so far:", value)
            case RunFinished(result):
                print(f"{result.output.customer}: {sum(line.quantity * line.price for line in result.output.lines)}")


if __name__ == "__main__":
    asyncio.run(main())
