"""Errors of requests to the local control API, before they reach the node."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class WrongHost(SwarmError):
    """The Host header names another machine: a page elsewhere may be rebinding a DNS name."""

    code = "surfaces.host_refused"
    blame = Blame.CALLER
    hint = "Call the control API as 127.0.0.1, [::1] or localhost with its port."
    http_status = 421


class WrongOrigin(SwarmError):
    """A web page of another origin sent this."""

    code = "surfaces.origin_refused"
    blame = Blame.CALLER
    hint = "Pages of other origins may not call the control API."
    http_status = 403
    exit_code = ExitCode.NOT_AUTHORISED


class NotJson(SwarmError):
    """The body is not declared as JSON."""

    code = "surfaces.body_not_json"
    blame = Blame.CALLER
    hint = "Send Content-Type: application/json."
    http_status = 415
    exit_code = ExitCode.USAGE


class BodyTooLarge(SwarmError):
    """The body is over the limit."""

    code = "surfaces.body_too_large"
    blame = Blame.CALLER
    hint = "Send less in one request."
    http_status = 413
    exit_code = ExitCode.USAGE


class TokenMissing(SwarmError):
    """No token, or not the right one."""

    code = "surfaces.token_wrong"
    blame = Blame.CALLER
    hint = "Send the content of run/control.token as a bearer token, or use the control socket."
    http_status = 401
    exit_code = ExitCode.NOT_AUTHORISED


class RequestMalformed(SwarmError):
    """The body is JSON, but not the request that this path takes."""

    code = "surfaces.request_malformed"
    blame = Blame.CALLER
    hint = "Compare the body with the documentation of this path."
    http_status = 400
    exit_code = ExitCode.USAGE


class NoSuchPath(SwarmError):
    """The control API has no such path."""

    code = "surfaces.path_unknown"
    blame = Blame.CALLER
    hint = "The paths begin with /api/v1/; the client may be newer than the node."
    http_status = 404
    exit_code = ExitCode.USAGE


class NoSuchMethod(SwarmError):
    """The path is there, but takes other methods."""

    code = "surfaces.method_not_allowed"
    blame = Blame.CALLER
    hint = "The Allow header names the methods that this path takes."
    http_status = 405
    exit_code = ExitCode.USAGE
