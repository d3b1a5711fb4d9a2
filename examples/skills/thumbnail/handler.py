"""Scale a picture down to a thumbnail. Position and camera data are left behind."""

import base64
import io

from PIL import Image, ImageOps

from .models import Input, Output
from .picture import open_picture


async def handle(request: Input) -> Output:
    source = open_picture(base64.b64decode(request.image_base64))
    source_format = str(source.format).lower()
    # JPEG can decode at a half, quarter or eighth of its size: less memory, same thumbnail.
    source_size = source.size
    source.draft(None, (request.max_width * 2, request.max_height * 2))
    picture = ImageOps.exif_transpose(source)
    if picture.size != source.size:
        source_size = (source_size[1], source_size[0])
    picture = _with_plain_colours(picture, opaque=request.format == "jpeg")
    picture.thumbnail((request.max_width, request.max_height), Image.Resampling.LANCZOS)
    content = _encode(picture, request)
    return Output(
        image_base64=base64.b64encode(content).decode("ascii"),
        media_type=f"image/{request.format}",
        width=picture.width,
        height=picture.height,
        size_bytes=len(content),
        source_format=source_format,
        source_width=source_size[0],
        source_height=source_size[1],
    )


def _with_plain_colours(picture: Image.Image, *, opaque: bool) -> Image.Image:
    """Palettes and 16-bit grey scale badly; JPEG has no transparency, so white shows through."""
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    if not transparent:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    if not opaque:
        return picture
    page = Image.new("RGB", picture.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    return page


def _encode(picture: Image.Image, request: Input) -> bytes:
    buffer = io.BytesIO()
    if request.format == "png":
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, request.format.upper(), quality=request.quality)
    return buffer.getvalue()
