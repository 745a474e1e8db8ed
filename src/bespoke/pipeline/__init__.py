"""The verbs: whole stages of a model's life, as the command line and Python call them."""

from bespoke.pipeline.augment import augment
from bespoke.pipeline.caption import caption_data, preview_captions
from bespoke.pipeline.coining import build_words
from bespoke.pipeline.collect import collect
from bespoke.pipeline.datasets import (
    balance_data,
    clean_data,
    export_data,
    import_data,
    inspect_data,
    restore_data,
    shrink_data,
    split_data,
    unbalance_data,
)
from bespoke.pipeline.demo import demo
from bespoke.pipeline.describe import report_data
from bespoke.pipeline.evaluate import evaluate
from bespoke.pipeline.exchange import export_words
from bespoke.pipeline.export import export_model
from bespoke.pipeline.grid import grid
from bespoke.pipeline.lookup import show_word
from bespoke.pipeline.new import new
from bespoke.pipeline.passports import inspect_model
from bespoke.pipeline.plan import plan
from bespoke.pipeline.sample import sample
from bespoke.pipeline.surgery import extract_lora, merge_models, resize_lora
from bespoke.pipeline.sweep import sweep
from bespoke.pipeline.train import resume, train
from bespoke.pipeline.unpack import import_model

__all__ = [
    "augment", "balance_data", "build_words", "caption_data", "clean_data", "collect", "demo", "evaluate",
    "export_data", "export_model", "export_words", "extract_lora", "grid", "import_data", "import_model",
    "inspect_data", "inspect_model", "merge_models", "new", "plan", "preview_captions", "report_data", "resize_lora",
    "restore_data", "resume", "sample", "show_word", "shrink_data", "split_data", "sweep", "train", "unbalance_data",
]  # fmt: skip
