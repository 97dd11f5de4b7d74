# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fakes of Slurm's programs, and of trainings: they note what they are asked, and say what they are told to say.

The real ones are in the scenario `cluster`. It runs on Python 3.6 too.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

import hand_labelled as hand
from mrcnn_workbench import dataset, runs
from mrcnn_workbench.runs import Run

SETTINGS = """\
data: {data}
backbone: small
image_size: 128
stages: [{{layers: all, epochs: 4, learning_rate: 0.01}}]
"""
# $0 is the program in FAKE/bin. It says what is in the file FAKE/NAME, and fails with what is in FAKE/NAME.error.
PROGRAM = """\
#!/bin/sh
fake=$(dirname "$(dirname "$0")") name=$(basename "$0")
for argument; do printf '%s\\n' "$argument"; done >>"$fake/$name.asked"
echo . >>"$fake/$name.asked"
if [ -e "$fake/$name.error" ]; then cat "$fake/$name.error" >&2; exit 1; fi
cat "$fake/$name" 2>/dev/null || true
"""
NAMES = ("sbatch", "squeue", "scontrol", "sinfo", "sacct")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class FakeSlurm:
    """Slurm, as far as `mrcnn` sees it."""

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self.folder = folder
        for name in NAMES:
            program(folder / "bin" / name, PROGRAM)
        monkeypatch.setenv("PATH", str(folder / "bin") + os.pathsep + os.environ["PATH"])
        self.says("sbatch", "12\n")

    def says(self, name: str, text: str) -> None:
        fresh = self.folder / (name + ".fresh")
        fresh.write_text(text)
        fresh.replace(self.folder / name)  # at once: somebody may be reading

    def fails(self, name: str, text: str) -> None:
        (self.folder / (name + ".error")).write_text(text)

    def asked(self, name: str) -> Any:
        """The arguments of every call, a list each."""
        path = self.folder / (name + ".asked")
        calls = path.read_text().split("\n.\n")[:-1] if path.exists() else []
        return [[argument for argument in call.split("\n") if argument] for call in calls]

    def jobs(self, *lines: str) -> None:
        """What squeue knows: NUMBER|OWN NUMBER|STATE|NODE|REASON|START."""
        self.says("squeue", "".join(line + "\n" for line in lines))


class FakeTraining:
    """In place of the module `training`, which needs TensorFlow: what makes a run, and nothing that trains."""

    @staticmethod
    def check(_wanted: Any, _folder: Path) -> Any:
        return ["leaf"]

    @staticmethod
    def begin(wanted: Any, folder: Path) -> Run:
        from mrcnn_workbench import settings  # noqa: PLC0415

        return Run.create(folder, settings.dump(wanted), ["leaf"])


def install_training(monkeypatch: Any) -> None:
    import mrcnn_workbench  # noqa: PLC0415

    monkeypatch.setitem(__import__("sys").modules, "mrcnn_workbench.training", FakeTraining)
    monkeypatch.setattr(mrcnn_workbench, "training", FakeTraining, raising=False)


def make_settings(folder: Path) -> Path:
    """A data set and a file with settings in a folder."""
    hand.picture(folder / "dataset" / "train" / "leaf.png")
    content = {"images": [], "annotations": [], "categories": list(hand.CATEGORIES)}
    hand.write(dataset.file_of(folder / "dataset", "train"), content)
    path = folder / "leaves.yml"
    path.write_text(SETTINGS.format(data="dataset"))
    return path


def make_run(folder: Path, handed_in: str = "", **state: Any) -> Run:
    """A run that says this of itself."""
    run = Run.create(folder, SETTINGS.format(data="/nowhere"), ["leaf"])
    if state:
        run.path(runs.STATE).write_text(json.dumps(state))
    if handed_in:
        run.path(runs.JOB).write_text(json.dumps({"job": handed_in, "asked": {}}))
    return run
