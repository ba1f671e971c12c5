"""The same agent in each framework: one function each, from a base URL and tools to something that runs it once.

Each is written as the framework's own documentation does it, with limits lifted and telemetry off. This file is read in
the frameworks' own environments, where there is no agentkit: it may import at its top what any Python has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

Function = Callable[..., str]
Run = Callable[[], Awaitable[object]]

PROMPT = "How will the weather be in Zürich?"
STEPS = 1000
"""More than any script has: nobody may stop early."""


def agentkit(url: str, functions: Sequence[Function]) -> Run:
    from agentkit import Agent, Limits
    from agentkit.providers.openai import OpenAIProvider

    agent = Agent(OpenAIProvider("scripted", url, "key"), tools=functions, limits=Limits(steps=STEPS, repeats=10**9))

    async def run() -> object:
        return (await agent.run(PROMPT)).output

    return run


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sdk(url: str, functions: Sequence[Function]) -> Run:
    """The loop that one writes on the openai SDK."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="key")
    by_name = {function.__name__: function for function in functions}
    tools: Any = [described(function) for function in functions]

    async def run() -> object:
        messages: list[Any] = [{"role": "user", "content": PROMPT}]
        while True:
            stream = await client.chat.completions.create(
                model="scripted", messages=messages, tools=tools, stream=True, stream_options={"include_usage": True}
            )
            text, calls = "", {}
            async for chunk in stream:
                if not chunk.choices:
                    continue
                delta = chunk.choices[0].delta
                text += delta.content or ""
                for piece in delta.tool_calls or []:
                    assert piece.function
                    if piece.id:
                        calls[piece.index] = called(piece.id, piece.function.name)
                    calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""
            if not calls:
                return text
            messages += answered(text, list(calls.values()), by_name)

    return run


def sdk_whole(url: str, functions: Sequence[Function]) -> Run:
    """The same without streaming."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="key")
    by_name = {function.__name__: function for function in functions}
    tools: Any = [described(function) for function in functions]

    async def run() -> object:
        messages: list[Any] = [{"role": "user", "content": PROMPT}]
        while True:
            completion = await client.chat.completions.create(model="scripted", messages=messages, tools=tools)
            message = completion.choices[0].message
            if not message.tool_calls:
                return message.content
            calls = []
            for call in message.tool_calls:
                assert call.type == "function"
                calls.append(called(call.id, call.function.name))
                calls[-1]["function"]["arguments"] = call.function.arguments
            messages += answered(message.content, calls, by_name)

    return run


def httpx2(url: str, functions: Sequence[Function]) -> Run:
    """No SDK: JSON over HTTP, streamed."""
    import httpx2

    client = httpx2.AsyncClient(headers={"Authorization": "Bearer key"}, limits=httpx2.Limits(max_connections=None))
    by_name = {function.__name__: function for function in functions}
    tools = [described(function) for function in functions]

    async def run() -> object:
        messages: list[Any] = [{"role": "user", "content": PROMPT}]
        while True:
            body = {"model": "scripted", "messages": messages, "tools": tools, "stream": True}
            text, calls = "", {}
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    for choice in json.loads(line[6:])["choices"]:
                        delta = choice["delta"]
                        text += delta.get("content") or ""
                        for piece in delta.get("tool_calls") or []:
                            if "id" in piece:
                                calls[piece["index"]] = called(piece["id"], piece["function"]["name"])
                            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
            if not calls:
                return text
            messages += answered(text, list(calls.values()), by_name)

    return run


def described(function: Function) -> dict[str, object]:
    """A tool's schema, written by hand."""
    parameters = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "integer", "description": "How far ahead."},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    described = {"name": function.__name__, "description": "The weather of a city.", "parameters": parameters}
    return {"type": "function", "function": described}


def called(call_id: str, name: str | None) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}


def answered(text: str | None, calls: list[dict[str, Any]], by_name: Mapping[str, Function]) -> list[dict[str, Any]]:
    """The turn and its results, as they go back."""
    messages: list[dict[str, Any]] = [{"role": "assistant", "content": text or None, "tool_calls": calls}]
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        result = by_name[call["function"]["name"]](**arguments)
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return messages


# ── frameworks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pydantic_ai(url: str, functions: Sequence[Function]) -> Run:
    from pydantic_ai import Agent, UsageLimits
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=url, api_key="key"))
    agent = Agent(model, tools=functions)
    limits = UsageLimits(request_limit=None)

    async def run() -> object:
        return (await agent.run(PROMPT, usage_limits=limits)).output

    return run


def openai_agents(url: str, functions: Sequence[Function]) -> Run:
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("scripted", AsyncOpenAI(base_url=url, api_key="key"))
    agent = Agent("weather", tools=[function_tool(function) for function in functions], model=model)

    async def run() -> object:
        return (await Runner.run(agent, PROMPT, max_turns=STEPS)).final_output

    return run


def smolagents(url: str, functions: Sequence[Function]) -> Run:
    """It is synchronous: many at once are threads."""
    from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

    def tool(function: Function) -> Tool:
        class Forecast(Tool):  # type: ignore[misc]
            name = function.__name__
            description = "The weather of a city."
            inputs: ClassVar = {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How far ahead."},
            }
            output_type = "string"

            def forward(self, city: str, days: int) -> str:
                return function(city, days)

        return Forecast()

    model = OpenAIServerModel("scripted", api_base=url, api_key="key")
    tools = [tool(function) for function in functions]
    pool = ThreadPoolExecutor(100)

    def once() -> object:
        agent = ToolCallingAgent(tools=tools, model=model, verbosity_level=-1, max_steps=STEPS)
        return agent.run(PROMPT)

    async def run() -> object:
        return await asyncio.get_running_loop().run_in_executor(pool, once)

    return run


def langgraph(url: str, functions: Sequence[Function]) -> Run:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    agent = create_agent(ChatOpenAI(model="scripted", base_url=url, api_key="key"), list(functions))

    async def run() -> object:
        question = {"messages": [{"role": "user", "content": PROMPT}]}
        state = await agent.ainvoke(question, {"recursion_limit": 10 * STEPS})
        return state["messages"][-1].content

    return run


def agno(url: str, functions: Sequence[Function]) -> Run:
    from agno.agent import Agent
    from agno.models.openai.like import OpenAILike

    agent = Agent(model=OpenAILike(id="scripted", base_url=url, api_key="key"), tools=list(functions), telemetry=False)

    async def run() -> object:
        return (await agent.arun(PROMPT)).content

    return run


def strands(url: str, functions: Sequence[Function]) -> Run:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    model = OpenAIModel(client_args={"base_url": url, "api_key": "key"}, model_id="scripted")
    tools = [tool(function) for function in functions]

    async def run() -> object:  # an agent keeps its conversation: each run has its own
        agent = Agent(model=model, tools=tools, callback_handler=None)
        return str(await agent.invoke_async(PROMPT))

    return run


AGENTS: dict[str, Callable[[str, Sequence[Function]], Run]] = {
    "agentkit": agentkit,
    "sdk": sdk,
    "sdk-whole": sdk_whole,
    "httpx2": httpx2,
    "pydantic-ai": pydantic_ai,
    "openai-agents": openai_agents,
    "smolagents": smolagents,
    "langgraph": langgraph,
    "agno": agno,
    "strands": strands,
}
