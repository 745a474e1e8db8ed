"""Decoding: every kind of picture comes out right, and hostile bytes give a verdict, never another exception."""

import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from tests.data import zoo

from bespoke.data import damage
from bespoke.data.inspect import dhash, facts
from bespoke.data.reading import Unreadable, _eight_bits, ending, pixel_hash, read

SRGB = ImageCms.createProfile("sRGB")


def noise(width=48, height=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def gradient(width=64, height=48):
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))


def refused(path: Path) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(path)
    return caught.value


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read(path).image).astype(int)


def test_plain_picture_is_read_exactly(tmp_path):
    path = tmp_path / "a.png"
    noise().save(path)
    reading = read(path)
    assert np.array_equal(np.asarray(reading.image), np.asarray(noise()))
    assert (reading.width, reading.height, reading.format, reading.notes) == (48, 40, "PNG", ())
    assert reading.pixels == pixel_hash(noise())


def test_pixel_hash_ignores_the_container_but_not_the_shape(tmp_path):
    for name in ("a.png", "a.bmp", "a.tif"):
        noise().save(tmp_path / name)
    readings = [read(tmp_path / name) for name in ("a.png", "a.bmp", "a.tif")]
    assert len({r.pixels for r in readings}) == 1
    assert len({r.sha256 for r in readings}) == 3
    assert pixel_hash(Image.new("RGB", (4, 2))) != pixel_hash(Image.new("RGB", (2, 4)))


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    values = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "I;16"
    got = pixels(tmp_path / "a.png")
    assert abs(got.mean() - values.mean() / 257) < 0.5
    assert np.abs(got[..., 0] - values / 257).max() <= 0.51
    assert "16 bits a channel brought to 8" in read(tmp_path / "a.png").notes


def test_sixteen_bits_take_little_memory():
    image = Image.fromarray(np.zeros((1000, 1000), dtype=np.uint16))
    tracemalloc.start()
    try:
        _eight_bits(image, [])
        assert tracemalloc.get_traced_memory()[1] < 12 * image.width * image.height
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side", range(1, 10))
def test_interlaced_pngs_of_every_small_size_are_whole(tmp_path, side):
    rows = zlib.compress(zoo._interlaced(np.asarray(noise(side, 5))))
    content = zoo._png(zoo._header(side, 5, interlaced=True), zoo._chunk(b"IDAT", rows))
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(noise(side, 5)))


def test_a_png_is_checked_piece_by_piece(tmp_path):
    noise(2000, 2000).save(tmp_path / "a.png", compress_level=0)
    with (tmp_path / "a.png").open("rb") as file, Image.open(file) as opened:
        tracemalloc.start()
        try:
            damage.check(opened, file)
            assert tracemalloc.get_traced_memory()[1] < 6 * damage.BLOCK
        finally:
            tracemalloc.stop()


def test_32_bit_integers_are_read_when_their_range_is_known(tmp_path):
    values = np.arange(64 * 64, dtype=np.int32).reshape(64, 64)
    Image.fromarray(values * 16).save(tmp_path / "sixteen.tif")
    Image.fromarray(values % 256).save(tmp_path / "eight.tif")
    Image.fromarray(values * 1000).save(tmp_path / "wide.tif")
    assert np.abs(pixels(tmp_path / "sixteen.tif")[..., 0] - values * 16 / 257).max() <= 0.51
    assert np.array_equal(pixels(tmp_path / "eight.tif")[..., 0], values % 256)
    assert "32-bit" in refused(tmp_path / "wide.tif").detail


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.ones((40, 40), dtype=np.float32)).save(tmp_path / "f.tif")
    assert "floating-point" in refused(tmp_path / "f.tif").detail


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_exif_orientation_gives_the_upright_picture(tmp_path, orientation, suffix):
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 32, 16))
    stored = {  # how a camera held that way stores the upright picture
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = upright
    for turn in stored:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    assert read(path).image.size == (64, 32)
    assert np.abs(pixels(path) - np.asarray(upright).astype(int)).max() <= 12
    assert ("turned as its EXIF says" in read(path).notes) == (orientation != 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (40, 40), (10, 10, 10, 0))
    image.paste((20, 20, 20, 255), (0, 0, 20, 40))
    image.convert(mode).save(tmp_path / "a.png")
    got = pixels(tmp_path / "a.png")
    assert (got[:, 20:] == 255).all()
    assert np.abs(got[:, :20] - 20).max() <= 3
    assert "transparency laid on white" in read(tmp_path / "a.png").notes


def test_half_transparency_is_mixed_and_opaque_alpha_leaves_no_note(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.abs(pixels(tmp_path / "half.png") - 127).max() <= 1
    Image.new("RGBA", (40, 40), (1, 2, 3, 255)).save(tmp_path / "full.png")
    assert read(tmp_path / "full.png").notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LAB"])
def test_other_modes_come_out_as_rgb(tmp_path, mode):
    white, path = Image.new("RGB", (40, 40), "white"), tmp_path / "a.tif"
    lab = ImageCms.profileToProfile(white, SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    (lab if mode == "LAB" else white.convert(mode)).save(path)
    assert read(path).image.mode == "RGB"
    assert (pixels(path) >= 253).all()


def test_colour_profile_is_brought_to_srgb_and_a_broken_one_ignored(tmp_path):
    grey = Image.new("L", (40, 40), 100)
    Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / "broken.png", icc_profile=b"no profile")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise().save(tmp_path / "srgb.png", icc_profile=srgb)
    grey.save(tmp_path / "misfit.png", icc_profile=srgb)
    assert (pixels(tmp_path / "broken.png") == [200, 30, 30]).all()
    assert "unusable colour profile ignored" in read(tmp_path / "broken.png").notes
    assert np.array_equal(pixels(tmp_path / "srgb.png"), np.asarray(noise()))
    assert read(tmp_path / "srgb.png").notes == ()
    assert (pixels(tmp_path / "misfit.png") == 100).all()


def test_another_colour_space_is_converted(tmp_path):
    # sRGB with its red and blue primaries exchanged: read as it says, red and blue change places.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for tag in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * tag
        name = bytes(profile[at : at + 4])
        if name in (b"rXYZ", b"bXYZ"):
            profile[at : at + 4] = b"bXYZ" if name == b"rXYZ" else b"rXYZ"
        if name == b"desc":
            start = int.from_bytes(profile[at + 4 : at + 8], "big")
            text = profile.find("sRGB".encode("utf-16-be"), start)
            profile[text : text + 8] = "swap".encode("utf-16-be")
    Image.new("RGB", (40, 40), (250, 10, 10)).save(tmp_path / "a.png", icc_profile=bytes(profile))
    red, _, blue = pixels(tmp_path / "a.png")[0, 0]
    assert red < 40 < 220 < blue
    assert any("to sRGB" in note for note in read(tmp_path / "a.png").notes)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (pixels(tmp_path / f"a.{suffix}") == [255, 0, 0]).all()
    assert "holds several frames or pages: the first is used" in read(tmp_path / f"a.{suffix}").notes


def test_a_wrong_ending_is_noted_and_mended(tmp_path):
    noise().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert ending("a.jpg", read(tmp_path / "a.jpg").format) == (".png", ("is a PNG file, whatever its name says",))
    assert ending("a.JPEG", "JPEG") == (".jpeg", ())


def test_a_truncated_jpeg_is_refused_though_verify_accepts_it(tmp_path):
    noise(200, 200).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.verify()
    assert refused(tmp_path / "a.jpg").reason == "unreadable"


@pytest.mark.parametrize(
    ("name", "content", "reason", "detail"),
    [
        ("a.png", b"", "unreadable", "the file is empty"),
        ("a.pdf", b"", "not a picture", "holds none of the formats"),
        ("a.jpg", b"hello", "unreadable", "named .jpg, but holds none of the formats"),
        ("a.jpg", b"\n <HTML lang=en>", "unreadable", "named .jpg, but holds a web page"),
        ("a.png", b"%PDF-1.4", "unreadable", "named .png, but holds a PDF document"),
        ("a.HEIC", b"hello", "unreadable", ".heic files are not read; save it as PNG or JPEG"),
        ("a.exe", b"MZ\x90", "not a picture", "holds none of the formats"),
    ],
)
def test_what_is_no_picture_gets_a_verdict(tmp_path, name, content, reason, detail):
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert error.reason == reason
    assert error.detail.startswith(detail)


def test_formats_off_the_list_are_not_decoded(tmp_path):
    noise().save(tmp_path / "a.ppm")
    assert refused(tmp_path / "a.ppm").reason == "not a picture"


def test_folders_are_no_pictures(tmp_path):
    assert refused(tmp_path).reason == "not a picture"


@pytest.mark.parametrize("side", [9_000, 10_000, 20_000])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, side, monkeypatch):
    """9,000² is below the size at which Pillow warns, 10,000² below the one at which it raises."""
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("was decoded"))
    assert refused(tmp_path / "a.png").detail == "more than 80 million pixels; make it smaller"


def samples():
    for suffix in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        buffer = io.BytesIO()
        noise(16, 16).save(buffer, suffix)
        yield buffer.getvalue()


SAMPLES = list(samples())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_whatever_let_another_exception_escape(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "hostile.png"
    path.write_bytes(bytes(content))
    try:
        reading = read(path)
    except Unreadable:
        return
    assert reading.image.mode == "RGB"


def test_memory_errors_escape(tmp_path, monkeypatch):
    noise().save(tmp_path / "a.png")

    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("bespoke.data.reading._rgb", exhausted)
    with pytest.raises(MemoryError):
        read(tmp_path / "a.png")


def test_dhash_sees_shapes_and_not_brightness():
    image = gradient()
    brighter = image.point(lambda value: value * 0.8)
    assert (dhash(image) ^ dhash(brighter)).bit_count() <= 2
    assert (dhash(image) ^ dhash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).bit_count() > 16
    assert dhash(Image.new("RGB", (64, 64), "red")) == 0
    assert 0 <= dhash(noise()) < 2**64


def test_facts_hold_no_picture(tmp_path):
    noise().save(tmp_path / "a.png")
    known = facts(read(tmp_path / "a.png"))
    assert known.thumbnail.shape == (16, 16, 3)
    assert not hasattr(known, "image")
