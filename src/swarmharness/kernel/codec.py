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


_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}  # one per message type


def decode(kind: type[T], data: bytes | memoryview) -> T:
    """A value of `kind`, or `MalformedMessage`: arbitrary bytes never raise anything else."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value: T = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"Bad {kind.__name__}: {error}") from None
    return value
