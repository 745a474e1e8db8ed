"""Files of word vectors (GloVe's and word2vec's text) turned into rows in half precision, converted once and mapped."""

import contextlib
import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from bespoke.errors import BespokeError
from bespoke.text.lines import Report, lines, silent, size, told
from bespoke.text.normal import normal
from bespoke.text.vocabulary import Index, Words
from bespoke.workspace import MANIFEST, atomic_folder, write_json

SMALL = Path(__file__).parent / "small" / "vectors.50d.txt"
"""Small vectors of the words of pico's world, for those who name none."""
FORMAT = 1
"""Of the converted folder: a new number converts every file anew."""
BLOCK = 4096
"""Lines that are parsed, and rows that are compared, at once."""
HEAD = 1000
"""Lines by which the length of a row is told."""
LENGTH, TWICE, UNNAMED, NOT_UTF8, NO_NUMBERS = (
    "of another length", "with a word that came before", "without a word", "not in UTF-8",
    "with numbers that cannot be read",
)  # fmt: skip


class Vectors:
    """Words, most frequent first as the file had them, and a row of numbers for each."""

    def __init__(self, words: Words, index: Index, rows: np.ndarray, skipped: Mapping[str, int]) -> None:
        self.words = words
        """Normal words; `words.array` is Arrow's."""
        self.index: Mapping[str, int] = index
        self.rows = rows
        """Float16 [n, d], memory-mapped."""
        self.skipped = skipped
        """How many lines of the file were left out, by reason."""

    @property
    def dimensions(self) -> int:
        """The length of a row."""
        return self.rows.shape[1]

    def __contains__(self, word: object) -> bool:
        """Whether the normal word has a row."""
        return word in self.index

    def __len__(self) -> int:
        """How many words there are."""
        return len(self.rows)

    def of(self, words: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """The rows of some normal words, in float32.

        Raises: KeyError for an unknown word.
        """
        return self.rows[[self.index[word] for word in words]].astype(np.float32)

    def nearest(self, row: Float[np.ndarray, " d"], count: int) -> list[tuple[str, float]]:
        """The words whose rows point most nearly along `row`, with the cosine, -1 to 1, nearest first.

        Rows of zeros point nowhere and are nobody's neighbours; a row of zeros has none.
        """
        best, numbers = np.empty(0, np.float32), np.empty(0, np.int64)
        aim = row.astype(np.float32) / (np.linalg.norm(row) or 1)
        if not aim.any():
            return []
        for start in range(0, len(self), BLOCK):
            block = self.rows[start : start + BLOCK].astype(np.float32)
            lengths = np.linalg.norm(block, axis=1)
            cosines = np.divide(block @ aim, lengths, out=np.full(len(block), -np.inf, np.float32), where=lengths > 0)
            best, numbers = np.append(best, cosines), np.append(numbers, np.arange(start, start + len(block)))
            kept = np.argsort(-best, kind="stable")[:count]
            best, numbers = best[kept], numbers[kept]
        return [(self.words[int(n)], min(float(c), 1.0)) for n, c in zip(numbers, best, strict=True) if c > -np.inf]


def vectors(file: Path, cache: Path, report: Report = silent) -> Vectors:
    """The word vectors of a GloVe or word2vec file, text, plain or gzipped.

    The file is converted once, into a folder of `cache` named by its path, size and time; later calls map that.
    Words are made normal; of words that are then equal the first is kept, which is the most frequent.

    Raises: BespokeError when the file is missing, empty, damaged, cut off, or holds no vectors.
    """
    folder = cache / _mark(file)
    if folder.exists() and not _complete(folder):
        shutil.rmtree(folder)
    if not folder.exists():
        with contextlib.suppress(FileExistsError), atomic_folder(folder) as temporary:
            _convert(file, temporary, report)
    return _mapped(folder)


def _mark(file: Path) -> str:
    """What names a file's content without reading it."""
    size(file)
    facts = file.stat()
    key = f"{FORMAT} {file.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _complete(folder: Path) -> bool:
    """Whether every file has the size that the manifest names; hashing them would take longer than opening."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == facts["bytes"] for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mapped(folder: Path) -> Vectors:
    import pyarrow

    with pyarrow.memory_map(str(folder / "words.arrow")) as source:
        table = pyarrow.ipc.open_file(source).read_all()
    words = Words(table["word"].chunk(0))
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    return Vectors(words, Index(words, table["order"].chunk(0).to_numpy()), rows, facts["skipped"])


def _convert(file: Path, folder: Path, report: Report) -> None:
    skipped, found = Counter[str](), dict[str, None]()
    stream = lines(file, report)
    head = list(itertools.islice(stream, HEAD))
    said = _header(head[0])
    length = said[1] if said else Counter(line.rstrip(b" \t\r\n").count(b" ") for line in head).most_common(1)[0][0]
    rest = itertools.chain(head[1:] if said else head, stream)
    with (folder / "rows.npy").open("wb") as target:
        _write_header(target, 0, length)
        good = _whole(rest, file, length)
        for block in iter(lambda: list(itertools.islice(good, BLOCK)), []):
            target.write(_kept(block, length, found, skipped).astype(np.float16).tobytes())
        _write_header(target, len(found), length)
    _check(file, said, len(found), skipped)
    _write_words(folder / "words.arrow", list(found))
    write_json(folder / "facts.json", {"file": file.name, "dimensions": length, "skipped": +skipped})
    total = size(file)
    report(file.name, total, total, told(skipped))


def _header(line: bytes) -> tuple[int, int] | None:
    """What word2vec's first line says: how many rows, and how long; GloVe's files have no such line."""
    parts = line.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _whole(stream: Iterable[bytes], file: Path, length: int) -> Iterator[bytes]:
    """The lines, of which the last must be whole."""
    line = b"\n"
    for line in stream:
        yield line
    if not line.endswith(b"\n") and _halves(line, length) is None:
        raise BespokeError(f"{file} is cut off: it ends within a line.", "Download it again, or copy it again.")


def _kept(
    block: Sequence[bytes], length: int, found: dict[str, None], skipped: Counter[str]
) -> Float[np.ndarray, "n d"]:
    """The rows of a block's lines that are good; their words are added to `found`, what was wrong to `skipped`."""
    halves = [_halves(line, length) for line in block]
    skipped[LENGTH] += halves.count(None)
    good = [half for half in halves if half is not None]
    rows = _numbers([numbers for _, numbers in good], length)
    kept: list[int] = []
    with np.errstate(over="ignore"):
        finite = np.asarray(np.isfinite(rows.astype(np.float16)).all(axis=1))
    for number, (raw, _) in enumerate(good):
        word, trouble = _word(raw)
        trouble = trouble or (TWICE if word in found else "" if finite[number] else NO_NUMBERS)
        if trouble:
            skipped[trouble] += 1
            continue
        found[word] = None
        kept.append(number)
    return rows[kept]


def _word(raw: bytes) -> tuple[str, str]:
    """The normal word of a line's bytes, and what is wrong with it."""
    try:
        word = normal(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return "", NOT_UTF8
    return word, "" if word else UNNAMED


def _halves(line: bytes, length: int) -> tuple[bytes, bytes] | None:
    """A line's word, which may hold spaces, and its numbers; nothing where it has another number of them."""
    line = line.rstrip(b" \t\r\n")
    spaces = line.count(b" ")
    if spaces == length:
        word, _, numbers = line.partition(b" ")
        return word, numbers
    if spaces < length:
        return None
    word, *numbers = line.rsplit(b" ", length)
    try:
        float(word.rpartition(b" ")[2])  # a number before the numbers: the row is longer than the others
    except ValueError:
        return word, b" ".join(numbers)
    return None


def _numbers(texts: Sequence[bytes], length: int) -> Float[np.ndarray, "n d"]:
    """The rows that the texts spell; one that cannot be read is not a number throughout."""
    if not texts or not length:
        return np.empty((len(texts), length), np.float32)
    with contextlib.suppress(ValueError):
        # A fifth faster than np.fromstring on all lines at once, and twice as fast as lists of floats.
        return np.loadtxt(texts, np.float32, comments=None, delimiter=" ", ndmin=2, encoding="utf-8")
    return np.stack([_row(text, length) for text in texts])


def _row(text: bytes, length: int) -> Float[np.ndarray, " d"]:
    try:
        row = np.array([float(part) for part in text.split()], np.float32)
    except ValueError:
        row = np.empty(0, np.float32)
    return row if len(row) == length else np.full(length, np.nan, np.float32)


def _write_header(target: BinaryIO, count: int, length: int) -> None:
    """The head of NumPy's file format, at its beginning: it keeps room for a count that is not known yet."""
    target.seek(0)
    facts = {"shape": (count, length), "fortran_order": False, "descr": "<f2"}
    np.lib.format.write_array_header_1_0(target, facts)


def _write_words(path: Path, found: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import compute

    array: Any = pyarrow.array(found, pyarrow.string())
    order = compute.call_function("sort_indices", [array]).cast(pyarrow.int32())
    table = pyarrow.table({"word": array, "order": order})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _check(file: Path, said: tuple[int, int] | None, kept: int, skipped: Counter[str]) -> None:
    lines_seen = kept + skipped.total()
    if said and lines_seen < said[0]:
        problem = f"{file} is cut off: its first line says {said[0]:,} words, and {lines_seen:,} follow."
        raise BespokeError(problem, "Download it again, or copy it again.")
    if not kept:
        hint = "It needs a word a line with its numbers after it, parted by spaces, as GloVe's and word2vec's texts."
        raise BespokeError(f"{file} holds no word vectors ({told(skipped) or 'no lines'}).", hint)
