"""kohya's file about datasets: `[general]`, `[[datasets]]` and `[[datasets.subsets]]`, the inner ones heard first.

Source: kohya-ss/sd-scripts, docs/config_README-en.md and library/config_util.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bespoke.errors import BespokeError
from bespoke.recipe.peers.kohya import DATA, RUN
from bespoke.recipe.peers.table import Convert, Left, Needless, Options, Pictures, Put, Result, Source, Table
from bespoke.recipe.peers.values import needless, number, off, text, truth

NAMES = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}
"""Options that are called otherwise there. Source: config_util.py, ARGPARSE_OPTNAME_TO_CONFIG_OPTNAME."""
OF_SUBSETS = ("image_dir", "num_repeats", "class_tokens", "is_reg", "metadata_file", "conditioning_data_dir")
"""Options that each subset may have its own value of here, too."""
FOLDED = ("keep_tokens",)
"""Options that count with another's row."""
INSTEAD = ("train_data_dir", "reg_data_dir", "in_json")
ROWS: Table = {
    **DATA, "train_batch_size": RUN["train_batch_size"], "validation_split": RUN["validation_split"],
    "validation_seed": RUN["validation_seed"], "prior_loss_weight": needless("the command's own is heard"),
    **dict.fromkeys(("num_repeats", "class_tokens", "is_reg"), needless("it counts with its image_dir")),
    "metadata_file": DATA["in_json"], "network_multiplier": needless("it is for other kinds of training"),
}  # fmt: skip
"""What becomes of a dataset's options."""


@dataclass(frozen=True)
class Place:
    """A table of the file, with what those around it say."""

    name: str
    own: Mapping[str, Any]
    all: Mapping[str, Any]
    subset: bool = False


def flattened(config: Mapping[str, Any]) -> tuple[dict[str, Any], Table]:
    """Every option with the name of its place, and a table that says what becomes of each.

    Raises: BespokeError when the file has another form.
    """
    places = list(_places(config))
    main = next((place.all for place in places if place.subset and not _regular(place.all)), {})
    options = {f"{place.name}.{name}": value for place in places for name, value in place.own.items()}
    table = {f"{place.name}.{name}": _row(place, name, main) for place in places for name in place.own}
    rows = {name: row for name, row in table.items() if row is not None}
    return options, {**rows, **dict.fromkeys(INSTEAD, needless("the file of datasets is heard before it"))}


def _places(config: Mapping[str, Any]) -> Iterator[Place]:
    general = _mapping(config.get("general", {}), "general")
    yield Place("general", general, general)
    for number_, dataset in enumerate(_list(config.get("datasets", []), "datasets")):
        name = f"datasets[{number_}]"
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        yield Place(name, own, {**general, **own})
        for inner, subset in enumerate(_list(dataset.get("subsets", []), f"{name}.subsets")):
            yield Place(f"{name}.subsets[{inner}]", subset, {**general, **own, **subset}, subset=True)


def _row(place: Place, name: str, main: Options) -> Convert | None:
    if name == "image_dir":
        return lambda value, _: _pictures(value, place.all)
    row = ROWS.get(NAMES.get(name, name)) or ROWS.get(name)
    if row is None or name in OF_SUBSETS:
        return row
    heard = {NAMES.get(key, key): value for key, value in main.items()}

    def convert(value: Any, _: Options) -> Result:
        found = row(value, heard)
        if (isinstance(found, Put) or name in FOLDED) and name in main and main[name] != value:
            return Left(f"it is one for all here: {main[name]}, as of the first pictures")
        return found

    return convert


def _pictures(value: Any, said: Mapping[str, Any]) -> Result:
    if off(value):
        return Needless("it is empty")
    repeats, caption = number(said.get("num_repeats", 1)), text(said.get("class_tokens", ""))
    return Pictures(Source(text(value), repeats, caption, regularisation=_regular(said)))


def _regular(said: Mapping[str, Any]) -> bool:
    return truth(said.get("is_reg", False))


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BespokeError(f"{name} is no table.", "kohya's files of datasets have [general] and [[datasets]].")
    return cast(Mapping[str, Any], value)


def _list(value: object, name: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise BespokeError(f"{name} is no list of tables.", "Write [[datasets]] and [[datasets.subsets]].")
    return [_mapping(item, name) for item in cast(list[object], value)]
