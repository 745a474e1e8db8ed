"""Pictures and captions turned into a checked dataset, and its pictures into shapes for a model."""

from bespoke.data.balance import Balanced, Share, balance, unbalance
from bespoke.data.buckets import Buckets, Size, kept
from bespoke.data.copies import Copies, Shrunk, shrink
from bespoke.data.dataset import ASIDE, TRAIN, load
from bespoke.data.export import export
from bespoke.data.groups import Group
from bespoke.data.importing import Otherwise, build
from bespoke.data.inspect import Facts
from bespoke.data.intake.links import is_table
from bespoke.data.intake.remote import here, shown
from bespoke.data.intake.sidecars import tags_of
from bespoke.data.masks import area_mean
from bespoke.data.masks import place as mask_of
from bespoke.data.reading import Pixels, Reading, Unreadable, decoded, decoded_mask, preview, read, read_mask
from bespoke.data.sharding import SHARD_BYTES
from bespoke.data.sorting import NO_CAPTION, Inspected, check_enough, clean, grouped, inspect, restore, split_up
from bespoke.data.transforms import Fitted, Transform, fit, least_part, plain, variants, varied

__all__ = [
    "ASIDE", "NO_CAPTION", "SHARD_BYTES", "TRAIN",
    "Balanced", "Buckets", "Copies", "Facts", "Fitted", "Group", "Inspected", "Otherwise", "Pixels", "Reading",
    "Share", "Shrunk", "Size", "Transform", "Unreadable",
    "area_mean", "balance", "build", "check_enough", "clean", "decoded", "decoded_mask", "export", "fit", "grouped",
    "here", "inspect", "is_table", "kept", "least_part", "load", "mask_of", "plain", "preview", "read", "read_mask",
    "restore", "shown", "shrink", "split_up", "tags_of", "unbalance", "variants", "varied",
]  # fmt: skip
