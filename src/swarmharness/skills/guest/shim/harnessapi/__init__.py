"""The three names that skill folders import from HarnessAPI, without its web server.

The real package costs a skill about 50 MB and half a second before its first line runs, for
routes and servers that nobody inside a sandbox can reach. A folder that imports any other name
gets the real package or a reason, never a mixture: the base classes must be the same objects
throughout.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from .models import SkillInput, SkillOutput

__all__ = ["SkillInput", "SkillOutput", "skill"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


def skill(
    name: str | None = None,
    *,
    description: str | None = None,  # noqa: ARG001  HarnessAPI's signature
    is_mcp: bool = True,  # noqa: ARG001  HarnessAPI's signature
    tags: list[str] | None = None,  # noqa: ARG001  HarnessAPI's signature
    timeout_secs: float | None = 30.0,  # noqa: ARG001  HarnessAPI's signature
    input_model: type[SkillInput] | None = None,
    output_model: type[SkillOutput] | None = None,
) -> Callable[[Handler], Handler]:
    """The function itself, unchanged: a folder is one skill, described by its own files.

    What HarnessAPI refuses at import (no models to be found) is refused here too.
    """

    def decorate(function: Handler) -> Handler:
        hints = getattr(function, "__annotations__", {})
        found_input = input_model or hints.get("input") or hints.get("return")
        found_output = output_model or hints.get("return")
        if found_input is None or found_output is None:
            shown = name or getattr(function, "__name__", "?")
            raise TypeError(
                f"@skill('{shown}'): give input_model and output_model, "
                "or annotate the function's input and return value"
            )
        return function

    return decorate
