"""The tables of other trainers' options against the options' names in their own sources, and their laws."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peers.options import LISTED

from bespoke.errors import BespokeError
from bespoke.recipe import parse
from bespoke.recipe.peers import diffusers, everydream, kohya, kohya_gui, onetrainer
from bespoke.recipe.peers.kohya_datasets import ROWS
from bespoke.recipe.peers.onetrainer_concepts import CONCEPT, SAMPLE
from bespoke.recipe.peers.onetrainer_names import PARTS
from bespoke.recipe.peers.table import Epochs, Part, Peer, Put, Reading
from bespoke.recipe.peers.values import count_or_part, off, pairs, to, truth

REAL = {trainer: set(names.split()) for trainer, names in json.loads(LISTED.read_text("utf-8")).items()}
NESTED = {"optimizer", "quantization", "embedding", "cloud", "secrets"} | set(PARTS.split())
PEERS = {
    "sd-scripts": kohya.peer({}, "train_network.py"), "kohya_ss": kohya_gui.peer({"LoRA_type": "Standard"}),
    "diffusers": diffusers.peer("train_text_to_image_lora.py"), "OneTrainer": onetrainer.reading({}).peer,
    "EveryDream2": everydream.reading({}).peer,
}  # fmt: skip
SOME = st.one_of(st.booleans(), st.integers(-9, 9999), st.floats(allow_nan=False), st.text(max_size=9), st.none(),
                 st.lists(st.text(max_size=4), max_size=3))  # fmt: skip


def settings(table) -> set[str]:
    return {name for name in table if "." not in name}


def test_every_option_of_sd_scripts_is_known_and_no_other():
    assert settings(kohya.TABLE) - {"custom_attributes"} == REAL["sd-scripts"]
    assert len(REAL["sd-scripts"]) == 218


def test_every_option_of_a_file_of_datasets_is_known():
    handled = {"subsets", "image_dir", "batch_size"}
    assert REAL["datasets"] - handled <= ROWS.keys()


def test_every_field_of_kohya_ss_is_known():
    assert {name for name in REAL["kohya_ss"] if not kohya_gui.is_option(name)} == set()


def test_every_option_of_diffusers_scripts_is_known_and_no_other():
    assert settings(diffusers.TABLE) == REAL["diffusers"]
    assert len(REAL["diffusers"]) == 117


def test_every_option_of_everydream2_is_known_and_no_other():
    of_its_files_only = {"notebook", "lowvram", "disable_xformers", "scale_lr"}
    assert settings(everydream.TABLE) - of_its_files_only == REAL["EveryDream2"]


def test_every_setting_of_onetrainer_is_known_and_no_other():
    assert (
        settings(onetrainer.TABLE) - {"__version", "weight_dtype", "cloud", "secrets"} == REAL["TrainConfig"] - NESTED
    )
    optimizers = {name.partition(".")[2] for name in onetrainer.TABLE if name.startswith("optimizer.")}
    assert optimizers - {"__version"} == REAL["TrainOptimizerConfig"]
    for part in PARTS.split():
        assert {f"{part}.{name}" for name in REAL["TrainModelPartConfig"]} <= onetrainer.TABLE.keys()
    assert {f"embedding.{name}" for name in REAL["TrainEmbeddingConfig"]} <= onetrainer.TABLE.keys()
    assert {f"cloud.{name}" for name in REAL["CloudConfig"]} <= onetrainer.TABLE.keys()
    assert {name for name in CONCEPT if "." not in name} == REAL["ConceptConfig"] - {"image", "text"}
    for part, known in (("image", REAL["ConceptImageConfig"]), ("text", REAL["ConceptTextConfig"])):
        assert {n.partition(".")[2] for n in CONCEPT if n.startswith(f"{part}.")} == known
    assert SAMPLE.keys() == REAL["SampleConfig"] - {"prompt"}


@pytest.mark.parametrize("name", PEERS)
@given(st.data())
def test_every_option_is_accounted_for_whatever_it_says_and_the_recipe_loads(name, data):
    peer = PEERS[name]
    known = data.draw(st.dictionaries(st.sampled_from(sorted(peer.table)), SOME, max_size=8))
    options = known | data.draw(st.dictionaries(st.text(min_size=1, max_size=9), SOME, max_size=3))
    carried = Reading(peer, options).all("file")
    said = [line.option for line in carried.lines if line.option and not line.default]
    assert said == list(options)
    assert {line.option for line in carried.of("unknown")} == {name for name in options if peer.row(name) is None}
    assert all(line.why for fate in ("left", "needless", "unknown") for line in carried.of(fate))
    parse(carried.settled(10, 100).content, "recipe.toml")


@pytest.mark.parametrize("name", PEERS)
def test_defaults_are_options_that_exist_and_set_something(name):
    peer = PEERS[name]
    assert peer.defaults.keys() <= peer.table.keys()
    parse(Reading(peer, {}).all("nothing").content, "recipe.toml")


def test_of_two_options_about_one_key_the_table_s_first_counts_and_the_other_is_told():
    peer = Peer("x", {"unet_lr": to("train.learning_rate"), "learning_rate": to("train.learning_rate")})
    carried = Reading(peer, {"learning_rate": 1e-3, "unet_lr": 1e-4}).all("file")
    assert carried.content == {"train": {"learning_rate": 1e-4}}
    assert [(line.option, line.fate) for line in carried.lines] == [
        ("learning_rate", "needless"),
        ("unet_lr", "carried"),
    ]
    assert "unet_lr is heard before it" in carried.lines[0].why


def test_what_a_recipe_would_refuse_is_left_and_told():
    carried = Reading(Peer("x", {"lr": to("train.learning_rate")}), {"lr": -1.0}).all("file")
    assert carried.content == {} and "bespoke takes no such value" in carried.of("left")[0].why


def test_a_variable_that_nobody_set_is_no_value():
    carried = Reading(Peer("x", {"lr": to("train.learning_rate")}), {"lr": "$RATE"}).all("file")
    assert "the file does not say what the variable in it is" in carried.of("left")[0].why


def test_epochs_and_parts_become_steps():
    peer = Peer("x", {"a": lambda *_: Put({"sample.sample_every_n_steps": Epochs(0.5)}),
                      "b": lambda *_: Put({"train.lr_warmup_steps": Part(0.1)})})  # fmt: skip
    carried = Reading(peer, {"a": 1, "b": 1}).all("file")
    assert carried.content == {}
    settled = carried.settled(30, 200)
    assert settled.content == {"sample": {"sample_every_n_steps": 15}, "train": {"lr_warmup_steps": 20}}
    assert "0.5 epochs" in settled.lines[0].why


def test_values_are_read_as_files_write_them():
    assert truth("True") and truth(1) and not truth("false") and not truth("")
    assert off("None") and off(0) and off("0.0") and off([]) and not off("0.1") and not off(True)
    assert count_or_part("0.1") == Part(0.1) and count_or_part(100) == 100
    assert pairs('a=1 "b=x=y"') == {"a": "1", "b": "x=y"} and pairs(["c=(0.9,0.99)"]) == {"c": "(0.9,0.99)"}
    with pytest.raises(ValueError, match="key=value"):
        pairs(["nothing"])


def test_the_tables_themselves_are_whole():
    assert replace(PEERS["diffusers"]).row("frobnicate") is None
    with pytest.raises(BespokeError):
        parse({"train": {"learning_rate": 0.0}}, "recipe.toml")
