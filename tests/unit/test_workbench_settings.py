# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a training may be told: everything has a default, and what cannot be is named before anything is done."""

from pathlib import Path
from typing import Any

import hand_labelled as hand
import pytest
import yaml
from mrcnn_workbench import settings
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError

DATA = {"data": "leaves"}


def checked(**given: Any) -> Any:
    return settings.checked(dict(DATA, **given), "leaves.yml")


def test_everything_but_the_data_has_a_default() -> None:
    found = checked()
    assert set(found) == set(settings.FIELDS)
    assert settings.epochs(found) == 40
    with pytest.raises(WorkbenchError, match="data is missing"):
        settings.checked({}, "leaves.yml")


def test_the_template_is_the_defaults() -> None:
    given = yaml.safe_load(settings.template())
    assert settings.checked(given, "the template") == checked(data="dataset")
    # Every field is explained.
    lines = settings.template().splitlines()
    for name in settings.FIELDS:
        place = next(number for number, line in enumerate(lines) if line.startswith(name + ":"))
        assert lines[place - 1].startswith("# "), name


def test_what_is_written_is_read_again() -> None:
    found = checked(
        stages=[{"layers": "5+", "epochs": 3, "learning_rate": "1e-3"}],
        callbacks=["early_stopping", {"mine:Callback": {"town": "Dundee"}}],
        model={"RPN_ANCHOR_SCALES": [8, 16, 32, 64, 128]},
    )
    assert found["stages"] == [{"layers": "5+", "epochs": 3, "learning_rate": 0.001}]
    assert settings.checked(yaml.safe_load(settings.dump(found)), "again") == found
    assert list(yaml.safe_load(settings.dump(found))) == list(settings.FIELDS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 3}, "'epochs' is not known"),
        ({"steps": -1}, "whole number from 0"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"image_size": 1000}, "multiple of 64 .* 1024"),
        ({"image_size": "large"}, "whole number"),
        ({"backbone": "resnet152"}, "resnet50, resnet101, small or MODULE:FUNCTION"),
        ({"augmentation": "mirrors"}, "none, mirror, field"),
        ({"stages": []}, "list of stages"),
        ({"stages": {"layers": "all"}}, "list of stages"),
        ({"stages": [{"layers": "heads"}, {"layers": "head"}]}, "stage 2: layers: 'head'"),
        ({"stages": [{"layer": "heads"}]}, "stage 1: 'layer' is not known"),
        ({"stages": ["heads"]}, "stage 1"),
        ({"stages": [{"learning_rate": 2}]}, "from 0 to 1"),
        ({"stages": [{"learning_rate": "fast"}]}, "from 0 to 1"),
        ({"callbacks": "early_stopping"}, "list of callbacks"),
        ({"callbacks": [{"a": {}, "b": {}}]}, "a name and its arguments"),
        ({"callbacks": [{"early_stopping": 5}]}, "a name and its arguments"),
        ({"model": ["RPN_ANCHOR_SCALES"]}, "names and values"),
        ({"model": {"rpn_anchor_scales": [1]}}, "capitals"),
        ({"model": {"NUM_CLASSES": 3}}, "follows from the other settings"),
        ({"model": {"LEARNING_MOMENTUM": 0.5}}, "follows from the other settings"),
        ({"mini_masks": "yes"}, "auto, true or false"),
        ({"exclude": "mrcnn_mask"}, "list of names"),
        ({"data": ""}, "a text"),
        ({"data": 5}, "a text"),
        ({"gpus": 0}, "from 1"),
        ({"momentum": "high"}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_is_named(given: Any, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said) as caught:
        checked(**given)
    assert str(caught.value).startswith("leaves.yml: ")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = hand.write(tmp_path / "in" / "leaves.yml", "data: ../leaves\nstart: runs/before\n")
    found = settings.read(file)
    assert found["data"] == str(tmp_path / "in" / ".." / "leaves")
    assert found["start"] == str(tmp_path / "in" / "runs" / "before")
    assert settings.read(hand.write(file, "data: /leaves\nstart: coco\n")) == {"data": "/leaves", "start": "coco"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: [", r"leaves.yml, line \d+ column \d+: this is no YAML"),
        ("- data", "settings are wanted"),
        ("", "settings are"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        settings.read(hand.write(tmp_path / "leaves.yml", text))


def test_a_picture_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="it is no text"):
        settings.read(hand.picture(tmp_path / "leaf.png"))
    with pytest.raises(WorkbenchError, match="No such file"):
        settings.read(tmp_path / "leaf.yml")


def test_nobody_has_weights_for_the_small_backbone() -> None:
    assert checked(backbone="small")["start"] == settings.NOTHING
    assert checked(backbone="small", start="last")["start"] == settings.LAST
    assert checked()["start"] == settings.COCO


def test_what_the_command_says_without_training(capsys: Any, tmp_path: Path) -> None:
    assert main(["train", "--template"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"] == "dataset"
    for arguments, said in (
        ([], "what to train"),
        ([str(tmp_path)], "no data set"),
        ([str(tmp_path / "leaves.yml")], "No such file"),
        (["--resume", str(tmp_path)], "no run"),
        (["leaves.yml", "--resume", "run"], "--resume"),
        ([str(hand.write(tmp_path / "a.yml", "data: x")), "--set", "steps"], "NAME=VALUE"),
        ([str(hand.write(tmp_path / "a.yml", "data: x")), "--layers", "all", "--epochs", "many"], "epochs: 'many'"),
        ([str(hand.write(tmp_path / "a.yml", "data: x")), "--set", "model.STEPS_PER_EPOCH=1"], "follows from"),
    ):
        assert main(["train", *arguments]) == 2
        assert said in capsys.readouterr().err
