"""A file, folder or model's name turned into what it is."""

import json
from dataclasses import replace
from pathlib import Path

from bespoke import recipe as recipes
from bespoke.models import Checkpoint, NewWords
from bespoke.models.compiled import Compiled
from bespoke.models.passport import WIDTHS, Passport, header, passport
from bespoke.pipeline.fetching import brought, checkpoint_of, is_url
from bespoke.pipeline.naming import Named, is_run, named
from bespoke.pipeline.origin import licence


def inspect_model(source: str | Path) -> Passport:
    """What a file, a folder, a run or a model of that name is; of tensors only headers are read.

    Raises: BespokeError when there is nothing of that name, or it cannot be read.
    """
    path = brought(str(source)) if is_url(source) else Path(source)
    if path.is_file():
        return passport(path)
    if is_run(str(source)):
        return _run(named(str(source)))
    return _model(checkpoint_of(str(source), download=False))


def _model(checkpoint: Checkpoint) -> Passport:
    """A whole model in diffusers' layout."""
    runtime = checkpoint.runtime if isinstance(checkpoint, Compiled) else None
    parts = ("vae", *checkpoint.family.worded)
    heads = [header(file) for part in parts for file in sorted(checkpoint.part(part).glob("*.safetensors"))]
    return Passport(
        checkpoint.trained or checkpoint.folder,
        "whole model",
        runtime.form if runtime else "diffusers",
        WIDTHS.get(checkpoint.text_shape[1], checkpoint.family.name),
        dtype="" if runtime else ", ".join(sorted({head.dtype for head in heads})),
        numbers=0 if runtime else sum(head.numbers for head in heads),
        base_hash=checkpoint.fingerprint(checkpoint.family.denoiser),
        title=checkpoint.name,
        licence=licence(checkpoint),
        loads=(("optimum" if runtime else "diffusers"), "bespoke"),
    )


def _run(found: Named) -> Passport:
    """A run: its adapter or model, with what its recipe says."""
    run = found.run
    assert run
    start = recipes.load(run.recipe)
    told = passport(found.adapter) if found.adapter else _model(found.checkpoint)
    words: NewWords | None = found.checkpoint.new_words
    train = start.train
    training = {
        "method": start.model.method,
        "steps": str(train.max_train_steps or ""),
        "learning rate": str(train.learning_rate or ""),
        "batch": str(train.train_batch_size or ""),
        "seed": str(train.seed),
    }
    if found.checkpoint.commit:
        training["base's commit"] = found.checkpoint.commit
    if run.result.is_file():
        training["ended"] = str(json.loads(run.result.read_text(encoding="utf-8")).get("reason", ""))
    return replace(
        told,
        base=start.model.base,
        base_hash=found.checkpoint.fingerprint(found.checkpoint.family.denoiser) if found.adapter else told.base_hash,
        title=run.root.name,
        trigger=start.text.trigger or "",
        words=tuple(word.surface for word in words.words) if words else (),
        training={name: said for name, said in training.items() if said},
    )
