"""Pictures turned into one picture."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GAP = 6
PAPER, INK, ALARM = (250, 250, 248), (70, 66, 60), (178, 58, 46)
READABLE = 192
"""Smaller pictures are magnified, pixel by pixel, to about this side."""
LINE, LETTERS = 26, 15
"""Heights of a line of words and of its letters."""
LABEL, LINES = 220, 3
"""The widest words beside a row, in pixels, and the most lines of words beside or above pictures."""
LIMIT = 16_000
"""Sheets are not larger, in pixels a side: many programs do not open them."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Block:
    """One table of a sheet: its head, and in each row files of pictures, or words where there is none."""

    head: str
    rows: Sequence[Sequence[Path | str]]


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, each in a cell as large as the largest, with a gap between them."""
    shown = _magnified(pictures)
    width, height = max(p.width for p in shown), max(p.height for p in shown)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    for number, picture in enumerate(shown):
        row, column = divmod(number, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def table(columns: Sequence[Sequence[Image.Image]], heads: Sequence[str], sides: Sequence[str]) -> Image.Image:
    """The columns side by side, each under its head; above each row its words, cut where they do not fit."""
    shown = [_magnified(column) for column in columns]
    width, height = max(p.width for c in shown for p in c), max(p.height for c in shown for p in c)
    step = LINE + height + GAP
    sheet = Image.new("RGB", (len(shown) * (width + GAP) + GAP, LINE + len(sides) * step), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for row, words in enumerate(sides):
        pen.text((GAP, LINE + row * step + 4), _cut(words, sheet.width - 2 * GAP, font), INK, font)
    for number, (head, pictures) in enumerate(zip(heads, shown, strict=True)):
        left = GAP + number * (width + GAP)
        pen.text((left, 4), head, INK, font)
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, LINE + row * step + LINE))
    return sheet


def sheet(title: str, columns: Sequence[str], rows: Sequence[str], blocks: Sequence[Block]) -> Image.Image:
    """Tables of pictures below one another, with words above each column and beside each row.

    Small pictures are magnified; all are reduced where the sheet would have more than 16,000 pixels a side.
    """
    font = ImageFont.load_default(LETTERS)
    shape = _Shape.of(columns, rows, blocks, font)
    whole = Image.new("RGB", (max(shape.width, 2 * READABLE), LINE + len(blocks) * shape.block), PAPER)
    pen = ImageDraw.Draw(whole)
    pen.text((GAP, 4), _cut(title, whole.width - 2 * GAP, font), INK, font)
    for number, block in enumerate(blocks):
        top = LINE + number * shape.block
        pen.text((GAP, top + 4), _cut(block.head, whole.width - 2 * GAP, font), INK, font)
        top += (LINE if block.head else 0) + shape.head
        for place, words in enumerate(columns):
            lines = _wrapped(words, shape.cell[0], font)
            left = shape.left + place * (shape.cell[0] + GAP)
            pen.text((left, top - LINE * len(lines)), "\n".join(lines), INK, font, spacing=LINE - LETTERS)
        for row, words in enumerate(rows):
            below = top + row * (shape.cell[1] + GAP)
            pen.text((GAP, below), "\n".join(_wrapped(words, LABEL, font)), INK, font)
            for place, content in enumerate(block.rows[row]):
                _put(whole, content, (shape.left + place * (shape.cell[0] + GAP), below), shape, font)
    if max(whole.size) > LIMIT:  # with more than two thousand pictures a side the gaps alone are too much
        whole.thumbnail((LIMIT, LIMIT))
    return whole


@dataclass(frozen=True)
class _Shape:
    """Where things stand on a sheet, in pixels."""

    left: int
    """Where the pictures begin."""
    head: int
    """The height of the words above the columns."""
    cell: tuple[int, int]
    scale: float
    """What a picture's sides are multiplied with."""
    width: int
    block: int
    """The height of one table."""

    @staticmethod
    def of(columns: Sequence[str], rows: Sequence[str], blocks: Sequence[Block], font: Font) -> "_Shape":
        files = {place for block in blocks for row in block.rows for place in row if isinstance(place, Path)}
        width, height = _largest(files)
        left = GAP + min(LABEL, round(max(font.getlength(words) for words in rows)))
        left += GAP if any(rows) else 0
        above = (LINE if blocks[0].head else 0) + LINES * LINE
        # What is left for each picture where the sheet is as large as may be.
        room = (LIMIT - left) / len(columns) - GAP, ((LIMIT - LINE) / len(blocks) - above) / len(rows) - GAP
        magnified = max(1, READABLE // max(width, height))
        scale = min(magnified, room[0] / width, room[1] / height)
        scale = float(int(scale)) if scale >= 1 else max(scale, 1 / min(width, height))
        cell = int(width * scale), int(height * scale)
        head = LINE * max(len(_wrapped(words, cell[0], font)) for words in columns)
        tall = (LINE if blocks[0].head else 0) + head + len(rows) * (cell[1] + GAP)
        return _Shape(left, head, cell, scale, left + len(columns) * (cell[0] + GAP), tall)


def _largest(files: set[Path]) -> tuple[int, int]:
    sizes: list[tuple[int, int]] = []
    for file in files:
        with Image.open(file) as picture:
            sizes.append(picture.size)
    return max((w for w, _ in sizes), default=READABLE), max((h for _, h in sizes), default=READABLE)


def _put(whole: Image.Image, content: Path | str, place: tuple[int, int], shape: _Shape, font: Font) -> None:
    """Puts one picture, or the words in its stead, on the sheet."""
    if isinstance(content, Path):
        with Image.open(content) as picture:
            size = max(1, int(picture.width * shape.scale)), max(1, int(picture.height * shape.scale))
            way = Image.Resampling.NEAREST if shape.scale >= 1 else Image.Resampling.LANCZOS
            whole.paste(picture.convert("RGB").resize(size, way), place)
        return
    most = max(1, shape.cell[1] // LINE)
    words = "\n".join(_wrapped(content, shape.cell[0] - GAP, font, most))
    ImageDraw.Draw(whole).text((place[0] + GAP // 2, place[1]), words, ALARM, font, spacing=LINE - LETTERS)


def _magnified(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    factor = max(1, READABLE // max(max(picture.size) for picture in pictures))
    return [p.resize((p.width * factor, p.height * factor), Image.Resampling.NEAREST) for p in pictures]


def _wrapped(words: str, width: int, font: Font, most: int = LINES) -> list[str]:
    """The words in at most so many lines, the last one cut where they do not fit."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or len(lines) == most or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_cut(line, width, font) for line in lines]


def _cut(words: str, width: int, font: Font) -> str:
    """The words, or as many letters of them as fit."""
    if font.getlength(words) <= width:
        return words
    fitting = bisect.bisect_right(range(1, len(words)), width, key=lambda count: font.getlength(words[:count] + "…"))
    return words[:fitting] + "…"
