from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import zlib

from PIL import Image


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def decoded(output):
    content = base64.b64decode(output["image_base64"])
    assert len(content) == output["size_bytes"]
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.size == (output["width"], output["height"])
    return picture


def png_header(width, height):
    """A picture that claims a size and holds no pixels: what a bomb looks like at its start."""

    def part(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b"")
    return base64.b64encode(content).decode()


def test_every_picture_becomes_a_thumbnail(run_example, data):
    pictures = data / "pictures"
    done = run_example(
        "thumbnail",
        {"image_base64": encoded(pictures / "hills.jpg"), "format": "jpeg"},
        {"image_base64": encoded(pictures / "chart.png"), "max_width": 100, "max_height": 100},
        {"image_base64": encoded(pictures / "rings.gif"), "max_width": 64, "format": "webp"},
    )
    photo, chart, rings = (one["output"] for one in done)
    assert (photo["source_format"], photo["source_width"], photo["source_height"]) == (
        "jpeg",
        960,
        640,
    )
    assert decoded(photo).format == "JPEG"
    assert (photo["width"], photo["height"]) == (256, 171)
    # The sky is blue at the top and the hills are dark below.
    assert decoded(photo).getpixel((10, 2))[2] > 80
    assert sum(decoded(photo).getpixel((128, 168))) < 200
    assert decoded(chart).mode == "RGBA"
    assert decoded(chart).getpixel((1, 1))[3] == 0
    assert decoded(rings).format == "WEBP"
    assert decoded(rings).size == (64, 64)


def test_a_telephone_picture_is_turned_upright_and_loses_its_metadata(run_example, data):
    image = encoded(data / "pictures" / "sideways.jpg")
    [done] = run_example("thumbnail", {"image_base64": image, "format": "jpeg"})
    output = done["output"]
    assert (output["source_width"], output["source_height"]) == (480, 320)
    assert output["width"] > output["height"]
    assert not decoded(output).getexif()
    assert decoded(output).getpixel((10, 2))[2] > 80


def test_transparent_parts_turn_white_in_jpeg_and_small_pictures_are_not_enlarged(
    run_example, data
):
    image = encoded(data / "pictures" / "chart.png")
    [done] = run_example(
        "thumbnail",
        {"image_base64": image, "format": "jpeg", "max_width": 2048, "max_height": 2048},
    )
    assert (done["output"]["width"], done["output"]["height"]) == (640, 400)
    assert min(decoded(done["output"]).getpixel((2, 2))) > 250
    assert decoded(done["output"]).getpixel((80, 350))[0] < 100  # a bar shows


def test_bombs_and_non_pictures_are_refused_before_they_are_unpacked(run_example):
    tiff = io.BytesIO()
    Image.new("RGB", (8, 8)).save(tiff, "TIFF")
    done = run_example(
        "thumbnail",
        {"image_base64": png_header(6000, 4001)},
        {"image_base64": png_header(60_000, 60_000)},
        {"image_base64": base64.b64encode(b"no picture at all").decode()},
        # TIFF is a format that Pillow knows and this skill does not open.
        {"image_base64": base64.b64encode(tiff.getvalue()).decode()},
    )
    assert [one["refused"] for one in done] == [["image_base64"]] * 4
    reasons = [one["reasons"][0] for one in done]
    assert "24,000,000 in all are the limit" in reasons[0]
    assert "too large" in reasons[1]
    assert "not a picture" in reasons[2]
    assert "not a picture" in reasons[3]


def test_bad_input_is_refused_by_the_model(run_example, data):
    image = encoded(data / "pictures" / "chart.png")
    done = run_example(
        "thumbnail",
        {"image_base64": "not base64!"},
        {"image_base64": "abc"},
        {"image_base64": "A" * 3_500_004},
        {"image_base64": image, "max_width": 4096},
        {"image_base64": image, "format": "tiff"},
        {"image_base64": image, "quality": 100},
    )
    assert [one.get("refused") for one in done] == [
        ["image_base64"],
        ["image_base64"],
        ["image_base64"],
        ["max_width"],
        ["format"],
        ["quality"],
    ]


def test_the_pictures_are_what_the_committed_script_draws(data, tmp_path):
    script = data.parent / "make_pictures.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for name in ("chart.png", "rings.gif"):  # JPEG may differ between versions of its library
        with Image.open(data / "pictures" / name) as kept, Image.open(tmp_path / name) as drawn:
            assert kept.convert("RGBA").tobytes() == drawn.convert("RGBA").tobytes()
