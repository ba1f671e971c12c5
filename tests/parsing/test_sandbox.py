"""Somebody else's template ends soon and stays small, whatever it does; an honest one never notices."""

from __future__ import annotations

import threading

import pytest

from agentkit.parsing.sandbox import MAX_SOURCE, BoundedTemplate, TemplateBoundError

BIG = "{% set a = 'x' * 200000 %}"
EVER = "{% for i in range(100000) %}"

TOO_MUCH = {
    "loops": EVER * 3 + "{% endfor %}" * 3,
    "a loop over nothing": "{% for i in range(100000) if i > 200000 %}{% endfor %}" * 20,
    "a loop that calls itself": "{% for i in range(100) recursive %}{{ loop(range(100000)) }}{% endfor %}",
    "a tree of macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "output": EVER + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ i }}{% endfor %}",
    "text of a macro": "{% macro f() %}" + "x" * 100_000 + "{% endmacro %}" + EVER + "{% set _ = f() %}{% endfor %}",
    "text of a block": "{% block b %}" + "x" * 100_000 + "{% endblock %}" + EVER + "{% set _ = self.b() %}{% endfor %}",
    "doubling": "{% set n = namespace(x='aaaaaaaa') %}" + EVER + "{% set n.x = n.x + n.x %}{% endfor %}",
    "joining": "{% set n = namespace(x='aaaaaaaa') %}" + EVER + "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "joining much at once": BIG + "{{ (" + " ~ ".join(["a"] * 2000) + ")|length }}",
    "squaring": "{% set n = namespace(x=9) %}" + EVER + "{% set n.x = n.x * n.x %}{% endfor %}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a number from a text": "{{ ('f' * 200000)|int(0, 16) }}",
    "times": "{{ 'x' * 10**10 }}",
    "a width": "{{ '%1000000000d' % 5 }}",
    "a width with a key": "{{ '%(a)1000000000d' % {'a': 5} }}",
    "a precision": "{{ '%.1000000000f'|format(1.0) }}",
    "a width from a value": "{{ '%*d' % (1000000000, 5) }}",
    "a width in braces": "{{ '{:1000000000}'.format(5) }}",
    "a width in braces from a value": "{{ '{0:{1[0]}}'.format(5, [1000000000]) }}",
    "a width in bytes": "{{ '%1000000000d'.encode() % 5 }}",
    "a format of many": BIG + "{{ ('{0}' * 60000).format(a) }}",
    "a format of many from a dict": BIG + "{{ ('%(a)s' * 50000) % {'a': a} }}",
    "replace": BIG + "{{ a.replace('x', a) }}",
    "the filter": BIG + "{{ a|replace('x', a) }}",
    "replace in bytes": BIG + "{{ a.encode().replace('x'.encode(), a.encode()) }}",
    "join": BIG + "{{ range(100000)|map('string')|join(a) }}",
    "the method": BIG + "{{ a.join(range(100000)|map('string')) }}",
    "translate": BIG + "{{ a.translate({120: a}) }}",
    "padding": "{{ ''.ljust(1000000000) }}",
    "bytes of a number": "{{ (0).to_bytes(1000000000, 'big') }}",
    "indent": "{{ ('\n' * 100000)|indent(100000, true, true) }}",
    "indented JSON": "{{ [[1] * 1000]|tojson(indent=100000000) }}",
    "a sum of lists": "{{ ([[1, 2, 3]] * 30000)|sum(start=[]) }}",
    "batches": "{{ [1]|batch(1000000000, 'x')|list }}",
    "lengths": "{% set l = range(100000)|list %}" + EVER + "{{ l|length }}{% endfor %}",
    "looking in a text": BIG + "{% set b = 'x' * 10000 ~ 'y' %}" + EVER + "{% if b in a %}{% endif %}{% endfor %}",
    "comparing lists": "{% set a = [0] * 140000 %}{% set b = a[:] %}" + EVER + "{% if a == b %}{% endif %}{% endfor %}",
    "slices": BIG + EVER + "{% if a[1:] %}{% endif %}{% endfor %}",
    "a list that grows": "{% set l = [] %}" + EVER + "{% set _ = l.append('x' * 200000) %}{% endfor %}",
    "a chain of values": "{% set n = namespace(p=none) %}"
    + EVER
    + "{% set n.p = namespace(p=n.p, s='x' * 200000 ~ i) %}{% endfor %}",
    "titles": "{% set a = 'x ' * 140000 %}" + EVER + "{{ a|title|length }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_bomb_goes_over_a_bound(source: str) -> None:
    with pytest.raises(TemplateBoundError, match=r"^it "):
        BoundedTemplate(source).render({"messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum(n=1000000) }}",
        "{{ ('%(' * 60000) % () }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_what_the_sandbox_refuses_is_an_error(source: str) -> None:
    with pytest.raises(Exception, match=r"."):
        BoundedTemplate(source).render({"messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize(
    "source",
    [
        "x" * (MAX_SOURCE + 1),
        "{{a}}" * 30_000,
        "{% for a in b %}" * 500 + "{% endfor %}" * 500,
        "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
        "{{ " + "not " * 40_000 + "1 }}",
    ],
    ids=["long", "many expressions", "deep loops", "deep brackets", "deep operators"],
)
def test_a_source_that_is_too_much_to_compile_is_refused(source: str) -> None:
    with pytest.raises((TemplateBoundError, RecursionError)):
        BoundedTemplate(source)


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{{ 12345678901|tojson }} {{ -98765432109|string }}", "12345678901 -98765432109"),
        ("{{ 12345678901|tojson(indent=4) }}", "12345678901"),
        ("{{ '%s in 2024 costs %5.2f'|format('It', 3) }}", "It in 2024 costs  3.00"),
        ("{{ '{{\"year\": 2024, \"name\": \"{}\"}}'.format('x') }}", '{"year": 2024, "name": "x"}'),
        ("{% set l = [] %}{% set _ = l.append(1) %}{{ l|map('string')|list|tojson }}", '["1"]'),
        ("{{ [1, 2]|map('string')|tojson }}", '["1", "2"]'),
        ("{{ {'b': 'ä', 'a': 1}|tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":1,"b":"ä"}'),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% if v %}{% break %}{% endif %}{% endfor %}", "a1"),
        ("a{%- generation -%} b{{ 1 }} {%- endgeneration -%} c", "ab1c"),
        ("{% for x in [[1, [2]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "12"),
        ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}", "<x>"),
        ("{% set n = namespace(a='x') %}{% set n.a = n.a ~ 1 ~ none %}{{ n.a[1:] }}{{ [1, 2][::-1] }}", "1None[2, 1]"),
        ("{{ 'b' in 'abc' }} {{ 1 not in [2] }} {{ a is defined }} {{ 1 < 2 < 3 }}", "True True False True"),
        ("{{ [3, 1, 2]|sort|join(', ') }} {{ [{'a': 1}]|sum(attribute='a') }} {{ 2 ** 10 }}", "1, 2, 3 1 1024"),
    ],
)  # fmt: skip
def test_what_templates_do_is_rendered(source: str, rendered: str) -> None:
    assert BoundedTemplate(source).render({}) == rendered


def test_the_bounds_grow_with_what_is_rendered() -> None:
    source = "{% for m in messages %}{% if messages|length and loop.index0 < messages|length %}{{ m.content|trim }}{% endif %}{% endfor %}"  # noqa: E501
    messages = [{"role": "user", "content": "word " * 400} for _ in range(1000)]
    assert len(BoundedTemplate(source).render({"messages": messages})) > 1_900_000


def test_a_template_that_went_over_can_be_used_again_and_by_two_threads() -> None:
    template = BoundedTemplate("{% for i in range(n) %}{{ i }}{% endfor %}")
    with pytest.raises(TemplateBoundError, match="steps"):
        template.render({"n": 100_000})
    rendered: list[str] = []
    threads = [threading.Thread(target=lambda: rendered.append(template.render({"n": 20_000}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rendered) == 4
    assert len({*rendered}) == 1
