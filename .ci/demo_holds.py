"""Whether the demo's JSON, on standard input, holds what README says of it: exit code 0 or 1; prints its figures."""

import json
import sys

DISTANCE = "kid_pico_clip_reference"


def main() -> int:
    """0 where the distance is at most half the base's, intervals apart, and plain prompts keep 95 % agreement."""
    shown = json.load(sys.stdin)
    base, tuned = (shown["scores"][model] for model in ("base", "tuned"))
    for model, scores in (("base", base), ("tuned", tuned)):
        for name, score in scores.items():
            sys.stdout.write(f"{model}: {name} {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})\n")
    kept = tuned["agreement_general"]["value"] / base["agreement_general"]["value"]
    seconds = shown["seconds"]
    sys.stdout.write(f"plain prompts keep {kept:.1%}; {sum(seconds.values()):.0f} s: {seconds}\n")
    closer = tuned[DISTANCE]["value"] <= base[DISTANCE]["value"] / 2 and tuned[DISTANCE]["high"] < base[DISTANCE]["low"]
    return 0 if closer and kept >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
