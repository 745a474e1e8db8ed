"""Every kind of adapter learns, goes on to the same bits, is planned for, and is found by its run's names."""

import pytest
import torch

from bespoke.errors import BespokeError
from bespoke.pipeline.naming import named, start_of
from bespoke.pipeline.train import check_network, trainer_for
from bespoke.recipe import dump
from bespoke.training import Step, Stopped, Validated
from bespoke.workspace import Run

KINDS = {
    "dora": {"method": "dora"},
    "pissa": {"init": "pissa"},
    "loha": {"method": "loha"},
    "lokr": {"method": "lokr", "decompose_both": True},
    "oft": {"method": "oft", "targets": ["attention", "feed-forward"]},
    "boft": {"method": "boft"},
    "int8": {"quantization": "int8"},
    "nf4": {"quantization": "nf4", "method": "dora"},
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def answer(pipeline):
    source = torch.Generator().manual_seed(5)
    noisy, tokens = torch.randn(1, 4, 8, 8, generator=source), torch.arange(77)[None]
    with torch.no_grad():
        states = pipeline.text_encoder(tokens)[0]
        return pipeline.unet(noisy, torch.tensor([300]), states, return_dict=False)[0]


@every_kind
def test_it_learns_goes_on_to_the_same_bits_and_is_found_by_name(tmp_path, trainer, recipe, everything, kind):
    model = {"rank": 4, **KINDS[kind]}
    settings = {"model": model, "train": {"max_train_steps": 4, "checkpointing_steps": 2, "learning_rate": 0.01}}
    whole = trainer(tmp_path / "runs" / "whole", **settings)
    through = list(whole.fit())
    rates = [event.gradient_norm for event in through if isinstance(event, Step)]
    assert len(rates) == 4 and all(rate > 0 for rate in rates)

    first = trainer(tmp_path / "runs" / "parts", **settings)
    list(first.fit(lambda: "enough" if first.progress.step == 2 else None))
    second = trainer(tmp_path / "runs" / "parts", **settings)
    second.restore(Run(tmp_path / "runs" / "parts").state(2))
    assert isinstance(list(second.fit())[-1], Stopped)
    ours, theirs = everything(second), everything(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    files = [tmp_path / "runs" / run / "last" / "adapter.safetensors" for run in ("parts", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()

    run = Run(tmp_path / "runs" / "whole")
    run.recipe.write_text(dump(recipe(**settings)))
    by_state, by_file = (answer(named(f"{run.root}@{which}").pipeline()) for which in ("step-4", "last"))
    base = answer(named("pico").pipeline())
    assert float((by_state - base).norm() / base.norm()) > 0.01
    assert float((by_state - by_file).norm() / base.norm()) < 1e-5


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_on_a_rounded_base_the_validation_loss_falls_below_that_of_the_rounded_base(tmp_path, trainer, kind):
    ours = trainer(tmp_path, model={"quantization": kind}, train={"max_train_steps": 12, "learning_rate": 0.003})
    events = list(ours.fit())
    ratios = [event.log_ratio for event in events if isinstance(event, Validated)]
    assert ratios[0] == 0 and ratios[-1] < -0.02


def test_a_wrong_file_or_layer_is_told_before_there_is_a_run(tmp_path, recipe, trainer):
    folder = tmp_path / "project"
    trainer(folder / "runs" / "first").bare.save(folder)  # a LoRA of rank 4
    fits = recipe(model={"adapter_file": "adapter.safetensors"})
    check_network(start_of(fits, folder), fits)
    for model, said in (
        ({"rank": 8, "adapter_file": "adapter.safetensors"}, "rank 4 on 80 layers .* rank 8 on 80 layers"),
        ({"adapter_file": "none.safetensors"}, "There is no adapter at"),
        ({"targets": ["atention"]}, "no layer is called 'atention'"),
        ({"rank_pattern": {"to_z": 2}}, "'to_z' is the end of no adapted layer's name"),
    ):
        wrong = recipe(model=model)
        with pytest.raises(BespokeError, match=said):
            check_network(start_of(wrong, folder), wrong)


def test_a_training_begins_with_the_weights_of_the_file(tmp_path, recipe, trainer, material):
    folder = tmp_path / "project"
    source = trainer(folder / "runs" / "first", model={"method": "lokr"}, train={"max_train_steps": 2})
    list(source.fit())
    source.bare.save(folder)
    wanted = recipe(model={"method": "lokr", "adapter_file": "adapter.safetensors"})
    begun = trainer_for(Run(folder / "runs" / "second"), wanted, start_of(wanted, folder), material, source.accelerator)
    ours, theirs = begun.parameters, source.parameters
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and not begun.bare.fresh
