"""The names of other trainers' options, read from their sources: an oracle for the tables in `bespoke.recipe.peers`.

`python -m tests.peers.options SD_SCRIPTS KOHYA_SS ONETRAINER DIFFUSERS EVERYDREAM2 > tests/peers/options.json`, each of
which is a checkout.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

LISTED = Path(__file__).with_name("options.json")
SD_SCRIPTS = (
    "library/train_util.py", "library/custom_train_functions.py", "library/config_util.py",
    "library/deepspeed_utils.py", "library/sai_model_spec.py", "library/sdxl_train_util.py", "library/utils.py",
    "train_network.py", "train_db.py", "fine_tune.py", "train_textual_inversion.py", "sdxl_train.py",
)  # fmt: skip
DIFFUSERS = (
    "text_to_image/train_text_to_image", "text_to_image/train_text_to_image_lora", "dreambooth/train_dreambooth",
    "dreambooth/train_dreambooth_lora", "textual_inversion/textual_inversion",
    "text_to_image/train_text_to_image_lora_sdxl", "text_to_image/train_text_to_image_sdxl",
    "dreambooth/train_dreambooth_lora_sdxl", "advanced_diffusion_training/train_dreambooth_lora_sd15_advanced",
)  # fmt: skip
EVERYDREAM2 = "train.py"
GUI = ("lora_gui", "dreambooth_gui", "finetune_gui", "textual_inversion_gui")
ONETRAINER = ("TrainConfig", "ConceptConfig", "SampleConfig", "CloudConfig")


def tree(checkout: Path, file: str) -> ast.Module:
    """A source of a checkout, as git has it."""
    command = ["git", "-C", str(checkout), "show", f"HEAD:{file}"]
    return ast.parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def called(module: ast.AST, method: str) -> list[ast.Call]:
    """The calls of a method."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == method]


def arguments(checkout: Path, *files: str, anywhere: bool = False) -> list[str]:
    """The options of argument parsers, of those that functions make."""
    kinds = ast.Module if anywhere else ast.FunctionDef
    made = (node for f in files for node in ast.walk(tree(checkout, f)) if isinstance(node, kinds))
    texts = (a.value for node in made for c in called(node, "add_argument") for a in c.args
             if isinstance(a, ast.Constant))  # fmt: skip
    return sorted({str(text).lstrip("-") for text in texts})


def schemas(checkout: Path) -> list[str]:
    """The options of sd-scripts' file of datasets: the keys of its schemas."""
    module = tree(checkout, "library/config_util.py")
    made = next(n for n in ast.walk(module) if isinstance(n, ast.ClassDef) and n.name == "ConfigSanitizer")
    assigned = (n.value for n in made.body if isinstance(n, ast.Assign) and "SCHEMA" in ast.unparse(n.targets[0])
                and "ARGPARSE" not in ast.unparse(n.targets[0]))  # fmt: skip
    keys = (key for value in assigned if isinstance(value, ast.Dict) for key in value.keys)
    return sorted({ast.literal_eval(k.args[0] if isinstance(k, ast.Call) else k) for k in keys if k is not None})


def parameters(checkout: Path) -> list[str]:
    """The fields that kohya_ss saves."""
    saving = (node for page in GUI for node in ast.walk(tree(checkout, f"kohya_gui/{page}.py"))
              if isinstance(node, ast.FunctionDef) and node.name == "save_configuration")  # fmt: skip
    return sorted({argument.arg for function in saving for argument in function.args.args})


def appended(checkout: Path, name: str) -> dict[str, list[str]]:
    """The settings of each class of one of OneTrainer's files."""
    module = tree(checkout, f"modules/util/config/{name}.py")
    found: dict[str, list[str]] = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            firsts = (c.args[0].elts[0] for c in called(node, "append") if isinstance(c.args[0], ast.Tuple))
            found[node.name] = sorted({str(f.value) for f in firsts if isinstance(f, ast.Constant)})
    return found


def listing(
    sd_scripts: Path, kohya_ss: Path, onetrainer: Path, diffusers: Path, everydream2: Path
) -> dict[str, list[str]]:
    """All of them, by trainer and, for OneTrainer, by class."""
    scripts = (f"examples/{name}.py" for name in DIFFUSERS)
    return {
        "sd-scripts": arguments(sd_scripts, *SD_SCRIPTS), "datasets": schemas(sd_scripts),
        "kohya_ss": parameters(kohya_ss), "diffusers": arguments(diffusers, *scripts),
        "EveryDream2": arguments(everydream2, EVERYDREAM2, anywhere=True),
    } | {k: v for name in ONETRAINER for k, v in appended(onetrainer, name).items()}  # fmt: skip


if __name__ == "__main__":
    found = listing(*map(Path, sys.argv[1:]))
    print(json.dumps({trainer: " ".join(names) for trainer, names in found.items()}, indent=1))
