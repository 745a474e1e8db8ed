"""A file of another trainer's settings, whichever it is of, turned into a recipe and an account of every option."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bespoke.errors import BespokeError
from bespoke.recipe.peers import diffusers, everydream, kohya, kohya_datasets, kohya_gui, onetrainer
from bespoke.recipe.peers.kohya_samples import Lines
from bespoke.recipe.peers.shell import Command, commands
from bespoke.recipe.peers.table import Carried, Left, Line, Options, Peer, Reading, Table
from bespoke.recipe.peers.values import needless, off, text, to
from bespoke.recipe.tree import Recipe

KNOWN = (
    "Known are kohya's sd-scripts (TOML, its file of datasets, a command), kohya_ss (JSON), OneTrainer (JSON), "
    "EveryDream2 (JSON) and diffusers' scripts (a command)."
)  # fmt: skip
LARGEST = 4_000_000
"""Bytes; no file of settings is larger."""
LAUNCHER = needless("start bespoke train under accelerate launch or torchrun to use several devices")


def read_settings(path: Path) -> Carried:
    """What becomes of the settings in a file of another trainer, told apart by what is in it; nothing is run.

    Files that it names, of datasets, concepts or prompts, are read too: from here or from its own folder.

    Raises: BespokeError when the file is missing, damaged or of no trainer that is known.
    """
    content = _content(path)
    stripped = content.lstrip()
    if stripped.startswith(("{", "[{")) or path.suffix.lower() == ".json":
        return _of_json(_parsed_json(content, path), path)
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        if path.suffix.lower() == ".toml":
            raise BespokeError(f"{path} is not valid TOML: {error}", "Mend it, or name another file.") from None
        return _of_commands(content, path)
    if not any(map(_known_to_kohya, _flat(table))) and not table.get("datasets") and commands(content):
        return _of_commands(content, path)  # nothing but NAME="value" lines and a command is both
    return _of_toml(table, path)


def _content(path: Path) -> str:
    hint = "Name a file of settings: a .toml, .json or .sh."
    if not path.is_file():
        raise BespokeError(f"There is no file {path}.", hint)
    if path.stat().st_size > LARGEST:
        raise BespokeError(f"{path} is too large to be settings.", hint)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BespokeError(f"{path} is not text.", hint) from None


def _parsed_json(content: str, path: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BespokeError(f"{path} is not valid JSON: {error}", "Mend it, or save it again in its trainer.") from None


def _of_json(content: Any, path: Path) -> Carried:
    if isinstance(content, Mapping):
        options = cast(Mapping[str, Any], content)
        if isinstance(options.get("datasets"), list):
            return _of_toml(options, path)
        if onetrainer.is_one(options):
            return onetrainer.reading(_with_files(options, path, onetrainer.FILES)).all(path.name)
        if everydream.is_one(options):
            return everydream.reading(_with_files(options, path, everydream.FILES)).all(path.name)
        if sum(map(kohya_gui.is_option, options)) >= max(1, len(options) / 2):
            return _of_kohya(kohya_gui.told(options), path, gui=True)
    raise BespokeError(f"{path} is of no trainer that bespoke knows.", KNOWN)


def _of_toml(content: Mapping[str, Any], path: Path) -> Carried:
    if isinstance(content.get("datasets"), list):
        return _of_kohya({}, path, datasets=content)
    flat = _flat(content)
    if not any(map(_known_to_kohya, flat)):
        if content and set(content) <= set(Recipe.model_fields):
            hint = "Copy it into a project's folder, or name it where a recipe is asked for."
            raise BespokeError(f"{path} is a recipe of bespoke's own.", hint)
        raise BespokeError(f"{path} is of no trainer that bespoke knows.", KNOWN)
    if "max_resolution" in flat or "LoRA_type" in flat:
        return _of_kohya(kohya_gui.told(flat), path, gui=True)
    return _of_kohya(flat, path)


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """A file's options with its tables laid together, as sd-scripts does."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= cast(dict[str, Any], value) if isinstance(value, dict) else {name: value}
    return flat


def _known_to_kohya(option: str) -> bool:
    return option in kohya.TABLE or kohya_gui.is_option(option)


def _of_kohya(
    options: Options, path: Path, script: str = "", *, gui: bool = False, datasets: Mapping[str, Any] | None = None
) -> Carried:
    """The settings of sd-scripts or its GUI, with the file of datasets that they name."""
    options = _with_files(options, path, {"sample_prompts": "lines", "dataset_config": "tables"})
    inner = options.get("dataset_config")
    peer = kohya_gui.peer(options) if gui else kohya.peer(options, script)
    rows: Table = {}
    if isinstance(inner, Tables) or datasets:
        flat, rows = kohya_datasets.flattened(datasets or cast(Tables, inner))
        options = {**options, **flat}
    elif not off(inner):
        rows = {"dataset_config": lambda *_: Left("the file is not there; name the pictures' folder")}
    peer = replace(peer, table={**rows, **peer.table, **rows})  # heard first, and instead
    return Reading(peer, kohya.spread(options)).all(path.name)


class Tables(dict[str, Any]):
    """What is in a file that an option names, and its name."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def _with_files(options: Options, path: Path, named: Mapping[str, str]) -> dict[str, Any]:
    """The options with what is in the files that some of them name, where these are there."""
    found = dict(options)
    for option, form in named.items():
        name = options.get(option)
        file = nearby(text(name), path) if isinstance(name, str) and not off(name) else None
        if file is None or not file.is_file() or file.stat().st_size > LARGEST:
            continue
        content = _content(file)
        if form == "lines" and file.suffix.lower() == ".txt":
            found[option] = Lines(text(name), content.splitlines())
        elif form == "tables":
            whole = _parsed_json(content, file) if file.suffix.lower() == ".json" else _toml(content, file)
            found[option] = Tables(text(name), whole)
        elif form == "list":
            found[option] = _parsed_json(content, file)
    return found


def _toml(content: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise BespokeError(f"{path} is not valid TOML: {error}", "Mend it, or take its name out.") from None


def nearby(name: str, path: Path) -> Path | None:
    """What a name in a file means: from the working directory, as its trainer took it, or from the file's folder."""
    places = (Path(name).expanduser(), path.parent / name, path.parent / Path(name.replace("\\", "/")).name)
    try:
        return next((place for place in places if place.exists()), None)
    except (OSError, ValueError):
        return None


def _of_commands(content: str, path: Path) -> Carried:
    found = commands(content)
    if not found:
        raise BespokeError(f"{path} holds neither settings nor a training command that bespoke knows.", KNOWN)
    first = found[0]
    carried = _of_kohya_command(first, path) if _is_kohyas(first) else _of_diffusers(first, path)
    lines = [Line(word, word, "unknown", why="it belongs to no option") for word in first.loose]
    lines += [Line(c.script, "", "left", why="only the first training of the file is read") for c in found[1:]]
    return replace(carried, lines=(*carried.lines, *lines))


def _is_kohyas(command: Command) -> bool:
    kohyas = ("network", "_db.py", "fine_tune", "sdxl_train", "train_textual_inversion")
    return any(part in command.script for part in kohyas)


def _of_kohya_command(command: Command, path: Path) -> Carried:
    options = dict(command.options)
    named = options.get("config_file")
    file = nearby(text(named) if text(named).endswith(".toml") else f"{named}.toml", path) if named else None
    if file is not None and file.is_file():
        options = {**_flat(_toml(_content(file), file)), **options}
    elif named:
        raise BespokeError(f"{path} names {named}, which is not there.", "Name that file itself with --from.")
    return _launched(_of_kohya(whole_names(options, kohya.TABLE), path, command.script), command)


def _of_diffusers(command: Command, path: Path) -> Carried:
    peer = diffusers.peer(command.script)
    options = whole_names(command.options, peer.table)
    return _launched(Reading(peer, options).all(path.name), command)


def _launched(carried: Carried, command: Command) -> Carried:
    """The same with what the launcher is told, of which the script may not speak."""
    said = {f"accelerate --{name}": value for name, value in command.launcher.items()}
    spoken = "train.mixed_precision" in carried.keys
    row = needless("the script's own is heard before it") if spoken else to("train.mixed_precision", text)
    peer = Peer("accelerate launch", {"accelerate --mixed_precision": row}, groups=(("accelerate --", LAUNCHER),))
    return replace(carried, lines=(*Reading(peer, said).all("").lines, *carried.lines))


def whole_names(options: Options, table: Table) -> dict[str, Any]:
    """The options by their whole names: a parser takes the beginning of one, where that is no other's."""

    def whole(name: str) -> str:
        names: Sequence[str] = [known for known in table if known.startswith(name) and "." not in known]
        return names[0] if name not in table and len(names) == 1 else name

    return {whole(name): value for name, value in options.items()}
