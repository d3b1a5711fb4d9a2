import base64
import binascii
from typing import Literal

from harnessapi import SkillInput, SkillOutput
from pydantic import Field, field_validator

from .picture import open_picture

MAX_ENCODED = 3_500_000  # characters of base64: 2.6 MB of picture, below a node's input limit


class Input(SkillInput):
    image_base64: str = Field(
        min_length=4, max_length=MAX_ENCODED, description="PNG, JPEG, WebP, GIF or BMP, in base64."
    )
    max_width: int = Field(256, ge=8, le=2048, description="Pixels; the proportions are kept.")
    max_height: int = Field(256, ge=8, le=2048, description="Pixels; the proportions are kept.")
    format: Literal["png", "jpeg", "webp"] = Field("png", description="Of the thumbnail.")
    quality: int = Field(85, ge=1, le=95, description="Of JPEG and WebP; PNG loses nothing.")

    @field_validator("image_base64")
    @classmethod
    def _is_a_picture(cls, value: str) -> str:
        """Refused here, a bad picture is the caller's fault and not the handler's failure."""
        compact = "".join(value.split())  # mail programs and `base64` break the lines
        try:
            content = base64.b64decode(compact, validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
        open_picture(content)
        return compact


class Output(SkillOutput):
    image_base64: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    source_format: str
    source_width: int
    source_height: int
