"""Recipes read from and written to TOML, with `--set section.key=value` on top."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ValidationError
from tomlkit.items import AoT, Table

from bespoke.errors import BespokeError
from bespoke.recipe.tree import Recipe


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with each `section.key=value` of `overrides` put in.

    Raises: BespokeError when the file is missing, is not TOML, or holds a key or value that no recipe has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BespokeError(
            f"There is no recipe at {path}.", "Make one with: bespoke new DIR --images FOLDER_OF_PICTURES"
        ) from None
    except IsADirectoryError:
        raise BespokeError(
            f"{path} is a folder, not a recipe.", f"Name the file in it: {path / 'recipe.toml'}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BespokeError(f"{path} is not valid TOML: {error}", "Text values need quotation marks.") from None
    return parse(put(content, *overrides), str(path))


def put(content: Mapping[str, Any], *overrides: str) -> dict[str, Any]:
    """`content` with each `section.key=value` put in; a value that is not TOML is taken as text.

    Raises: BespokeError when an override has another form.
    """
    changed = dict(content)
    for override in overrides:
        name, equals, value = override.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and section and key):
            raise BespokeError(f"--set {override} is not of the form section.key=value.", "Example: --set model.rank=8")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        table = changed.get(section, {})
        changed[section] = {**table, key: parsed} if isinstance(table, Mapping) else {key: parsed}
    return changed


def parse(content: Mapping[str, Any], where: str) -> Recipe:
    """The recipe that `content` describes.

    Raises: BespokeError naming every wrong key, with the nearest right one, and every wrong value.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [
            _complaint(detail["loc"], detail["type"], detail["msg"], detail.get("input")) for detail in error.errors()
        ]
        raise BespokeError(f"{where}: " + " ".join(lines), "docs/recipe.md explains every key.") from None


def _complaint(location: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    name = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        return f"there is no key {name}. {_guess(location)}"
    if kind == "model_type":
        return f"{name} = {value!r}: {name} is a table, [{name}], with keys of its own."
    return f"{name} = {value!r}: {message}."


def _guess(location: tuple[int | str, ...]) -> str:
    """What the person may have meant: the same word in another section, else the nearest word here, else anywhere."""
    here, word = ".".join(map(str, location[:-1])), str(location[-1])
    sections = [name for name, field in Recipe.model_fields.items() if get_origin(field.annotation) is not tuple]
    everywhere = {f"{section}.{key}": key for section in sections for key in _keys((section,))}
    same = [name for name, key in everywhere.items() if key == word]
    near = difflib.get_close_matches(word, _keys(location[:-1]), n=1, cutoff=0.6)
    far = difflib.get_close_matches(word, everywhere.values(), n=1, cutoff=0.7)
    if near and not same:
        return f"Did you mean {here}.{near[0]}?" if here else f"Did you mean [{near[0]}]?"
    if same or far:
        return f"Did you mean {' or '.join(name for name, key in everywhere.items() if key in (word, *far[:1]))}?"
    return f"Known: {', '.join(_keys(location[:-1]))}."


def _keys(location: tuple[int | str, ...]) -> list[str]:
    tree: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, int):  # the number of a table in a list, which has the keys of all
            continue
        annotation = tree.model_fields[part].annotation if part in tree.model_fields else None
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        tree = annotation
    return list(tree.model_fields)


def dump(recipe: Recipe, reasons: Mapping[str, str] | None = None) -> str:
    """The recipe as TOML: what differs from the defaults, and each derived value with its reason as a comment."""
    reasons = reasons or {}
    document = tomlkit.document()
    for section, values in recipe.model_dump(mode="json").items():
        if isinstance(values, list):  # of tables, such as [[stage]]
            if values:
                document[section] = _tables(cast(list[dict[str, Any]], values))
            continue
        defaults = type(getattr(recipe, section))().model_dump(mode="json")
        table = tomlkit.table()
        for key, value in values.items():
            why = reasons.get(f"{section}.{key}")
            if value is None or (value == defaults[key] and why is None and (section, key) != ("model", "base")):
                continue
            item = tomlkit.item(value)  # made here, because a table gives plain booleans back
            table[key] = item.comment(why) if why else item
        if len(table):
            document[section] = table
    return tomlkit.dumps(document)


def _tables(content: list[dict[str, Any]]) -> AoT:
    array = tomlkit.aot()
    for values in content:
        array.append(tomlkit.item({key: value for key, value in values.items() if value is not None}))
    return array


def comments(text: str) -> dict[str, str]:
    """The comment beside each `section.key` of a recipe's TOML: the reasons that `dump` wrote."""
    document = tomlkit.parse(text)
    return {
        f"{section}.{key.key}": item.trivia.comment.removeprefix("# ")
        for section, table in document.items()
        if isinstance(table, Table)
        for key, item in table.value.body
        if key and item.trivia.comment
    }
