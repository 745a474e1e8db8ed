"""Show what the captioner and the detector that ship make of scenes they never saw: `python -m pico.show`."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bespoke.models import Blip, Detector, Wording
from pico import blip, yolos
from pico.scenes import Scene

COLUMNS, SIDE, LINE = 6, 160, 12
SCENES = 12
SURE = 0.5
PAPER, INK = (252, 251, 248), (34, 32, 30)


def scenes() -> list[Scene]:
    """Held-out scenes: a row of single things and a row of two."""
    single, double = blip.held_out(200).values()
    return [*single[3 :: 200 // COLUMNS][:COLUMNS], *double[:COLUMNS]]


def sheet(pictures: list[Image.Image], texts: list[str]) -> Image.Image:
    """The pictures in rows, each with its text below."""
    high = SIDE + 4 * LINE
    whole = Image.new("RGB", (COLUMNS * (SIDE + 8), -(-len(pictures) // COLUMNS) * high), PAPER)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(11)
    for number, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = number % COLUMNS * (SIDE + 8), number // COLUMNS * high
        whole.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
        pen.multiline_text((x, y + SIDE + 2), wrapped(text), fill=INK, font=font, spacing=2)
    return whole


def wrapped(text: str, letters: int = 28) -> str:
    """The text in lines of so many letters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def boxed(picture: Image.Image, detector: Detector) -> tuple[Image.Image, str]:
    """The picture with a box around each thing found, and their names."""
    large = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    pen, found = ImageDraw.Draw(large), detector.things([picture], SURE)[0]
    for thing in found:
        pen.rectangle([value * SIDE / picture.width for value in thing.box], outline=(255, 0, 160), width=2)
    return large, ", ".join(f"{thing.name} {thing.score:.0%}" for thing in found) or "nothing"


def main() -> None:
    """The command."""
    folder, pictures = Path(__file__).parent, [scene.render(yolos.SIZE) for scene in scenes()]
    said = Blip().captions(pictures, [str(n) for n in range(len(pictures))], Wording())
    sheet(pictures, said).save(folder / "captions.png")
    detector = Detector()
    drawn = [boxed(picture, detector) for picture in pictures]
    sheet([picture for picture, _ in drawn], [text for _, text in drawn]).save(folder / "detections.png")
    print(f"captions.png and detections.png in {folder}")


if __name__ == "__main__":
    main()
