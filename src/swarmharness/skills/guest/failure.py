"""A failure is what a call tells instead of an output: a code of ours and a text of the skill's.

An exception's class and message go to the caller. Its traceback goes to standard error only,
which the owner of the node can read.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from typing import Any, Final

from pydantic import ValidationError

MESSAGE_LIMIT: Final = 2000  # characters of an exception's text that travel
_DETAIL_LIMIT: Final = 16  # validation faults listed; more help nobody
_DETAIL_DEPTH: Final = 16  # steps of the path to one fault
_DETAIL_TEXT: Final = 300  # characters of one fault


class OutputRefused(Exception):
    """The handler gave something that its own `Output` model or JSON cannot express."""


class HandlerEnded(Exception):
    """Carries an exception that event loops and futures would take for their own."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def failure(code: str, message: str) -> dict[str, Any]:
    """The error frame; a lone surrogate in the text becomes `?`."""
    text = message[:MESSAGE_LIMIT].encode("utf-8", "replace").decode()
    return {"t": "error", "code": code, "message": text}


def failure_of(error: BaseException) -> dict[str, Any]:
    """What the handler's exception means to the caller."""
    if isinstance(error, HandlerEnded):
        error = error.cause
    if isinstance(error, MemoryError):
        return failure("memory", "The handler ran out of memory.")
    if isinstance(error, OutputRefused):
        return failure("bad_output", str(error))
    with suppress(OSError):  # the owner's copy: a closed pipe must not change the answer
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    text = _text_of(error)
    name = type(error).__name__
    return failure("handler_error", f"{name}: {text}" if text else name)


def invalid_input(error: ValidationError) -> dict[str, Any]:
    """Where the input does not fit its schema; its values are not repeated."""
    frame = failure("invalid_input", f"The input does not fit: {faults_text(error)}")
    frame["detail"] = [
        {
            "loc": [
                part if isinstance(part, int) else part[:_DETAIL_TEXT]
                for part in fault["loc"][:_DETAIL_DEPTH]
            ],
            "msg": fault["msg"][:_DETAIL_TEXT],
            "type": fault["type"][:_DETAIL_TEXT],
        }
        for fault in _faults(error)[:_DETAIL_LIMIT]
    ]
    return frame


def faults_text(error: ValidationError) -> str:
    """The first fault, and how many more there are."""
    faults = _faults(error)
    where = ".".join(str(part) for part in faults[0]["loc"]) or "the whole"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {faults[0]['msg']}{more}"


def _faults(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an exception's own code may fail too
        return ""
