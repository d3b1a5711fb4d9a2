"""An answer is the JSON form of what a handler gave: an output, or the chunks of a stream."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from .failure import OutputRefused, faults_text


def output_json(model: type[BaseModel], returned: Any) -> bytes:
    """An instance of the skill's `Output`, or a dict that makes one; by field names."""
    try:
        if isinstance(returned, dict):
            returned = model.model_validate(returned)
        if isinstance(returned, model):
            return returned.model_dump_json(by_alias=False).encode()
    except ValidationError as error:
        raise OutputRefused(
            f"The returned dict is no {model.__name__}: {faults_text(error)}"
        ) from error
    except (PydanticSerializationError, ValueError) as error:
        raise OutputRefused(f"The output has no JSON form: {error}") from error
    raise OutputRefused(f"The handler returned {type(returned).__name__}, not {model.__name__}.")


def chunk_frame(n: int, chunk: Any) -> tuple[dict[str, Any], bytes]:
    """The frame, and its content: the chunk's JSON up to `cut`, then its text.

    Text alone (`cut` 0) needs no JSON from here: the host makes it.
    """
    if type(chunk) is str:
        return {"t": "chunk", "n": n, "cut": 0}, chunk.encode("utf-8", "replace")
    try:
        value = (
            chunk.model_dump_json(by_alias=False).encode()
            if isinstance(chunk, BaseModel)
            else to_json(chunk, inf_nan_mode="null", fallback=str)
        )
    except (PydanticSerializationError, ValueError) as error:
        raise OutputRefused(f"Chunk {n} has no JSON form: {error}") from error
    frame = {"t": "chunk", "n": n, "cut": len(value)}
    return frame, value + str(chunk).encode("utf-8", "replace")
