"""The recipe: what is wrong is refused with the right word, what is left out is filled in and explained."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from bespoke.errors import BespokeError
from bespoke.recipe import Facts, Recipe, derive, dump, load, parse, put
from bespoke.recipe.document import document
from bespoke.recipe.training import Stage


def refusal(content: dict, where: str = "recipe.toml") -> str:
    with pytest.raises(BespokeError) as caught:
        parse(content, where)
    assert caught.value.problem.startswith(where)
    return caught.value.problem


def test_an_empty_recipe_is_a_recipe():
    assert parse({}, "recipe.toml") == Recipe()


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        ({"train": {"learning_rat": 1e-3}}, "Did you mean train.learning_rate?"),
        ({"train": {"steps": 10}}, "Known: seed, train_text_encoder, max_train_steps"),
        ({"model": {"Rank": 10}}, "Did you mean model.rank?"),
        ({"trian": {"learning_rate": 1e-3}}, "Did you mean [train]?"),
        ({"rank": 8}, "Did you mean model.rank?"),
        ({"train": {"rank": 8}}, "Did you mean model.rank?"),
        ({"model": {"learning_rate": 8.0}}, "Did you mean words.learning_rate or train.learning_rate?"),
        ({"model": {"learning_rte": 8.0}}, "Did you mean words.learning_rate or train.learning_rate?"),
        ({"seed": 1}, "Did you mean model.seed or caption.seed or augment.seed or words.seed or train.seed or"),
        (
            {"model": {"xyzzy": 1}},
            "Known: base, method, targets, rank, alpha, rank_pattern, alpha_pattern, rslora, init, decompose_both,",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(content, guess):
    assert guess in refusal(content)


def test_every_wrong_key_and_value_is_named_at_once():
    problem = refusal({"train": {"learning_rat": 1, "seed": "x"}, "model": {"rank": 0}})
    assert "train.learning_rat" in problem
    assert "train.seed = 'x'" in problem
    assert "model.rank = 0" in problem


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "rank", "16"),
        ("model", "rank", True),
        ("model", "rank", 1.5),
        ("model", "rank", -1),
        ("model", "method", "magic"),
        ("train", "learning_rate", float("nan")),
        ("train", "learning_rate", float("inf")),
        ("train", "learning_rate", 0.0),
        ("train", "learning_rate", True),
        ("train", "adam_beta2", 1.0),
        ("train", "lr_warmup_steps", -1),
        ("data", "random_flip", "yes"),
        ("data", "random_flip", 1),
        ("data", "path", 7),
        ("data", "validation_fraction", 1.0),
        ("objective", "change_prompts", "one prompt"),
        ("objective", "change_prompts", ["one", 2]),
    ],
)
def test_a_wrong_value_is_refused(section, key, value):
    assert f"{section}.{key}" in refusal({section: {key: value}})


def test_a_whole_number_is_a_number():
    assert parse({"train": {"snr_gamma": 5}}, "").train.snr_gamma == 5.0


def test_a_section_is_a_table():
    assert "model is a table, [model]" in refusal({"model": 3})


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("model.rank=8", "model", "rank", 8),
        (" model.rank = 8", "model", "rank", 8),
        ("train.learning_rate=1e-3", "train", "learning_rate", 1e-3),
        ("train.use_ema=true", "train", "use_ema", True),
        ("text.trigger=8bit", "text", "trigger", "8bit"),
        ("text.trigger=8bit illustration", "text", "trigger", "8bit illustration"),
        ('text.trigger="8bit"', "text", "trigger", "8bit"),
        ("text.trigger=", "text", "trigger", ""),
        ("data.path=a=b", "data", "path", "a=b"),
        ("data.path=C:\\pictures", "data", "path", "C:\\pictures"),
        ('objective.keep_prompts=["a", "b"]', "objective", "keep_prompts", ("a", "b")),
    ],
)
def test_set_puts_one_value(override, section, key, value):
    recipe = parse(put({}, override), "")
    assert getattr(getattr(recipe, section), key) == value


def test_set_keeps_the_rest_and_leaves_its_argument_alone():
    content = {"model": {"rank": 8, "seed": 1}, "data": {"path": "x"}}
    assert put(content, "model.rank=4") == {"model": {"rank": 4, "seed": 1}, "data": {"path": "x"}}
    assert content["model"]["rank"] == 8


@pytest.mark.parametrize("override", ["model.rank", "rank=8", "=8", ".rank=8", "model.=8", ""])
def test_set_of_another_form_is_refused(override):
    with pytest.raises(BespokeError, match=r"section\.key=value") as caught:
        put({}, override)
    assert "model.rank=8" in caught.value.hint


def test_load_reads_the_file_and_the_overrides(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\nbase = "pico"\nrank = 8\n', encoding="utf-8")
    assert load(path).model.rank == 8
    recipe = load(path, ["model.rank=4", "model.rank=2", "train.seed=9"])
    assert (recipe.model.rank, recipe.train.seed) == (2, 9)


def test_load_reads_what_windows_notepad_writes(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf[model]\r\nrank = 8\r\n")
    assert load(path).model.rank == 8


@pytest.mark.parametrize(
    "content",
    [b"[model\n", b"[model]\nrank = eight\n", b"[model]\nrank = 1\nrank = 2\n", b'[text]\ntrigger = "\xff"\n'],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(BespokeError, match="not valid TOML"):
        load(path)


def test_a_missing_file_and_a_folder_are_explained(tmp_path):
    with pytest.raises(BespokeError) as caught:
        load(tmp_path / "recipe.toml")
    assert "bespoke new" in caught.value.hint
    with pytest.raises(BespokeError) as caught:
        load(tmp_path)
    assert str(tmp_path / "recipe.toml") in caught.value.hint


def values(tree: type[BaseModel]) -> st.SearchStrategy:
    """Recipes of every kind: pydantic's own schema says which values a key may have."""
    return st.fixed_dictionaries({}, optional={key: value(tree, key) for key in tree.model_fields})


def value(tree: type[BaseModel], key: str) -> st.SearchStrategy:
    kind = tree.model_fields[key].annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return values(kind)
    if key == "stage":
        return st.lists(values(Stage), max_size=3)
    schema = tree.model_json_schema()["properties"][key]
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return st.one_of([from_schema({**schema, **option}) for option in options])


def from_schema(schema: dict) -> st.SearchStrategy:
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    match schema["type"]:
        case "integer":
            return st.integers(None if low is None else low + ("exclusiveMinimum" in schema), high)
        case "number":
            return st.floats(
                low,
                high,
                exclude_min="exclusiveMinimum" in schema,
                exclude_max="exclusiveMaximum" in schema,
                allow_nan=False,
                allow_infinity=False,
            )
        case "array" | "object":
            inner = from_schema(schema.get("items") or schema["additionalProperties"])
            as_list, as_table = st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=12), inner, max_size=3)
            return as_list if schema["type"] == "array" else as_table
        case "boolean":
            return st.booleans()
        case kind:
            assert kind == "string"
            return st.text(max_size=12)


def sensible(content: dict) -> dict:
    """Every stage says how long it is, and then nothing else does."""
    if not content.get("stage"):
        return content
    train = {key: value for key, value in content.get("train", {}).items() if key != "max_train_steps"}
    return {**content, "stage": [{"num_train_epochs": 2, **stage} for stage in content["stage"]], "train": train}


recipes = values(Recipe).map(sensible).map(lambda content: parse(content, "made by hypothesis"))
facts = st.builds(
    Facts,
    pictures=st.integers(0, 100_000),
    native_resolution=st.sampled_from([64, 512, 768, 1024]),
    trigger=st.sampled_from(["", "8bit illustration of"]),
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    bf16=st.booleans(),
)


def reloaded(text: str, folder: Path) -> Recipe:
    # What lies in the folder of all tests would be found by those that look upwards for a project.
    path = folder / "recipes" / "recipe.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return load(path)


@given(recipes)
def test_load_after_dump_is_the_same_recipe(tmp_path_factory, recipe):
    assert reloaded(dump(recipe), tmp_path_factory.getbasetemp()) == recipe


@given(recipes, facts)
def test_a_derived_recipe_can_be_written_and_read(tmp_path_factory, recipe, known):
    derived, reasons = derive(recipe, known)
    text = dump(derived, reasons)
    assert reloaded(text, tmp_path_factory.getbasetemp()) == derived
    for reason in reasons.values():
        assert f"# {reason}" in text


MAY_STAY_OPEN = {
    "download.robots", "download.private_addresses",
    "clean.clip", "clean.safety_checker", "clean.detector",
    "train.snr_gamma", "train.soft_min_snr_gamma", "train.p2_gamma", "train.max_timestep",
    "balance.by", "caption.model", "caption.categories", "caption.clip", "caption.detector",
    "caption.top_p", "data.processes", "train.num_train_epochs", "evaluate.clip", "evaluate.detector",
    "words.budget", "words.learning_rate", "train.max_adapter_norm", "sweep.minutes",
    "model.quantization", "sweep.parallel", "sample.width", "sample.height", "sample.dtype",
}  # fmt: skip
"""None means that it is off, or chosen by a command other than training."""


def flat(recipe: Recipe) -> dict[str, object]:
    tables = {section: table for section, table in recipe.model_dump().items() if section != "stage"}
    return {f"{s}.{k}": v for s, table in tables.items() for k, v in table.items()}


@given(recipes, facts)
def test_derive_fills_what_is_open_with_reasons_and_changes_nothing_else(recipe, known):
    before, (derived, reasons) = flat(recipe), derive(recipe, known)
    after = flat(derived)
    assert {name for name, value in after.items() if value is None} <= MAY_STAY_OPEN
    assert set(reasons) == {name for name, value in before.items() if value is None} - MAY_STAY_OPEN
    assert all(reasons.values())
    assert {name: after[name] for name, value in before.items() if value is not None} == {
        name: value for name, value in before.items() if value is not None
    }
    assert derive(derived, known) == (derived, {})


@given(recipes, facts)
def test_what_is_derived_is_what_a_recipe_may_hold(recipe, known):
    derived, _ = derive(recipe, known)
    assert parse(derived.model_dump(), "derived") == derived


def test_steps_follow_the_pictures():
    def steps(pictures: int, **train: object) -> int:
        recipe = parse({"train": train}, "")
        derived = derive(recipe, Facts(pictures, 64, "", "cpu", bf16=False))[0]
        assert derived.train.max_train_steps is not None
        return derived.train.max_train_steps

    assert steps(100) == 5400 // 8 == 675
    assert steps(100, gradient_accumulation_steps=2) == 338
    assert steps(100, train_batch_size=4) == 1350
    assert steps(1) == 200
    assert steps(10**6) == 6000
    assert steps(100, max_train_steps=7) == 7


def test_plain_pictures_are_drawn_where_a_trigger_calls_the_style():
    def drawn(trigger: str | None, found: str) -> int | None:
        recipe = parse({"text": {} if trigger is None else {"trigger": trigger}}, "")
        return derive(recipe, Facts(100, 64, found, "cpu", bf16=False))[0].train.num_class_images

    assert drawn(None, "8bit") == 100
    assert drawn(None, "") == 0
    assert drawn("8bit", "") == 100
    assert drawn("", "8bit") == 0


def test_dump_writes_only_what_differs():
    assert dump(Recipe()) == '[model]\nbase = "pico"\n'
    assert dump(parse({"train": {"seed": 3}}, "")) == '[model]\nbase = "pico"\n\n[train]\nseed = 3\n'
    derived, reasons = derive(Recipe(), Facts(100, 64, "", "cpu", bf16=False))
    assert "max_train_steps = 675 # 5400 images seen, 8 a step" in dump(derived, reasons)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().model.rank = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_explains_every_key():
    for section, field in Recipe.model_fields.items():
        tree = Stage if section == "stage" else field.annotation
        assert isinstance(tree, type)
        assert issubclass(tree, BaseModel)
        assert f"## `[[{section}]]`" in document() or f"## `[{section}]`" in document()
        for key, info in tree.model_fields.items():
            assert info.description, f"{section}.{key} has no docstring"
            assert f"| `{key}` |" in document()


def test_small_models_are_guided_less_and_what_a_person_says_stays():
    for side, expected in ((64, 2.0), (512, 7.5)):
        derived, reasons = derive(Recipe(), Facts(100, side, "", "cpu", bf16=False))
        assert derived.sample.guidance_scale == expected and "sample.guidance_scale" in reasons
    given = parse({"sample": {"guidance_scale": 3.0}}, "the test")
    assert derive(given, Facts(100, 512, "", "cpu", bf16=False))[0].sample.guidance_scale == 3.0
