"""How often the rules over what models say find what is wrong, and blame what is right.

On the examples, with pico-CLIP: captions exchanged in a tenth of the pictures; pictures copied brighter, cropped or in
another tint; strangers among pictures of one subject. With `--same-subject`, and Noto's emoji font, also different
pictures of one subject on one ground, none of which may be called similar.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from bespoke.data import Unreadable, read
from bespoke.data.alignment import same_shot
from bespoke.data.embedding import agreements, directions, fits, nearest, standing
from bespoke.data.inspect import THUMBNAIL
from bespoke.models import Clip
from bespoke.recipe.dataset import Clean

ROOT = Path(__file__).parents[1]
FOLDERS = ("examples/8bit/train", "examples/8bit/reference", "examples/photos")
RULES = Clean()


def loaded(folder: Path) -> tuple[list[Image.Image], list[str]]:
    """The pictures of a folder that can be read and have a caption."""
    pictures, texts = list[Image.Image](), list[str]()
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            try:
                picture = read(folder / row["file_name"]).image
            except (Unreadable, OSError):
                continue
            if row["text"]:
                pictures.append(picture)
                texts.append(row["text"])
    return pictures, texts


def misfits(pictures: np.ndarray, captions: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Which pictures the rule `does not fit its caption` finds fault with."""
    low = standing(agreements(pictures, captions, own)) < RULES.minimum_agreement
    return low & (fits(pictures, captions, own) < RULES.minimum_fit)


def exchanged(pictures: np.ndarray, captions: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """The parts found of those with another's caption, and of the others, over 100 draws."""
    rng, found, blamed = np.random.default_rng(0), [], []
    for _ in range(100):
        wrong = rng.choice(len(own), len(own) // 10, replace=False)
        said = own.copy()
        said[wrong] = (own[wrong] + rng.integers(1, len(captions), len(wrong))) % len(captions)
        # Captions that nobody has any more are gone from the dataset.
        left, places = np.unique(said, return_inverse=True)
        hits = misfits(pictures, captions[left], places)
        found.append(hits[wrong].mean())
        blamed.append(np.delete(hits, wrong).mean())
    return float(np.mean(found)), float(np.mean(blamed))


def brighter(factor: float) -> Callable[[Image.Image], Image.Image]:
    """A copy in which all levels are multiplied."""
    return lambda image: image.point([min(255, round(level * factor)) for level in range(256)] * 3)


def cropped(part: float) -> Callable[[Image.Image], Image.Image]:
    """A copy with so much cut off each side."""

    def cut(image: Image.Image) -> Image.Image:
        across, down = round(image.width * part), round(image.height * part)
        return image.crop((across, down, image.width - across, image.height - down))

    return cut


CHANGES = {
    "6 % brighter": brighter(1.06),
    "3 % cut off each side": cropped(0.03),
    "both": lambda image: cropped(0.03)(brighter(1.06)(image)),
    "5 % cut off each side": cropped(0.05),
    "15 % brighter": brighter(1.15),
}


def thumbnail(image: Image.Image) -> np.ndarray:
    """What the facts hold of a picture."""
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.uint8)


def similar(features: np.ndarray, thumbnails: list[np.ndarray]) -> tuple[int, int]:
    """How many pairs are near by their features, and how many of them thumbnails confirm."""
    places, cosines = nearest(features)
    pairs = {
        (min(one, int(other)), max(one, int(other)))
        for one, (others, row) in enumerate(zip(places, cosines, strict=True))
        for other, cosine in zip(others, row, strict=True)
        if cosine >= RULES.minimum_likeness
    }
    return len(pairs), sum(same_shot(thumbnails[one], thumbnails[other]) for one, other in pairs)


def copies(clip: Clip, pictures: list[Image.Image], features: np.ndarray) -> None:
    """Prints which part of changed copies is found."""
    for name, change in CHANGES.items():
        changed = [change(picture) for picture in pictures]
        near = (directions(clip.pictures(changed)) * features).sum(axis=1) >= RULES.minimum_likeness
        same = [same_shot(thumbnail(one), thumbnail(other)) for one, other in zip(changed, pictures, strict=True)]
        sys.stdout.write(
            f"  {name}: near {near.mean():.1%}, thumbnails {np.mean(same):.1%}, both {(near & same).mean():.1%}\n"
        )


def same_subject(clip: Clip) -> None:
    """Prints how many pairs of different pictures of one subject on one ground are called similar."""
    from pico.scenes import Scene, Thing

    rng = np.random.default_rng(0)
    for name, ground in (("dog", "blue"), ("fox", "red"), ("car", "white"), ("frog", "green"), ("carrot", "orange")):
        scenes: list[Scene] = []
        for _ in range(60):
            scale = float(rng.uniform(0.4, 0.86))
            x, y = (float(at) for at in 0.5 + rng.uniform(-1, 1, 2) * (1 - scale) / 2 * 0.7)
            scenes.append(Scene((Thing(name, scale, x, y),), ground))
        pictures = [scene.render() for scene in scenes]
        features = directions(clip.pictures(pictures))
        near, same = similar(features, [thumbnail(picture) for picture in pictures])
        stranger = read(ROOT / "examples/photos/photo-12.jpg").image
        far = standing(1 - nearest(directions(clip.pictures([*pictures, stranger])))[1].mean(axis=1))
        sys.stdout.write(f"{name} on {ground}: {near} pairs near, {same} called similar; ")
        sys.stdout.write(f"a stranger at {far[-1]:.1f}, the others at most at {far[:-1].max():.1f} deviations\n")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--same-subject", action="store_true", help="also draw pictures; needs Noto's emoji font")
    asked, clip = parser.parse_args(), Clip()
    for folder in FOLDERS:
        pictures, texts = loaded(ROOT / folder)
        features = directions(clip.pictures(pictures))
        different = sorted(set(texts))
        captions = directions(clip.texts(different))
        own = np.array([different.index(text) for text in texts])
        far = standing(1 - nearest(features)[1].mean(axis=1))
        sys.stdout.write(f"{folder}: {len(pictures)} pictures\n")
        found, blamed = exchanged(features, captions, own)
        sys.stdout.write(f"  captions: {misfits(features, captions, own).sum()} blamed as they are; ")
        sys.stdout.write(f"exchanged: {found:.1%} found, {blamed:.2%} of the others blamed\n")
        sys.stdout.write(f"  farthest from the others: {np.sort(far)[::-1][:3].round(1)} deviations\n")
        near, same = similar(features, [thumbnail(picture) for picture in pictures])
        sys.stdout.write(f"  {near} pairs near, {same} of them the same shot\n")
        copies(clip, pictures, features)
    if asked.same_subject:
        same_subject(clip)


if __name__ == "__main__":
    main()
