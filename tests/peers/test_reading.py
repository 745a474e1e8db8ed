"""Settings files of other trainers, as people have them, turned into recipes."""

import json
from pathlib import Path

import pytest

from bespoke.errors import BespokeError
from bespoke.recipe import parse
from bespoke.recipe.peers import Carried, account, as_json, read_settings, told

FILES = Path(__file__).with_name("files")
SECRET = "do-not-write-me-down"


def read(name: str) -> tuple[Carried, dict]:
    carried = read_settings(FILES / name)
    settled = carried.settled(10, 100)
    parse(settled.content, name)
    return carried, settled.content


def why(carried: Carried, option: str) -> str:
    return next(line.why for line in carried.lines if line.option == option)


def fates(carried: Carried, *options: str) -> list[str]:
    return [next(line.fate for line in carried.lines if line.option == option) for option in options]


def test_kohyas_own_settings_keep_their_meaning():
    carried, recipe = read("lora.toml")
    assert carried.peer == "kohya's sd-scripts" and not carried.of("unknown")
    assert recipe["model"] == {
        "base": "stable-diffusion-v1-5/stable-diffusion-v1-5", "method": "lora", "rank": 8, "alpha": 4,
        "targets": ["attention", "feed-forward", "projections", "convolutions"],
        "rank_pattern": {"conv1": 4, "conv2": 4, "conv": 4}, "alpha_pattern": {"conv1": 1, "conv2": 1, "conv": 1},
    }  # fmt: skip
    train = recipe["train"]
    assert (train["learning_rate"], train["text_encoder_learning_rate"]) == (1e-4, 5e-5)
    assert train["train_text_encoder"] and train["optimizer"] == "adamw8bit"
    assert (train["adam_weight_decay"], train["adam_beta1"], train["adam_beta2"]) == (0.1, 0.9, 0.99)
    assert (train["lr_scheduler"], train["lr_num_cycles"], train["lr_warmup_steps"]) == ("cosine_with_restarts", 3, 5)
    assert "max_train_steps" not in train and train["num_train_epochs"] == 2
    assert (train["snr_gamma"], train["noise_offset"], train["max_adapter_norm"]) == (5.0, 0.05, 1.0)
    assert recipe["data"] == {
        "resolution": 64, "enable_bucket": True, "maximum_bucket_aspect": 4.0, "upscale": False, "random_flip": True,
        "validation_fraction": 0.2,
    }  # fmt: skip
    assert recipe["augment"]["variants"] == 8 and recipe["augment"]["keep_first"] == 1
    assert recipe["text"] == {"proportion_empty_prompts": 0.1, "brackets": "letters"}
    assert recipe["sample"] == {
        "prompts": ["sks toy of an apple", "sks toy on a table"], "width": 64, "height": 64, "seed": 7,
        "num_inference_steps": 5, "guidance_scale": 3.5, "negative_prompt": "blurry, dark", "scheduler": "euler_a",
        "sample_every_n_steps": 10,
    }  # fmt: skip
    assert recipe["track"] == {"tensorboard": False, "wandb": True}
    assert [(s.path, s.regularisation) for s in carried.sources] == [("pictures", False)]
    assert fates(carried, "clip_skip", "network_args.rank_dropout", "xformers") == ["left", "left", "needless"]
    assert "sample.clip_skip = 1" in why(carried, "clip_skip")


def test_what_kohya_does_where_its_file_is_silent_is_carried_too(tmp_path):
    (tmp_path / "short.toml").write_text('network_module = "networks.lora"\nnetwork_dim = 32\n')
    carried = read_settings(tmp_path / "short.toml")
    assert carried.content["model"]["alpha"] == 1, "sd-scripts' alpha is 1 where nobody says it, not the rank"
    assert carried.content["train"]["max_train_steps"] == 1600
    assert carried.content["train"]["train_text_encoder"] is True
    assert carried.content["train"]["lr_scheduler"] == "constant" and carried.content["train"]["lr_warmup_steps"] == 0
    assert carried.content["validation"]["early_stopping"] is False
    assert len(carried.of("carried")) == 2, "defaults are no options of the file"


@pytest.mark.parametrize(
    ("said", "method", "text_encoder"),
    [
        ("learning_rate = 1e-6", "full", True), ("train_text_encoder = false\nin_json = 'm.json'", "full", False),
        ("stop_text_encoder_training = -1", "full", False),
        ("network_train_unet_only = true\nnetwork_dim=4", "lora", False),
        ("network_dim = 4\nunet_lr = 1e-4\ntext_encoder_lr = 0", "lora", False),
        ("network_module = 'lycoris.kohya'\nnetwork_args = ['algo=loha']", "loha", True),
        ("network_module = 'lycoris.kohya'\nnetwork_args = ['algo=lora', 'dora_wd=True']", "dora", True),
    ],
)  # fmt: skip
def test_what_kohya_trains_is_what_is_trained(tmp_path, said, method, text_encoder):
    (tmp_path / "x.toml").write_text(said)
    content = read_settings(tmp_path / "x.toml").content
    assert (content["model"]["method"], content["train"]["train_text_encoder"]) == (method, text_encoder)


def test_a_file_of_datasets_says_which_pictures_and_how_often():
    carried, recipe = read("datasets.toml")
    found = [(s.path, s.repeats, s.caption, s.regularisation) for s in carried.sources]
    assert found == [
        ("toys", 3.0, "sks toy", False), ("more", 1.0, "sks toy, more", False), ("dogs", 1.0, "dog", True),
        ("toys", 1.0, "", False),
    ]  # fmt: skip
    assert recipe["data"]["resolution"] == 64 and recipe["train"]["train_batch_size"] == 4
    assert recipe["augment"]["keep_first"] == 2, "the inner table is heard"
    assert fates(carried, "datasets[1].resolution", "datasets[1].batch_size") == ["left"] * 2
    assert fates(carried, "datasets[0].subsets[1].flip_aug", "general.keep_tokens") == ["carried", "left"]
    assert fates(carried, "datasets[0].subsets[1].keep_tokens") == ["left"]
    assert recipe["train"]["prior_loss_weight"] == 1.0, "as sd-scripts weighs regularisation pictures"


def test_a_command_of_a_shell_script_is_read_and_none_is_run():
    carried, recipe = read("network.sh")
    assert recipe["model"]["base"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert recipe["model"]["rank"] == 16 and recipe["model"]["alpha"] == 1
    assert recipe["train"]["train_text_encoder"] is False and recipe["train"]["max_train_steps"] == 40
    assert (recipe["train"]["lr_scheduler"], recipe["train"]["lr_warmup_steps"]) == ("constant", 4)
    assert recipe["train"]["mixed_precision"] == "bf16", "the launcher's"
    assert recipe["data"]["resolution"] == 64, "of the file of datasets that it names"
    assert next(line.value for line in carried.lines if line.option == "output_name") == "it is $MODEL"
    assert fates(carried, "optimizer_args.d_coef", "logging_dir", "dataset_config") == ["left", "left", "needless"]


def test_diffusers_text_to_image_keeps_its_meaning():
    carried, recipe = read("text_to_image_lora.sh")
    assert recipe["model"] == {
        "base": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "rank": 8,
        "alpha": 8,
        "method": "lora",
    }
    train = recipe["train"]
    assert (train["max_train_steps"], train["train_batch_size"], train["gradient_accumulation_steps"]) == (15000, 1, 4)
    assert "num_train_epochs" not in train and train["mixed_precision"] == "fp16" and train["seed"] == 1337
    assert recipe["data"]["crop"] == "center" and recipe["data"]["random_flip"] and not recipe["data"]["enable_bucket"]
    assert recipe["sample"]["prompts"] == ["A naruto with blue eyes."] and recipe["track"]["wandb"]
    assert [s.path for s in carried.sources] == ["lambdalabs/naruto-blip-captions"]
    assert fates(carried, "push_to_hub", "output_dir", "num_train_epochs") == ["left", "left", "needless"]


def test_prior_preservation_shows_as_many_plain_pictures_as_own_in_each_step():
    carried, recipe = read("dreambooth.sh")
    assert recipe["train"]["num_class_images"] == 20 and recipe["train"]["class_prompts"] == ["a photo of a toy"]
    assert recipe["train"]["train_batch_size"] == 2, "one of each there"
    assert recipe["text"]["trigger"] == "a photo of sks toy"
    assert [(s.path, s.caption, s.regularisation) for s in carried.sources] == [
        ("toys", "a photo of sks toy", False), ("nowhere", "a photo of a toy", True),
    ]  # fmt: skip
    assert recipe["train"]["optimizer"] == "adamw8bit"


def test_a_textual_inversion_becomes_a_new_word_with_its_terms():
    carried, recipe = read("inversion.bat")
    assert recipe["model"] == {"base": "C:\\models\\sd15", "method": "words"}
    assert carried.terms == {"triggers": ["sks-toy"], "rows": {"sks-toy": 2}, "glosses": {"sks-toy": "toy"}}
    assert recipe["train"]["learning_rate"] == pytest.approx(5e-4 * 4), "scale_lr: one picture, four passes"
    assert "scale_lr" in why(carried, "learning_rate")


def test_kohya_ss_says_a_part_of_it_in_other_fields():
    carried, recipe = read("gui.json")
    assert carried.peer == "kohya_ss" and not carried.of("unknown")
    train = recipe["train"]
    assert train["num_train_epochs"] == 4 and "max_train_steps" not in train
    assert train["lr_warmup_steps"] == 10, "10 per cent of 100 steps"
    assert train["multires_noise_iterations"] == 6 and "noise_offset" not in train, "the type says which"
    assert train["input_perturbation"] == 0.1, "from the further parameters"
    assert train["train_text_encoder"] is False and train["optimizer"] == "prodigy"
    assert recipe["model"]["rank"] == 32 and recipe["model"]["alpha"] == 16
    assert [line.option for line in carried.of("left")] == ["optimizer_args.d_coef"], "what is off is no news"
    assert fates(carried, "conv_dim", "factor") == ["needless", "needless"], "of other kinds of adapters"


def test_onetrainer_keeps_its_meaning():
    carried, recipe = read("onetrainer.json")
    assert carried.peer == "OneTrainer" and not carried.of("unknown")
    assert recipe["model"] == {
        "method": "lora", "base": "stable-diffusion-v1-5/stable-diffusion-v1-5", "rank": 8, "alpha": 2,
        "targets": ["attention", "feed-forward", "projections"], "dropout": 0.1, "weight_dtype": "fp32",
    }  # fmt: skip
    train = recipe["train"]
    assert train["lr_warmup_steps"] == 100, "200 passes, two a step"
    assert (train["timestep_sampling"], train["logit_mean"], train["logit_std"]) == ("logit_normal", -0.2, 1.5)
    assert train["max_timestep"] == 800 and train["snr_gamma"] == 4.0 and train["ema_decay"] == 0.999
    assert train["masked_training"] and (train["unmasked_weight"], train["unmasked_probability"]) == (0.3, 0.2)
    assert train["checkpointing_steps"] == 2 and train["save_every_n_epochs"] == 1 and train["num_train_epochs"] == 3
    assert train["regularisation_target"] == "base" and train["text_encoder_learning_rate"] == 5e-5
    assert recipe["data"]["image_variations"] == 3 and recipe["data"]["random_rotation"] == 3.0
    assert recipe["augment"]["keep_first"] == 2
    assert recipe["sample"]["prompts"] == ["sks toy of an apple", "sks toy on a table"]
    assert [(s.path, s.repeats, s.regularisation) for s in carried.sources] == [
        ("toys", 2.0, False),
        ("dogs", 1.0, True),
    ]
    assert (
        fates(carried, "sample_after", "ema_update_step_interval", "concepts[1].image.enable_random_flip")
        == ["left"] * 3
    )
    assert "whole here; it was 2.5" in why(carried, "lora_alpha")
    assert fates(carried, "concepts[1].name", "concepts[1].balancing") == ["needless", "needless"]
    assert fates(carried, "samples[1].seed", "concepts[2].path") == ["needless", "needless"]


def test_everydream2_and_the_files_it_names_keep_their_meaning():
    carried, recipe = read("everydream2.json")
    assert carried.peer == "EveryDream2" and not carried.of("unknown")
    train = recipe["train"]
    assert recipe["model"] == {"base": "panopstor/EveryDream", "method": "full"}
    assert (train["learning_rate"], train["text_encoder_learning_rate"], train["optimizer"]) == (
        1e-6,
        5e-7,
        "adamw8bit",
    )
    assert train["train_text_encoder"] and train["noise_offset"] == 0.02 and train["snr_gamma"] == 5.0
    assert train["ema_decay"] == pytest.approx(0.99 ** (1 / 10)), "every ten steps there"
    assert recipe["data"]["validation_fraction"] == 0.15 and recipe["data"]["crop_jitter"] == 0.02
    assert recipe["text"]["proportion_empty_prompts"] == 0.04
    assert [s.path for s in carried.sources] == ["pictures"]
    assert "loss_type" in account(carried) and "its default" in account(carried), "its loss is mixed, ours is not"


def test_concepts_and_samples_may_lie_in_files_of_their_own(tmp_path):
    whole = json.loads((FILES / "onetrainer.json").read_text())
    (tmp_path / "concepts.json").write_text(json.dumps(whole.pop("concepts")))
    whole["concept_file_name"], whole["concepts"] = "training_concepts/concepts.json", None
    (tmp_path / "config.json").write_text(json.dumps(whole))
    assert [s.path for s in read_settings(tmp_path / "config.json").sources] == ["toys", "dogs"]
    (tmp_path / "concepts.json").unlink()
    assert "not there" in why(read_settings(tmp_path / "config.json"), "concept_file_name")


@pytest.mark.parametrize(
    "name", sorted(path.name for path in FILES.iterdir() if path.name != "prompts.txt" and "-" not in path.name)
)
def test_the_account_names_every_option_and_no_secret(name):
    carried, _ = read(name)
    page, said = account(carried), as_json(carried)
    assert all(f"`{line.option}`" in page for line in carried.lines if line.option)
    listed = [line["option"] for fate in ("carried", "needless", "left", "unknown") for line in said[fate]]
    assert sorted(listed) == sorted(line.option for line in carried.lines if line.option and not line.default)
    assert SECRET not in page + json.dumps(said) + "\n".join(told(carried))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.toml", "a = [", "is not valid TOML"), ("x.json", '{"a": ', "is not valid JSON"),
        ("x.toml", 'colour = "red"', "of no trainer that bespoke knows"), ("x.json", "[1, 2]", "of no trainer"),
        ("x.json", '{"a": 1}', "of no trainer"), ("x.toml", "[model]\nrank = 4", "is a recipe of bespoke's own"),
        ("x.sh", "echo hello", "neither settings nor a training command"), ("x.toml", "datasets = [1]", "is no table"),
        ("x.sh", "python train_network.py --network_dim '8", "A quotation mark is never closed"),
        ("x.sh", "python train_network.py --config_file gone.toml", "which is not there"),
        ("x.toml", "", "of no trainer"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(BespokeError) as caught:
        read_settings(tmp_path / name)
    assert problem in caught.value.problem and caught.value.hint


def test_no_file_and_no_text_are_told(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    for name, problem in (("gone.toml", "There is no file"), ("x.json", "is not text")):
        with pytest.raises(BespokeError, match=problem):
            read_settings(tmp_path / name)
