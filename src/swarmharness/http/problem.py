"""A problem is an error as HTTP says it: RFC 9457, with our code, blame, hint and data."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from swarmharness.kernel.errors import SwarmError

MEDIA_TYPE = "application/problem+json"


def problem(error: SwarmError) -> dict[str, Any]:
    """The members that every refusal has."""
    return {
        "type": f"urn:swarmharness:error:{error.code}",
        "title": _title(error.http_status),
        "status": error.http_status,
        "detail": error.sentence,
        "code": error.code,
        "blame": error.blame.value,
        "hint": error.hint,
        "data": error.data,
    }


def problem_response(error: SwarmError) -> Response:
    """The whole answer."""
    headers = {"Retry-After": "1"} if error.later else None
    return Response(
        msgspec.json.encode(problem(error)),
        status_code=error.http_status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"  # 499, which nginx made common and no RFC knows
