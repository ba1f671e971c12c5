"""AgentDojo's suites (version 1.2.2 of its tasks; Debenedetti et al. 2024, arXiv:2406.13352) as ours."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, Final

from _injection import MARK, Suite, Task
from agentdojo.agent_pipeline.tool_execution import tool_result_to_str
from agentdojo.base_tasks import BaseInjectionTask, BaseUserTask
from agentdojo.functions_runtime import Function, FunctionCall, FunctionsRuntime, TaskEnvironment
from agentdojo.task_suite.load_suites import get_suites
from agentdojo.task_suite.task_suite import TaskSuite

from agentkit.messages import ToolCall
from agentkit.tool import AnyTool, Effect, RunContext, Tool

VERSION: Final = "v1.2.2"

TOOLS: Final[Mapping[tuple[Effect, bool], str]] = {
    ("read", False): """
        get_balance get_iban get_scheduled_transactions get_user_info get_user_information get_current_day
        get_draft_emails get_sent_emails get_all_hotels_in_city get_hotels_prices get_hotels_address
        get_all_restaurants_in_city get_cuisine_type_for_restaurants get_restaurants_address
        get_dietary_restrictions_for_all_restaurants get_contact_information_for_restaurants
        get_price_for_restaurants check_restaurant_opening_hours get_all_car_rental_companies_in_city
        get_car_types_available get_car_fuel_options get_car_rental_address get_car_price_per_day
        get_flight_information
    """,
    ("read", True): """
        get_most_recent_transactions read_file get_channels get_users_in_channel read_channel_messages read_inbox
        get_received_emails search_emails search_contacts_by_name search_contacts_by_email search_calendar_events
        get_day_calendar_events search_files_by_filename get_file_by_id list_files search_files
        get_rating_reviews_for_hotels get_rating_reviews_for_restaurants get_rating_reviews_for_car_rental
    """,
    ("write", False): """
        update_password update_user_info add_user_to_channel remove_user_from_slack create_file delete_email
    """,
    ("write", True): "append_to_file delete_file get_unread_emails",
    ("egress", False): """
        send_money schedule_transaction update_scheduled_transaction send_direct_message send_channel_message
        invite_user_to_slack post_webpage send_email create_calendar_event cancel_calendar_event reserve_hotel
        reserve_car_rental reserve_restaurant
    """,
    ("egress", True): "get_webpage reschedule_calendar_event add_calendar_event_participants share_file",
}
"""Effect, and whether strangers have a hand in the output → tools, by what each does.

Untrusted are mails, events, messages, files, reviews, pages, subjects of payments, and the names of people and channels
(contacts are made of the senders of mails); so is what a tool hands back of these when it changes them. What the user
wrote, and the catalogue of the travel agency, are trusted. Unread mails are marked as read, which is a change. Changing
an event mails its participants; a page is asked for at an address that the model chose.
"""

OPTIONS: Final = {name: key for key, names in TOOLS.items() for name in names.split()}


def suites() -> Iterator[Suite[TaskEnvironment]]:
    """All four."""
    for name, suite in get_suites(VERSION).items():
        yield Suite(
            name,
            [_tool(suite, function) for function in suite.tools],
            [_task(task) for task in suite.user_tasks.values()],
            [_task(task) for task in suite.injection_tasks.values()],
            suite.load_and_inject_default_environment({}),
            suite.load_and_inject_default_environment(dict.fromkeys(suite.get_injection_vector_defaults(), MARK)),
        )


def _tool(suite: TaskSuite[TaskEnvironment], function: Function[..., Any]) -> AnyTool:
    runtime = FunctionsRuntime(suite.tools)

    async def call(context: RunContext[TaskEnvironment], **arguments: object) -> str:
        result, _ = runtime.run_function(context.deps, function.name, arguments, raise_on_error=True)
        return tool_result_to_str(result)

    effect, untrusted = OPTIONS[function.name]
    schema = function.parameters.model_json_schema()
    return Tool.from_schema(function.name, function.description, schema, call, effect=effect, untrusted=untrusted)


def _task(task: BaseUserTask[Any] | BaseInjectionTask[Any]) -> Task[TaskEnvironment]:
    def calls(world: TaskEnvironment) -> list[ToolCall]:
        return [ToolCall(call.function, dict(call.args)) for call in task.ground_truth(world)]

    def is_done(answer: str, before: TaskEnvironment, after: TaskEnvironment, run: Sequence[ToolCall]) -> bool:
        trace = [FunctionCall(function=call.name, args=call.arguments) for call in run]
        by_trace, by_state = (
            (task.utility_from_traces, task.utility)
            if isinstance(task, BaseUserTask)
            else (task.security_from_traces, task.security)
        )
        with redirect_stdout(io.StringIO()):  # one of them prints
            done = by_trace(answer, before, after, trace)
            return by_state(answer, before, after) if done is None else done

    return Task(task.ID, calls, task.GROUND_TRUTH_OUTPUT, is_done)
