# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn train` in an environment with TensorFlow 1.15: real trainings, short ones, and what can end them."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from desk import FAILED, INTERRUPTED, Desk, wait_until
from playbook import Playbook

QUICK = ["--layers", "all", "--learning-rate", "0.01", "--set", "steps=2", "--set", "validation_steps=1"]
OWN = '''
import resource

import keras
import numpy as np

from mrcnn_workbench import callbacks, runs


class Poison(keras.callbacks.Callback):
    """After the first epoch, one of the weights is no number."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            layer = self.model.get_layer("fpn_c5p5")
            layer.set_weights([weights * np.nan for weights in layer.get_weights()])


class NoNotes(keras.callbacks.Callback):
    """Meanwhile neither notes nor curves can be written."""

    def on_train_begin(self, logs=None):
        def fail(*_):
            raise OSError(28, "No space left on device")

        self.before = runs.write_json
        runs.write_json = callbacks.draw = fail

    def on_train_end(self, logs=None):
        runs.write_json = self.before


class FullDisk(keras.callbacks.Callback):
    """After the first epoch, no file can grow beyond a megabyte."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
'''


class Training(Desk):
    """With runs of the example's settings."""

    def trains(self, name: str, *arguments: str, code: int = 0) -> str:
        """A new run of the example's settings, two steps an epoch."""
        return self.runs("train", "quick.yml", "--run", f"runs/{name}", *QUICK, *arguments, code=code)

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "runs" / name / "state.json").read_text())
        return found

    def checkpoints(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.folder / "runs" / name / "checkpoints").iterdir())

    def epochs(self, name: str) -> list[str]:
        with (self.folder / "runs" / name / "metrics.csv").open(newline="") as file:
            return [row["epoch"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def desk(provisioned: Playbook, tmp_path_factory: pytest.TempPathFactory) -> Training:
    desk = Training.with_example(provisioned.env, tmp_path_factory.mktemp("desk"))
    (desk.folder / "own.py").write_text(OWN)
    return desk


@pytest.fixture(scope="module")
def first(desk: Training) -> str:
    """A run that came to its end; what it said."""
    return desk.trains("first", "--epochs", "2")


def test_a_run_has_everything_in_one_folder(desk: Training, first: str) -> None:
    run = desk.folder / "runs" / "first"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "checkpoints", "classes.json", "curves.png", "environment.json", "events", "log.txt", "metrics.csv",
        "settings.yml", "state.json",
    }  # fmt: skip
    assert desk.checkpoints("first") == ["mask_rcnn_0001.h5", "mask_rcnn_0002.h5"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((run / "events").glob("events.out.tfevents.*"))
    assert json.loads((run / "classes.json").read_text()) == ["background", "flower", "leaf"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["tensorflow"].startswith("1.15.") and environment["keras"] == "2.2.5"
    state = desk.state("first")
    assert (state["status"], state["epoch"], state["epochs"]) == ("finished", 2, 2)
    assert re.search(r"epoch 1/2 .* loss \d.* val_loss \d.* ends \d\d:\d\d", first)
    assert not [path for path in desk.folder.iterdir() if path.name.startswith("workbench20")], "mrcnn's own folders"


def test_a_run_goes_on_only_as_itself(desk: Training, first: str) -> None:
    assert "--resume runs/first" in desk.trains("first", code=FAILED)
    assert "all 2 epochs are done" in desk.runs("train", "--resume", "runs/first")
    assert desk.epochs("first") == ["1", "2"]


def test_killed_at_any_moment_it_ends_with_the_same_epochs(desk: Training) -> None:
    """The same settings as a training that is left alone: all epochs, each of them once."""
    epochs = [str(epoch) for epoch in range(1, 16)]  # more than come to their end before the kill
    process = desk.starts("train", "quick.yml", "--run", "runs/killed", *QUICK, "--epochs", epochs[-1])
    wait_until((desk.folder / "runs/killed/checkpoints/mask_rcnn_0001.h5").exists)
    time.sleep(secrets.randbelow(4000) / 1000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = len(desk.epochs("killed"))
    # Those of a crash: half a checkpoint beside its place, and a whole one that the disk has lost the end of.
    newest = desk.folder / "runs/killed/checkpoints" / desk.checkpoints("killed")[-1]
    lost = newest.with_name(f"mask_rcnn_{int(newest.stem[-4:]) + 1:04}.h5")
    shutil.copy(newest, lost)
    os.truncate(lost, newest.stat().st_size // 2)
    said = desk.runs("train", "--resume", "runs/killed")
    assert "the one before is tried" in said and "going on after epoch" in said
    assert begun >= 1 and desk.epochs("killed") == epochs
    assert desk.state("killed")["status"] == "finished"


def test_stopped_it_can_be_resumed_and_nobody_else_gets_in(desk: Training) -> None:
    process = desk.starts("train", "quick.yml", "--run", "runs/stopped", *QUICK, "--epochs", "50")
    wait_until((desk.folder / "runs/stopped/checkpoints/mask_rcnn_0001.h5").exists)
    assert "somebody is training in it" in desk.runs("train", "--resume", "runs/stopped", code=FAILED)
    process.send_signal(signal.SIGINT)
    said, _none = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert "mrcnn train --resume runs/stopped" in said
    state = desk.state("stopped")
    assert state["status"] == "stopped" and "SIGINT" in state["reason"]


def test_losses_that_are_no_numbers_end_it_with_the_reason(desk: Training) -> None:
    said = desk.trains("poisoned", "--epochs", "3", "--set", "callbacks=['own:Poison']", code=FAILED)
    assert "the loss is nan in epoch 2, step 1" in said and "learning rate" in said
    assert desk.state("poisoned")["status"] == "failed"
    assert desk.checkpoints("poisoned") == ["mask_rcnn_0001.h5"]


def test_a_disk_that_is_full_leaves_the_last_checkpoint_whole(desk: Training) -> None:
    said = desk.trains("full", "--epochs", "3", "--set", "callbacks=['own:FullDisk']", code=FAILED)
    assert "mask_rcnn_0002.h5: cannot be written" in said
    assert desk.checkpoints("full") == ["mask_rcnn_0001.h5"]
    settings = desk.folder / "runs/full/settings.yml"
    settings.write_text(settings.read_text().replace("own:FullDisk: {}", "early_stopping: {patience: 9}"))
    assert "going on after epoch 1" in desk.runs("train", "--resume", "runs/full")
    assert desk.epochs("full") == ["1", "2", "3"]


def test_what_is_only_to_be_looked_at_ends_no_training(desk: Training) -> None:
    desk.trains("silent", "--epochs", "1", "--set", "callbacks=['own:NoNotes']")
    assert desk.checkpoints("silent") == ["mask_rcnn_0001.h5"]


def test_checkpoints_of_another_model_are_not_begun_over(desk: Training) -> None:
    desk.trains("other", "--epochs", "1")
    settings = desk.folder / "runs/other/settings.yml"
    settings.write_text(settings.read_text().replace("backbone: small", "backbone: resnet50"))
    assert "none of the checkpoints can be loaded" in desk.runs("train", "--resume", "runs/other", code=FAILED)
    assert desk.epochs("other") == ["1"]


def test_a_stage_that_learns_no_more_makes_room_for_the_next(desk: Training) -> None:
    stages = "stages=[{layers: heads, epochs: 5, learning_rate: 0}, {layers: all, epochs: 1, learning_rate: 0.01}]"
    stop = (
        "callbacks=[{early_stopping: {patience: 1, min_delta: 9}}, {learning_rate_steps: {epochs: [2], factor: 0.5}}]"
    )
    said = desk.runs(
        "train", "quick.yml", "--run", "runs/early", "--set", stages, "--set", stop, "--set", "steps=1",
        "--set", "augmentation=field",
    )  # fmt: skip
    assert "this stage ends after 2 of its epochs" in said
    assert desk.epochs("early") == ["1", "2", "3"]
    assert (desk.state("early")["stages"], desk.state("early")["status"]) == ([0, 2], "finished")


def test_weights_of_other_classes(desk: Training, first: str) -> None:
    desk.runs("data", "import", "photos", "leaves", "--classes", "leaf")
    settings = desk.folder / "leaves.yml"
    settings.write_text((desk.folder / "quick.yml").read_text().replace("data: dataset", "data: leaves"))
    weights = "runs/first/checkpoints/mask_rcnn_0002.h5"
    one = ["train", "leaves.yml", *QUICK, "--epochs", "1"]
    said = desk.runs(*one, "--run", "runs/one", "--start", weights, code=FAILED)
    found = re.search(r"exclude: (\[.*\])", said)
    assert found and "mrcnn_class_logits" in found[1]
    desk.runs(*one, "--run", "runs/two", "--start", weights, "--set", f"exclude={found[1]}")
    # A run knows its classes itself.
    assert "but for mrcnn_class_logits" in desk.runs(*one, "--run", "runs/three", "--start", "runs/first")


def test_upstreams_backbone_and_layers(desk: Training) -> None:
    """ResNet-50, of which only the last stage learns."""
    # As little as it can learn from: upstream's heads look at 200 regions of an image, of which most are none here.
    model = (
        "model={IMAGE_MIN_DIM: 64, TRAIN_ROIS_PER_IMAGE: 4, POST_NMS_ROIS_TRAINING: 50, POST_NMS_ROIS_INFERENCE: 50}"
    )
    size = ["--set", "image_size=64", "--set", model, "--set", "backbone=resnet50"]
    desk.trains("resnet", *size, "--start", "nothing", "--layers", "5+", "--epochs", "1", "--set", "steps=1")
    assert desk.checkpoints("resnet") == ["mask_rcnn_0001.h5"]


def test_what_cannot_be_is_said(desk: Training) -> None:
    wrong = [
        (["--set", "gpus=2"], "gpus: 2 wanted, 0 seen: TensorFlow is the build for CPUs"),
        (["--start", "nowhere.h5"], "nowhere.h5: there is no such file"),
        (["--start", "own.py"], "these are no weights"),
        (["--start", "coco"], "coco"),
        (["--set", "callbacks=[early_stop]"], "early_stop is not one of"),
        (["--set", "callbacks=['nowhere:Callback']"], "nowhere"),
        (["--set", "callbacks=[{early_stopping: {patients: 3}}]"], "patients"),
        (["--set", "model={RPN_ANCHORS: [1]}"], "no setting RPN_ANCHORS"),
        (["--set", "backbone=own:nothing"], "own:nothing"),
    ]
    desk.refuses(
        [
            (["train", "quick.yml", "--run", f"runs/wrong-{number}", *QUICK, "--epochs", "1", *arguments], words)
            for number, (arguments, words) in enumerate(wrong)
        ]
    )
    assert not list(desk.folder.glob("runs/wrong-*/checkpoints"))


def test_a_data_set_that_is_damaged(desk: Training, tmp_path: Path) -> None:
    spoiled = shutil.copytree(desk.folder / "dataset", tmp_path / "spoiled")
    (tmp_path / "quick.yml").write_text(
        (desk.folder / "quick.yml").read_text().replace("data: dataset", "data: spoiled")
    )
    there = Training(desk.env, tmp_path)
    one, other, *_more = sorted((spoiled / "train").iterdir())
    whole = other.read_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    assert other.name in there.trains("half", "--epochs", "1", "--set", "steps=24", code=FAILED)
    other.write_bytes(whole)
    one.unlink()
    assert one.name in there.trains("missing", code=FAILED)
    labels = spoiled / "annotations" / "instances_train.json"
    content = json.loads(labels.read_text())
    keep = next(category["id"] for category in content["categories"] if category["name"] == "leaf")
    for key, field in (("categories", "id"), ("annotations", "category_id")):
        content[key] = [record for record in content[key] if record[field] == keep]
    labels.write_text(json.dumps(content))
    one.write_bytes(whole)
    assert "flower not among the classes of train" in there.trains("classes", code=FAILED)
    assert not (tmp_path / "runs/classes").exists()
