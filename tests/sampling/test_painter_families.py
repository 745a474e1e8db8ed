"""The engine of the service on 2.x, XL and 3.x, tiny and random: its pictures are those of the command, as on pico."""

import json
import shutil

import numpy as np
import pytest
from pico import families
from tests.flow.spoken import words_of
from tests.flow.tiny import by_diffusers, family_project, plain_of
from tests.sampling.test_painter import LONG, drawn, job, picture_file, pixels, silent
from tests.sampling.test_wearing import saved as saved_for_pico

from bespoke import recipe as recipes
from bespoke.models import Word, find
from bespoke.models.vocabulary import FILE as WORDS
from bespoke.pipeline.easel import easel
from bespoke.pipeline.sample import sample
from bespoke.recipe.schedulers import scheduler_names
from bespoke.recipe.tree import Sample
from bespoke.serving.jobs import Failure

KINDS = ("sd2v", "sdxl", "sd3", "sd35")
QUICK = (("guidance_scale", 4.0), ("num_inference_steps", 3))
PROMPT = "a red cat"
PROMPTS = (PROMPT, LONG, "", "a (blue:1.4) house", "two (yellow:0.5) cats")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return family_project(tmp_path_factory, KINDS)


@pytest.fixture(scope="module")
def engine(project):
    """One for all of them, which looks with the safety checker wherever there is one."""
    return easel(project, project / "loras", 2.0, True)


def ask(prompt=PROMPT, seed=3, settings=QUICK, **more):
    return job(prompt, seed, settings, **more)


def sampled(project, model, prompt, out, settings=QUICK, **more):
    """What the command draws."""
    wish = {"settings": Sample(**dict(settings)), "loras": project / "loras", "seed": 3}
    return pixels(sample(str(project / model), [prompt], out=out, **wish, **more).pictures[0].read_bytes())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told_of_a_model_is_what_its_family_says(engine, project, kind):
    facts = engine.prepare(kind)
    told = dict(facts.facts)
    assert (facts.width, facts.height) == (64, 64) and told["base"] == kind
    assert told["family"] == find(str(project / kind)).family.name
    assert facts.schedulers == scheduler_names(flows=kind.startswith("sd3"))
    assert dict(facts.settings)["guidance_scale"] > 1


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_command_with_several_adapters(engine, project, kind, tmp_path):
    one, every = (f"{kind}-one", 0.5), (f"{kind}-all", -0.7)
    cases = [
        (kind, ()), (kind, (one,)), (kind, (one, every)), (f"runs/{kind}", ()), (f"runs/{kind}", (every,)),
        (f"runs/{kind}", (one, every)), (kind, ((f"{kind}-dora", 1.0), one)), (kind, ()),
    ]  # fmt: skip
    found = []
    for number, (model, worn) in enumerate(cases):
        (ours,) = drawn(engine, ask("a (red:1.2) cat", model=model, adapters=worn))
        calls = "".join(f" <lora:{name}:{weight}>" for name, weight in worn)
        oracle = sampled(project, model, f"a (red:1.2) cat{calls}", tmp_path / str(number))
        assert np.abs(ours - oracle).max() <= 1, (model, worn)
        found.append(ours)
    assert (found[0] == found[-1]).all() and len({one.tobytes() for one in found}) == len(cases) - 1


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("kind", ["sdxl", "sd35"])
def test_two_adapters_draw_as_plain_diffusers_draws_with_both(engine, project, kind):
    plain, folder = plain_of(project / kind), project / "loras"
    for name in ("one", "all"):
        plain.load_lora_weights(folder, weight_name=f"{kind}-{name}.safetensors", adapter_name=name)
    plain.set_adapters(["one", "all"], [0.5, -0.7])
    (ours,) = drawn(engine, ask(model=kind, adapters=((f"{kind}-one", 0.5), (f"{kind}-all", -0.7))))
    assert np.abs(ours - by_diffusers(plain, PROMPT)).max() <= 1


@pytest.mark.parametrize("begun", [False, True], ids=["words", "picture"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_does_not_depend_on_who_shares_its_batch(engine, kind, begun):
    """The model wears its own adapter and another one; prompts are of one window and of several."""
    how, worn = (*QUICK, ("strength", 0.9)), ((f"{kind}-all", 0.6),)
    jobs = [
        ask(prompt, number, how, model=f"runs/{kind}", adapters=worn, image=picture_file(number) if begun else None)
        for number, prompt in enumerate(PROMPTS)
    ]
    alone, together = [drawn(engine, one)[0] for one in jobs], drawn(engine, *jobs)
    assert max(np.abs(one - other).max() for one, other in zip(alone, together, strict=True)) <= 1
    assert len({one.tobytes() for one in alone}) == len(jobs)


def test_bases_and_adapters_take_turns_and_leave_memory(engine, project):
    """Each turn is another base, first with its own adapter, then with one that is asked for."""
    turns = [(model, worn) for kind in KINDS for model, worn in ((f"runs/{kind}", ()), (kind, ((f"{kind}-all", 1.0),)))]
    found = {turn: drawn(engine, ask(model=turn[0], adapters=turn[1]))[0] for turn in turns}
    small = easel(project, project / "loras", 1e-9, True)
    for turn in (*turns[::2], *turns[1::2]):
        for one in (engine, small):
            (again,) = drawn(one, ask(model=turn[0], adapters=turn[1]))
            assert (again == found[turn]).all(), turn
    assert engine._rack.count[0] == len(KINDS) and small._rack.count[0] == 1
    assert len({one.tobytes() for one in found.values()}) == len(turns)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_begun_with_and_enlarged_as_by_the_command(engine, project, kind, tmp_path):
    (tmp_path / "begun.png").write_bytes(picture_file(1, 96, 64))
    (tmp_path / "mask.png").write_bytes(picture_file(2, 96, 64))
    image, mask = ((tmp_path / f"{name}.png").read_bytes() for name in ("begun", "mask"))
    files = {"image": tmp_path / "begun.png", "mask": tmp_path / "mask.png"}
    for number, (sent, given) in enumerate(
        (({"image": image}, {"image": files["image"]}), ({"image": image, "mask": mask}, files))
    ):
        (ours,) = drawn(engine, ask(model=kind, **sent))
        assert ours.shape == (64, 96, 3)
        assert np.abs(ours - sampled(project, kind, PROMPT, tmp_path / str(number), **given)).max() <= 1
    heard, how = [], (*QUICK, ("hires_scale", 1.5), ("hires_strength", 0.7), ("width", 96))
    (found,) = engine.draw(
        [ask(model=kind, settings=how)],
        lambda step: heard.append((step.number, step.steps, [pixels(one).shape for one in step.previews()])),
    )
    assert np.abs(pixels(found.data) - sampled(project, kind, PROMPT, tmp_path / "large", how)).max() <= 1
    assert (found.width, found.height) == (144, 96)
    assert [one[0] for one in heard] == list(range(1, heard[-1][1] + 1)), "diffusers makes a step more for 3.x"
    assert heard[0][2] == [(64, 96, 3)] and heard[-1][2] == [(96, 144, 3)]


EVERYWHERE = [
    ({"clip_skip": 2}, "clip_skip is 2, and the text encoder has 2 layers"),
    ({"hires_scale": 2.0, "hires_strength": 0.1}, "Raise sample.hires_strength"),
    ({"scheduler": "nonsense"}, "no scheduler 'nonsense'"),
]
OF_FLOWS = [
    ({"deep_cache": 2}, "deep_cache = 2 is for UNets"), ({"guidance_rescale": 0.5}, "guidance_rescale = 0.5 is for"),
    ({"scheduler": "euler_a"}, "'euler_a' is none"), ({"scheduler": "dpm++_2m_karras"}, "_2m_karras' is none"),
    ({"width": 512}, "up to 256 pixels a side; 512 × 64"), ({"hires_scale": 5.0}, "up to 256 pixels a side; 320 × 320"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "wish", "words"),
    [
        *((kind, *case) for kind in ("sd2v", "sdxl", "sd35") for case in EVERYWHERE),
        *(("sd35", *case) for case in OF_FLOWS),
    ],
)
def test_what_a_family_cannot_do_is_refused_by_name_before_a_step_is_made(engine, kind, wish, words):
    heard = []
    jobs = [ask(model=kind, seed=seed, settings=tuple({**dict(QUICK), **wish}.items())) for seed in (1, 2)]
    found = engine.draw(jobs, heard.append)
    assert [one.code for one in found if isinstance(one, Failure)] == ["wrong_request"] * 2 and not heard
    assert all(words in one.message for one in found)


def test_only_the_picture_that_is_too_large_for_a_transformer_is_refused(engine):
    found = engine.draw([ask(model="sd3", image=picture_file(n, side)) for n, side in ((1, 64), (2, 400))], silent)
    assert found[0].width == 64 and "400 × 64 is more" in found[1].message


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")
def test_an_adapter_of_another_family_is_refused_and_no_part_of_it_is_worn(engine, project):
    """XL and 3.x have text encoders of the same shapes: diffusers alone would wear what is for them."""
    saved_for_pico(project / "loras" / "pico.safetensors", 1)
    foreign = {"sdxl": ("sd35-all", "pico"), "sd35": ("sdxl-all", "sd2v-all", "pico"), "sd2v": ("sdxl-all", "sd3-one")}
    for kind, names in foreign.items():
        own = (f"{kind}-one", 0.5)
        before, wearing = (drawn(engine, ask(model=kind, adapters=worn))[0] for worn in ((), (own,)))
        for name in names:
            for worn in (((name, 1.0),), ((name, 1.0), own)):
                (found,) = engine.draw([ask(model=kind, adapters=worn)], silent)
                assert isinstance(found, Failure) and found.code == "wrong_request", (kind, worn)
                assert f"{name}.safetensors does not fit" in found.message and len(found.message) < 400
        assert (drawn(engine, ask(model=kind))[0] == before).all()
        assert (drawn(engine, ask(model=kind, adapters=(own,)))[0] == wearing).all()


@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_a_version_may_know_words_in_every_text_encoder(engine, project, kind, tmp_path):
    run = project / "runs" / f"{kind}-words"
    run.mkdir()
    said = {"model": {"base": kind, "method": "words"}, "sample": dict(QUICK)}
    (run / "recipe.toml").write_text(recipes.dump(recipes.parse(said, "the test")))
    words_of(project / kind, (Word("vulpenor"), 2)).save(run / WORDS)
    prompt, adapters = "a vulpenor on a hill", ((f"{kind}-all", 0.5),)
    told, worn, plain = (
        drawn(engine, ask(prompt, model=model, adapters=more))[0]
        for model, more in ((f"runs/{kind}-words", ()), (f"runs/{kind}-words", adapters), (kind, ()))
    )
    knows = {"words": [str(run / WORDS)]}
    assert np.abs(told - sampled(project, kind, prompt, tmp_path / "a", **knows)).max() <= 1
    called = f"{prompt} <lora:{kind}-all:0.5>"
    assert np.abs(worn - sampled(project, kind, called, tmp_path / "b", **knows)).max() <= 1
    assert all(np.abs(one - other).max() > 1 for one, other in ((told, worn), (told, plain)))


def test_a_model_draws_as_large_as_its_family_unless_a_size_is_asked_for(project, tmp_path):
    """A side of 24 latents is 192 pixels, as XL's 128 are 1024."""
    shutil.copytree(project / "sdxl", tmp_path / "sdxl")
    config = tmp_path / "sdxl" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 24}))
    engine = easel(tmp_path, None, 2.0, True)
    facts = engine.prepare("sdxl")
    assert (facts.width, facts.height) == (192, 192)
    (own,), (other,) = (
        engine.draw([ask(model="sdxl", settings=(*QUICK, *more))], silent) for more in ((), (("width", 80),))
    )
    assert (own.width, own.height, other.width, other.height) == (192, 192, 80, 192)
    families.outline("sdxl-shape", tmp_path / "shape")
    checkpoint = find(str(tmp_path / "shape"))
    assert checkpoint.resolution == 1024
