"""The engine of the service: its pictures are those of `bespoke sample`, whoever shares a batch and whatever fails."""

import functools
import io
import pickle
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.sampling.test_wearing import saved

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.models import PICO
from bespoke.models.families import denoiser_of
from bespoke.models.wearing import Wardrobe, name_of
from bespoke.pipeline.easel import adapter_file, adapter_names, easel
from bespoke.pipeline.registering import register_model
from bespoke.pipeline.sample import sample
from bespoke.recipe.tree import Sample
from bespoke.records import Dataset
from bespoke.sampling import made
from bespoke.serving.jobs import FAILURES, Cancelled, Failure, Job, OutOfMemory, Picture

QUICK = (("guidance_scale", 2.0), ("num_inference_steps", 3))
LONG = "a red car in front of a blue house, two yellow cats and a dog on a green background, " * 6
PROMPTS = ("a red car", LONG, "", "a (blue:1.4) house", LONG + LONG, "a fox", "two (yellow:0.5) cats", "a dog")
"""The first ones are of one window of the text encoder, and of several."""


def silent(_):
    """Nobody watches."""


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name, seed in (("one", 1), ("deep/two", 2)):
        (folder / name).parent.mkdir(exist_ok=True)
        saved(folder / f"{name}.safetensors", seed)
    (folder / "broken.safetensors").write_bytes(b"nothing")
    # One that fits a part of the layers: it is refused when some of it is in the networks already.
    content = load_file(folder / "one.safetensors")
    last = max(key for key in content if ".lora_B." in key or ".lora.up." in key)
    with safe_open(folder / "one.safetensors", "pt") as file:
        save_file(content | {last: content[last].repeat(2, 1)}, folder / "misfit.safetensors", file.metadata())
    return folder


@pytest.fixture(scope="module")
def engine(run, loras):
    made = easel(run.parent.parent, loras, 2.0, False)
    made.prepare("pico")
    return made


def job(prompt="a red car", seed=3, settings=QUICK, **more):
    return Job(f"{prompt[:9]}-{seed}", more.pop("model", "pico"), prompt, seed, tuple(sorted(settings)), **more)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def drawn(engine, *jobs):
    found = engine.draw(jobs, silent)
    assert all(isinstance(one, Picture) for one in found), found
    return [pixels(one.data) for one in found]


def picture_file(seed, width=64, height=64):
    file = io.BytesIO()
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def sampled(model, prompt, out, **more):
    """What the command draws, as an oracle."""
    wish = Sample(**dict(QUICK)) if "settings" not in more else more.pop("settings")
    done = sample(str(model), [prompt], out=out, seed=3, settings=wish, safety_checker=False, **more)
    return pixels(done.pictures[0].read_bytes()), made(done.pictures[0])


# --- what it is made of, and what it says of a model ---


def test_the_factory_is_pickled_and_known_without_loading_torch():
    code = """
import functools, pickle, sys
from bespoke.pipeline.easel import adapter_names, easel
pickle.dumps(functools.partial(easel, ".", None, 0.5, True))
assert not {"torch", "diffusers", "transformers"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_made_engine_tells_how_a_model_draws(run):
    factory = functools.partial(easel, run.parent.parent, None, 0.0, False)
    told = pickle.loads(pickle.dumps(factory))().prepare("runs/one")
    said, facts = dict(told.settings), dict(told.facts)
    assert (told.title, told.width, told.height) == ("runs/one", 64, 64)
    assert said["num_inference_steps"] == 3 and said["guidance_scale"] == 2.0 and said["dtype"] == "fp32"
    assert facts["base"] == "pico" and len(facts["hash"]) == 64 and facts["licence"] == "apache-2.0"
    assert not {"seed", "batch_size", "prompts", "adapters"} & said.keys()
    assert hash(told) is not None and str(run.parent.parent) not in str(told)


def test_a_model_that_is_not_there_and_one_that_draws_nothing_are_not_prepared(engine, run, tmp_path):
    with pytest.raises(BespokeError):
        engine.prepare("runs/none")
    (tmp_path / "runs").mkdir()
    bad = tmp_path / "runs" / "bad"
    bad.mkdir()
    (bad / "recipe.toml").write_bytes((run / "recipe.toml").read_bytes())
    saved(bad / "adapter.safetensors", 1, size=1e30)
    with pytest.raises(BespokeError, match="not a number"):
        easel(tmp_path, None, 2.0, False).prepare("runs/bad")


# --- pictures ---


def test_pictures_are_those_of_the_command_and_say_how_they_were_made(engine, run, loras, tmp_path):
    cases = (("pico", "pico", {}, ""), ("runs/one", run, {}, ""), ("runs/one", run, {"one": 0.5}, " <lora:one:0.5>"))
    for number, (model, named, adapters, call) in enumerate(cases):
        one = job("a (red:1.2) car", model=model, adapters=tuple(adapters.items()))
        (found,) = engine.draw([one], silent)
        oracle, told = sampled(named, f"a (red:1.2) car{call}", tmp_path / str(number), loras=loras)
        assert (pixels(found.data) == oracle).all(), model
        (tmp_path / "found.png").write_bytes(found.data)
        ours = made(tmp_path / "found.png")
        assert (ours.model, ours.prompt, ours.seed) == (model, told.prompt, told.seed)
        assert ours.settings.get("adapters", {}) == adapters
        assert {**ours.settings, "adapters": {}} == {**told.settings, "adapters": {}}
        assert (found.form, found.width, found.height, found.seed, found.model) == ("png", 64, 64, 3, model)


def test_settings_of_a_job_are_put_over_the_models_own(engine, run, tmp_path):
    more = (("format", "jpeg"), ("height", 48), ("negative_prompt", "blue"), ("scheduler", "Euler a"), ("width", 96))
    (found,) = engine.draw([job(settings=(*QUICK, *more), model="runs/one")], silent)
    assert found.form == "jpeg" and found.data[:3] == b"\xff\xd8\xff"
    assert (found.width, found.height) == (96, 48)
    wish = Sample(**{**dict(QUICK), **dict(more)}, batch_size=4)
    oracle, _ = sampled(run, "a red car", tmp_path, settings=wish)
    assert (pixels(found.data) == oracle).all()


def test_a_picture_is_begun_with_and_only_what_is_white_in_a_mask_is_drawn_anew(engine, tmp_path):
    (tmp_path / "begun.png").write_bytes(picture_file(1))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    image, hidden = ((tmp_path / f"{name}.png").read_bytes() for name in ("begun", "mask"))
    (whole,) = drawn(engine, job(image=image))
    (part,) = drawn(engine, job(image=image, mask=hidden))
    assert (whole == sampled("pico", "a red car", tmp_path / "a", image=tmp_path / "begun.png")[0]).all()
    files = {"image": tmp_path / "begun.png", "mask": tmp_path / "mask.png"}
    assert (part == sampled("pico", "a red car", tmp_path / "b", **files)[0]).all()
    assert (part[:, 32:] == pixels(image)[:, 32:]).all() and (part[:, :32] != pixels(image)[:, :32]).any()


# Those that draw noise while they step, several times a step among them, and those that do not.
WAYS = [("default", False), ("euler_a", False), ("dpm++_2m_sde_karras", False), ("dpm2_a", False), ("ddpm", False)]


@pytest.mark.parametrize(("scheduler", "begun"), [*WAYS, ("euler_a", True), ("dpm++_2m", True)])
def test_a_picture_does_not_depend_on_who_shares_its_batch(engine, scheduler, begun):
    how = (*QUICK, ("scheduler", scheduler), ("strength", 0.9))
    jobs = [
        job(prompt, number, how, image=picture_file(number) if begun else None) for number, prompt in enumerate(PROMPTS)
    ]
    alone = [drawn(engine, one)[0] for one in jobs[:2]]
    assert np.abs(alone[0] - alone[1]).max() > 8
    for together in (drawn(engine, *jobs[:2]), drawn(engine, *jobs[2:], *jobs[1::-1])[:-3:-1]):
        assert all(np.abs(a - b).max() <= 1 for a, b in zip(alone, together, strict=True))


def test_pictures_to_begin_with_may_be_of_several_sizes(engine):
    jobs = [job(seed=n, image=picture_file(n, *size)) for n, size in enumerate([(64, 64), (96, 48), (64, 64)])]
    heard = []
    found = engine.draw(jobs, lambda step: heard.append((step.number, step.steps)))
    assert [(one.width, one.height, one.batch) for one in found] == [(64, 64, 2), (96, 48, 1), (64, 64, 2)]
    assert all(
        np.abs(pixels(one.data) - drawn(engine, own)[0]).max() <= 1 for one, own in zip(found, jobs, strict=True)
    )
    assert heard == [(n, 4) for n in range(1, 5)], "it is told as one drawing"


def test_the_safety_checker_of_the_base_looks_at_pictures(run):
    engine = easel(run.parent.parent, None, 2.0, True)
    (before,) = engine.draw([job()], silent)
    held(engine).pipeline.safety_checker.concept_embeds_weights.data.fill_(-2)  # nothing is safe
    (found,) = engine.draw([job()], silent)
    assert not before.flagged and pixels(before.data).any()
    assert found.flagged and not pixels(found.data).any()


# --- while they are drawn ---


def test_each_step_is_told_and_what_can_be_seen_of_each_picture(engine):
    heard = []
    jobs = [job("a red car", 3), job("a dog", -1), job("a blue house on a green background", 4)]
    found = engine.draw(jobs, lambda step: heard.append((step.number, step.steps, step.previews())))
    assert [one[:2] for one in heard] == [(1, 3), (2, 3), (3, 3)]
    assert isinstance(found[1], Failure) and all(shown[1] == b"" for *_, shown in heard)
    last = [pixels(content) for content in heard[-1][2] if content]
    final = [pixels(found[number].data) for number in (0, 2)]
    assert [one.shape for one in last] == [one.shape for one in final]
    off = [np.abs(last[a] - final[b]).mean() for a, b in ((0, 0), (1, 1), (0, 1), (1, 0))]
    assert max(off[:2]) < min(off[2:])


def test_an_enlarged_picture_goes_on_counting(engine):
    heard = []
    how = (*QUICK, ("hires_scale", 1.5), ("hires_strength", 0.7))
    (found,) = engine.draw([job(settings=how)], lambda step: heard.append(step.number))
    assert heard == [1, 2, 3, 4, 5] and (found.width, found.height) == (96, 96)


def test_what_the_watcher_raises_ends_the_drawing_and_the_next_is_as_before(engine):
    before = drawn(engine, job(model="runs/one"))

    def stop(step):
        if step.number == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        engine.draw([job(model="runs/one", settings=(*QUICK, ("deep_cache", 2)))], stop)
    assert (drawn(engine, job(model="runs/one"))[0] == before[0]).all()


# --- what cannot be drawn ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((("num_inference_steps", 0),), "num_inference_steps"),
        ((("num_inference_steps", "3"),), "num_inference_steps"),
        ((("stepps", 3),), "no key sample.stepps"),
        ((("scheduler", "eulr"),), "Did you mean euler"),
        ((("guidance_scale", float("nan")),), "guidance_scale"),
        ((("negative_prompt", "a \ud800"),), "no text"),
        ((("seed", 3),), "sample.seed"),
        ((("adapters", {"one": 1.0}),), "sample.adapters"),
        ((("clip_skip", 99),), "clip_skip"),
        ((("num_inference_steps", 51), ("scheduler", "lcm")), "num_inference_steps"),
    ],
)
def test_a_wrong_setting_is_told_to_each(engine, settings, words):
    found = engine.draw([job(settings=settings, seed=seed) for seed in range(2)], silent)
    assert len(found) == 2 and all(isinstance(one, Failure) for one in found)
    assert {one.code for one in found} == {"wrong_request"} and words in found[0].message
    assert found[0].code in FAILURES


def bomb():
    """A PNG of a few hundred kilobytes that would be 10^9 pixels."""
    file = io.BytesIO()
    Image.new("1", (40_000, 25_000)).save(file, "PNG")
    return file.getvalue()


BAD = [
    ({"seed": -1}, "no seed"), ({"seed": 2**63}, "no seed"), ({"prompt": "a \udfff cat"}, "no text"),
    ({"prompt": "a (red:1.2.3) car"}, "cannot be read"), ({"image": b"nothing"}, "cannot be read"),
    ({"image": b""}, "cannot be read"), ({"image": picture_file(1)[:-300]}, "cannot be read"),
    ({"image": bomb()}, "million pixels"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_what_is_wrong_with_one_job_is_told_to_it_alone(engine, wrong, words):
    image = picture_file(5) if "image" in wrong else None
    good = [replace(job(seed=seed), image=image) for seed in (1, 2)]
    found = engine.draw([good[0], replace(good[0], **wrong), good[1]], silent)
    assert isinstance(found[1], Failure) and found[1].code == "wrong_request" and words in found[1].message
    assert all((a == pixels(b.data)).all() for a, b in zip(drawn(engine, *good), (found[0], found[2]), strict=True))


def test_a_mask_of_no_picture_and_a_broken_mask_are_told(engine):
    assert "mask" in engine.draw([job(mask=picture_file(1))], silent)[0].message
    assert "mask cannot be read" in engine.draw([job(image=picture_file(1), mask=b"x")], silent)[0].message


def test_adapters_are_named_below_their_folder_and_nowhere_else(engine, loras, run):
    assert adapter_names(loras) == ["broken", "deep/two", "misfit", "one"]
    assert adapter_file("two", loras) == adapter_file("deep/two", loras) == loras / "deep" / "two.safetensors"
    outside = [
        str(run / "adapter"),
        f"../{run.name}/adapter",
        "../../etc/passwd",
        "https://127.0.0.1/x.safetensors",
        "",
    ]
    for name in (*outside, "none", "one/", "./one", ".", "deep"):
        (found,) = engine.draw([job(adapters=((name, 1.0),))], silent)
        assert found.code == "wrong_request" and "no adapter" in found.message and str(loras) not in found.message
    for weight in (float("nan"), float("inf")):
        (found,) = engine.draw([job(adapters=(("one", weight),))], silent)
        assert found.code == "wrong_request" and "weighs" in found.message


def test_an_adapter_that_cannot_be_worn_is_told_and_leaves_nothing_behind(run, loras, tmp_path):
    engine = easel(run.parent.parent, loras, 2.0, False)
    before = drawn(engine, job(), job(model="pico", seed=4))
    networks = denoiser_of(held(engine).pipeline)
    plain = {name: type(module) for name, module in networks.named_modules()}
    for name in ("broken", "misfit"):
        (found,) = engine.draw([job(adapters=((name, 1.0),))], silent)
        assert found.code == "wrong_request" and name in found.message and str(loras) not in found.message
        assert {name: type(module) for name, module in networks.named_modules()} == plain
    assert (np.stack(drawn(engine, job(), job(seed=4))) == np.stack(before)).all()
    with_one = drawn(engine, job(adapters=(("one", 1.0),)))
    parameters = {name for name, _ in networks.named_parameters()}
    for name in ("broken", "misfit"):
        (again,) = engine.draw([job(adapters=(("one", 1.0), (name, 1.0)))], silent)
        assert again.code == "wrong_request"
        assert {name for name, _ in networks.named_parameters()} == parameters
    assert (drawn(engine, job(adapters=(("one", 1.0),)))[0] == with_one[0]).all()
    assert (np.stack(drawn(engine, job(), job(seed=4))) == np.stack(before)).all()
    held(engine).drop(*held(engine).names)
    assert {name: type(module) for name, module in networks.named_modules()} == plain


@contextmanager
def removed(handle):
    """A block after which a hook is gone."""
    try:
        yield
    finally:
        handle.remove()


def test_what_is_not_a_number_is_told_to_its_job_alone(engine):
    """The prompt's states are spoilt on their way into the UNet, of one picture of three."""
    jobs = [job(seed=seed) for seed in range(3)]
    before = drawn(engine, *jobs)
    unet = denoiser_of(held(engine).pipeline)

    def spoil(_, args, named):
        named["encoder_hidden_states"] = named["encoder_hidden_states"].clone()
        named["encoder_hidden_states"][[1, 4]] = float("nan")
        return args, named

    with removed(unet.register_forward_pre_hook(spoil, with_kwargs=True)):
        found = engine.draw(jobs, silent)
    assert found[1] == Failure("not_a_picture", found[1].message) and "not a number" in found[1].message
    assert all((pixels(found[n].data) == before[n]).all() for n in (0, 2))


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError, "the machine's own"])
def test_too_little_memory_is_told_and_nothing_is_kept_of_the_batch(engine, kind):
    before = drawn(engine, job())
    unet = denoiser_of(held(engine).pipeline)

    def greedy(*_):
        if isinstance(kind, str):
            torch.empty(2**60)
        else:
            raise kind("no more")

    with removed(unet.register_forward_hook(greedy)), pytest.raises(OutOfMemory):
        engine.draw([job(), job(seed=4)], silent)
    assert (drawn(engine, job())[0] == before[0]).all()


# --- memory ---


def held(engine):
    """The pipeline that is in use."""
    return engine._rack._held[engine._rack._now]


KINDS = ("lora", "dora", "loha", "lokr", "oft", "boft")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a run of each kind, adapters of each kind, and another base."""
    folder = tmp_path_factory.mktemp("kinds")
    for seed, kind in enumerate(KINDS):
        run = folder / "runs" / kind
        run.mkdir(parents=True)
        (run / "recipe.toml").write_text(recipes.dump(recipes.parse({"model": {"method": kind, "rank": 4}}, "it")))
        size = 0.5 if kind == "loha" else 0.05
        saved(run / "adapter.safetensors", seed, kind, size)
        saved(folder / "loras" / f"{kind}.safetensors", 10 + seed, kind, size)
    shutil.copytree(PICO, folder / "other")
    return folder


@pytest.fixture(scope="module")
def several(project):
    """An engine that draws with all of them, one after the other, and what it drew at first."""
    engine = easel(project, project / "loras", 2.0, False)
    return engine, drawn(engine, job())[0], drawn(engine, job(model="runs/lora"))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_may_have_an_adapter_of_any_kind_and_so_may_a_job(project, several, kind, tmp_path):
    engine, plain, lora = several
    (own,) = drawn(engine, job(model=f"runs/{kind}"))
    (asked,) = drawn(engine, job(adapters=((kind, 1.0),)))
    assert (drawn(engine, job())[0] == plain).all() and (drawn(engine, job(model="runs/lora"))[0] == lora).all()
    both = engine.draw([job(model=f"runs/{kind}", adapters=(("dora", 0.5),))], silent)
    assert isinstance(both[0], Failure) == (kind in ("oft", "boft"))
    assert (drawn(engine, job(model=f"runs/{kind}"))[0] == own).all() and engine._rack.count[0] == 1
    assert (own == sampled(project / "runs" / kind, "a red car", tmp_path / "own")[0]).all()
    call = f"a red car <lora:{kind}>"
    assert (asked == sampled("pico", call, tmp_path / "asked", loras=project / "loras")[0]).all()
    assert all(np.abs(one - plain).max() > 1 for one in (own, asked))


def test_another_version_of_a_base_reads_only_its_adapter(project, monkeypatch):
    engine = easel(project, project / "loras", 2.0, False)
    engine.prepare("runs/lora")
    pipeline, first = held(engine).pipeline, drawn(engine, job(model="runs/lora"))
    read = []
    monkeypatch.setattr(Wardrobe, "_read", recording(Wardrobe._read, read))
    engine.prepare("runs/dora")
    second = drawn(engine, job(model="runs/dora"))
    assert (drawn(engine, job(model="runs/lora"))[0] == first[0]).all() and (first[0] != second[0]).any()
    assert held(engine).pipeline is pipeline and [file.parent.name for file in read] == ["dora"]
    assert engine._rack.count == (1, 2)


def recording(method, heard):
    """The same method, of which the path that it is given is heard."""

    def told(self, path, name):
        heard.append(path)
        return method(self, path, name)

    return told


def test_adapters_worn_longest_ago_leave_memory_first(project):
    folder = project / "many"
    for seed, name in enumerate("abcd"):
        saved(folder / f"{name}.safetensors", 20 + seed)
    engine = easel(project, folder, 2.0, False)
    plain = drawn(engine, job())
    base = engine._rack.bytes
    wearing = {name: drawn(engine, job(adapters=((name, 1.0),))) for name in "abc"}
    drawn(engine, job())
    each = (engine._rack.bytes - base) / 3
    assert 4 * (folder / "a.safetensors").stat().st_size / 5 < each <= (folder / "a.safetensors").stat().st_size
    small = easel(project, folder, (base + 2.5 * each + merged(engine, job(adapters=(("a", 1.0),)))) / 2**30, False)
    for name in "abac":
        assert (drawn(small, job(adapters=((name, 1.0),)))[0] == wearing[name][0]).all()
    kept = held(small).names
    assert kept == {name_of(folder / f"{name}.safetensors") for name in "ac"}, "b was worn before a"
    assert engine._rack.count == (1, 3) and (drawn(small, job())[0] == plain[0]).all()


def merged(engine, wearing):
    """The bytes of weights as they were before an adapter was worked into them."""
    bare = engine._rack.bytes
    drawn(engine, wearing)
    return engine._rack.bytes - bare


def test_models_used_longest_ago_leave_memory_and_what_is_in_use_always_fits(project):
    engine = easel(project, project / "loras", 1e-9, False)
    first, other = drawn(engine, job()), drawn(engine, job(model="other"))
    assert engine._rack.count == (1, 0) and (first[0] == other[0]).all()
    assert (drawn(engine, job(model="runs/lora"))[0] != first[0]).any() and engine._rack.count == (1, 1)
    assert (drawn(engine, job())[0] == first[0]).all() and engine._rack.count == (1, 0)
    whole = engine._rack.bytes
    networks = [part for part in held(engine).pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert whole == sum(one.nbytes for part in networks for one in (*part.parameters(), *part.buffers()))
    large = easel(project, None, 2.2 * whole / 2**30, False)
    for model in ("pico", "other", "pico", "runs/oft"):
        drawn(large, job(model=model))
    assert large._rack.count == (2, 0)


def test_what_is_released_goes_first_and_its_base_only_if_nobody_else_draws_with_it(project):
    engine = easel(project, None, 2.0, False)
    for model in ("runs/lora", "runs/dora", "other", "pico"):
        engine.prepare(model)
    assert engine._rack.count == (2, 2) == (engine.held().models, engine.held().adapters)
    engine.release("runs/dora")
    engine._rack._fit(engine._rack.bytes - 1)
    assert engine._rack.count == (2, 1) and held(engine).names == {name_of(project / "runs/lora/adapter.safetensors")}
    engine.release("other")
    engine._rack._fit(engine._rack.bytes - 1)
    assert engine._rack.count == (1, 1), "the adapter was used before the other base was"
    assert engine.held().size > engine._rack.bytes > 0


def test_a_file_of_an_adapter_that_was_replaced_is_read_again(project, tmp_path):
    folder = tmp_path / "loras"
    saved(folder / "same.safetensors", 1)
    engine = easel(project, folder, 2.0, False)
    wearing = job(adapters=(("same", 1.0),))
    before = drawn(engine, wearing)
    saved(folder / "same.safetensors", 2)
    after = drawn(engine, wearing)
    assert (before[0] != after[0]).any()
    assert (after[0] == drawn(easel(project, folder, 2.0, False), wearing)[0]).all()


def test_a_registered_version_is_served_by_its_number(run, tmp_path):
    project = tmp_path / "a style"
    shutil.copytree(run, project / "runs" / "one")
    (project / "runs" / "one" / "result.json").write_text("{}")
    record = recipes.load(run / "recipe.toml").data.path
    (project / record).mkdir()
    (project / record / "dataset.json").write_text("".join(Dataset().to_json()))
    title = register_model(project / "runs" / "one", "my-style", store=str(project / "bespoke.db")).version.title
    engine = easel(project, None, 2.0, False)
    facts = engine.prepare(title)
    assert title == "my-style@1" and len(dict(facts.facts)["hash"]) == 64
    assert (drawn(engine, job(model=title))[0] == drawn(engine, job(model="runs/one"))[0]).all()
