"""What is missing from a picture's file and what Pillow, which leaves such pixels black or grey, does not tell."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

Opened = BinaryIO | io.BytesIO
"""A file that is open for reading, on disk or in memory."""
BLOCK = 1 << 20
"""Bytes held at once, however many a file says it has."""

_IHDR = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By PNG's colour type."""
_WHOLE, _ADAM7 = (
    ((0, 0, 1, 1),),
    ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""Of each pass over a PNG: its first column and row, and the steps to the next ones."""
_STRIPS, _TILES, _PLANES = (273, 279), (324, 325), 284
"""TIFF's tags: where the parts of a picture begin and how many bytes they take; whether each channel has its own."""
_END_OF_JPEG = b"\xff\xd9"


def check(opened: ImageFile.ImageFile, file: Opened) -> None:
    """Refuses a PNG or TIFF that lacks a part of its pixels; `opened` reads from `file`, which stays where it is.

    Raises: ValueError or zlib.error, which say what is wrong.
    """
    at = file.tell()
    if opened.format == "PNG":
        _check_png(opened, file)
    elif isinstance(opened, TiffImageFile):
        _check_tiff(opened, file)
    file.seek(at)


def _check_png(opened: ImageFile.ImageFile, file: Opened) -> None:
    if opened.mode == "P" and opened.palette is None:
        raise ValueError("the PNG lacks the palette of its colours")
    pieces = _pieces(file)
    kind, header = next(pieces, (b"", b""))
    if kind != b"IHDR" or len(header) != _IHDR.size:
        raise ValueError("the PNG does not begin with its header; Apple makes such files for iPhones")
    _check_stream((piece for kind, piece in pieces if kind == b"IDAT"), _bytes_of(header))


def _pieces(file: Opened) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk of a PNG with each piece of what it holds, once for every `BLOCK` bytes."""
    file.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        checksum = zlib.crc32(kind)
        for left in range(length, 0, -BLOCK):
            piece = _exactly(file, min(BLOCK, left))
            checksum = zlib.crc32(piece, checksum)
            yield kind, piece
        if _exactly(file, 4) != checksum.to_bytes(4):
            raise ValueError("the PNG is damaged: its checksums do not fit")


def _exactly(file: Opened, size: int) -> bytes:
    piece = file.read(size)
    if len(piece) < size:
        raise ValueError("the PNG is cut off")
    return piece


def _bytes_of(header: bytes) -> int:
    """The bytes that a PNG of this header unpacks to: for each row of each pass its filter and its pixels."""
    width, height, depth, kind, _, _, interlaced = _IHDR.unpack(header)
    bits = depth * _CHANNELS[kind]
    size = 0
    for left, top, across, down in _ADAM7 if interlaced else _WHOLE:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        size += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return size


def _check_stream(pieces: Iterable[bytes], wanted: int) -> None:
    """Refuses a zlib stream that does not end, or not with its checksum, or that gives too few bytes."""
    stream, size = zlib.decompressobj(), 0
    for packed in pieces:
        left = packed
        while left and not stream.eof:
            size += len(stream.decompress(left, BLOCK))
            left = stream.unconsumed_tail
            if size > wanted + BLOCK:
                raise ValueError("the PNG holds more than its header says")
    size += len(stream.flush())
    if not stream.eof or size < wanted:
        raise ValueError("the PNG lacks a part of its pixels")


def _check_tiff(opened: TiffImageFile, file: Opened) -> None:
    tags, compression = opened.tag_v2, opened.info.get("compression")
    whole = True
    if compression == "raw":
        planes = len(opened.getbands()) if tags.get(_PLANES) == 2 else 1
        whole = sum(map(_area, opened.tile)) >= opened.width * opened.height * planes
    elif compression == "jpeg":
        offsets, lengths = (tags.get(tag, ()) for tag in (_STRIPS if _STRIPS[0] in tags else _TILES))
        whole = all(_ends_as_jpeg(file, end) for end in map(sum, zip(offsets, lengths, strict=False)))
    if not whole:
        raise ValueError("the TIFF lacks a part of its pixels")


def _area(tile: ImageFile._Tile) -> int:  # pyright: ignore[reportPrivateUsage]
    left, upper, right, lower = tile.extents or (0, 0, 0, 0)
    return (right - left) * (lower - upper)


def _ends_as_jpeg(file: Opened, end: int) -> bool:
    """Whether a JPEG ends there, but for zeros that fill up its place."""
    file.seek(max(0, end - 16))
    return file.read(min(16, end)).rstrip(b"\0").endswith(_END_OF_JPEG)
