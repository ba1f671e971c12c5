"""The web tools, against real servers on the loopback interface."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from agentkit import ToolError
from agentkit_tools.web import PageFetcher, WebSearch, fetch_page, is_public, web_search

from .conftest import Site, serve

ARTICLE = """<html><head><title>On Herons</title></head><body><nav>Home | About</nav><article><h1>On Herons</h1>
<p>The grey heron stands in shallow water for a long time, and then it is suddenly very fast indeed.</p>
<p>It eats fish, frogs and now and then a duckling, which people by the pond do not like to see.</p>
</article><footer>All rights reserved</footer></body></html>"""


def only_loopback_1(address: IPv4Address | IPv6Address) -> bool:
    return str(address) == "127.0.0.1"


def fetch(url: str, **options: object) -> str:
    return asyncio.run(PageFetcher(**{"allow": only_loopback_1, **options}).fetch_page(url))  # type: ignore[arg-type]


def refused(url: str, **options: object) -> str:
    with pytest.raises(ToolError) as raised:
        fetch(url, **options)
    return str(raised.value)


class Names:
    """A resolver that answers from a table: each look-up takes the next answer of its name."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(answer) for name, answer in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers[host].pop(0)


# reading


def test_html_becomes_its_text(site: Site) -> None:
    site.page("/herons", ARTICLE)
    text = fetch(site.url("/herons"))
    assert text.startswith(f"{site.url('/herons')}\n\nOn Herons\n\n")
    assert "The grey heron stands in shallow water" in text
    assert "<p>" not in text
    assert "All rights reserved" not in text


def test_a_page_that_is_no_article_still_has_words(site: Site) -> None:
    site.page("/", "<html><body><ul><li><a href='/a'>Alpha</a></li><li><a href='/b'>Beta</a></li></ul></body></html>")
    text = fetch(site.url())
    assert "Alpha" in text
    assert "Beta" in text


def test_text_and_json_are_given_as_they_are(site: Site) -> None:
    site.page("/t", "a < b\n", kind="text/plain; charset=utf-8")
    site.page("/j", '{"a": [1]}', kind="application/json")
    site.page("/p", '{"title": "No"}', kind="application/problem+json")
    assert fetch(site.url("/t")) == f"{site.url('/t')}\n\na < b\n"
    assert fetch(site.url("/j")).endswith('{"a": [1]}')
    assert fetch(site.url("/p")).endswith('{"title": "No"}')


def test_charsets(site: Site) -> None:
    site.page("/header", "naïve".encode("latin-1"), kind="text/plain; charset=iso-8859-1")
    site.page("/unknown", "naïve", kind="text/plain; charset=nonsense")
    site.page("/hex", "naïve", kind="text/plain; charset=hex")
    site.page("/broken", b"na\xefve", kind="text/plain")
    body = ARTICLE.replace("heron", "hëron").replace("<head>", '<head><meta charset="iso-8859-1">')
    site.page("/meta", body.encode("latin-1"))
    site.page("/xml", '<?xml version="1.0" encoding="utf-8"?>' + ARTICLE, kind="application/xhtml+xml; charset=utf-8")
    for path in ("/header", "/unknown", "/hex"):
        assert fetch(site.url(path)).endswith("naïve")
    assert fetch(site.url("/broken")).endswith("na\ufffdve")
    assert "The grey hëron" in fetch(site.url("/meta"))
    assert "The grey heron" in fetch(site.url("/xml"))


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/octet-stream", ""])
def test_other_content_is_refused(site: Site, kind: str) -> None:
    site.page("/x", b"\x89PNG", kind=kind)
    assert "only HTML, text and JSON" in refused(site.url("/x"))


def test_an_error_status_is_told(site: Site) -> None:
    site.page("/gone", "no", status=404)
    site.page("/down", "no", status=503)
    assert "answered 404" in refused(site.url("/gone"))
    assert "answered 503" in refused(site.url("/down"))


def test_a_page_without_text_says_so(site: Site) -> None:
    site.page("/", "<html><body><script>draw()</script></body></html>")
    assert "has no text" in refused(site.url())


# bounds


def test_a_long_page_is_cut(site: Site) -> None:
    site.page("/t", "x" * 50_000, kind="text/plain")
    text = fetch(site.url("/t"))
    assert text.endswith("x\n[The page is longer: cut after 40,000 characters.]")
    assert len(text) < 41_000
    assert fetch(site.url("/t"), max_bytes=10).endswith("\n\nxxxxxxxxxx\n[The page is longer: cut after 10 bytes.]")


def test_an_endless_page_is_cut(site: Site) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:  # ends when the client hangs up
            handler.wfile.write(b"more " * 10_000)

    site.routes["/"] = endless
    assert "cut after 40,000 characters" in fetch(site.url())


def test_gzip_is_unpacked_and_a_bomb_is_cut(site: Site) -> None:
    site.page("/ok", gzip.compress(b"packed"), kind="text/plain", Content_Encoding="gzip")
    site.page("/bomb", gzip.compress(b"0" * 50_000_000), kind="text/plain", Content_Encoding="gzip")
    site.page("/broken", b"not gzip", kind="text/plain", Content_Encoding="gzip")
    site.page("/br", b"?", kind="text/plain", Content_Encoding="br")
    assert fetch(site.url("/ok")).endswith("\n\npacked")
    tracemalloc.start()
    assert fetch(site.url("/bomb"), max_bytes=1000).endswith("0\n[The page is longer: cut after 1,000 bytes.]")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert "broken gzip" in refused(site.url("/broken"))
    assert "'br'" in refused(site.url("/br"))


@pytest.mark.parametrize("begins", [False, True])
def test_a_server_that_hangs_is_left(site: Site, begins: bool) -> None:
    def hang(handler: BaseHTTPRequestHandler) -> None:
        if begins:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/plain")
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(b"and then")
            handler.wfile.flush()
        site.closing.wait(30)

    site.routes["/"] = hang
    started = time.perf_counter()
    assert "took more than 0.3 seconds" in refused(site.url(), timeout=0.3)
    assert time.perf_counter() - started < 10


def test_a_server_that_drips_is_left_in_the_end(site: Site) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not site.closing.wait(0.05):
            handler.wfile.write(b".")

    site.routes["/"] = drip
    assert "took more than 0.5 seconds" in refused(site.url(), timeout=0.5)


def test_a_server_that_closes_in_the_middle(site: Site) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    site.routes["/"] = cut
    assert "could not be fetched" in refused(site.url())


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        assert "could not be fetched" in refused(f"http://127.0.0.1:{taken.getsockname()[1]}/")


# where it may go


PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "168.63.129.16",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "2001::1",
    "64:ff9b:1::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_these_addresses_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_these_are(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0.0.0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    ],
)
def test_no_spelling_of_this_machine_is_fetched(site: Site, host: str) -> None:
    site.page("/", ARTICLE)
    with pytest.raises(ToolError, match=r"not on the public internet|Invalid IPv4 address|No address"):
        asyncio.run(fetch_page(site.url(host=host)))
    assert site.seen == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "no web address"),
        ("ftp://127.0.0.1/", "no web address"),
        ("gopher://127.0.0.1/", "no web address"),
        ("data:text/plain,x", "no web address"),
        ("127.0.0.1", "no web address"),
        ("", "no web address"),
        ("http://", "no web address"),
        ("http://user:word@127.0.0.1/", "user name or password"),
        ("http://127.0.0.1:99999/", "highest is 65535"),
        ("http://127.0.0.1:x/", ""),
        ("http://\ud800/", ""),
        ("http://[::1/", ""),
        ("http://a\nb/", ""),
        ("http://127.0.0.1/" + "x" * 3000, "limit is 2,000"),
    ],
)
def test_what_is_no_web_address_is_refused(url: str, message: str) -> None:
    assert message in refused(url)


def test_a_name_without_an_address_is_told() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert "No address was found for 'no.such.name'" in refused("http://no.such.name/", resolve=nothing)


def test_a_redirect_is_followed(site: Site) -> None:
    site.page("/end", ARTICLE)
    site.redirect("/start", "/middle")
    site.redirect("/middle", site.url("/end"))
    assert fetch(site.url("/start")).startswith(site.url("/end"))


def test_a_redirect_is_checked_like_the_first_address(site: Site) -> None:
    site.page("/", ARTICLE)
    site.redirect("/inside", site.url("/", host="127.0.0.2"))
    site.redirect("/metadata", "http://169.254.169.254/latest/meta-data/")
    site.redirect("/file", "file:///etc/passwd")
    site.redirect("/login", f"http://a:b@127.0.0.1:{site.port}/")
    assert "'127.0.0.2' is not on the public internet" in refused(site.url("/inside"))
    assert "'169.254.169.254' is not on the public internet" in refused(site.url("/metadata"))
    assert "no web address" in refused(site.url("/file"))
    assert "user name" in refused(site.url("/login"))
    assert "/" not in [request.path for request in site.seen]


def test_redirects_are_counted(site: Site) -> None:
    site.redirect("/loop", "/loop")
    assert "more than 5 times" in refused(site.url("/loop"))
    assert len(site.seen) == 6


def test_a_redirect_that_leads_nowhere(site: Site) -> None:
    site.page("/none", "", status=302)
    assert "answered 302" in refused(site.url("/none"))


def test_a_name_is_looked_up_once_and_the_checked_address_is_used(site: Site) -> None:
    site.page("/", ARTICLE)
    names = Names(rebinding_test=[["127.0.0.1"], ["127.0.0.2"]])
    assert "heron" in fetch(site.url(host="rebinding.test"), resolve=names)
    assert names.asked == ["rebinding.test"]
    assert site.seen[0].headers["host"] == f"rebinding.test:{site.port}"


def test_a_name_that_changes_its_address_between_redirects_is_checked_again(site: Site) -> None:
    site.redirect("/", "/again")
    site.page("/again", ARTICLE)
    names = Names(rebinding_test=[["127.0.0.1"], ["127.0.0.2"]])
    assert "not on the public internet" in refused(site.url(host="rebinding.test"), resolve=names)
    assert [request.path for request in site.seen] == ["/"]


def test_only_the_allowed_of_several_addresses_are_used(site: Site) -> None:
    site.page("/", ARTICLE)
    names = Names(mixed_test=[["10.0.0.1", "::1", "127.0.0.1"]])
    assert "heron" in fetch(site.url(host="mixed.test"), resolve=names)


def test_a_dead_address_is_followed_by_the_next(site: Site) -> None:
    site.page("/", ARTICLE)
    names = Names(two_test=[["::1", "127.0.0.1"]])  # the server does not listen on the first
    assert "heron" in fetch(site.url(host="two.test"), resolve=names, allow=lambda address: True)


def test_two_names_on_one_address_do_not_share_a_connection(site: Site) -> None:
    site.redirect("/", site.url("/next", host="b.test"))
    site.page("/next", ARTICLE)
    fetch(site.url(host="a.test"), resolve=Names(a_test=[["127.0.0.1"]], b_test=[["127.0.0.1"]]))
    assert [request.headers["host"].partition(":")[0] for request in site.seen] == ["a.test", "b.test"]
    assert len({request.client for request in site.seen}) == 2


def test_proxies_and_stored_passwords_are_not_used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.page("/", ARTICLE)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "heron" in fetch(site.url())
    assert "authorization" not in site.seen[0].headers


@pytest.fixture
def secure_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with a certificate for secure.test, which the client trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=secure.test", "-addext", "subjectAltName=DNS:secure.test"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield from serve(Site(), context)


def test_tls_is_checked_against_the_name_not_the_address(secure_site: Site) -> None:
    secure_site.page("/", ARTICLE)
    names = Names(secure_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    assert "heron" in fetch(secure_site.url(host="secure.test", scheme="https"), resolve=names)
    assert "certificate" in refused(secure_site.url(host="other.test", scheme="https"), resolve=names).lower()


# searching


def test_results_are_numbered_and_bounded() -> None:
    asked: list[tuple[str, int]] = []

    def engine(query: str, max_results: int) -> list[dict[str, str]]:
        asked.append((query, max_results))
        return [{"title": f"T{n}", "href": f"https://e.test/{n}", "body": "b\n" * 1000} for n in range(20)]

    text = WebSearch(engine).web_search("  grey \n heron ", max_results=2)
    assert asked == [("grey heron", 2)]
    first, second = text.split("\n\n")
    assert first.startswith("1. T0\nhttps://e.test/0\nb b ")
    assert second.startswith("2. T1\n")
    assert len(first) < 600
    WebSearch(engine).web_search("x", max_results=10_000)
    assert asked[-1] == ("x", 10)


def test_no_results_and_no_query() -> None:
    assert "No results for 'x'" in WebSearch(lambda query, most: []).web_search("x")
    for query in ("", "  ", "x" * 501):
        with pytest.raises(ToolError, match="1 to 500"):
            web_search(query)


def test_the_limits_are_in_the_schema() -> None:
    assert web_search.parameters["properties"]["max_results"]["maximum"] == 10
    assert json.dumps(fetch_page.parameters)


def test_without_a_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # a proxy that refuses stands for a network that is down, wherever this runs
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ToolError, match="check the network"):
            web_search("grey heron")


# extras


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("ddgs", "web_search('x')"),
        ("httpx2", "asyncio.run(fetch_page('http://127.0.0.1/'))"),
        ("trafilatura", "asyncio.run(fetch_page('http://127.0.0.1/'))"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(missing: str, call: str) -> None:
    script = f"""
import asyncio, sys
sys.modules[{missing!r}] = None
from agentkit_tools.web import fetch_page, web_search
from agentkit.errors import MissingExtraError
try:
    {call}
except MissingExtraError as error:
    print(error)
"""
    done = run(script)
    assert "pip install 'agentkit-framework[web]'" in done


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    script = (
        "import sys, agentkit_tools.web; print({'httpx2', 'ddgs', 'trafilatura', 'lxml', 'primp'} & {*sys.modules})"
    )
    assert run(script) == "set()\n"


def run(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
