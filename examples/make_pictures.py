"""Draw the pictures in `examples/data/pictures`; run it again to get the same ones.

    python examples/make_pictures.py [FOLDER]

They are computed from formulas, so nobody else holds rights in them.
"""

import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
SKY_TOP, SKY_LOW = (24, 42, 96), (250, 190, 130)


def hills() -> Image.Image:
    """An evening over four ranges of hills: a photograph's proportions and gradients."""
    width, height = 960, 640
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for y in range(height):
        share = min(1.0, y / (height * 0.75))
        colour = tuple(round(a + (b - a) * share) for a, b in zip(SKY_TOP, SKY_LOW, strict=True))
        draw.line([(0, y), (width, y)], fill=colour)
    draw.ellipse([620, 250, 730, 360], fill=(255, 236, 190))
    for layer in range(4):
        base = height * (0.55 + 0.11 * layer)
        outline = [
            (
                x,
                base
                + 46 * math.sin(x / (150 - 20 * layer) + 1.7 * layer)
                + 15 * math.sin(x / 37 + 4 * layer),
            )
            for x in range(0, width + 8, 8)
        ]
        shade = 110 - 28 * layer
        draw.polygon(
            [(0, height), *outline, (width, height)], fill=(shade // 2, shade, shade // 2 + 30)
        )
    return picture


def chart() -> Image.Image:
    """Bars on a transparent ground: flat colours and an alpha channel."""
    picture = Image.new("RGBA", (640, 400), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for index, value in enumerate((0.35, 0.6, 0.45, 0.8, 0.95, 0.7)):
        left = 50 + index * 95
        draw.rounded_rectangle(
            [left, 360 - 320 * value, left + 65, 360],
            radius=8,
            fill=(40 + 30 * index, 110, 220 - 25 * index, 235),
        )
    draw.line([(30, 360), (620, 360)], fill=(30, 30, 30, 255), width=3)
    return picture


def rings() -> Image.Image:
    """Fine rings in a palette of sixteen colours: the worst case of careless scaling."""
    size = 480
    picture = Image.new("P", (size, size))
    palette = [part for index in range(16) for part in (index * 16, 255 - index * 12, 140)]
    picture.putpalette(palette)
    picture.putdata(
        [
            int(8 + 7.9 * math.sin(math.hypot(x - size / 2, y - size / 2) / 5))
            for y in range(size)
            for x in range(size)
        ]
    )
    return picture


def sideways() -> Image.Image:
    """The hills as a telephone stores them: lying down, with a note to turn them."""
    return hills().resize((480, 320)).transpose(Image.Transpose.ROTATE_90)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "data" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    hills().save(folder / "hills.jpg", quality=88)
    chart().save(folder / "chart.png", optimize=True)
    rings().save(folder / "rings.gif")
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn a quarter clockwise to see it upright"
    sideways().save(folder / "sideways.jpg", quality=85, exif=turned)


if __name__ == "__main__":
    main()
