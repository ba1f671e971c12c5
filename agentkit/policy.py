"""Which calls may be made: effects, taint, rules, and approvals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Final, Literal, TypeAlias, cast, get_args

from agentkit._globs import find, names, permits, restrains
from agentkit._threads import Threads
from agentkit.errors import ConfigError, ResumeError
from agentkit.messages import JsonObject, canonical
from agentkit.tool import AnyTool, Effect, is_async

__all__ = [
    "Action",
    "Decision",
    "Decisions",
    "Handler",
    "PendingCall",
    "Policy",
    "Rule",
    "Verdict",
    "as_decisions",
]

Action: TypeAlias = Literal["allow", "deny", "ask", "modify"]

_DOES: Final[Mapping[Effect | None, str]] = {
    "write": "changes something",
    "egress": "sends something out",
    "execute": "runs code",
    None: "does not say what it does",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person, or a handler in their place, says of a call.

    Attributes:
        allow: whether it may be made; of a call whose outcome is unknown, whether it is to be made again.
        reason: in words; the model reads it where the call is denied.
        arguments: instead of the call's own; None leaves them. They are validated like the model's.
        result: what the call came to, where the person knows: the model is told this and nothing is run.

    Raises:
        ConfigError: ``allow`` is no bool.
    """

    allow: bool
    reason: str = ""
    arguments: JsonObject | None = None
    result: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.allow, bool):  # "no" would be taken for a yes
            raise ConfigError(f"Decision.allow is {self.allow!r}: it must be True or False")


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for a decision.

    Attributes:
        key: names it in `Agent.resume`; another one each time that the call is asked for anew, after an interruption.
        run_id: the run that made it; a call's run of its own, where an agent was called as a tool.
        tool: its name.
        arguments: exactly those that it will be run with, as JSON values with their keys sorted.
        effect: what the tool says that it does; None where it does not say.
        why: the rule or the taint that asks for it.
        is_interrupted: the call was started before, and nobody knows whether it took effect.
        idempotency_key: the call's own, as its tool was told it: a service that was given it can say.
    """

    key: str
    run_id: str
    tool: str
    arguments: JsonObject
    effect: Effect | None
    why: str
    is_interrupted: bool = False
    idempotency_key: str = ""


Decisions: TypeAlias = Mapping[str, Decision | bool]
"""Decisions on pending calls, by their keys; True and False allow and deny."""

Handler: TypeAlias = Callable[[PendingCall], Decision | bool | Awaitable[Decision | bool]]
"""Decides about a call in a person's place, or asks one. It may be async; a synchronous one runs in a thread."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be done with some calls.

    Args:
        tool: a glob over the tool's name: ``*`` stands for anything.
        action: ``allow``; ``deny``; ``ask``; or ``modify``: rewrite the arguments and let the rules behind this one
            decide.
        arguments: globs over arguments, by name, or by dotted path for what is inside one. All must match, and an
            argument that is not there matches nothing. A rule that allows reads its globs narrowly, all others read
            theirs widely: docs/policy.md says how.
        effect: only tools of this effect. One that does not say has every effect, but none that could be allowed.
        tainted: only while the conversation holds untrusted output (True), or only until it does (False).
        reason: in words, for the model or for the person who is asked.
        change: for ``modify``: gets the arguments as JSON values and returns those to be used. If it raises, or what
            it returns does not fit the tool, the call is denied.

    Raises:
        ConfigError: the rule could never work.
    """

    tool: str
    action: Action
    _: KW_ONLY
    arguments: Mapping[str, str] = field(default_factory=dict)
    effect: Effect | None = None
    tainted: bool | None = None
    reason: str = ""
    change: Callable[[JsonObject], JsonObject] | None = None

    def __post_init__(self) -> None:
        where = f"Rule({self.tool!r}, {self.action!r})"
        _check_one_of(f"{where}: action", self.action, get_args(Action))
        _check_one_of(f"{where}: effect", self.effect, (None, *get_args(Effect)))
        if not self.tool:
            raise ConfigError(f"{where}: no tool has an empty name; '*' stands for all of them")
        if (self.action == "modify") != (self.change is not None):
            raise ConfigError(f"{where}: 'modify' needs change=…, a function from arguments to arguments; nothing else")
        for path, glob in self.arguments.items():
            if not all(path.split(".")):
                raise ConfigError(f"{where}: {path!r} is no argument's name, nor a dotted path to one")
            if self.action == "allow" and "**" in glob.rstrip("*"):
                raise ConfigError(
                    f"{where}: {path}={glob!r}: where calls are allowed, '**' may stand only at the end of a glob"
                )

    def matches(self, tool: AnyTool, arguments: JsonObject, *, is_tainted: bool) -> bool:
        """Whether this rule is about a call; ``arguments`` are as the model wrote them."""
        if not names(self.tool, tool.name) or self.tainted not in (None, is_tainted):
            return False
        if self.effect is not None and tool.effect != self.effect and (tool.effect or self.action == "allow"):
            return False
        if not self.arguments:
            return True
        taken = _as_taken(tool, arguments)
        if self.action == "allow":
            return taken is not None and all(_is_permitted(taken, path, glob) for path, glob in self.arguments.items())
        return taken is None or all(
            _is_restrained(arguments, path, glob) or _is_restrained(taken, path, glob)
            for path, glob in self.arguments.items()
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a call.

    Attributes:
        action: ``modify`` is to make it, with arguments that are not the model's.
        by: what decided: ``rules[0] send_*`` by place and glob, ``taint`` or ``default``; behind the rules that
            rewrote the arguments.
        reason: in words; never empty where it is to deny or ask.
        arguments: those that it is about, `canonical`.
    """

    action: Action
    by: str
    reason: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides about calls. The first rule that matches says what is done with one.

    Where none does, a call is made, unless the conversation holds untrusted output and the tool does more than read,
    or does not say: then ``tainted`` is what is done.

    Args:
        rules: in order.
        tainted: ``ask``, ``deny`` or ``allow``.
        on_ask: decides about the calls that are to be asked for. Without it the run pauses.
        unknown: what is done with a call that was interrupted, if nobody can say whether it took effect: ``pause`` the
            run and ask, or ``tell`` the model so.

    Raises:
        ConfigError: a value that is none of these.
    """

    rules: Sequence[Rule] = ()
    _: KW_ONLY
    tainted: Literal["ask", "deny", "allow"] = "ask"
    on_ask: Handler | None = None
    unknown: Literal["pause", "tell"] = "pause"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise ConfigError(f"Policy.rules holds {rule!r}: write Rule('tool_*', 'ask'), say")
        _check_one_of("Policy.tainted", self.tainted, ("ask", "deny", "allow"))
        _check_one_of("Policy.unknown", self.unknown, ("pause", "tell"))

    def decide(self, tool: AnyTool, arguments: JsonObject, taint: str | None) -> Verdict:
        """What is to be done with a call. Nothing is run.

        Args:
            tool: what is called.
            arguments: as the model wrote them, once they were found to fit the tool.
            taint: what brought untrusted content into the conversation, by name; None if nothing did.
        """
        arguments = canonical(arguments)
        by: list[str] = []
        for place, rule in enumerate(self.rules):
            if not rule.matches(tool, arguments, is_tainted=taint is not None):
                continue
            by.append(f"rules[{place}] {rule.tool}")
            if rule.action != "modify":
                return _verdict(rule.action, by, rule.reason, arguments)
            try:
                arguments = _changed(rule, tool, arguments)
            except Exception as error:  # whatever it is: a call that could not be rewritten must not be made
                why = f"a rule that rewrites its arguments failed ({type(error).__name__}: {error})"
                return _verdict("deny", by, why, arguments)
        if taint is None or tool.effect == "read":
            return _verdict("allow", [*by, "default"], "", arguments)
        why = f"{tool.name} {_DOES[tool.effect]}, and the conversation holds what strangers may have written ({taint})"
        return _verdict(self.tainted, [*by, "taint"], why, arguments)

    async def ask(self, call: PendingCall) -> Decision | None:
        """What ``on_ask`` says of a call; None where there is no handler. One that fails has denied the call."""
        if self.on_ask is None:
            return None
        handler: Callable[[PendingCall], object] = self.on_ask  # whatever its types promise
        try:
            said = handler(call) if is_async(handler) else await Threads().submit(partial(handler, call))
            if isinstance(said, Awaitable):
                said = await said
            if isinstance(said, Decision) and said.arguments is not None:
                said = replace(said, arguments=canonical(said.arguments))
        except Exception as error:  # whatever it is: no answer is no permission
            return Decision(False, f"the approval failed ({type(error).__name__}: {error})")
        if isinstance(said, bool):
            return Decision(said)
        if isinstance(said, Decision):
            return said
        return Decision(False, f"the approval failed (on_ask returned {said!r}: it must be a bool or a Decision)")


def as_decisions(given: Decisions) -> dict[str, Decision]:
    """The same, each as a `Decision`.

    Raises:
        ConfigError: one is neither that nor a bool.
        ResumeError: it has arguments that are not JSON.
    """
    decisions = {key: made if isinstance(made, Decision) else Decision(made) for key, made in given.items()}
    for key, decision in decisions.items():
        try:
            canonical(decision.arguments or {})
        except (TypeError, ValueError) as error:
            raise ResumeError(f"The decision on {key!r} has arguments that are not JSON: {error}") from error
    return decisions


def _verdict(action: Action, by: Sequence[str], reason: str, arguments: JsonObject) -> Verdict:
    if action == "allow" and len(by) > 1:
        action = "modify"
    if action in ("deny", "ask") and not reason:
        reason = "a rule of the policy says so"
    return Verdict(action, ", ".join(by), reason, arguments)


def _changed(rule: Rule, tool: AnyTool, arguments: JsonObject) -> JsonObject:
    assert rule.change is not None
    changed = canonical(rule.change(canonical(arguments)))
    tool.validate(changed)
    return changed


def _as_taken(tool: AnyTool, arguments: JsonObject) -> JsonObject | None:
    """The arguments as the function takes them, defaults included, as JSON values. None if nobody can say."""
    from pydantic_core import to_jsonable_python

    properties = cast("Mapping[str, JsonObject]", tool.parameters.get("properties", {}))
    try:
        defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
        return canonical(to_jsonable_python(defaults | tool.validate(arguments)))
    except Exception:  # types of the user's own: what cannot be seen is held against the call
        return None


def _is_permitted(arguments: JsonObject, path: str, glob: str) -> bool:
    found = list(find(arguments, path))
    return bool(found) and all(value and permits(glob, value[0]) for value in found)


def _is_restrained(arguments: JsonObject, path: str, glob: str) -> bool:
    return any(value and restrains(glob, value[0]) for value in find(arguments, path))


def _check_one_of(what: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ConfigError(f"{what} is {value!r}: it must be one of {', '.join(map(repr, known))}")
