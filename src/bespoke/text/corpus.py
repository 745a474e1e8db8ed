"""A large text turned into how often each word occurs in it: WikiText as published, or any other."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.text.lines import Report, lines, silent, size, told
from bespoke.text.normal import normal, words

SMALL = Path(__file__).parent / "small" / "wiki.train.raw"
"""A small text of pico's world, for those who name none."""
HELD = 500_000
"""Different runs of letters that are held before they are taken apart into words."""
GLUE = {
    " @-@ ": "-", " @,@ ": ",", " @.@ ": ".", " 's ": "'s ", " 't ": "'t ", " 're ": "'re ", " 've ": "'ve ",
    " 'll ": "'ll ", " 'm ": "'m ", " 'd ": "'d ", "<unk>": " ",
}  # fmt: skip
"""What WikiText took apart, and what it put for rare words. Source: Merity et al. 2016, section 4."""
NOT_UTF8 = "not in UTF-8"


class Counts(Counter[str]):
    """How often each normal word occurs; `skipped` says how many lines were left out, by reason."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: Counter[str] = Counter()


def counted_words(file: Path, report: Report = silent) -> Counts:
    """How often each word occurs in a text file, plain or gzipped, or in the column `text` of a Parquet file.

    Memory grows with the number of different words, not with the file.

    Raises: BespokeError when the file is missing, empty or damaged, or a table without such a column.
    """
    counts, runs = Counts(), Counter[str]()
    for text in _texts(file, counts.skipped, report):
        runs.update(normal(_glued(text)).split(" "))
        if len(runs) >= HELD:
            _take_apart(runs, counts)
    _take_apart(runs, counts)
    total = size(file)
    report(file.name, total, total, told(counts.skipped))
    return counts


def _glued(text: str) -> str:
    for apart, together in GLUE.items():
        text = text.replace(apart, together)
    return text


def _take_apart(runs: Counter[str], counts: Counter[str]) -> None:
    """Counts the words of each run of letters once, however often it came: that is what makes this fast."""
    for run, count in runs.items():
        for word in words(run):
            counts[word] += count
    runs.clear()


def _texts(file: Path, skipped: Counter[str], report: Report) -> Iterator[str]:
    size(file)
    with file.open("rb") as opened:
        parquet = opened.read(4) == b"PAR1"
    if parquet:
        yield from _column(file, report)
        return
    for line in lines(file, report):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            skipped[NOT_UTF8] += 1


def _column(file: Path, report: Report) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    total = size(file)
    try:
        with parquet.ParquetFile(file, memory_map=True) as table:
            name, rows, done = _name(table.schema_arrow, file), table.metadata.num_rows, 0
            for batch in table.iter_batches(batch_size=4096, columns=[name]):
                yield from filter(None, batch.column(0).to_pylist())
                done += len(batch)
                report(file.name, total * done // rows, total)
    except pyarrow.ArrowException as error:
        problem = f"{file} is damaged or cut off: {error}"
        raise BespokeError(problem, "Download it again, or copy it again.") from error


def _name(schema: Any, file: Path) -> str:  # noqa: ANN401 - pyarrow is typed in part only
    import pyarrow

    kinds = (pyarrow.string(), pyarrow.large_string())
    texts = [name for name in schema.names if schema.field(name).type in kinds]
    if "text" in texts or len(texts) == 1:
        return "text" if "text" in texts else texts[0]
    raise BespokeError(
        f"{file} has no column `text`; its columns: {', '.join(schema.names)}.", "Rename the one to read."
    )
