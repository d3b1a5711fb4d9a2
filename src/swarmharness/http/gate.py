"""The request gate decides, before anything else, whether a request may be looked at.

Theory of operation. The control API gives whoever may call it everything its owner may do, and it
listens on loopback where any web page in the owner's browser can send requests. So, in this order:
the Host must be one of ours (else DNS rebinding works), the Origin must be ours or absent and the
fetch must not come from another site (else any page can post), a body must be declared JSON (a
plain form post cannot do that), and the token must match. There are no cookies, which would be
sent along by the browser. The control socket is a file that only the owner can open: requests on
it need none of this, only the limit on bodies.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarmharness.http.errors import BodyTooLarge, NotJson, TokenMissing, WrongHost, WrongOrigin
from swarmharness.http.problem import problem_response
from swarmharness.kernel.errors import SwarmError

BODY_LIMIT = 24 * 1024 * 1024  # bytes; a skill's largest input as JSON, and the request around it
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOOPBACK_NAMES = ("127.0.0.1", "[::1]", "localhost")


@final
class Gate:
    """An ASGI layer around the control API of one port and one token."""

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self._app = app
        self._hosts = frozenset(f"{name}:{port}" for name in _LOOPBACK_NAMES)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)
        self._token = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        try:
            if not _came_by_socket(scope):
                self._check_sender(headers)
            if scope["method"] not in {"GET", "HEAD"}:
                _check_body(headers)
            if not _came_by_socket(scope) and scope["path"] not in OPEN_PATHS:
                self._check_token(headers)
        except SwarmError as error:
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)

    def _check_sender(self, headers: Mapping[str, bytes]) -> None:
        host = headers.get("host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            raise WrongHost(f"“{host[:100]}” is not this node.")
        origin = headers.get("origin")
        if origin is not None and origin.decode("latin-1") not in self._origins:
            raise WrongOrigin(f"The origin “{origin.decode('latin-1')[:100]}” is not this node.")
        site = headers.get("sec-fetch-site")
        if site is not None and site not in {b"same-origin", b"none"}:
            raise WrongOrigin("The request comes from a page of another site.")

    def _check_token(self, headers: Mapping[str, bytes]) -> None:
        if not hmac.compare_digest(headers.get("authorization", b""), self._token):
            raise TokenMissing("The request has no valid token.")


def _came_by_socket(scope: Scope) -> bool:
    """Uvicorn names a Unix socket by its path, with no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _check_body(headers: Mapping[str, bytes]) -> None:
    kind = headers.get("content-type", b"").split(b";")[0].strip().lower()
    has_body = headers.get("content-length", b"0") != b"0" or "transfer-encoding" in headers
    if has_body and kind != b"application/json":
        raise NotJson(f"A body of type “{kind.decode('latin-1')[:80]}” was sent.")
    try:
        length = int(headers.get("content-length", b"0"))
    except ValueError:
        length = 0  # the server has refused it already, or counts the body itself
    if length > BODY_LIMIT:
        raise _too_large()


def _limited(receive: Receive) -> Receive:
    """Counts what arrives: the declared length may be absent."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT:
                raise _too_large()
        return message

    return counted


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {BODY_LIMIT} bytes.")
