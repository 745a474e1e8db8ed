"""Seconds and memory of the text side at full size, `python -m benchmarks.lexicon`: files as large as the real ones.

It writes, into a temporary folder, word vectors of the size of glove.twitter.27B.100d.txt and a text of the size of
wikitext-103-raw, both of random words by Zipf's law, and deletes them. Each step runs in a process of its own, whose
highest resident memory is told. `--scale 0.01` makes the files a hundredth of that. Linux.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bespoke import seeds
from bespoke.text.candidates import candidates
from bespoke.text.corpus import counted_words
from bespoke.text.lexicon import Lexicon
from bespoke.text.vectors import vectors

WORDS, DIMENSIONS, BYTES, KNOWN = 1_193_514, 100, 540_000_000, 500_000
"""Of GloVe's file; of WikiText-103; and its different words."""
CAPTIONS, CLIP = 20_000, 30_000
"""Captions of the trial, and words that are one token."""
LENGTH = 100_000
"""Words that are written at once."""
GLOVE, WIKI, CACHE, LEXICON = "glove.txt", "wiki.train.raw", "cache/vectors", "lexicon.parquet"
KB, MB = 2**10, 2**20


def names(count: int) -> list[str]:
    """So many different words of three to twelve letters, the shorter ones first as a language has them."""
    draw, found = seeds.generator("benchmark", "words"), dict[str, None]()
    while len(found) < count:
        longest = 3 + min(9, len(found).bit_length() // 2)
        letters = draw.integers(97, 123, (LENGTH // 10, longest), dtype=np.uint8)
        lengths = draw.integers(3, longest + 1, len(letters))
        found |= {bytes(row[:n]).decode(): None for row, n in zip(letters, lengths, strict=True)}
    return list(found)[:count]


def write(folder: Path, scale: float) -> None:
    """Both files."""
    draw, known = seeds.generator("benchmark", "files"), names(int(WORDS * scale))
    numbers = [" ".join(f"{x:.5g}" for x in row) for row in draw.normal(0, 0.5, (2000, DIMENSIONS))]
    with (folder / GLOVE).open("w", encoding="utf-8") as file:
        picks = draw.integers(0, len(numbers), len(known))
        file.writelines(f"{word} {numbers[pick]}\n" for word, pick in zip(known, picks, strict=True))
    with (folder / WIKI).open("w", encoding="utf-8") as file:
        for line in spoken(known[: int(KNOWN * scale)], draw):
            file.write(line)
            if file.tell() >= BYTES * scale:
                break


def spoken(known: list[str], draw: np.random.Generator) -> Iterator[str]:
    """Paragraphs without end of words drawn by Zipf's law, with WikiText's marks among them."""
    table = np.array([*known, ",", ".", "@-@", "<unk>"], object)
    while True:
        picks = (len(known) ** draw.random(LENGTH)).astype(np.int64) - 1
        picks[draw.random(LENGTH) < 0.1] = len(known)
        picks[draw.random(LENGTH) < 0.05] = len(known) + 1
        picks[draw.random(LENGTH) < 0.01] = len(known) + 2
        drawn = table[picks]
        yield "".join(f" {' '.join(drawn[i : i + 100])} \n" for i in range(0, LENGTH, 100))


def captions(scale: float) -> list[str]:
    """Short captions, of common words and some rare ones."""
    draw, known = seeds.generator("benchmark", "captions"), names(int(WORDS * scale))
    common, rare = known[:2000], known[-400:]
    picks, terms = draw.integers(0, len(common), (CAPTIONS, 9)), draw.integers(0, len(rare), CAPTIONS)
    return [" ".join([*(common[i] for i in row), rare[term]]) for row, term in zip(picks, terms, strict=True)]


def pieces(text: str) -> int:
    """A stand-in for the tokenizer, whose time is not ours: a token for every three letters of a word."""
    return sum(-(-len(word) // 3) for word in text.split())


def convert(folder: Path, _scale: float) -> str:
    """The first reading of the vectors."""
    found = vectors(folder / GLOVE, folder / CACHE)
    return f"{len(found):,} words"


def look_up(folder: Path, _scale: float) -> str:
    """A later opening, with a thousand words looked up, and the neighbours of one."""
    found = vectors(folder / GLOVE, folder / CACHE)
    rows = found.of(found.words[:: len(found) // 1000])
    return f"{len(rows):,} rows, nearest {found.nearest(rows[0], 10)[0]}"


def count(folder: Path, _scale: float) -> str:
    """The words of the encyclopaedia."""
    found = counted_words(folder / WIKI)
    return f"{found.total():,} words, {len(found):,} different"


def build(folder: Path, scale: float) -> str:
    """The lexicon of all sources, from both files, saved."""
    known = vectors(folder / GLOVE, folder / CACHE)
    wiki = counted_words(folder / WIKI)
    lexicon = Lexicon.built(captions(scale), pieces, known.words[:CLIP], wiki, known)
    lexicon.save(folder / LEXICON)
    return f"{len(lexicon):,} words"


def choose(folder: Path, scale: float) -> str:
    """The candidates."""
    lexicon = Lexicon.load(folder / LEXICON)
    found = candidates(lexicon, captions(scale), least_gain=0.0)
    return f"{sum(one.accepted for one in found)} of {len(found):,} accepted"


STEPS: tuple[Callable[[Path, float], str], ...] = (convert, look_up, count, build, choose)


def measured(step: str, folder: Path, scale: float) -> str:
    """One step, its seconds, and the highest resident memory of this process."""
    began = time.perf_counter()
    said = globals()[step](folder, scale)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB / MB
    return f"{step:<8}{seconds:>8.1f} s{peak:>8.0f} MB  {said}\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        sys.stdout.write(measured(options.step[0], Path(options.step[1]), options.scale))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.scale)
        sizes = {file: (folder / file).stat().st_size / MB for file in (GLOVE, WIKI)}
        sys.stdout.write(", ".join(f"{file}: {size:,.0f} MB" for file, size in sizes.items()) + "\n")
        sys.stdout.flush()
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.lexicon", "--scale", str(options.scale)]
            subprocess.run([*command, "--step", step.__name__, name], check=True)


if __name__ == "__main__":
    main()
