"""Tokens, host names, and what may be fetched: without a server."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handglass.errors import HandglassError, InputError, UsageError
from handglass.runtime.serve.access import Access, host_of, is_loopback, read_token
from handglass.runtime.serve.plan import (
    Memory,
    Options,
    access_of,
    check_memory,
    memory_text,
    names_of,
)
from handglass.runtime.serve.refusal import Refusal
from handglass.runtime.serve.url_fetch import fetch, fetcher, is_public

TOKEN = "0123456789abcdef"
LOCAL = {"host": "localhost:8080"}


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


def status_of(access: Access, path: str, headers: dict[str, str]) -> int:
    try:
        access.check(path, headers)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_a_token_opens_everything_but_what_is_open() -> None:
    access = Access(TOKEN)
    for header, status in [
        (f"Bearer {TOKEN}", 200), (f"bearer  {TOKEN} ", 200), (f"Basic {TOKEN}", 401),
        (TOKEN, 401), (f"Bearer {TOKEN[:-1]}", 401), (f"Bearer {TOKEN}x", 401),
        ("Bearer \xe9", 401),
    ]:  # fmt: skip
        assert status_of(access, "/v1/models", {**LOCAL, "authorization": header}) == status
    assert status_of(access, "/v1/models", LOCAL) == 401
    assert status_of(access, "/metrics", LOCAL) == 401
    assert status_of(access, "/health", LOCAL) == status_of(access, "/", LOCAL) == 200


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    assert read_token(token_file(tmp_path, f"{TOKEN}\n")) == TOKEN
    with pytest.raises(InputError, match="other users"):
        read_token(token_file(tmp_path, TOKEN, 0o644))
    for text in ("short", f"{TOKEN} {TOKEN}", ""):
        with pytest.raises(UsageError, match="token must be"):
            read_token(token_file(tmp_path, text))
    with pytest.raises(InputError, match="cannot read"):
        read_token(tmp_path / "missing")


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--token-file"):
        access_of(Options(host="0.0.0.0"))
    open_to_all = access_of(Options(host="0.0.0.0", token_file=token_file(tmp_path, TOKEN)))
    headers = {"host": "board.lan:8080", "authorization": f"Bearer {TOKEN}"}
    assert status_of(open_to_all, "/v1/models", headers) == 200
    assert status_of(access_of(Options()), "/v1/models", {"host": "board.lan"}) == 421


def test_a_server_is_called_by_the_address_it_listens_on() -> None:
    access = access_of(Options(host="127.0.0.5"))
    assert status_of(access, "/v1/models", {"host": "127.0.0.5:8080"}) == 200
    assert status_of(access, "/v1/models", LOCAL) == 200
    assert status_of(access, "/v1/models", {"host": "127.0.0.6:8080"}) == 421


@pytest.mark.parametrize(
    ("header", "host"),
    [("localhost", "localhost"), ("LOCALHOST:80", "localhost"), ("[::1]:8", "::1"), ("", "")],
)
def test_the_name_in_a_host_header(header: str, host: str) -> None:
    assert host_of(header) == host


def test_addresses_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.1.2", "example.org", "")))


def test_models_are_named_after_their_folders(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "demo", tmp_path / "b" / "demo"
    assert names_of([one, tmp_path / "c"]) == {"demo": one, "c": tmp_path / "c"}
    with pytest.raises(UsageError, match="two bundles are called 'demo'"):
        names_of([one, two])


def test_conversations_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory("m", parameters=10**9, conversation=10**8, pictures=10**7)
    assert "4 conversations of 100.0 MB" in memory_text(memory, 4)
    monkeypatch.setattr("handglass.runtime.serve.plan.available_bytes", lambda: 2 * 10**9)
    check_memory([memory], 4)
    with pytest.raises(HandglassError, match="lower --conversations"):
        check_memory([memory], 5)


# --- fetching ---


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.4", "169.254.169.254", "0.0.0.0", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "100.64.0.1", "224.0.0.1",
     "2002:7f00:1::", "::"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert all(map(is_public, ("8.8.8.8", "2606:4700:4700::1111")))


class Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']} {self.path}".encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str, port: int, monkeypatch: pytest.MonkeyPatch, public: bool = True) -> bytes:
    """Fetch from the site as if it were pictures.example on the internet."""
    import socket

    connect = socket.create_connection
    redirected = lambda address, timeout: connect((address[0], port), timeout)  # noqa: E731
    monkeypatch.setattr(socket, "create_connection", redirected)
    resolve = lambda host, port: ["127.0.0.1"]  # noqa: E731
    return fetch(url, {"pictures.example"}, resolve, lambda address: public)


def test_an_allowed_host_is_fetched_by_its_name(site: int, monkeypatch: Any) -> None:
    data = get("http://pictures.example/a.png?b=c", site, monkeypatch)
    assert data == b"pictures.example /a.png?b=c"


def test_an_allowed_name_with_a_private_address_is_refused(site: int, monkeypatch: Any) -> None:
    with pytest.raises(Refusal, match="not public"):
        get("http://pictures.example/a.png", site, monkeypatch, public=False)


def test_redirects_are_not_followed(site: int, monkeypatch: Any) -> None:
    with pytest.raises(Refusal, match="302"):
        get("http://pictures.example/moved", site, monkeypatch)


@pytest.mark.parametrize(
    "url",
    ["http://other.example/", "http://pictures.example:22/", "ftp://pictures.example/",
     "http://user@pictures.example/", "http://pictures.example.evil/", "http://[::1]/",
     "http://pictures.example@127.0.0.1/", "http:///x", "http://pictures.example:x/"],
)  # fmt: skip
def test_urls_that_lead_elsewhere(url: str, site: int, monkeypatch: Any) -> None:
    with pytest.raises(Refusal):
        get(url, site, monkeypatch)


def test_nothing_is_fetched_without_a_list() -> None:
    with pytest.raises(Refusal, match="--allow-urls"):
        fetcher(())("http://pictures.example/a.png")
