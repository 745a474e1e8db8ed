"""A caption turned into the reason why its picture must not be mirrored."""

import re

SIDES = r"left|right|leftmost|rightmost|left-?handed|right-?handed|leftwards?|rightwards?|(?:anti|counter)?-?clockwise"
WRITING = (
    r"text|texts|letter|letters|lettering|word|words|writing|written|handwriting|handwritten|calligraphy|font|typography"
    r"|says|saying|reads|spelled|inscription|inscribed|caption|captioned|subtitles?|slogan|title|headline|label"
    r"|labels|labelled|labeled|logo|logos|logotype|signature|signed|watermark|signboard|billboard|graffiti|number|numbers"
    r"|numeral|numerals|digit|digits|number plate|license plate|licence plate|newspaper|map|clock|watch ?face"
)
RULES = (
    ("names left or right", re.compile(rf"\b(?:{SIDES})\b", re.IGNORECASE)),
    ("names writing", re.compile(rf"\b(?:{WRITING})\b|[\"“”„«»][^\"“”„«»]+[\"“”„«»]", re.IGNORECASE)),
)


def unmirrorable(caption: str) -> str:
    """Why the picture of an English caption would be wrong in a mirror: "names left or right", "names writing", or "".

    It hears too much rather than too little: "right now" names the right, too.
    """
    return next((reason for reason, pattern in RULES if pattern.search(caption)), "")
