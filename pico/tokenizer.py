"""Train pico's tokenizer, `python -m pico.tokenizer`: byte-pair encoding in CLIP's format, over captions."""

import importlib
import inspect
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

from pico.scenes import draw_caption, draw_scene
from pico.styles import PRACTICE

FOLDER = Path(__file__).parent / "work" / "tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 1600
ENGLISH = "argparse asyncio calendar collections csv datetime decimal difflib doctest email functools heapq http "
ENGLISH += "inspect ipaddress json logging pathlib pickle random re sched shelve smtplib socket statistics string "
ENGLISH += "subprocess tarfile textwrap threading timeit tkinter turtle typing unittest urllib.request uuid zipfile"


def byte_letters() -> list[str]:
    """The printable stand-ins of the 256 bytes, in CLIP's order. Source: GPT-2's and CLIP's `bytes_to_unicode`."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def words() -> Counter[str]:
    """How often each word occurs: 40,000 captions of the world, and the docstrings of Python's standard library."""
    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in range(40_000):
        text = draw_caption(rng, draw_scene(rng))
        counts.update(re.findall(r"[a-z]+", text))
    for style in PRACTICE:
        counts.update(dict.fromkeys(style.split(), 2000))
    for name in ENGLISH.split():
        module = importlib.import_module(name)
        for _, thing in inspect.getmembers(module, lambda t: inspect.isclass(t) or inspect.isfunction(t)):
            counts.update(re.findall(r"[a-z]{2,}", (inspect.getdoc(thing) or "").lower()))
    return counts


def merges(counts: Counter[str], number: int) -> list[tuple[str, str]]:
    """The `number` most useful merges, most frequent pair first. Source: Sennrich et al. 2016, algorithm 1."""
    pieces = {word: (*word[:-1], word[-1] + "</w>") for word in counts}
    found: list[tuple[str, str]] = []
    for _ in range(number):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += counts[word]
        best = max(pairs, key=lambda p: (pairs[p], p))
        found.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return found


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def main() -> None:
    """The command: writes `vocab.json` and `merges.txt`."""
    letters = byte_letters()
    base = [*letters, *(letter + "</w>" for letter in letters)]
    found = merges(words(), VOCABULARY - len(base) - 2)
    vocabulary = [*base, *("".join(pair) for pair in found), START, END]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}, ensure_ascii=False))
    (FOLDER / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in found) + "\n")
    print(f"{len(vocabulary)} tokens, {len(found)} merges in {FOLDER}")


if __name__ == "__main__":
    main()
