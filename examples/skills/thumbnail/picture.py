"""Opening a stranger's picture: which formats, how large, and nothing unpacked before both fit."""

import io

from PIL import Image, UnidentifiedImageError

# A few kilobytes of PNG can unpack to gigabytes. 24 megapixels are a good camera's picture and
# at most 96 MB of memory. Pillow itself only warns at its limit, hence our own check as well.
MAX_PIXELS = 24_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# Decoders are where image libraries break: only those that a thumbnail needs are reachable.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def open_picture(content: bytes) -> Image.Image:
    """Only the header has been read; `ValueError` if the rest should not be."""
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the picture is too large: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(
            f"the picture has {picture.width} x {picture.height} pixels; "
            f"{MAX_PIXELS:,} in all are the limit"
        )
    return picture
