"""The verbs: whole stages of a model's life, as the command line and Python call them."""

from bespoke.pipeline.datasets import export_data, import_data
from bespoke.pipeline.demo import demo
from bespoke.pipeline.new import new
from bespoke.pipeline.sample import sample
from bespoke.pipeline.train import resume, train

__all__ = ["demo", "export_data", "import_data", "new", "resume", "sample", "train"]
