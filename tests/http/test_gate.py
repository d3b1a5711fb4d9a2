"""Who may call the control API: each line of defence on its own, and that nothing else passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from swarmharness.http import gate as gate_module
from swarmharness.http.gate import Gate
from swarmharness.http.problem import MEDIA_TYPE
from swarmharness.kernel.errors import SwarmError

TOKEN = "the-token-of-this-start"
HOST = "127.0.0.1:8642"
RIGHT = {"Host": HOST, "Authorization": f"Bearer {TOKEN}"}
JSON = {**RIGHT, "Content-Type": "application/json"}


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body's length; refusals on the way are the server's, as in the real app."""
    from swarmharness.http.problem import problem_response

    try:
        body = await Request(scope, receive).body()
    except SwarmError as error:
        await problem_response(error)(scope, receive, send)
        return
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def ask(
    method: str,
    path: str,
    headers: dict[str, str],
    content: Any = None,
    server: tuple[str, int | None] = ("127.0.0.1", 8642),
) -> httpx.Response:
    gate = Gate(reads_all, port=8642, token=TOKEN)

    async def by(scope: Any, receive: Any, send: Any) -> None:
        await gate({**scope, "server": server}, receive, send)

    transport = httpx.ASGITransport(app=by)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        request = client.build_request(method, path, headers=headers, content=content)
        return await client.send(request)


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == MEDIA_TYPE
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["hint"]
    assert TOKEN not in response.text
    code: str = problem["code"]
    return code


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8642", "localhost:8642", "[::1]:8642", "LOCALHOST:8642"]
)
async def test_the_right_token_passes_under_each_of_our_names(host: str):
    response = await ask("GET", "/api/v1/status", {**RIGHT, "Host": host})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8642", "127.0.0.1", "127.0.0.1:8643", "127.0.0.1.evil.example:8642", ""]
)
@pytest.mark.parametrize("path", ["/api/v1/status", "/healthz"])
async def test_a_rebound_name_is_refused(host: str, path: str):
    response = await ask("GET", path, {**RIGHT, "Host": host})
    assert (response.status_code, code_of(response)) == (421, "surfaces.host_refused")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://localhost:1",
        "https://127.0.0.1:8642",
        "file://",
    ],
)
async def test_a_page_of_another_origin_is_refused(origin: str):
    response = await ask("POST", "/api/v1/tasks", {**JSON, "Origin": origin}, b"{}")
    assert (response.status_code, code_of(response)) == (403, "surfaces.origin_refused")


async def test_our_own_origin_passes():
    own = {**JSON, "Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert (await ask("POST", "/api/v1/tasks", own, b"{}")).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
async def test_a_fetch_from_another_site_is_refused(site: str):
    response = await ask("GET", "/api/v1/status", {**RIGHT, "Sec-Fetch-Site": site})
    assert (response.status_code, code_of(response)) == (403, "surfaces.origin_refused")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
async def test_what_a_form_can_send_is_refused(kind: str):
    response = await ask("POST", "/api/v1/tasks", {**RIGHT, "Content-Type": kind}, b"{}")
    assert (response.status_code, code_of(response)) == (415, "surfaces.body_not_json")


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def test_a_chunked_form_is_refused_too():
    response = await ask("POST", "/", {**RIGHT, "Content-Type": "text/plain"}, chunks(1, 1))
    assert code_of(response) == "surfaces.body_not_json"


async def test_a_post_without_a_body_needs_no_type():
    assert (await ask("POST", "/api/v1/shutdown", RIGHT)).status_code == 200


async def test_a_declared_body_over_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate_module, "BODY_LIMIT", 1000)
    assert (await ask("POST", "/", JSON, b"x" * 1000)).text == "1000"
    response = await ask("POST", "/", JSON, b"x" * 1001)
    assert (response.status_code, code_of(response)) == (413, "surfaces.body_too_large")


async def test_a_chunked_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate_module, "BODY_LIMIT", 1000)
    assert (await ask("POST", "/", JSON, chunks(100, 10))).text == "1000"
    response = await ask("POST", "/", JSON, chunks(100, 11))
    assert (response.status_code, code_of(response)) == (413, "surfaces.body_too_large")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", TOKEN, f"bearer {TOKEN}", f"Basic {TOKEN}", "Bearer ü"],
)
async def test_no_token_no_entry(authorization: str | None):
    headers: dict[str, Any] = {"Host": HOST}
    if authorization is not None:
        headers["Authorization"] = authorization.encode("latin-1")
    response = await ask("GET", "/api/v1/status", headers)
    assert (response.status_code, code_of(response)) == (401, "surfaces.token_wrong")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(path: str):
    assert (await ask("GET", path, {"Host": HOST})).status_code == 200


async def test_health_is_open_by_its_exact_path_only():
    for path in ("/healthz/", "/healthz/../api/v1/status", "//healthz", "/api/v1/healthz"):
        assert code_of(await ask("GET", path, {"Host": HOST})) == "surfaces.token_wrong"


async def test_the_socket_file_needs_neither_host_nor_token():
    by_socket = ("/home/run/control.sock", None)
    response = await ask("GET", "/api/v1/status", {"Host": "node"}, server=by_socket)
    assert response.status_code == 200
    response = await ask("POST", "/", {"Content-Type": "text/plain"}, b"{}", server=by_socket)
    assert code_of(response) == "surfaces.body_not_json"
