"""The words of the world pico knows: 208 objects, colours, sizes, grounds, places, and captions made of them."""

import itertools

OBJECTS: dict[str, dict[str, str]] = {
    "animal": {
        "dog": "🐕", "cat": "🐈", "fox": "🦊", "lion": "🦁", "zebra": "🦓", "cow": "🐄", "pig": "🐖", "camel": "🐫",
        "giraffe": "🦒", "elephant": "🐘", "rabbit": "🐇", "bear": "🐻", "panda": "🐼", "koala": "🐨", "frog": "🐸",
        "crocodile": "🐊", "turtle": "🐢", "whale": "🐳", "fish": "🐠", "octopus": "🐙", "crab": "🦀", "snail": "🐌",
        "butterfly": "🦋", "bee": "🐝", "ladybug": "🐞", "penguin": "🐧", "owl": "🦉", "parrot": "🦜", "duck": "🦆",
        "unicorn": "🦄",
    },
    "food": {
        "red apple": "🍎", "banana": "🍌", "watermelon": "🍉", "grapes": "🍇", "strawberry": "🍓", "cherries": "🍒",
        "pineapple": "🍍", "lemon": "🍋", "avocado": "🥑", "tomato": "🍅", "eggplant": "🍆", "carrot": "🥕",
        "broccoli": "🥦", "mushroom": "🍄", "croissant": "🥐", "cheese": "🧀", "pizza": "🍕", "hamburger": "🍔",
        "doughnut": "🍩", "birthday cake": "🎂", "ice cream": "🍦", "lollipop": "🍭",
    },
    "vehicle": {
        "car": "🚗", "bus": "🚌", "fire engine": "🚒", "truck": "🚚", "tractor": "🚜", "bicycle": "🚲",
        "motorcycle": "🏍", "train": "🚂", "sailboat": "⛵", "ship": "🚢", "helicopter": "🚁", "rocket": "🚀",
        "flying saucer": "🛸",
    },
    "building": {
        "house": "🏠", "castle": "🏰", "church": "⛪", "factory": "🏭", "city view": "🏙", "tent": "⛺",
        "ferris wheel": "🎡", "red tower": "🗼",
    },
    "plant": {
        "tree": "🌳", "pine tree": "🌲", "palm tree": "🌴", "cactus": "🌵", "sunflower": "🌻", "tulip": "🌷",
        "rose": "🌹",
    },
    "thing": {
        "guitar": "🎸", "violin": "🎻", "trumpet": "🎺", "drum": "🥁", "crown": "👑", "key": "🔑", "alarm clock": "⏰",
        "umbrella": "🌂", "balloon": "🎈", "gift": "🎁", "light bulb": "💡", "camera": "📷", "soccer ball": "⚽",
        "basketball": "🏀", "backpack": "🎒", "top hat": "🎩", "bell": "🔔", "snowman": "⛄", "robot": "🤖",
        "trophy": "🏆",
    },
    "wild animal": {
        "horse": "🐎", "monkey": "🐒", "gorilla": "🦍", "tiger": "🐅", "sheep": "🐑", "llama": "🦙", "rhinoceros": "🦏",
        "hippopotamus": "🦛", "mouse": "🐁", "hedgehog": "🦔", "bat": "🦇", "kangaroo": "🦘", "snake": "🐍",
        "dragon": "🐉",
        "dinosaur": "🦕", "spider": "🕷", "caterpillar": "🐛", "goat": "🐐", "raccoon": "🦝",
    },
    "bird": {
        "chick": "🐥", "rooster": "🐓", "turkey": "🦃", "eagle": "🦅", "swan": "🦢", "flamingo": "🦩", "peacock": "🦚",
    },
    "sea creature": {"shark": "🦈", "dolphin": "🐬", "squid": "🦑", "lobster": "🦞"},
    "fruit": {
        "pear": "🍐", "peach": "🍑", "mango": "🥭", "kiwi": "🥝", "tangerine": "🍊", "green apple": "🍏", "corn": "🌽",
        "cucumber": "🥒", "onion": "🧅", "pepper": "🫑", "chili": "🌶", "blueberries": "🫐",
    },
    "dish": {
        "bread": "🍞", "pretzel": "🥨", "pancakes": "🥞", "waffle": "🧇", "hot dog": "🌭", "taco": "🌮",
        "fried egg": "🍳",
        "cookie": "🍪", "chocolate": "🍫", "cupcake": "🧁", "popcorn": "🍿", "teapot": "🫖", "sandwich": "🥪",
    },
    "machine": {
        "taxi": "🚕", "police car": "🚓", "ambulance": "🚑", "racing car": "🏎", "scooter": "🛵", "airplane": "✈",
        "laptop": "💻", "television": "📺", "telephone": "☎",
    },
    "place": {"hut": "🛖", "fountain": "⛲", "volcano": "🌋", "mountain": "🏔", "temple": "🏛"},
    "sky": {"moon": "🌙", "star": "⭐", "sun": "🌞", "cloud": "☁", "rainbow": "🌈", "snowflake": "❄", "flame": "🔥"},
    "blossom": {
        "maple leaf": "🍁", "clover": "🍀", "cherry blossom": "🌸", "hibiscus": "🌺", "potted plant": "🪴",
    },
    "tool": {
        "book": "📕", "pencil": "✏", "scissors": "✂", "hammer": "🔨", "chair": "🪑", "hourglass": "⏳", "anchor": "⚓",
        "magnet": "🧲", "bucket": "🪣", "shield": "🛡", "mailbox": "📫", "axe": "🪓",
    },
    "toy": {
        "dice": "🎲", "teddy bear": "🧸", "kite": "🪁", "football": "🏈", "jack-o-lantern": "🎃", "saxophone": "🎷",
        "ghost": "👻", "skull": "💀", "bomb": "💣",
    },
    "clothing": {"shoe": "👟", "boot": "👢", "dress": "👗", "handbag": "👜", "heart": "❤", "gem": "💎"},
}  # fmt: skip

GROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (206, 48, 44), "orange": (240, 140, 40), "yellow": (246, 220, 80), "green": (70, 160, 76),
    "blue": (48, 96, 200), "purple": (128, 64, 168), "pink": (245, 160, 195), "brown": (120, 80, 50),
    "black": (24, 24, 28), "white": (245, 245, 245), "gray": (140, 144, 150), "turquoise": (64, 196, 196),
}  # fmt: skip

PLACES: dict[str, str] = {
    "meadow": "in a meadow", "beach": "on a beach", "desert": "in the desert", "snow": "in the snow",
    "night": "at night", "water": "under water", "room": "in a room", "sunset": "at sunset",
}  # fmt: skip

COLOURS: dict[str, int] = {"red": 0, "orange": 20, "yellow": 36, "green": 90, "blue": 150, "purple": 192, "pink": 226}
"""Hues of painted objects, in 0..255 as Pillow counts them."""
PAINTED = (
    "car", "balloon", "tulip", "umbrella", "backpack", "octopus", "dress", "shoe", "book", "bucket", "teapot",
    "heart", "scooter", "telephone", "mailbox",
)  # fmt: skip
"""Objects that come in any of the colours."""
SIZES = {"small": (0.38, 0.5), "big": (0.9, 0.98)}
"""Longest sides, in pictures' sides, that a caption names."""

GROUNDED = (
    "{object} on {ground} background",
    "{object} on {ground} ground",
    "picture of {object} on {ground} background",
    "illustration of {object} on {ground} background",
    "{object} in front of {ground} background",
    "{object}, {bare} background",
    "{bare} background with {object}",
)
PLAIN = ("{object}", "picture of {object}", "illustration of {object}")
LOCATED = ("{things} {place}", "picture of {things} {place}", "{place}, {things}", "illustration of {things} {place}")
BESIDE = ("{first} left of {second}", "{second} right of {first}", "{first} next to {second}", "{first} and {second}")
ABOVE = ("{first} above {second}", "{second} below {first}", "{first} over {second}", "{second} under {first}")
PLURAL = {"grapes", "cherries", "pancakes", "blueberries", "scissors", "dice"}
MASS = {"city view", "broccoli", "cheese", "bread", "corn", "chocolate", "popcorn"}


def objects() -> list[str]:
    """Every object's name, in a fixed order: the order of the classes."""
    return list(itertools.chain.from_iterable(OBJECTS.values()))


def grounds() -> list[str]:
    """Every ground's and place's name, in a fixed order: the order of the classes."""
    return [*GROUNDS, *PLACES]


def noun_phrase(name: str, *adjectives: str) -> str:
    """The name with its adjectives and its article: "a small red car", "an owl", "grapes"."""
    words = " ".join([*adjectives, name])
    if name in PLURAL or name in MASS:
        return words
    return f"{'an' if words[0] in 'aeiou' and words != 'unicorn' else 'a'} {words}"


def arranged(phrases: list[str], *, above: bool = False, phrasing: int = 0) -> str:
    """The noun phrases of one to three things as one: "a cat left of a car"; two may stand one above the other."""
    if len(phrases) == 2:
        forms = ABOVE if above else BESIDE
        return forms[phrasing % len(forms)].format(first=phrases[0], second=phrases[1])
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


def located(things: str, ground: str | None, phrasing: int = 0) -> str:
    """Things on a ground or in a place, in one of the phrasings; without a ground, the things alone."""
    if ground is None:
        return PLAIN[phrasing % len(PLAIN)].format(object=things)
    if ground in PLACES:
        return LOCATED[phrasing % len(LOCATED)].format(things=things, place=PLACES[ground])
    article = "an" if ground[0] in "aeiou" else "a"
    return GROUNDED[phrasing % len(GROUNDED)].format(object=things, ground=f"{article} {ground}", bare=ground)


def caption(name: str, ground: str | None, phrasing: int = 0) -> str:
    """One of the phrasings of "a red apple on a blue background"; without a ground, of "a red apple"."""
    return located(noun_phrase(name), ground, phrasing)


def is_held_out(name: str, ground: str) -> bool:
    """Whether pico's training never sees this object alone on this ground: one pair in twelve, or in eight places."""
    among = list(GROUNDS) if ground in GROUNDS else list(PLACES)
    return among.index(ground) == (objects().index(name) * 5 + 2) % len(among)


def is_held_out_pair(first: str, second: str) -> bool:
    """Whether pico's training never sees these two objects in one picture: one pair in twelve."""
    return (objects().index(first) + objects().index(second)) % 12 == 7
