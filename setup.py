"""What pyproject.toml cannot say: the example, which lies at the root of the repository, travels in the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithExample(build_py):
    """Builds the package, then puts `examples/8bit` beside its code."""

    def run(self) -> None:
        """Builds."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "bespoke" / "examples" / "8bit"
            shutil.copytree(Path(__file__).parent / "examples" / "8bit", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithExample})
