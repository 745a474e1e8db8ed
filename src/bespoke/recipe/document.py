"""Turns the recipe's tree into the page that explains every key.

To write it anew: `python -m bespoke.recipe.document > docs/recipe.md`.
"""

import json
import sys
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from bespoke.recipe.tree import Recipe

INTRODUCTION = """# The recipe

<!-- Written by `python -m bespoke.recipe.document > docs/recipe.md` from src/bespoke/recipe/: edit that. -->

A recipe is one TOML file, `recipe.toml`. It says what is trained, on which pictures and how.
A key that no recipe has is refused, and the nearest right one is named.

Leave out what you do not care about. *Derived* means: worked out from the pictures, the model and the machine.
The run's own `recipe.toml` shows each derived value with its reason.

Any key can be set for one command: `bespoke train recipe.toml --set train.learning_rate=2e-4`.

```toml
[model]
base = "pico"
rank = 8

[train]
max_train_steps = 400
```
"""

PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def document() -> str:
    """The page in Markdown: for each section a table of its keys, values, defaults and meanings."""
    return INTRODUCTION + "".join(_section(name, field) for name, field in Recipe.model_fields.items())


def _section(name: str, field: FieldInfo) -> str:
    many = get_origin(field.annotation) is tuple
    tree: Any = get_args(field.annotation)[0] if many else field.annotation
    meaning = tree.__doc__.split(": ", 1)[1]
    rows = (_row(key, info) for key, info in tree.model_fields.items())
    title = f"[[{name}]]" if many else f"[{name}]"
    head = f"\n## `{title}`\n\n{meaning[0].upper()}{meaning[1:]}\n\n"
    return head + "| key | value | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _row(key: str, info: FieldInfo) -> str:
    kind = ", ".join(filter(None, [_kind(info.annotation), *(_bound(rule) for rule in info.metadata)]))
    default = "" if info.default is None else f"`{json.dumps(info.default)}`"
    meaning = (info.description or "").replace("|", "\\|").replace("\n", " ")
    return f"| `{key}` | {kind} | {default or _left_out(info)} | {meaning} |\n"


def _left_out(info: FieldInfo) -> str:
    return "off" if "off by default" in (info.description or "") else "*derived*"


def _kind(annotation: Any) -> str:  # noqa: ANN401 - annotations have no common type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Literal:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in arguments)
    if origin is tuple:
        return "list of texts" if arguments[0] is str else "list of numbers"
    if origin is dict:
        return f"table of {PLAIN.get(arguments[1], 'number')}s"
    if origin is Annotated:
        rules = (rule for extra in arguments[1:] for rule in getattr(extra, "metadata", ()))
        return ", ".join(filter(None, [_kind(arguments[0]), *map(_bound, rules)]))
    return " or ".join(_kind(part) for part in arguments if part is not NoneType)


def _bound(rule: object) -> str:
    match rule:
        case annotated_types.Gt(gt=0):
            return "above 0"
        case annotated_types.Ge(ge=0):
            return "0 or more"
        case annotated_types.Le(le=limit):
            return f"at most {limit:g}"
        case annotated_types.Lt(lt=limit):
            return f"below {limit:g}"
        case _:
            return ""


if __name__ == "__main__":
    sys.stdout.write(document())
