"""Hostile and odd files drawn one by one into a folder, each with what should become of it in an import.

An expectation says what is right for the person whose files they are, not what the import happens to do.
"""

import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

KEPT, SKIPPED = "kept", "skipped"
"""The fates that are no reason: a picture of the dataset, and a file that is not counted."""
UNREADABLE, NO_PICTURE, NO_CAPTION, SMALL, BLANK, MISSING, DUPLICATE = (
    "unreadable", "not a picture", "no caption", "too small", "blank", "missing file", "duplicate",
)  # fmt: skip
WHOLE_OR_NOTHING = (KEPT, UNREADABLE)
"""Where all pixels may be had or the file refused, but where other pixels may never come in."""
LOSSY = 12.0
"""Levels of 255 by which an 8×8 block may differ after lossy compression; a block that was lost differs by more."""
COLOUR, INDEXED, GREY_ALPHA, COLOUR_ALPHA = 2, 3, 4, 6
"""PNG's colour types."""
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@dataclass(frozen=True)
class Expectation:
    """What should become of one file."""

    fates: tuple[str, ...]
    """`KEPT`, `SKIPPED` or a reason; several where each is right."""
    note: str = ""
    """Part of a note that it carries when it is kept."""
    detail: str = ""
    """Part of the detail that it carries when it is set aside."""
    text: str = ""
    """The caption that it has when it is kept."""
    shows: Image.Image | None = None
    """What it shows when it is kept."""
    near: float = 0.0
    """Levels of 255 by which each 8×8 block may differ from that on average."""


def build(folder: Path) -> dict[str, Expectation]:
    """The zoo in a new folder: its animals by their name below it, as an import spells it."""
    zoo = _Zoo(folder)
    for draw in (_whole, _cut, _damaged, _bombs, _disguised, _modes, _frames, _metadata, _foreign, _captions, _tables):
        draw(zoo)
    for draw in (_names, _litter):
        draw(zoo)
    if os.name == "posix":
        for draw in (_links, _things, _posix_names):
            draw(zoo)
    return zoo.animals


def picture(name: str, width: int = 48, height: int = 48) -> Image.Image:
    """A picture that looks unlike that of any other name."""
    small = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape"))).integers(0, 256, (6, 6, 3))
    return Image.fromarray(small.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a picture in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def whole_files() -> dict[str, bytes]:
    """A sound file of each kind of compression that is read, by its name."""
    kinds: dict[str, tuple[str, str, dict[str, object]]] = {
        "baseline.jpg": ("RGB", "JPEG", {"quality": 90}),
        "progressive.jpg": ("RGB", "JPEG", {"progressive": True}),
        "restarts.jpg": ("RGB", "JPEG", {"restart_marker_rows": 1}),
        "cmyk.jpg": ("CMYK", "JPEG", {}),
        "colour.png": ("RGB", "PNG", {}),
        "palette.png": ("P", "PNG", {}),
        "stored.png": ("RGB", "PNG", {"compress_level": 0}),
        "lossy.webp": ("RGB", "WEBP", {}),
        "lossless.webp": ("RGB", "WEBP", {"lossless": True}),
        "plain.gif": ("P", "GIF", {"interlace": 0}),
        "interlaced.gif": ("P", "GIF", {"interlace": 1}),
        "animated.gif": ("P", "GIF", {"save_all": True, "append_images": [picture("another frame", 96, 96)]}),
        "raw.tif": ("RGB", "TIFF", {}),
        "lzw.tif": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        "deflate.tif": ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
        "packbits.tif": ("RGB", "TIFF", {"compression": "packbits"}),
        "jpeg.tif": ("RGB", "TIFF", {"compression": "jpeg"}),
        "fax.tif": ("1", "TIFF", {"compression": "group4"}),
        "colour.bmp": ("RGB", "BMP", {}),
        "palette.bmp": ("P", "BMP", {}),
    }
    pictures = {name: picture(f"sound {name}", 96, 96) for name in kinds}
    return {
        name: encoded(pictures[name].convert(mode), form, **options) for name, (mode, form, options) in kinds.items()
    }


class _Zoo:
    """The folder and what was drawn into it so far."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.animals: dict[str, Expectation] = {}

    def put(
        self,
        name: str,
        content: bytes,
        *fates: str,
        shows: Image.Image | None = None,
        near: float = 0.0,
        note: str = "",
        detail: str = "",
        beside: Mapping[str, bytes] | None = None,
        text: str = "",
    ) -> Path:
        """Writes one file, and beside it a text file with a caption of its own or, instead, the files `beside`."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if beside is None:
            text = f"animal number {len(self.animals)}"
            beside = {path.with_suffix(".txt").name: text.encode()}
        for other, said in beside.items():
            assert not (path.parent / other).exists(), f"{other} serves two pictures"
            (path.parent / other).write_bytes(said)
        self.expect(name, *fates, shows=shows, near=near, note=note, detail=detail, text=text)
        return path

    def expect(self, name: str, *fates: str, **more: str | float | Image.Image | None) -> None:
        """Notes what should become of a file."""
        printed = name.encode("utf-8", "backslashreplace").decode()
        assert printed not in self.animals, printed
        self.animals[printed] = Expectation(fates or (KEPT,), **more)

    def lossless(self, name: str, image: Image.Image, form: str = "PNG", note: str = "", **options: object) -> Path:
        """Writes a picture that must be kept as it is."""
        return self.put(name, encoded(image, form, **options), shows=image.convert("RGB"), note=note)


def _whole(zoo: _Zoo) -> None:
    for form in ("PNG", "BMP", "TIFF"):
        zoo.lossless(f"whole-{form}.{form.lower()}", picture(form), form)
    zoo.lossless("lossless.webp", picture("lossless"), "WEBP", lossless=True)
    for form, suffix in (("JPEG", "jpg"), ("WEBP", "webp")):
        image = picture(form)
        zoo.put(f"whole-{form}.{suffix}", encoded(image, form, quality=95), shows=image, near=LOSSY)
    indexed = picture("GIF").convert("P")
    zoo.put("whole-GIF.gif", encoded(indexed, "GIF"), shows=indexed.convert("RGB"))


def _cut(zoo: _Zoo) -> None:
    for suffix, form, header in (("jpg", "JPEG", b"\xff\xda"), ("png", "PNG", b"IDAT")):
        points: dict[str, float] = {"0": 0, "2-bytes": 2, "20-bytes": 20, "at-pixels": -1, "25%": 0.25, "50%": 0.5}
        points |= {"75%": 0.75, "90%": 0.9, "95%": 0.95, "99%": 0.99}
        for label, point in points.items():
            name = f"cut/{form}-{label}.{suffix}"
            content = encoded(picture(name), form, **({"quality": 95} if form == "JPEG" else {}))
            length = content.index(header) if point == -1 else int(point if point >= 2 else point * len(content))
            detail = "the file is empty" if not length else ""
            zoo.put(name, content[:length], UNREADABLE, detail=detail)
    image = picture("no end")
    content = encoded(image, "JPEG")
    zoo.put("cut/before-EOI.jpg", content[:-2], *WHOLE_OR_NOTHING, shows=_decoded(content))
    content = encoded(image := picture("no end either"), "PNG")
    zoo.put("cut/before-IEND.png", content[:-12], *WHOLE_OR_NOTHING, shows=image)
    content = encoded(image := picture("no checksum"), "PNG")
    zoo.put("cut/before-checksum.png", content[:-16], *WHOLE_OR_NOTHING, shows=image)
    for name, trash in (("zeros", bytes(4096)), ("page", b"<html></html>"), ("zip", b"PK\x03\x04" + bytes(60))):
        image = picture(f"{name} behind")
        content = encoded(image, "JPEG", quality=95)
        zoo.put(f"cut/{name}-behind.jpg", content + trash, shows=image, near=LOSSY)
    zoo.put("cut/page-behind-it.png", encoded(image := picture("page"), "PNG") + b"<html></html>", shows=image)


def _damaged(zoo: _Zoo) -> None:
    """Files that open well and whose pixels are not all there or not what was saved, with sound ones drawn likewise."""
    _damaged_png(zoo)
    _damaged_jpeg(zoo)
    _damaged_tiff(zoo)
    _damaged_gif_webp_and_bmp(zoo)


def _damaged_png(zoo: _Zoo) -> None:
    def rows(name: str) -> bytes:
        return _rows(np.asarray(picture(name)))

    header = _header(48, 48)
    stored = encoded(picture("damaged"), "PNG", compress_level=0)
    middle = len(stored) // 2
    end = stored.index(b"IEND") - 8
    zoo.put("damaged/wrong-checksum.png", stored[:end] + b"\0\0\0\0" + stored[end + 4 :], UNREADABLE)
    zoo.put("damaged/changed-pixels.png", stored[:middle] + bytes(30) + stored[middle + 30 :], UNREADABLE)
    zoo.put("damaged/chunk-renamed.png", encoded(picture("renamed"), "PNG").replace(b"IDAT", b"IDAX"), UNREADABLE)
    packed = zlib.compress(rows("stream"))
    torn = packed[:300] + bytes(200) + packed[500:]
    zoo.put("damaged/broken-stream.png", _png(header, _chunk(b"IDAT", torn)), UNREADABLE)
    zoo.put("damaged/no-stream.png", _png(header, _chunk(b"IDAT", b"\0" * 400)), UNREADABLE)
    zoo.put("damaged/no-IDAT.png", _png(header), UNREADABLE)
    zoo.put("damaged/empty-IDAT.png", _png(header, _chunk(b"IDAT", b"")), UNREADABLE)
    for part in (10, 40):  # all checksums are right, and yet the lower rows are not there
        short = zlib.compress(rows(f"{part} rows")[: part * (1 + 48 * 3)])
        zoo.put(f"damaged/{part}-of-48-rows.png", _png(header, _chunk(b"IDAT", short)), UNREADABLE)
    strange = b"".join(b"\x09" + bytes(row) for row in np.asarray(picture("strange filter")).reshape(48, -1))
    zoo.put("damaged/no-such-filter.png", _png(header, _chunk(b"IDAT", zlib.compress(strange))), UNREADABLE)
    long = zlib.compress(rows("long") + bytes(1 << 23))
    zoo.put("damaged/megabytes-too-many.png", _png(header, _chunk(b"IDAT", long)), UNREADABLE)
    zoo.put("damaged/no-pixels-side.png", _png(_header(0, 48), _chunk(b"IDAT", zlib.compress(b""))), UNREADABLE)
    grey = _rows(np.asarray(picture("no palette").convert("L"))[..., None])
    bare = _png(_header(48, 48, kind=INDEXED), _chunk(b"IDAT", zlib.compress(grey)))
    zoo.put("damaged/no-palette.png", bare, UNREADABLE)
    apple = _png(_chunk(b"CgBI", b"\x50\0\x20\x02"), header, _chunk(b"IDAT", zlib.compress(rows("apple"))[2:-4]))
    zoo.put("damaged/apple-CgBI.png", apple, UNREADABLE)
    image = picture("many chunks")
    packed = zlib.compress(_rows(np.asarray(image)))
    pieces = (_chunk(b"IDAT", packed[at : at + 7]) for at in range(0, len(packed), 7))
    zoo.put("damaged/sound-many-chunks.png", _png(header, *pieces), shows=image)
    image = picture("interlaced")
    content = _png(_header(48, 48, interlaced=True), _chunk(b"IDAT", zlib.compress(_interlaced(np.asarray(image)))))
    zoo.put("damaged/sound-interlaced.png", content, shows=image)
    short = zlib.compress(_interlaced(np.asarray(picture("half interlaced")))[:2000])
    zoo.put("damaged/interlaced-half.png", _png(_header(48, 48, interlaced=True), _chunk(b"IDAT", short)), UNREADABLE)


def _damaged_jpeg(zoo: _Zoo) -> None:
    def content(name: str, **options: object) -> bytes:
        return encoded(picture(name, 96, 96), "JPEG", quality=95, **options)

    for part in (30, 60, 90):  # what a download that broke off leaves once a program has "mended" its end
        for kind in ("baseline", "progressive"):
            whole = content(f"{kind} {part}", progressive=kind == "progressive")
            start = whole.index(b"\xff\xda")
            cut = start + (len(whole) - start) * part // 100
            zoo.put(f"damaged/{kind}-{part}%-and-EOI.jpg", whole[:cut] + b"\xff\xd9", UNREADABLE)
    whole = content("zeros")
    middle = len(whole) * 2 // 3
    zoo.put("damaged/zeros-inside.jpg", whole[:middle] + bytes(400) + whole[middle + 400 :], UNREADABLE)
    whole = content("removed")
    zoo.put("damaged/piece-removed.jpg", whole[:middle] + whole[middle + 300 :], UNREADABLE)
    whole = content("higher")
    at = whole.index(b"\xff\xc0") + 5
    zoo.put("damaged/taller-than-it-is.jpg", whole[:at] + struct.pack(">H", 192) + whole[at + 2 :], UNREADABLE)
    zoo.put("damaged/no-height.jpg", whole[:at] + struct.pack(">H", 0) + whole[at + 2 :], UNREADABLE)
    start = whole.index(b"\xff\xda")
    zoo.put("damaged/no-scan.jpg", whole[:start] + b"\xff\xd9", UNREADABLE)
    bare = whole.replace(b"\xff\xc4", b"\xff\xfe")  # as cameras' films are: the usual tables are meant
    zoo.put("damaged/no-huffman-tables.jpg", bare, *WHOLE_OR_NOTHING, shows=_decoded(whole))
    zoo.put("damaged/endless-segment.jpg", b"\xff\xd8\xff\xe1\xff\xff" + whole[2:200], UNREADABLE)
    zoo.put("damaged/only-markers.jpg", b"\xff\xd8" + b"\xff\xe0\0\2" * 5000 + b"\xff\xd9", UNREADABLE)


def _damaged_tiff(zoo: _Zoo) -> None:
    image = picture("rows missing")
    raw = np.asarray(image).tobytes()
    zoo.put("damaged/24-of-48-rows.tif", _tiff(raw[: len(raw) // 2], _tags(48, 48) | {278: _long(24)}), UNREADABLE)
    halves = {278: _long(24), 284: _short(2), 273: (4, 3, struct.pack("<3I", 8, 1160, 2312))}
    zoo.put("damaged/3-of-6-strips.tif", _tiff(raw, _tags(48, 48) | halves), UNREADABLE)
    zoo.put("damaged/strip-beyond-end.tif", _tiff(raw, _tags(48, 48) | {273: _long(1 << 30)}), UNREADABLE)
    zoo.put("damaged/no-strips.tif", _tiff(raw, {k: v for k, v in _tags(48, 48).items() if k != 273}), UNREADABLE)
    zoo.put("damaged/no-tags.tif", _tiff(raw, {}), UNREADABLE)
    zoo.put("damaged/pages-in-a-loop.tif", _tiff(raw, _tags(48, 48), loop=True), *WHOLE_OR_NOTHING, shows=image)
    absurd = {305: (2, 0xFFFF_FFFF, struct.pack("<I", 8))}
    image = picture("absurd count")
    raw = np.asarray(image).tobytes()
    zoo.put("damaged/absurd-tag-count.tif", _tiff(raw, _tags(48, 48) | absurd), *WHOLE_OR_NOTHING, shows=image)
    absurd = {273: (4, 0x7FFF_FFFF, struct.pack("<I", 8))}
    zoo.put("damaged/absurd-strip-count.tif", _tiff(raw, _tags(48, 48) | absurd), UNREADABLE)
    image = picture("absurd number")
    whole = _tiff(np.asarray(image).tobytes(), _tags(48, 48))
    directory = struct.unpack("<I", whole[4:8])[0]
    many = whole[:directory] + b"\xff\xff" + whole[directory + 2 :]
    zoo.put("damaged/absurd-number-of-tags.tif", many, *WHOLE_OR_NOTHING, shows=image)
    zoo.put("damaged/directory-beyond-end.tif", whole[:4] + struct.pack("<I", 1 << 31) + whole[8:], UNREADABLE)
    zoo.put("damaged/directory-in-header.tif", whole[:4] + struct.pack("<I", 0) + whole[8:], UNREADABLE)
    wide = _tags(48, 48) | {277: _short(5), 258: (3, 5, struct.pack("<5H", 8, 8, 8, 8, 8))}
    zoo.put("damaged/five-channels.tif", _tiff(bytes(48 * 48 * 5), wide), UNREADABLE)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        name = f"damaged/short-strip-{compression}.tif"
        zoo.put(name, _strips_halved(encoded(picture(name, 96, 96), "TIFF", compression=compression)), UNREADABLE)


def _damaged_gif_webp_and_bmp(zoo: _Zoo) -> None:
    zoo.put("damaged/no-frames.gif", b"GIF89a" + struct.pack("<HHBBB", 48, 48, 0, 0, 0) + b";", UNREADABLE)
    zoo.put("damaged/ends-early.gif", _gif(48, 48, 500), UNREADABLE)
    zoo.put("damaged/no-pixels-at-all.gif", _gif(48, 48, 0), UNREADABLE)
    levels = Image.fromarray((np.arange(48 * 48, dtype=np.int64) * 7 % 251).reshape(48, 48).astype(np.uint8))
    zoo.put("damaged/sound-by-hand.gif", _gif(48, 48, 48 * 48), shows=levels.convert("RGB"))
    webp = encoded(picture("webp", 96, 96), "WEBP", lossless=True)
    zoo.put("damaged/zeros-inside-webp.webp", webp[:40] + bytes(2000) + webp[2040:], UNREADABLE)
    zoo.put("damaged/no-chunks.webp", b"RIFF" + struct.pack("<I", 4) + b"WEBP", UNREADABLE)
    zoo.put("damaged/absurd-length.webp", webp[:16] + b"\xff\xff\xff\x7f" + webp[20:], UNREADABLE)
    image = picture("bmp")
    bmp = bytearray(encoded(image, "BMP"))
    bmp[10:14] = struct.pack("<I", 1 << 30)
    zoo.put("damaged/pixels-beyond-end.bmp", bytes(bmp), UNREADABLE)
    zoo.put("damaged/absurd-header.bmp", b"BM" + b"\xff" * 60, UNREADABLE)
    zoo.put("damaged/header-only.bmp", encoded(image, "BMP")[:54], UNREADABLE)
    upside_down = bytearray(encoded(image := picture("top down"), "BMP"))
    upside_down[22:26] = struct.pack("<i", -48)
    flipped = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    zoo.put("damaged/sound-top-down.bmp", bytes(upside_down), shows=flipped)
    levels = np.asarray(picture("rle").convert("L"))
    zoo.put("damaged/sound-rle.bmp", _rle_bmp(levels, 48), shows=Image.fromarray(levels).convert("RGB"))
    zoo.put("damaged/rle-half.bmp", _rle_bmp(np.asarray(picture("rle half").convert("L")), 24), UNREADABLE)


def _bombs(zoo: _Zoo) -> None:
    large = "million pixels"

    def declared(width: int, height: int) -> bytes:
        return _png(_header(width, height), _chunk(b"IDAT", zlib.compress(b"\0" * 4096)))

    zoo.put("bombs/900-megapixels-declared.png", declared(30_000, 30_000), UNREADABLE, detail=large)
    zoo.put("bombs/sides-of-2-billion.png", declared(0x7FFF_FFFF, 0x7FFF_FFFF), UNREADABLE)
    rows = zlib.compress(bytes(9_000 * (1 + 13_000 // 8)), 1)
    bits = _png(_header(13_000, 9_000, depth=1, kind=0), _chunk(b"IDAT", rows))
    zoo.put("bombs/117-megapixels.png", bits, UNREADABLE, detail=large)
    screen = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x08\x02\0\1\0;"
    zoo.put("bombs/screen.gif", screen + frame, UNREADABLE, detail=large)
    zoo.put("bombs/tags.tif", _tiff(b"\0", _tags(100_000, 100_000)), UNREADABLE, detail=large)
    zoo.put("bombs/solid.webp", _solid_webp(16_383, 16_383), UNREADABLE, detail=large)
    small = _solid_webp(48, 48)
    zoo.put("bombs/harmless-solid.webp", small, KEPT, BLANK, shows=Image.new("RGB", (48, 48), (30, 200, 90)))
    header = bytearray(encoded(picture("bmp bomb"), "BMP")[:60])
    header[18:26] = struct.pack("<ii", 40_000, 40_000)
    zoo.put("bombs/header-bmp.bmp", bytes(header), UNREADABLE, detail=large)
    jpeg = encoded(picture("jpeg bomb"), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    zoo.put(
        "bombs/header-jpeg.jpg",
        jpeg[:at] + struct.pack(">HH", 65_000, 65_000) + jpeg[at + 4 :],
        UNREADABLE,
        detail=large,
    )
    # Not the pixels but the words beside them grow a thousandfold: refusing or skipping those is right, unpacking not.
    bomb = zlib.compress(bytes(1 << 25), 9)
    for kind, head in (("zTXt", b"a\0\0"), ("iTXt", b"a\0\1\0\0\0"), ("iCCP", b"a\0\0")):
        image = picture(f"{kind} bomb")
        chunk = _chunk(kind.encode(), head + bomb)
        zoo.put(f"bombs/{kind}.png", _with_chunk(encoded(image, "PNG"), chunk), *WHOLE_OR_NOTHING, shows=image)
    image = picture("workflow")
    workflow = _chunk(b"tEXt", b"workflow\0" + b'{"nodes": 1}' * 200_000)
    zoo.put("bombs/harmless-a-long-workflow.png", _with_chunk(encoded(image, "PNG"), workflow), shows=image)


def _disguised(zoo: _Zoo) -> None:
    zoo.put("disguised/random.jpg", np.random.default_rng(0).bytes(5000), UNREADABLE, detail="named .jpg")
    zoo.put("disguised/random-2.bin", np.random.default_rng(1).bytes(5000), NO_PICTURE)
    zoo.put("disguised/text.png", b"This is no picture.\n", UNREADABLE, detail="named .png")
    zoo.put("disguised/page.jpg", b"<!DOCTYPE html><title>403 Forbidden</title>", UNREADABLE, detail="holds a web page")
    zoo.put("disguised/script.gif", b"GIF89a=0;alert(1);//", UNREADABLE)
    zoo.put("disguised/program.png", b"MZ\x90\0" + bytes(500), UNREADABLE)
    zoo.put("disguised/archive.jpg", b"PK\x03\x04" + bytes(60), UNREADABLE)
    zoo.put("disguised/git-lfs.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", UNREADABLE)
    zoo.put("disguised/empty-1.png", b"", UNREADABLE, detail="the file is empty")
    zoo.put("disguised/empty-2.jpg", b"", UNREADABLE, detail="the file is empty")
    zoo.put("disguised/empty", b"", NO_PICTURE)
    zoo.put("disguised/zeros.tif", bytes(10_000), UNREADABLE)
    for name, form in (
        ("a-jpeg.png", "JPEG"), ("a-png.jpg", "PNG"), ("a-webp.jpg", "WEBP"), ("not-a.heic", "PNG"),
        ("a-bmp.gif", "BMP"), ("no-suffix", "PNG"), ("double.png.jpg", "PNG"), ("double.tar.gz", "TIFF"),
        ("a-program.exe", "JPEG"),
    ):  # fmt: skip
        image = picture(name)
        content, near = encoded(image, form), LOSSY * (form in ("JPEG", "WEBP"))
        note = f"is a {form} file, whatever its name says" if "." in name else ""
        zoo.put(f"disguised/{name}", content, shows=image, near=near, note=note)
    for name, form in (("UPPER.PNG", "PNG"), ("Mixed.TiFf", "TIFF"), ("double.jpg.png", "PNG"), ("dots...png", "PNG")):
        zoo.lossless(f"disguised/{name}", picture(name), form)
    zoo.put("disguised/ppm.ppm", encoded(picture("ppm"), "PPM"), NO_PICTURE)
    zoo.put("disguised/a-ppm.png", encoded(picture("ppm too"), "PPM"), UNREADABLE)
    (zoo.folder / "disguised/folder.png").mkdir()
    (zoo.folder / "disguised/empty folder.jpg").mkdir()
    zoo.lossless("disguised/folder.png/within.png", picture("within"))


def _modes(zoo: _Zoo) -> None:
    for width, height in ((1, 1), (31, 400), (1, 5000), (30_000, 2)):
        image = Image.effect_noise((width, height), 50)
        zoo.put(f"modes/sides-{width}x{height}.png", encoded(image, "PNG"), SMALL, detail=f"{width}×{height}")
    zoo.put("modes/one-pixel.jpg", encoded(Image.new("RGB", (1, 1)), "JPEG"), SMALL)
    _deep_modes(zoo)
    _transparent_modes(zoo)
    for mode in ("1", "L", "P"):
        for suffix in ("png", "bmp", "tif"):
            image = picture(f"{mode}.{suffix}").convert(mode)
            content = encoded(image, {"tif": "TIFF"}.get(suffix, suffix.upper()))
            zoo.put(f"modes/mode-{mode}-{suffix}.{suffix}", content, shows=image.convert("RGB"))
    for colours, name in ((2, "two"), (4, "four"), (16, "sixteen")):
        image = picture(f"{name} colours").quantize(colours)
        zoo.put(f"modes/{name}-colours.png", encoded(image, "PNG"), shows=image.convert("RGB"))
    image = picture("cmyk.jpg")
    note = "CMYK brought to RGB"
    cmyk = encoded(image.convert("CMYK"), "JPEG", quality=95)
    zoo.put("modes/cmyk-jpeg.jpg", cmyk, shows=image, near=LOSSY, note=note)
    image = picture("ycck.jpg")
    zoo.put("modes/ycck.jpg", _ycck(image), shows=image, near=LOSSY, note=note)
    image = picture("cmyk.tif")
    zoo.put("modes/cmyk-tiff.tif", encoded(image.convert("CMYK"), "TIFF"), shows=image, note=note)
    image = picture("ycbcr.tif")
    content = encoded(image.convert("YCbCr"), "TIFF")
    zoo.put("modes/ycbcr.tif", content, *WHOLE_OR_NOTHING, shows=image, near=LOSSY)
    image = picture("white is zero").convert("L")
    tags = _tags(48, 48) | {258: _short(8), 262: _short(0), 277: _short(1), 279: _long(48 * 48)}
    zoo.put("modes/white-is-zero.tif", _tiff((255 - np.asarray(image)).tobytes(), tags), shows=image.convert("RGB"))
    image = picture("white is zero, 16 bits").convert("L")
    tags |= {258: _short(16), 279: _long(48 * 48 * 2)}
    values = (255 - np.asarray(image).astype("<u2")) * 257
    zoo.put("modes/white-is-zero-16.tif", _tiff(values.tobytes(), tags), *WHOLE_OR_NOTHING, shows=image.convert("RGB"))
    image = picture("planes")
    tags = _tags(48, 48) | {284: _short(2), 273: (4, 3, struct.pack("<3I", 8, 8 + 2304, 8 + 4608))}
    tags |= {279: (4, 3, struct.pack("<3I", 2304, 2304, 2304))}
    zoo.put("modes/planes.tif", _tiff(np.asarray(image).transpose(2, 0, 1).tobytes(), tags), shows=image)
    image = picture("packed planes")
    packed = [zlib.compress(plane.tobytes()) for plane in image.split()]
    ends = np.cumsum([8, *map(len, packed)])
    tags |= {259: _short(8), 273: (4, 3, struct.pack("<3I", *ends[:3]))}
    tags |= {279: (4, 3, struct.pack("<3I", *map(len, packed)))}
    zoo.put("modes/packed-planes.tif", _tiff(b"".join(packed), tags), shows=image)


def _deep_modes(zoo: _Zoo) -> None:
    note = "16 bits a channel brought to 8"
    for suffix, form in (("png", "PNG"), ("tif", "TIFF")):
        image = picture(f"16 bits {suffix}").convert("L")
        deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        zoo.put(f"modes/grey-16-{suffix}.{suffix}", encoded(deep, form), shows=image.convert("RGB"), note=note)
    image = picture("big endian").convert("L")
    deep = Image.fromarray((np.asarray(image).astype(np.uint16) * 257).astype(">u2"))
    content = encoded(deep, "TIFF")
    assert content.startswith(b"MM")
    zoo.put("modes/grey-16-big-endian.tif", content, shows=image.convert("RGB"), note=note)
    image = picture("16-bit colour")
    content = _png(_header(48, 48, depth=16), _chunk(b"IDAT", zlib.compress(_rows(_deep(np.asarray(image))))))
    zoo.put("modes/colour-16-png.png", content, shows=image)
    image = picture("16-bit colour tif")
    tags = _tags(48, 48) | {258: (3, 3, struct.pack("<3H", 16, 16, 16)), 279: _long(48 * 48 * 6)}
    content = _tiff((np.asarray(image).astype("<u2") * 257).tobytes(), tags)
    zoo.put("modes/colour-16.tif", content, shows=image, near=1)
    levels = np.asarray(picture("32 bits").convert("L")).astype(np.int32)
    shows = Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    zoo.put("modes/integers-8-of-32.tif", encoded(Image.fromarray(levels), "TIFF"), shows=shows)
    wide = Image.fromarray(levels * 1_000_000)
    zoo.put("modes/integers-32.tif", encoded(wide, "TIFF"), UNREADABLE, detail="32-bit pixels")
    floats = Image.fromarray(levels.astype(np.float32) / 255)
    zoo.put("modes/floats.tif", encoded(floats, "TIFF"), UNREADABLE, detail="floating-point")
    zoo.put(
        "modes/not-numbers.tif", encoded(Image.fromarray(np.full((48, 48), np.nan, np.float32)), "TIFF"), UNREADABLE
    )


def _transparent_modes(zoo: _Zoo) -> None:
    note = "transparency laid on white"

    def holed(name: str) -> tuple[Image.Image, Image.Image]:
        """A picture whose left half is transparent, and what a viewer shows of it."""
        image = picture(name)
        shown = image.copy()
        shown.paste("white", (0, 0, 24, 48))
        image.putalpha(Image.new("L", (48, 48), 0))
        image.paste(shown.crop((24, 0, 48, 48)).convert("RGBA"), (24, 0))
        return image, shown

    for suffix, form in (("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")):
        image, shown = holed(f"alpha.{suffix}")
        options = {"lossless": True} if form == "WEBP" else {}
        zoo.put(f"modes/alpha-{suffix}.{suffix}", encoded(image, form, **options), shows=shown, note=note)
    image, shown = holed("grey alpha")
    zoo.put(
        "modes/grey-alpha.png", encoded(image.convert("LA"), "PNG"), shows=shown.convert("L").convert("RGB"), note=note
    )
    for suffix, form in (("png", "PNG"), ("gif", "GIF")):
        index = np.asarray(picture(f"palette.{suffix}").convert("L").quantize(8)).copy()
        index[:, :24] = 9
        palette = [level for i in range(10) for level in (i * 28, 255 - i * 20, i * 11)]
        image = _indexed(index, palette)
        shown = image.convert("RGB")
        shown.paste("white", (0, 0, 24, 48))
        zoo.put(f"modes/palette-alpha-{suffix}.{suffix}", encoded(image, form, transparency=9), shows=shown, note=note)
    image = picture("colour key")
    image.paste((1, 2, 3), (0, 0, 24, 48))
    shown = image.copy()
    shown.paste("white", (0, 0, 24, 48))
    zoo.put("modes/colour-key.png", encoded(image, "PNG", transparency=(1, 2, 3)), shows=shown, note=note)
    image = picture("grey key").convert("L").point(lambda level: max(level, 9))
    image.paste(5, (0, 0, 24, 48))
    shown = image.convert("RGB")
    shown.paste("white", (0, 0, 24, 48))
    zoo.put("modes/grey-key.png", encoded(image, "PNG", transparency=5), shows=shown, note=note)
    image = picture("grey key 16").convert("L").point(lambda level: max(level, 9))
    image.paste(5, (0, 0, 24, 48))
    shown = image.convert("RGB")
    shown.paste("white", (0, 0, 24, 48))
    deep = _deep(np.asarray(image)[..., None])
    key = _chunk(b"tRNS", struct.pack(">H", 5 * 257))
    content = _png(_header(48, 48, depth=16, kind=0), key, _chunk(b"IDAT", zlib.compress(_rows(deep))))
    zoo.put("modes/grey-key-16.png", content, shows=shown, note=note)
    image = picture("bit key").convert("1")
    shown = Image.new("RGB", (48, 48), "white")
    zoo.put("modes/bit-key.png", encoded(image, "PNG", transparency=0), KEPT, BLANK, shows=shown, note=note)
    for name, kind, channels in (("colour", COLOUR_ALPHA, "RGBA"), ("grey", GREY_ALPHA, "LA")):
        image, shown = holed(f"{name} alpha 16")
        pixels = _deep(np.asarray(image.convert(channels)))
        content = _png(_header(48, 48, depth=16, kind=kind), _chunk(b"IDAT", zlib.compress(_rows(pixels))))
        shown = shown if name == "colour" else shown.convert("L").convert("RGB")
        zoo.put(f"modes/{name}-alpha-16.png", content, shows=shown, note=note)


def _frames(zoo: _Zoo) -> None:
    note = "the first is used"
    for suffix, form in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG"), ("tif", "TIFF")):
        name = f"frames/three-{suffix}.{suffix}"
        first = picture(name)
        others = [picture(f"{name} {i}") for i in range(2)]
        options = {"lossless": True} if form == "WEBP" else {}
        content = encoded(first, form, save_all=True, append_images=others, **options)
        zoo.put(name, content, shows=first, near=LOSSY * (form == "GIF"), note=note)
    first = picture("hidden first")
    options = {"save_all": True, "append_images": [picture("shown first")], "default_image": True}
    zoo.put("frames/hidden-first.png", encoded(first, "PNG", **options), shows=first)
    first = picture("one frame").convert("P")
    zoo.put("frames/one.gif", encoded(first, "GIF"), shows=first.convert("RGB"))
    first = picture("mpo")
    content = encoded(first, "MPO", save_all=True, append_images=[picture("mpo preview")], quality=95)
    zoo.put("frames/phone.jpg", content, shows=first, near=LOSSY)
    first = picture("mpo cut")
    content = encoded(first, "MPO", save_all=True, append_images=[picture("mpo cut preview", 200, 200)], quality=95)
    zoo.put("frames/phone-second-cut.jpg", content[: len(content) - 500], *WHOLE_OR_NOTHING, shows=first, near=LOSSY)
    first = picture("gif cut").convert("P")
    content = encoded(first, "GIF", save_all=True, append_images=[picture("gif cut 2").convert("P")])
    zoo.put("frames/second-cut.gif", content[:-500], *WHOLE_OR_NOTHING, shows=first.convert("RGB"))
    first = picture("many frames claimed")
    claim = _chunk(b"acTL", struct.pack(">II", 0x7FFF_FFFF, 0))
    zoo.put("frames/2-billion-claimed.png", _with_chunk(encoded(first, "PNG"), claim), *WHOLE_OR_NOTHING, shows=first)
    first = picture("frame beyond screen").convert("P")
    content = encoded(first, "GIF")
    beyond = b"," + struct.pack("<HHHHB", 60_000, 60_000, 5_000, 5_000, 0) + b"\x08\x02\0\1\0;"
    zoo.put("frames/second-far-away.gif", content[:-1] + beyond, *WHOLE_OR_NOTHING, shows=first.convert("RGB"))


def _metadata(zoo: _Zoo) -> None:
    turns = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    for suffix, form in (("jpg", "JPEG"), ("png", "PNG")):
        for orientation, turn in turns.items():
            upright = picture(f"turned {orientation} {suffix}", 64, 48)
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored = upright if turn is None else upright.transpose(turn)
            content = encoded(stored, form, exif=exif, quality=95)
            note = "turned as its EXIF says" if turn else ""
            zoo.put(
                f"metadata/turned-{orientation}-{suffix}.{suffix}",
                content,
                shows=upright,
                near=LOSSY * (suffix == "jpg"),
                note=note,
            )
    tag = struct.pack("<HHHI", 1, 0x0112, 3, 1)
    broken = {
        "garbage": b"Exif\0\0" + b"\xff" * 50,
        "empty": b"Exif\0\0",
        "cut": b"Exif\0\0II*\0\x08\0\0\0" + tag,
        "orientation-99": b"Exif\0\0II*\0\x08\0\0\0" + tag + struct.pack("<II", 99, 0),
        "orientation-text": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x0112, 2, 4, b"abc\0", 0),
        "in-a-loop": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8),
        "absurd-count": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x010F, 2, 0xFFFF_FFFF, 8, 0),
    }
    for name, exif in broken.items():
        for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            image = picture(f"{name} exif {suffix}")
            options = {"lossless": True} if form == "WEBP" else {"quality": 95}
            content = encoded(image, form, exif=exif, **options)
            zoo.put(f"metadata/exif-{name}-{suffix}.{suffix}", content, shows=image, near=LOSSY * (suffix == "jpg"))
    unusable = "unusable colour profile ignored"
    cmyk = (SRGB[:16] + b"CMYK" + SRGB[20:]).replace("sRGB".encode("utf-16-be"), "CMYK".encode("utf-16-be"))
    profiles = {"garbage": b"no profile", "cut": SRGB[:200], "cmyk": cmyk, "zeros": bytes(3000)}
    for name, profile in profiles.items():
        for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF")):
            image = picture(f"{name} profile {suffix}")
            content = encoded(image, form, icc_profile=profile, quality=95)
            near = LOSSY * (suffix == "jpg")
            zoo.put(f"metadata/profile-{name}-{suffix}.{suffix}", content, shows=image, near=near, note=unusable)
    zoo.lossless("metadata/profile-srgb.png", picture("srgb"), icc_profile=SRGB)
    image = picture("rgb profile in grey").convert("L")
    zoo.put(
        "metadata/profile-of-colour-in-grey.png", encoded(image, "PNG", icc_profile=SRGB), shows=image.convert("RGB")
    )
    image = picture("comment")
    zoo.put("metadata/binary-comment.jpg", encoded(image, "JPEG", comment=bytes(range(256)) * 200, quality=95),
            shows=image, near=LOSSY)  # fmt: skip


def _foreign(zoo: _Zoo) -> None:
    drawing = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='48' height='48'/>"
    bodies = {
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100),
        "jxl": b"\xff\x0a" + bytes(100),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 48, 48, 8, 3) + bytes(100),
        "svg": drawing,
        "ico": b"\0\0\1\0\1\0" + bytes(100),
        "dng": b"II*\0" + bytes(4),
    }
    for suffix, body in bodies.items():
        zoo.put(f"foreign/header-{suffix}.{suffix}", body, UNREADABLE, detail=f".{suffix} files are not read")
        known = {"heic": "holds a HEIC picture", "avif": "holds an AVIF picture", "psd": "holds a PSD picture"}
        zoo.put(f"foreign/named-{suffix}.jpg", body, UNREADABLE, detail=known.get(suffix, "holds none of"))
    for suffix, body in (("mp4", b"\0\0\0\x18ftypmp42"), ("pdf", b"%PDF-1.4"), ("zip", b"PK\x03\x04"), ("exe", b"MZ")):
        zoo.put(f"foreign/other-{suffix}.{suffix}", body, NO_PICTURE)
    zoo.put("foreign/other-parquet.parquet", b"PAR1" + bytes(20) + b"PAR1", NO_PICTURE)
    zoo.put("foreign/README", b"About these pictures.", NO_PICTURE, beside={})
    zoo.put("foreign/lonely.txt", b"a caption of nothing", NO_PICTURE, beside={})
    zoo.put("foreign/dataset.json", b'{"version": 1}', NO_PICTURE, beside={})
    zoo.put("foreign/picture.txt", encoded(picture("named as text"), "PNG"), NO_CAPTION, NO_PICTURE, beside={})


def _captions(zoo: _Zoo) -> None:
    def put(name: str, said: bytes, *fates: str, suffix: str = "txt", text: str = "", detail: str = "") -> None:
        image = picture(f"caption {name}")
        content, beside = encoded(image, "PNG"), {f"{name}.{suffix}": said}
        zoo.put(f"captions/{name}.png", content, *fates, shows=image, beside=beside, text=text, detail=detail)

    put("binary", bytes(range(256)), NO_CAPTION, detail="UTF-8")
    put("binary-low", bytes(range(32)) * 4 + b"ab", NO_CAPTION, detail="UTF-8")
    put("latin-1", b"caf\xe9", NO_CAPTION, detail="UTF-8")
    put("utf-16", "a red cat".encode("utf-16"), NO_CAPTION, detail="UTF-8")
    put("utf-16-no-mark", "a red cat".encode("utf-16-le"), NO_CAPTION, detail="UTF-8")
    put("utf-32", "a red cat".encode("utf-32"), NO_CAPTION)
    put("utf-8-mark", b"\xef\xbb\xbfa marked cat", text="a marked cat")
    put("empty", b"", NO_CAPTION, detail="empty")
    put("blank", b" \r\n\t \n", NO_CAPTION, detail="empty")
    put("only-mark", b"\xef\xbb\xbf", NO_CAPTION, detail="empty")
    put("only-nothings", "\u200b\u200b\ufeff".encode(), NO_CAPTION, detail="empty")
    put("only-zeros", bytes(50), NO_CAPTION)
    put("megabyte", b"cat " * 262_144, NO_CAPTION, detail="too long")
    put("lines", b"a cat\r\non two lines\n\n", text="a cat on two lines")
    put("script", "猫 قطة 🐈".encode(), text="猫 قطة 🐈")
    put("formula", b'=HYPERLINK("http://example.org","cat")', text='=HYPERLINK("http://example.org","cat")')
    put("quotes", b'a "cat", with, commas', text='a "cat", with, commas')
    put("json-broken", b'{"caption": "a cat"', NO_CAPTION, suffix="json", detail="not valid")
    put("json-empty", b"", NO_CAPTION, suffix="json", detail="not valid")
    put("json-array", b"[1, 2]", NO_CAPTION, suffix="json", detail="not valid")
    put("json-null", b"null", NO_CAPTION, suffix="json")
    put("json-deep", b"[" * 50_000, NO_CAPTION, suffix="json")
    put("json-deep-object", b'{"caption":' * 8_000, NO_CAPTION, suffix="json")
    put(
        "json-deep-and-whole",
        b'{"caption":' * 900 + b'"deep"' + b"}" * 900,
        NO_CAPTION,
        KEPT,
        suffix="json",
        text="deep",
    )
    put("json-number", b"9" * 30_000, NO_CAPTION, suffix="json")
    put("json-mark", b'\xef\xbb\xbf{"caption": "a marked json cat"}', suffix="json", text="a marked json cat")
    put("json-surrogate", b'{"caption": "half \\ud800 a cat"}', suffix="json", text="half a cat")
    put("json-array-caption", b'{"caption": []}', NO_CAPTION, suffix="json")
    put("json-true-caption", b'{"caption": true}', NO_CAPTION, suffix="json")
    put("json-nan-caption", b'{"caption": NaN}', NO_CAPTION, suffix="json")
    put("yaml-broken", b"caption: [a", NO_CAPTION, suffix="yaml", detail="not valid")
    put(
        "yaml-object",
        b"caption: !!python/object/apply:os.system ['true']",
        NO_CAPTION,
        suffix="yaml",
        detail="not valid",
    )
    bomb = b"a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\ncaption: [*b]\n"
    put("yaml-bomb", bomb, NO_CAPTION, suffix="yaml", detail="not valid")
    put("yaml-deep", b"[" * 60_000, NO_CAPTION, suffix="yaml", detail="within one another")
    put("yaml-date", b"caption: 2020-02-30", NO_CAPTION, suffix="yaml")
    put("yaml-zero", b"caption: \0", NO_CAPTION, suffix="yaml", detail="UTF-8")
    image = picture("caption of the whole name")
    beside = {"whole-name.png.txt": b"the whole name"}
    zoo.put("captions/whole-name.png", encoded(image, "PNG"), shows=image, beside=beside, text="the whole name")
    image = picture("two captions")
    beside = {"two.json": b"broken", "two.txt": b"the text"}
    zoo.put("captions/two.png", encoded(image, "PNG"), shows=image, beside=beside, text="the text")
    zoo.put("captions/none.png", encoded(picture("none"), "PNG"), NO_CAPTION, detail="neither", beside={})
    zoo.put("captions/folder.png", encoded(picture("folder caption"), "PNG"), NO_CAPTION, beside={})
    (zoo.folder / "captions/folder.txt").mkdir()
    for number, suffix in enumerate(("png", "jpg")):
        image = picture(f"shared {suffix}")
        beside = {} if number else {"shared.txt": b"shared by two"}
        content = encoded(image, "JPEG" if number else "PNG", quality=95)
        zoo.put(f"captions/shared.{suffix}", content, shows=image, near=LOSSY, beside=beside, text="shared by two")
    image = picture("kohya")
    note = "counts 3 times"
    zoo.put("captions/3_red cat/kohya.png", encoded(image, "PNG"), shows=image, beside={}, text="red cat", note=note)
    image = picture("multiply")
    beside = {"multiply.txt": b"as often as you like", "about.txt": b"a multiplied cat"}
    zoo.put(
        "captions/multiplied/about.png", encoded(image, "PNG"), shows=image, beside=beside, text="a multiplied cat",
        note="holds no number",
    )  # fmt: skip


def _tables(zoo: _Zoo) -> None:
    rows = [
        'extra,file_name,"text",extra', 'x,listed.png,"a listed\ncat, with ""quotes""",y', ",,,", "",
        "x,listed.png,another caption,y", "x,sub\\windows.png,a cat from Windows,y", "x,absent.png,nothing,y",
        "x,../outside.png,nothing,y", "x,../../../etc/passwd,nothing,y", "x,/etc/hostname,nothing,y",
        "x,https://example.org/a.png,nothing,y", "x,.,nothing,y", "x,textless.png,,y", "x,short.png",
    ]  # fmt: skip
    table = b"\xef\xbb\xbf" + "\r\n".join(rows).encode()
    image = picture("listed")
    beside = {"metadata.csv": table}
    text = 'a listed cat, with "quotes"'
    zoo.put("table/listed.png", encoded(image, "PNG"), shows=image, beside=beside, text=text, note="several captions")
    image = picture("windows")
    zoo.put("table/sub/windows.png", encoded(image, "PNG"), shows=image, beside={}, text="a cat from Windows")
    for name in ("textless", "short", "unlisted"):
        zoo.put(f"table/{name}.png", encoded(picture(name), "PNG"), NO_CAPTION, beside={})
    for name in ("table/absent.png", "outside.png", "../../etc/passwd", "/etc/hostname", "table"):
        zoo.expect(name, MISSING, detail="metadata.csv")
    zoo.expect("table/https:/example.org/a.png", MISSING, detail="metadata.csv")
    lines = [
        {"file_name": "object.png", "text": "a cat from JSON", "more": {"a": [1]}},
        {"file_name": "list.png", "text": ["a cat", "a dog"]},
        {"file_name": "true.png", "text": True},
        {"file_name": "nan.png", "text": float("nan")},
        {"file_name": "words.png", "text": {"a": "cat"}},
        {"file_name": "null.png", "text": None},
        {"file_name": 7, "text": "a number for a name"},
    ]
    table = "\n".join(map(json.dumps, lines)).encode() + b"\n\n"
    image = picture("object")
    beside = {"metadata.jsonl": table}
    zoo.put("lines/object.png", encoded(image, "PNG"), shows=image, beside=beside, text="a cat from JSON")
    image = picture("list")
    zoo.put("lines/list.png", encoded(image, "PNG"), shows=image, beside={}, text="a cat")
    for name in ("true", "nan", "words", "null"):
        zoo.put(f"lines/{name}.png", encoded(picture(name), "PNG"), NO_CAPTION, beside={})
    zoo.expect("lines/7", MISSING)
    (zoo.folder / "no-table/metadata.csv").mkdir(parents=True)
    zoo.lossless("no-table/metadata.csv/within.png", picture("within a table"))


def _names(zoo: _Zoo) -> None:
    for name in (
        "صورة قطة.png", "照片.png", "चित्र.png", "תמונה.png", "รูปภาพ.png", "Фото.png", "사진.png", "🦊👩‍👩‍👧.png",
        "Ünïcödé.png", "z̸̡̢̛͚a̷̧̛l̶͇g̵̖o̴.png", "ﬁ.png", "ß.png", "SS.png", "İ.png", "zero\u200bwidth.png", "\ufeffmark.png",
        "gpj.\u202exe.png", "-rf.png", "--help.png", "CON.png", "nul.front.png", "metadata.png", "$(reboot).png",
        "%s%n.png", "comma, and.png", "=1+1.png", "'; DROP TABLE.png", "~.png", "#.png", " space before.png",
        "l" * 200 + ".png", "猫" * 80 + ".png", "a.b.c.d.png", "s." + "u" * 100, "picture.png.png", "１.png", "1.png",
    ):  # fmt: skip
        image = picture(name)
        zoo.put(f"names/{name}", encoded(image, "PNG"), shows=image)
    zoo.lossless("names/deep" + "/d" * 60 + "/deep.png", picture("deep"))


def _litter(zoo: _Zoo) -> None:
    for name in (
        ".DS_Store", "._whole.png", ".hidden.png", "Thumbs.db", "desktop.ini", ".git/whole.png", "__MACOSX/whole.png",
        "@eaDir/whole.png", "Icon\r",
    ):  # fmt: skip
        zoo.put(f"litter/{name}", encoded(picture(name), "PNG"), SKIPPED, beside={})


def _links(zoo: _Zoo) -> None:
    folder = zoo.folder / "links"
    elsewhere = zoo.folder.parent / f"{zoo.folder.name} elsewhere"
    elsewhere.mkdir()
    image = picture("elsewhere")
    image.save(elsewhere / "picture.png")
    zoo.lossless("links/first.png", picture("first"))

    def link(name: str, target: str | Path, *fates: str, **more: str | Image.Image) -> None:
        (folder / name).symlink_to(target)
        text = f"a link called {name}"
        (folder / name).with_suffix(".txt").write_text(text)
        zoo.expect(f"links/{name}", *fates, text=text, **more)

    link("second.png", "first.png", DUPLICATE, detail="links/first.png")
    link("elsewhere.png", elsewhere / "picture.png", shows=image)
    link("dangling.png", "nowhere.png", MISSING)
    link("itself.png", "itself.png", MISSING)
    link("there.png", "back.png", MISSING)
    link("back.png", "there.png", MISSING)
    link("folder", elsewhere, NO_PICTURE)
    link("folder.png", elsewhere, NO_PICTURE)
    link("above", "..", NO_PICTURE)
    link("zeros.png", "/dev/zero", NO_PICTURE)
    link("through-a-file.png", "first.png/x.png", MISSING)
    if sys.platform == "linux":
        # It can be opened and not be read, like a file on a failing disk.
        link("bad-disk.png", "/proc/self/mem", UNREADABLE)
    os.link(folder / "first.png", folder / "third.png")
    (folder / "third.txt").write_text("a hard link")
    zoo.expect("links/third.png", DUPLICATE, text="a hard link")
    image = picture("linked caption")
    (elsewhere / "caption.txt").write_text("a linked caption")
    zoo.put("links/caption.png", encoded(image, "PNG"), shows=image, beside={}, text="a linked caption")
    (folder / "caption.txt").symlink_to(elsewhere / "caption.txt")
    zoo.put("links/no-caption.png", encoded(picture("no caption"), "PNG"), NO_CAPTION, beside={})
    (folder / "no-caption.txt").symlink_to("nowhere.txt")
    zoo.put("links/folder-caption.png", encoded(picture("folder caption link"), "PNG"), NO_CAPTION, beside={})
    (folder / "folder-caption.txt").symlink_to(elsewhere)


def _things(zoo: _Zoo) -> None:
    """What is neither a file nor a folder, and what may not be read."""
    folder = zoo.folder / "things"
    zoo.put("things/piped.png", encoded(picture("piped"), "PNG"), NO_CAPTION, detail="not a plain file", beside={})
    os.mkfifo(folder / "piped.txt")
    for name in ("pipe.png", "metadata.csv"):
        os.mkfifo(folder / name)
        zoo.expect(f"things/{name}", NO_PICTURE)
    for name in ("locked.png", "locked-caption.png"):
        image = picture(name)
        path = zoo.put(f"things/{name}", encoded(image, "PNG"), beside={})
        path.with_suffix(".txt").write_text("a locked cat")
        locked = path if name == "locked.png" else path.with_suffix(".txt")
        locked.chmod(0)
        allowed = os.access(locked, os.R_OK)  # to the superuser everything is open
        fate = KEPT if allowed else UNREADABLE if locked == path else NO_CAPTION
        detail = "" if allowed else "ermission denied"
        zoo.animals[f"things/{name}"] = Expectation((fate,), text="a locked cat", shows=image, detail=detail)


def _posix_names(zoo: _Zoo) -> None:
    names = [
        "two\nlines.png", "tab\there.png", "bell\x07.png", "escape\x1b[31m.png", "dot behind.png.", "space behind.png ",
        'quote".png', "back\\slash.png", "what?.png", "a*b.png", "a<b>c|d.png", "a:b.png", "..png", "...png.png",
        "con.png", "CoN.PNG", "Twin.png", "twin.png", "-", "~", "C:\\cat.png",
    ]  # fmt: skip
    if sys.platform == "linux":
        # Other systems may hold é in one spelling only, and only UTF-8.
        names += ["caf\u00e9.png", "cafe\u0301.png", os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xff\xfe.png")]
    for name in names:
        image = picture(name)
        fates = (SKIPPED,) if name.startswith(".") else ()
        zoo.put(f"posix names/{name}", encoded(image, "PNG"), *fates, shows=image, beside=None if not fates else {})


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        return opened.convert("RGB")


def _indexed(index: np.ndarray, palette: Sequence[int]) -> Image.Image:
    image = Image.fromarray(index.astype(np.uint8)).convert("P")
    image.putpalette(list(palette))
    return image


def _deep(pixels: np.ndarray) -> np.ndarray:
    """8-bit pixels as the bytes of 16-bit ones, the upper first."""
    return np.repeat(pixels, 2, axis=2)


def _rows(pixels: np.ndarray) -> bytes:
    """PNG's rows, none of them filtered."""
    flat = pixels.reshape(len(pixels), -1).astype(np.uint8)
    return np.pad(flat, ((0, 0), (1, 0))).tobytes()


def _interlaced(pixels: np.ndarray) -> bytes:
    """PNG's rows in Adam7's seven passes."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = (pixels[top::down, left::right] for top, left, down, right in passes)
    return b"".join(_rows(part) for part in parts if part.size)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _header(width: int, height: int, depth: int = 8, kind: int = COLOUR, *, interlaced: bool = False) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))


def _png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _with_chunk(png: bytes, chunk: bytes) -> bytes:
    """The PNG with one more chunk behind its header."""
    return png[:33] + chunk + png[33:]


def _short(value: int) -> tuple[int, int, bytes]:
    return 3, 1, struct.pack("<HH", value, 0)


def _long(value: int) -> tuple[int, int, bytes]:
    return 4, 1, struct.pack("<I", value)


def _tags(width: int, height: int) -> dict[int, tuple[int, int, bytes]]:
    """The tags of an uncompressed RGB picture in one strip behind the header: type, count and little-endian value."""
    tags = {256: width, 257: height, 273: 8, 278: height, 279: width * height * 3 & 0xFFFF_FFFF}
    shorts = {259: 1, 262: 2, 277: 3}
    depth = (3, 3, struct.pack("<3H", 8, 8, 8))
    return {tag: _long(v) for tag, v in tags.items()} | {tag: _short(v) for tag, v in shorts.items()} | {258: depth}


def _tiff(pixels: bytes, tags: Mapping[int, tuple[int, int, bytes]], *, loop: bool = False) -> bytes:
    """A TIFF of one page, whose directory may name itself as the next."""
    body = b"II*\0\0\0\0\0" + pixels + b"\0" * (len(pixels) % 2)
    entries = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        entries += struct.pack("<HHI", tag, kind, count)
        entries += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", len(body))
        body += value if len(value) > 4 else b""
    directory = len(body)
    following = struct.pack("<I", directory if loop else 0)
    return b"II*\0" + struct.pack("<I", directory) + body[8:] + struct.pack("<H", len(tags)) + entries + following


def _strips_halved(tiff: bytes) -> bytes:
    """The TIFF with each strip said to be half as long as it is."""
    content = bytearray(tiff)
    at = struct.unpack_from("<I", content, 4)[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
        tag, kind, count, value = struct.unpack_from("<HHII", content, entry)
        if tag == 279:
            size, letter = {3: (2, "H"), 4: (4, "I")}[kind]
            start = entry + 8 if count * size <= 4 else value
            for place in range(start, start + count * size, size):
                length = struct.unpack_from(f"<{letter}", content, place)[0]
                struct.pack_into(f"<{letter}", content, place, length // 2)
    return bytes(content)


def _packed(codes: Iterable[tuple[int, int]]) -> bytes:
    """Numbers of so many bits each, the lowest bit first."""
    bits = "".join(f"{value:0{width}b}"[::-1] if width else "" for value, width in codes)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def _gif(width: int, height: int, given: int) -> bytes:
    """A GIF of grey levels that ends in good order after as many pixels as are given."""
    codes = [code for i in range(given) for code in ([(256, 9)] if i % 200 == 0 else []) + [(i * 7 % 251, 9)]]
    packed = _packed([*(codes or [(256, 9)]), (257, 9)])
    blocks = b"".join(
        bytes([len(part)]) + part for part in (packed[at : at + 255] for at in range(0, len(packed), 255))
    )
    palette = bytes(level for i in range(256) for level in (i, i, i))
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08" + blocks + b"\0;"


def _solid_webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour, whose pixels take no bits at all."""
    codes = [(width - 1, 14), (height - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    for level in (200, 30, 90, 255):  # green, red, blue and alpha have one code each
        codes += [(1, 1), (0, 1), (1, 1), (level, 8)]
    codes += [(1, 1), (0, 1), (0, 1), (0, 1)]
    body = b"\x2f" + _packed(codes)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _rle_bmp(levels: np.ndarray, rows: int) -> bytes:
    """A run-length encoded BMP of grey levels that holds only so many rows, from the bottom."""
    height, width = levels.shape
    body = b"".join(b"".join(bytes([1, level]) for level in row) + b"\0\0" for row in levels[::-1][:rows]) + b"\0\1"
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def _ycck(image: Image.Image) -> bytes:
    """A JPEG as Photoshop writes it for print: CMYK inverted, its first three channels as brightness and colours."""
    planes = map(ImageOps.invert, ImageOps.invert(image).convert("YCbCr").split())
    content = encoded(Image.merge("CMYK", [*planes, Image.new("L", image.size, 0)]), "JPEG", quality=95, subsampling=0)
    at = content.index(b"Adobe") + 11
    return content[:at] + b"\2" + content[at + 1 :]
