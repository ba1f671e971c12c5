"""A chat template → the dialect in which its model writes calls.

Each rule is a set of literals that stand in the template's source; the first rule that holds wins, so the special come
before the general. The rules were checked against the templates that ship with llama.cpp. What none of them knows is
left to `response_template` (the model's metadata) and `rendered` (what the template renders).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.dialects.base import Dialect

__all__ = ["detect", "dialect_for"]


@dataclass(frozen=True, slots=True)
class _Rule:
    dialect: str
    every: tuple[str, ...]
    none: tuple[str, ...] = ()
    some: tuple[str, ...] = ()

    def holds(self, template: str) -> bool:
        return (
            all(literal in template for literal in self.every)
            and not any(literal in template for literal in self.none)
            and (not self.some or any(literal in template for literal in self.some))
        )


_RULES: Final = (
    _Rule("harmony", ("<|channel|>", "<|message|>"), none=("atem:",)),
    _Rule("muse", ("atem:function_calls",)),
    _Rule("functionary_v32", (">>>all", ">>>")),
    _Rule("functionary_v31", ("<function=", "</function>"), none=("<parameter", "parameter=")),
    _Rule("functionary_v2", ("<|recipient|>", "<|content|>")),
    _Rule("kimi_k3", ("<|open|>", "<|close|>", "<|end_of_msg|>")),
    _Rule("kimi_k3", ("<|open|>", "<|close|>", "<|sep|>")),
    _Rule("kimi_k2", ("<|tool_call_begin|>",), some=("<|tool_call_argument_begin|>", "<|tool_calls_section_begin|>")),
    _Rule("solar_open", ("<|tool_call:begin|>",)),
    _Rule("plamo3", ("plamo:", "tool_request")),
    _Rule("inkling", ("<|content_invoke_tool_json|>",)),
    _Rule("command_r7b", ("<|START_ACTION|>",)),
    _Rule("lfm2", (), some=("<|tool_call_start|>", "<|tool_list_start|>", "List of tools: [")),
    _Rule("gigachat35", ("GCML",)),
    _Rule("gigachat31", ("<|function_call|>", "<|role_sep|>")),
    _Rule("gigachat31", ("<|function_call|>",), none=("<|start_of_role|>",)),
    _Rule("gigachat3", ("<|role_sep|>", "<|message_sep|>")),
    _Rule("minimax_m3", ("]<]minimax[>[",)),
    _Rule("minimax_m2", ("<minimax:tool_call>",)),
    _Rule("deepseek_dsml", (), some=("DSML", "dsml_token")),
    _Rule("gemma4", (), some=("<|tool_call>call:", "<|tool_call>")),
    _Rule("functiongemma", ("<start_function_call>",)),
    _Rule("minicpm5", ('<function name="', '<param name="')),
    _Rule("seed_oss", ("<seed:tool_call>",)),
    _Rule("seed_oss", ("seed:tool_call", "<function=")),
    _Rule("step3", ("steptml:invoke",)),
    _Rule("dots", ("<dots_function_call>",)),
    _Rule("hy3", ("<tool_sep",)),
    _Rule("glm", (), some=("<arg_key>", "<arg_key", "ifm|arg_key", "<iquest_tool_call>")),
    _Rule("qwen3_coder", ("<function=", "<parameter=")),
    _Rule("longcat", ("<longcat_tool_call>",)),
    _Rule("internlm2", ("<|action_start|>",)),
    _Rule("apertus", ("<|tools_prefix|>",)),
    _Rule("nemotron_nano", ("<TOOLCALL>",)),
    _Rule("deepseek_v3", ("<｜tool▁sep｜>", "```json")),
    _Rule("deepseek_v31", ("<｜tool▁sep｜>",)),
    _Rule("deepseek_v3", ("<｜tool▁calls▁begin｜>",)),
    _Rule("step3", ("<｜tool_calls_begin｜>",)),
    _Rule("mistral_v11", ("[TOOL_CALLS]", "[CALL_ID]")),
    _Rule("mistral_v13", ("[TOOL_CALLS]", "[ARGS]")),
    _Rule("mistral", ("[TOOL_CALLS]",)),
    _Rule("apriel", ("<tool_calls>", "[BEGIN FINAL RESPONSE]")),
    _Rule("apriel", ("<tool_calls>", "<|tool_result|>")),
    _Rule("minimax_m1", ("<tool_calls>",), some=("<end_of_sentence>", "<beginning_of_sentence>", "MiniMax")),
    _Rule("hunyuan", ("<tool_calls>",), some=("hy_", "<｜hy", "<|extra_", "Hunyuan", "<answer>")),
    _Rule("jamba", ("<tool_calls>",)),
    _Rule("olmo3", ("<function_calls>",)),
    _Rule("functools", (" functools",)),
    _Rule("functools", ("functools[",)),
    _Rule("phi4_mini", ("<|/tool_call|>",)),
    _Rule("phi4_mini", ("<|/tool|>",)),
    _Rule("granite", ("<|start_of_role|>", "<|tool_call|>")),
    _Rule("granite", ("<|tool_call|>",)),
    _Rule("granite_20b", ("<function_call>",)),
    _Rule("command_r_plus", ("directly_answer", "Action:")),
    _Rule("command_r_plus", ("directly-answer",)),
    _Rule("react", ("Action Input:",)),
    _Rule("qwen_agent", ("✿FUNCTION✿",)),
    _Rule("hermes", ("<tool_call>",)),
    _Rule("pythonic", ("<|python_start|>",)),
    _Rule("pythonic", (), some=("func_name1(params_name1", "func_name1(arg", "[func_name")),
    _Rule("llama3_json", ('"parameters": ', "tool_call"), some=("<|python_tag|>", "<|eom_id|>", "ipython")),
    _Rule("glm4_9b", ("<|observation|>",), some=("[gMASK]", "<|assistant|>")),
    _Rule("code", ("<code>", "python_tools")),
)


def detect(chat_template: str | Mapping[str, object]) -> str | None:
    """The name in `DIALECTS` of the dialect; None if none of them is shown, for example because it knows no tools.

    Args:
        chat_template: as for `dialect_for`.
    """
    found = dialect_for(chat_template)
    return found.name if found is not None and DIALECTS.get(found.name) is found else None


def dialect_for(chat_template: str | Mapping[str, object]) -> Dialect | None:
    """The dialect in which a model writes calls, as its metadata or its chat template shows it.

    Where no rule knows the template, it is rendered with calls, and a dialect is built from what stands around them;
    that one is in no table, but reads and writes like any other.

    Args:
        chat_template: the Jinja source, or a ``tokenizer_config.json`` as a dict: its ``response_template`` says how
            calls are delimited where there is one, and its ``chat_template`` where there is not.
    """
    if not isinstance(chat_template, str):
        declared = chat_template.get("response_template") or chat_template.get("response_schema")
        found = _declared(declared) if declared else None
        if found is not None:
            return found
        chat_template = _source(chat_template.get("chat_template"))
    name = _by_rule(chat_template)
    if name is not None:
        return DIALECTS[name]
    from agentkit.parsing.rendered import rendered_dialect

    return rendered_dialect(chat_template)


def _by_rule(text: str) -> str | None:
    return next((rule.dialect for rule in _RULES if rule.holds(text)), None)


def _declared(declared: object) -> Dialect | None:
    """What the metadata declares."""
    from agentkit.parsing.response_template import declared_dialect, declared_literals

    return declared_dialect(declared, _by_rule(declared_literals(declared)))


def _source(template: object) -> str:
    """The tool template, where there are several."""
    if isinstance(template, str):
        return template
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        return str(named.get("tool_use") or named.get("default") or "")
    if isinstance(template, Mapping):
        return str(template.get("tool_use") or template.get("default") or "")
    return ""
