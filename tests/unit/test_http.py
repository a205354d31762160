"""How requests travel, against real servers, proxies and certificates: deadlines, limits, redirects, names."""

from __future__ import annotations

import gzip
import io
import socket
import tracemalloc
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.wire import Authority, Wire, answer, embeddings, proxying, trickling
from vecmig.embedders import Embedder, Retry, open_embedder
from vecmig.embedders.environment import find_proxy
from vecmig.embedders.http import LEAST_LIMIT, MOST_OF_AN_ERROR, answer_limit
from vecmig.errors import EmbedderError, RecipeError, TerminalEmbedderError, TransientEmbedderError
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
KEY = "qzj7Kp2Lx9vBn4Ws"
USER, PASSWORD = "me", "hf8Kd93jQx/Zt"
PROXY_USER = f"{USER}:{PASSWORD}"

_OPENED: list[Embedder] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody knows, and a server on the loopback with its certificate."""
    return Authority.made(tmp_path_factory.mktemp("authority"))


def opened(url: str, environ: Mapping[str, str] | None = None, **fields: Any) -> Embedder:
    data = {"provider": "openai", "dims": 8, "base_url": url, "api_key_env": "KEY", "timeout": 20} | fields
    environ = {"KEY": KEY} | dict(environ or {})
    _OPENED.append(open_embedder(str(TAG), Recipe.from_mapping(TAG, data), environ=environ, retry=Retry(attempts=1)))
    return _OPENED[-1]


def failure(embedder: Embedder) -> EmbedderError:
    with pytest.raises(EmbedderError) as caught:
        embedder.embed_documents(["one", "two"])
    shown = f"{caught.value.message}{caught.value.state}{caught.value.hint}"
    assert not [secret for secret in (KEY, PASSWORD) if secret in shown]
    return caught.value


# Deadlines


def in_bytes(connection: socket.socket, data: bytes, wire: Wire) -> None:
    for piece in trickling(data, wire.over):
        connection.sendall(piece)


SLOW_BODY = answer(b" " * 100_000)
#: Headers that never end.
SLOW_HEAD = b"HTTP/1.1 200 OK\r\n" + b"X-More: 1\r\n" * 9_000


@pytest.mark.parametrize("data", [SLOW_BODY, SLOW_HEAD, b"HTTP/1.1 100 Continue\r\n\r\n" * 9_000])
@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_sends_a_byte_now_and_then_ends_at_the_deadline(
    authority: Authority, data: bytes, secure: bool
) -> None:
    wire = Wire(lambda connection, _: in_bytes(connection, data, wire), tls=authority.server if secure else None)
    with wire:
        error = failure(opened(wire.url, {"SSL_CERT_FILE": str(authority.file)}, timeout=0.5))
        assert not wire.over.is_set(), "the server would have gone on"
    assert type(error) is TransientEmbedderError
    assert isinstance(error.__cause__, TransientEmbedderError)
    assert not error.__cause__.unbilled
    assert (error.message, error.hint) == (
        f"The provider at {wire.url} did not answer in time. It failed once.",
        "Raise timeout: in the recipe",
    )


def test_a_server_that_does_not_read_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        embedder = opened(f"http://127.0.0.1:{server.getsockname()[1]}/v1", timeout=0.5)
        with pytest.raises(TransientEmbedderError, match="did not answer in time"):
            embedder.embed_documents(["x" * 20_000_000])


def test_a_redirect_has_no_deadline_of_its_own() -> None:
    def reply(connection: socket.socket, request: bytes) -> None:
        wire.over.wait(0.2)
        connection.sendall(answer("", status="308 Permanent Redirect", Location="/v1/embeddings"))

    with Wire() as wire:
        wire.reply = reply
        error = failure(opened(wire.url, timeout=0.5))
    assert "did not answer in time" in error.message
    assert len(wire.requests) < 5


def test_a_handshake_that_never_comes_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = failure(opened(f"https://127.0.0.1:{server.getsockname()[1]}/v1", timeout=0.5))
    assert "did not answer in time" in error.message
    assert isinstance(error.__cause__, TransientEmbedderError)
    assert error.__cause__.unbilled


# Limits


@cache
def bomb(size: int, begin: bytes = b'{"data": [', letter: bytes = b" ") -> bytes:
    """Pack so many bytes that are an answer as far as they go."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(size // 2**20):
            file.write(letter * 2**20)
    return packed.getvalue()


@pytest.mark.parametrize("again", [False, True])
def test_a_small_answer_that_unpacks_to_half_a_gigabyte(again: bool) -> None:
    data = bomb(2**29)
    encoding, data = ("gzip, gzip", gzip.compress(data)) if again else ("gzip", data)
    assert len(data) < 3_000_000
    with Wire(lambda connection, _: connection.sendall(answer(data, Content_Encoding=encoding))) as wire:
        embedder = opened(wire.url)
        tracemalloc.start()
        try:
            error = failure(embedder)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert error.message == (
        f"The provider at {wire.url} gave an answer of more than 32 MB, which no answer to this request needs. "
        "It failed once."
    )
    assert peak < 4 * LEAST_LIMIT


def test_an_answer_without_an_end() -> None:
    def reply(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not wire.over.is_set():
            connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")

    with Wire() as wire:
        wire.reply = reply
        assert "more than 32 MB" in failure(opened(wire.url)).message


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Oops", "401 No", "300 Choose"])
def test_of_an_error_only_the_beginning_is_read(status: str) -> None:
    data = bomb(2**27, b'{"error": {"message": "', b"x")
    with Wire(lambda connection, _: connection.sendall(answer(data, status=status, Content_Encoding="gzip"))) as wire:
        embedder = opened(wire.url)
        tracemalloc.start()
        try:
            error = failure(embedder)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert f"(HTTP {status[:3]})" in error.message
    assert len(error.message) < 500
    assert peak < 40 * MOST_OF_AN_ERROR


def test_the_limit_is_above_every_answer_that_fits() -> None:
    numbers = ", ".join(["-0.012345678901234567890e-12"] * 3072)
    row = f'{{"object": "embedding", "index": 12345, "embedding": [{numbers}]}}, '
    assert answer_limit(2048, 3072) > 2048 * len(row)
    assert answer_limit(1, 8) == LEAST_LIMIT


def test_an_answer_that_cannot_be_unpacked() -> None:
    with Wire(lambda connection, _: connection.sendall(answer(b"not gzip", Content_Encoding="gzip"))) as wire:
        error = failure(opened(wire.url))
    assert error.message == f"The provider at {wire.url} gave an answer that cannot be unpacked. It failed once."


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_to_another_origin(status: int) -> None:
    with Wire() as other, Wire() as wire:
        wire.reply = lambda connection, _: connection.sendall(
            answer("", status=f"{status} Elsewhere", Location=f"{other.origin}/team/v1/embeddings")
        )
        error = failure(opened(wire.url))
        assert other.requests == []
        assert len(wire.requests) == 1
    assert type(error) is TerminalEmbedderError
    assert error.unbilled
    assert error.message == (
        f"The provider at {wire.url} redirects requests to {other.origin}/team/v1/embeddings, which is another server; "
        "nothing was sent there."
    )
    assert error.hint == (f"If that is the right address, write it in the recipe: base_url: {other.origin}/team/v1")


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (
            f"https://{USER}:{PASSWORD.replace('/', '%2F')}@other.example/v1/embeddings",
            "https://other.example/v1/embeddings",
        ),
        (f"https://other.example/{KEY}/v1/embeddings?key={KEY}#{KEY}", "https://other.example/…"),
        (f"//other.example/v1?token={KEY}", "http://other.example/v1"),
        ("http://[::1", None),
    ],
)
def test_a_redirect_names_the_server_without_secrets(location: str, shown: str | None) -> None:
    with Wire() as wire:
        wire.reply = lambda connection, _: connection.sendall(answer("", status="307 Elsewhere", Location=location))
        error = failure(opened(wire.url, {"HTTP_PROXY": f"http://{PROXY_USER}@127.0.0.1:1", "NO_PROXY": "127.0.0.1"}))
    assert type(error) is TerminalEmbedderError
    assert f"redirects requests to {shown or 'something that is no address'}" in error.message


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_another_path_of_the_same_server_is_followed(status: int) -> None:
    def reply(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST /v1/embeddings "):
            connection.sendall(answer("moved", status=f"{status} Moved", Location="/v2/embeddings"))
        else:
            connection.sendall(embeddings(request))

    with Wire(reply) as wire:
        assert opened(wire.url).embed_documents(["one", "two"]).shape == (2, 8)
        first, second = wire.requests
    assert second.startswith(b"POST /v2/embeddings ")
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
    assert KEY.encode() in second


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_lose_the_texts_is_refused(status: int) -> None:
    with Wire() as wire:
        wire.reply = lambda connection, _: connection.sendall(
            answer("", status=f"{status} Moved", Location="/v2/embeddings")
        )
        error = failure(opened(wire.url))
        assert len(wire.requests) == 1
    assert "in a way that would lose their texts" in error.message
    assert error.hint.endswith(f"base_url: {wire.origin}/v2")


def test_a_circle_of_redirects_ends() -> None:
    with Wire() as wire:
        wire.reply = lambda connection, _: connection.sendall(answer("", status="307 Again", Location="/v1/embeddings"))
        assert type(failure(opened(wire.url))) is TerminalEmbedderError
        assert len(wire.requests) == 6


# What the environment has for OpenAI


AMBIENT = {
    "OPENAI_API_KEY": "sk-ambient-key-0123456789",
    "OPENAI_ORG_ID": "org-ambient-0123456789",
    "OPENAI_PROJECT_ID": "proj-ambient-0123456789",
    "OPENAI_ADMIN_KEY": "sk-admin-ambient-0123456789",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/ambient",
    "OPENAI_CUSTOM_HEADERS": "X-Ambient: ambient-header\nauthorization: Bearer ambient-bearer",
}


@pytest.mark.parametrize("named", [{}, {"api_key_env": "KEY"}, {"headers": {"api-key": "${KEY}"}}])
def test_what_is_openai_s_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    data = {"provider": "openai", "dims": 8} | named
    with Wire() as wire:
        recipe = Recipe.from_mapping(TAG, data | {"base_url": wire.url})
        embedder = open_embedder(str(TAG), recipe, environ=AMBIENT | {"KEY": KEY})
        embedder.embed_documents(["one"])
        embedder.close()
    (request,) = wire.requests
    assert b"ambient" not in request.lower()
    assert b"openai-organization" not in request.lower()
    assert (KEY.encode() in request) == bool(named)


def test_openai_itself_is_sent_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    openai = Authority.made(tmp_path, "DNS:api.openai.com")
    with Wire(tls=openai.server) as wire:

        def tunnel(connection: socket.socket, request: bytes) -> None:
            target = request.split(b" ")[1]
            assert target == b"api.openai.com:443"
            proxying()(connection, request.replace(target, f"127.0.0.1:{wire.port}".encode(), 1))

        with Wire(tunnel) as proxy:
            environ = AMBIENT | {"HTTPS_PROXY": proxy.origin, "SSL_CERT_FILE": str(openai.file)}
            recipe = Recipe.from_mapping(TAG, {"provider": "openai", "dims": 8})
            embedder = open_embedder(str(TAG), recipe, environ=environ, retry=Retry(attempts=1))
            embedder.embed_documents(["one"])
            embedder.close()
    (request,) = wire.requests
    assert f"authorization: bearer {AMBIENT['OPENAI_API_KEY']}".encode() in request.lower()
    assert AMBIENT["OPENAI_ORG_ID"].encode() in request
    assert AMBIENT["OPENAI_PROJECT_ID"].encode() in request


# Proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_plain_request_goes_through_the_proxy(variable: str) -> None:
    with Wire() as wire, Wire(proxying(PROXY_USER)) as proxy:
        address = f"http://{USER}:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{proxy.port}"
        assert opened(wire.url, {variable: address}).embed_documents(["one"]).shape == (1, 8)
        assert len(proxy.requests) == len(wire.requests) == 1


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "127.0.0.0/8", "x, 127.0.0.1:{port}"])
def test_an_exception_is_asked_directly(exception: str) -> None:
    with Wire() as wire, Wire(proxying()) as proxy:
        environ = {"HTTP_PROXY": proxy.origin, "NO_PROXY": exception.format(port=wire.port)}
        opened(wire.url, environ).embed_documents(["one"])
        assert (len(proxy.requests), len(wire.requests)) == (0, 1)


@pytest.mark.parametrize("secure", [False, True])
def test_a_tunnel_through_a_proxy_with_and_without_tls(authority: Authority, secure: bool) -> None:
    tls = authority.server
    with Wire(tls=tls) as wire, Wire(proxying(PROXY_USER), tls=tls if secure else None) as proxy:
        address = proxy.origin.replace("//", f"//{USER}:{PASSWORD.replace('/', '%2F')}@")
        embedder = opened(wire.url, {"HTTPS_PROXY": address, "SSL_CERT_FILE": str(authority.file)})
        assert embedder.embed_documents(["one"]).shape == (1, 8)
        assert embedder.embed_documents(["two"]).shape == (1, 8)
        (connect,) = proxy.requests
    assert connect.startswith(b"CONNECT ")
    assert KEY.encode() not in connect


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("user", ["", f"{USER}:wrong-{PASSWORD}@".replace("/", "%2F")])
def test_a_proxy_that_wants_a_user(authority: Authority, secure: bool, user: str) -> None:
    with Wire(tls=authority.server if secure else None) as wire, Wire(proxying(PROXY_USER)) as proxy:
        variable = "HTTPS_PROXY" if secure else "HTTP_PROXY"
        environ = {variable: f"http://{user}127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(authority.file)}
        error = failure(opened(wire.url, environ))
        assert wire.requests == []
    what = "refuses the user and password" if user else "wants a user and a password"
    assert type(error) is TerminalEmbedderError
    assert error.message == f"The proxy {proxy.origin} {what}."
    assert error.hint == f"Write them like http://user:password@host:port in {variable}"


def test_a_proxy_that_lets_nobody_through() -> None:
    with Wire(proxying(refusal=answer("", status="403 Forbidden"))) as proxy:
        error = failure(opened("https://models.example/v1", {"HTTPS_PROXY": proxy.origin}))
    assert type(error) is TerminalEmbedderError
    assert error.message == f"The proxy {proxy.origin} does not let requests through to models.example: 403 Forbidden."


def test_a_proxy_that_cannot_reach_the_server_for_now() -> None:
    with Wire(proxying(refusal=answer("", status="503 Service Unavailable"))) as proxy:
        error = failure(opened("https://models.example/v1", {"HTTPS_PROXY": proxy.origin}))
    assert type(error) is TransientEmbedderError
    assert error.message == f"The proxy {proxy.origin} cannot be reached: ProxyError. It failed once."


def test_a_proxy_that_is_not_there_is_waited_for() -> None:
    with Wire() as gone:
        pass
    error = failure(opened("https://models.example/v1", {"HTTPS_PROXY": gone.origin.replace("//", f"//{USER}:x@")}))
    assert type(error) is TransientEmbedderError
    assert error.message == f"The proxy {gone.origin} cannot be reached: ConnectError. It failed once."
    assert error.hint == "Check the proxy in HTTPS_PROXY, and the network"


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://{user}@h:1", "The proxy socks5://h:1 cannot be used: the package socksio is not installed."),
        ("socks4://{user}@h:1", "The proxy socks4://h:1 cannot be used: no http, https, socks5 or socks5h proxy."),
        ("http://{user}@127.0.0.1:99999", "The proxy in ALL_PROXY is no address."),
        ("http://{user}@", "The proxy in ALL_PROXY is no address."),
        ("http://{user}@[::1", "The proxy in ALL_PROXY is no address."),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_said_at_once(proxy: str, message: str) -> None:
    with pytest.raises(TerminalEmbedderError) as caught:
        opened("http://127.0.0.1:1/v1", {"ALL_PROXY": proxy.format(user=PROXY_USER.replace("/", "%2F"))})
    assert caught.value.message == message
    assert PASSWORD not in repr(caught.value.__context__)


ENVIRON = {"HTTP_PROXY": "one:1", "HTTPS_PROXY": "http://two:2", "ALL_PROXY": "socks5h://three:3"}


@pytest.mark.parametrize(
    ("url", "environ", "shown"),
    [
        ("http://h/v1", ENVIRON, "http://one:1"),
        ("https://h/v1", ENVIRON, "http://two:2"),
        ("https://h/v1", {"https_proxy": "four:4", "HTTPS_PROXY": "two:2"}, "http://four:4"),
        ("https://h/v1", {"https_proxy": "", "HTTPS_PROXY": "two:2"}, None),
        ("http://h/v1", {"HTTP_PROXY": "one:1", "REQUEST_METHOD": "GET"}, None),
        ("http://h/v1", {"HTTPS_PROXY": "two:2"}, None),
        ("http://h/v1", {}, None),
        *((url, ENVIRON | {"NO_PROXY": no}, None) for url, no in [
            ("http://h/v1", "h"), ("http://h/v1", "x,h"), ("http://h/v1", "x h"), ("http://H/v1", "h"),
            ("http://a.example.com", "example.com"), ("http://a.example.com", ".example.com"),
            ("http://a.example.com", "*.example.com"), ("http://example.com", "example.com"),
            ("http://h/v1", "h:80"), ("https://h/v1", "h:443"), ("http://[::1]:8/v1", "::1"),
            ("http://[fd00::7]/v1", "fd00::/8"), ("http://10.1.2.3/v1", "10.0.0.0/8"), ("http://h/v1", "*"),
        ]),
        *((url, ENVIRON | {"no_proxy": no}, "http://one:1") for url, no in [
            ("http://h/v1", "g"), ("http://notexample.com", "example.com"), ("http://h/v1", "h:81"),
            ("http://11.1.2.3/v1", "10.0.0.0/8"), ("http://h/v1", ""), ("http://h/v1", "10.0.0.0/8"),
        ]),
    ],
)  # fmt: skip
def test_which_proxy(url: str, environ: dict[str, str], shown: str | None) -> None:
    proxy = find_proxy(url, environ)
    assert (None if proxy is None else proxy.shown) == shown


# Names, certificates


def test_a_name_that_nobody_knows_is_said_at_once() -> None:
    error = failure(opened("http://no-such-host.invalid/v1"))
    assert type(error) is TerminalEmbedderError
    assert error.unbilled
    assert error.message == ("The provider at http://no-such-host.invalid/v1 cannot be reached: its name is not known.")
    assert error.hint == "Check base_url in the recipe, and the network"


@pytest.mark.parametrize("url", ["http://h:0/v1", "http://h:99999/v1", "http://[::1/v1", "http://a b/v1", "ftp://h/v1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(RecipeError):
        opened("${URL}", {"URL": url})


def test_a_certificate_that_nobody_has_signed_is_said_at_once(authority: Authority) -> None:
    with Wire(tls=authority.server) as wire:
        error = failure(opened(wire.url))
    assert type(error) is TerminalEmbedderError
    assert error.unbilled
    assert error.message.startswith(f"The provider at {wire.url} shows a certificate that cannot be verified: ")
    assert "SSL_CERT_FILE" in error.hint


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    other = Authority.made(tmp_path, "DNS:other.example")
    with Wire(tls=other.server) as wire:
        error = failure(opened(wire.url, {"SSL_CERT_FILE": str(other.file)}))
    assert type(error) is TerminalEmbedderError
    assert "IP address mismatch" in error.message


def test_certificates_of_an_authority_of_one_s_own(authority: Authority, tmp_path: Path) -> None:
    with Wire(tls=authority.server) as wire:
        opened(wire.url, {"SSL_CERT_FILE": str(authority.file)}).embed_documents(["one"])
        (tmp_path / "empty").write_text("")
        for file, reason in (
            (tmp_path / "none", "it does not exist"),
            (tmp_path / "empty", "it holds no certificates"),
        ):
            with pytest.raises(TerminalEmbedderError, match=reason):
                opened(wire.url, {"SSL_CERT_FILE": str(file)})


def test_a_server_without_tls() -> None:
    with Wire(lambda connection, _: None) as wire:
        error = failure(opened(wire.url.replace("http:", "https:"), timeout=1))
        assert type(error) is TransientEmbedderError, "it says nothing"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"

        def say() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer("", status="400 Bad Request"))
                connection.recv(65536)

        Thread(target=say, daemon=True).start()
        error = failure(opened(url))
    assert type(error) is TerminalEmbedderError
    assert error.message == f"The provider at {url} does not speak TLS."
    assert error.hint == "If it is a server without TLS, write http:// in base_url"


def test_a_certificate_that_is_bad_only_now_is_an_outage(authority: Authority, tmp_path: Path) -> None:
    def reply(connection: socket.socket, request: bytes) -> None:
        connection.sendall(embeddings(request).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        connection.close()

    with Wire(reply, tls=authority.server) as wire:
        embedder = opened(wire.url, {"SSL_CERT_FILE": str(authority.file)})
        embedder.embed_documents(["one"])
        wire.tls = Authority.made(tmp_path).server
        error = failure(embedder)
        assert type(error) is TransientEmbedderError
        assert "shows a certificate that cannot be verified" in error.message
        wire.tls = authority.server
        embedder.embed_documents(["two"])


def test_connections_are_kept(authority: Authority) -> None:
    ports: set[int] = set()

    def reply(connection: socket.socket, request: bytes) -> None:
        ports.add(connection.getpeername()[1])
        connection.sendall(embeddings(request))

    for tls in (None, authority.server):
        with Wire(reply, tls=tls) as wire:
            embedder = opened(wire.url, {"SSL_CERT_FILE": str(authority.file)})
            for number in range(5):
                embedder.embed_documents([str(number)])
    assert len(ports) == 2


def test_a_name_with_several_addresses_shares_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # the first address takes connections and is full: nothing comes back from it
    with socket.socket() as full, Wire() as wire:
        full.bind(("127.0.0.2", wire.port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", wire.port))
        real = socket.getaddrinfo

        def both(host: Any, *rest: Any, **options: Any) -> Any:
            return [info for ip in ("127.0.0.2", "127.0.0.1") for info in real(ip, *rest, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        embedder = opened(f"http://models.example:{wire.port}/v1", timeout=2)
        assert embedder.embed_documents(["one"]).shape == (1, 8)
        for one in waiting:
            one.close()
