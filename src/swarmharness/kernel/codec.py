"""The codec turns message structs into msgpack bytes and back, blaming the sender for bad bytes."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from swarmharness.kernel.errors import MalformedMessage

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(message: Any) -> bytes:
    """Messages are `array_like` structs: field order is the wire format."""
    return _encoder.encode(message)


_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}  # one per message type


def decode(kind: type[T], data: bytes | memoryview) -> T:
    """A value of `kind`, or `MalformedMessage`: arbitrary bytes never raise anything else."""
    value: T = decode_union(kind, data)
    return value


def decode_union(kind: Any, data: bytes | memoryview) -> Any:
    """The same for a union of tagged messages, which is no `type` and needs a cast."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = getattr(kind, "__name__", "message")
        raise MalformedMessage(f"Bad {name}: {error}") from None
