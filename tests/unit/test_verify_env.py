# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof of an environment, as far as it goes without TensorFlow: expectations, report, exit codes."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles" / "verify" / "files"
PYTHON = "=={}.{}.*".format(*sys.version_info)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The program as a module, found as it finds its own second half."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder is what users are given
    monkeypatch.syspath_prepend(str(FILES))
    return importlib.import_module("verify_env")


@pytest.fixture
def training(env: types.ModuleType) -> types.ModuleType:
    return importlib.import_module("verify_training")


@pytest.fixture
def fake_pip(tmp_path: Path) -> dict[str, str]:
    """Environment variables under which `python -m pip check` complains once."""
    (tmp_path / "path" / "pip").mkdir(parents=True)
    (tmp_path / "path" / "pip" / "__init__.py").touch()
    (tmp_path / "path" / "pip" / "__main__.py").write_text(
        "print('imgaug 0.4.0 requires opencv-python, which is not installed.')\nraise SystemExit(1)\n"
    )
    return {"PYTHONPATH": str(tmp_path / "path"), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}


def run(tmp_path: Path, environ: dict[str, str], expected: Any, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Run the program as a user would: its exit code, what it said and its report, if any."""
    (tmp_path / "expect.json").write_text(expected if isinstance(expected, str) else json.dumps(expected))
    command = [
        sys.executable,
        str(FILES / "verify_env.py"),
        "--expect",
        "expect.json",
        "--output",
        "out/deep",
        *options,
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    report = tmp_path / "out" / "deep" / "report.json"
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.exists() else {}


def checks(report: dict[str, Any]) -> dict[str, bool]:
    return {entry["name"]: entry["ok"] for entry in report["checks"]}


TOLERANT = {"tolerated": ["imgaug * requires opencv-python"]}


def test_what_is_as_expected_passes(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    expected = {"imports": ["json", "email.message"], "versions": {"python": PYTHON}, **TOLERANT}
    code, said, report = run(tmp_path, fake_pip, expected, "--steps", "0")
    assert code == 0, said
    assert "ok    imports: 2 in" in said
    assert report["ok"] and report["reason"] == "" and report["finished"] >= report["started"]
    assert checks(report) == {"imports": True, "versions": True, "pip": True, "locations": True}
    assert report["versions"] == {"python": ".".join(map(str, sys.version_info[:3]))}
    assert set(report["import_seconds"]) == {"json", "email.message"}
    assert report["peak_rss_mb"] > 0 and report["prefix"] == sys.prefix
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["report.json"], "nothing else is left"


def test_every_failing_import_is_reported(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    (tmp_path / "path" / "broken.py").write_text("print('about to fall over')\nraise RuntimeError('no libGL')\n")
    expected = {"imports": ["nowhere_to_be_found", "broken", "json"], **TOLERANT}
    code, said, report = run(tmp_path, fake_pip, expected)
    assert code == 1
    assert not report["ok"] and report["reason"] == "failed: imports"
    detail = report["checks"][0]["detail"]
    assert "nowhere_to_be_found (ModuleNotFoundError" in detail and "broken (RuntimeError: no libGL)" in detail
    assert "about to fall over" in said, "what the library printed is no longer held back"
    assert "training" not in checks(report), "without its imports there is nothing to train with"


def test_without_mask_rcnn_the_training_fails(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    fake_pip["PYTHONNOUSERSITE"] = "1"
    (tmp_path / "path" / "numpy.py").write_text("raise ImportError('numpy is broken')\n")
    code, said, report = run(tmp_path, fake_pip, {"imports": ["json"], **TOLERANT})
    assert code == 1
    assert report["reason"] == "failed: images"
    assert "numpy is broken" in report["checks"][3]["trace"] and "numpy is broken" in said
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["report.json"], "no weights are left"


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ({"versions": {"python": "<3"}}, "python is 3"),
        ({"versions": {"no-such-distribution": ""}}, "no-such-distribution is not installed"),
        ({"locations": {"json": "include/Mask_RCNN"}}, "json comes from"),
        ({"tolerated": ["something else"]}, "imgaug 0.4.0 requires opencv-python"),
    ],
)
def test_what_is_not_as_expected_fails(
    tmp_path: Path, fake_pip: dict[str, str], expected: dict[str, Any], complaint: str
) -> None:
    code, said, report = run(tmp_path, fake_pip, {**TOLERANT, **expected}, "--steps", "0")
    assert code == 1
    assert complaint in said
    assert len([name for name, ok in checks(report).items() if not ok]) == 1


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ("{", "expect.json"),
        ([], "an object is wanted"),
        ({"import": ["json"]}, "unknown key 'import'"),
        ({"imports": "json"}, "imports has to be list"),
        ({"imports": [1]}, "imports has to hold strings"),
        ({"gpus": True}, "gpus has to be int"),
        ({"versions": {"keras": "2.2.5"}}, "versions: keras"),
    ],
)
def test_a_wrong_expectation_is_a_usage_error(
    tmp_path: Path, fake_pip: dict[str, str], expected: Any, complaint: str
) -> None:
    code, said, report = run(tmp_path, fake_pip, expected)
    assert code == 2
    assert complaint in said
    assert report == {}


@pytest.mark.parametrize("options", [["--steps", "-1"], ["--seed", "x"], ["--bogus"]])
def test_a_wrong_option_is_a_usage_error(tmp_path: Path, fake_pip: dict[str, str], options: list[str]) -> None:
    assert run(tmp_path, fake_pip, {}, *options)[0] == 2


def test_an_old_picture_is_not_kept(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    picture = tmp_path / "out" / "deep" / "detection.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    assert run(tmp_path, fake_pip, TOLERANT, "--steps", "0")[0] == 0
    assert not picture.exists()


@pytest.mark.parametrize(
    ("line", "code"), [("os._exit(139)", 139), (f"os.kill(os.getpid(), {int(signal.SIGTERM)})", 1)]
)
def test_a_crash_or_a_signal_leaves_a_report(tmp_path: Path, fake_pip: dict[str, str], line: str, code: int) -> None:
    (tmp_path / "path" / "crash.py").write_text(f"import os, time\n{line}\ntime.sleep(30)\n")
    ended, _, report = run(tmp_path, fake_pip, {"imports": ["crash"]})
    assert ended == code
    assert not report["ok"] and report["finished"] is None
    assert report["reason"] == "did not finish: imports"


def test_a_module_answers_for_a_distribution_of_another_name(
    env: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("tensorflow_by_another_name")
    module.__version__ = "1.15.5"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found: dict[str, str] = {}
    assert env.check_versions({module.__name__: "==1.15.*"}, found) == "tensorflow_by_another_name 1.15.5"
    assert found == {module.__name__: "1.15.5"}


def test_a_module_from_the_wanted_folder_is_well(
    env: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "real" / "include").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    module = types.ModuleType("mrcnn")
    module.__file__ = str(tmp_path / "real" / "include" / "Mask_RCNN" / "mrcnn" / "__init__.py")
    monkeypatch.setitem(sys.modules, "mrcnn", module)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link"))
    found: dict[str, str] = {}
    assert "Mask_RCNN" in env.check_locations({"mrcnn": "include/Mask_RCNN"}, found)
    with pytest.raises(env.CheckFailed):
        env.check_locations({"mrcnn": "lib"}, found)


def test_a_check_that_is_not_required_only_warns(env: types.ModuleType, tmp_path: Path) -> None:
    report = env.Report(tmp_path / "report.json")

    def spoilt() -> None:
        raise env.CheckFailed("spoilt")

    assert report.check("masks", spoilt, required=False) is None
    assert report.finish()
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["ok"] and written["warnings"] == ["masks: spoilt"] and "masks" in written["seconds"]


@pytest.mark.parametrize(
    ("losses", "complaint"),
    [
        ([3.0, 2.0, "nan"], "step 3 is nan"),
        ([3.0, 3.1, 2.9, 3.0], "did not fall"),
        ([3.0, 2.0, 1.5, 1.0], None),
    ],
)
def test_losses_have_to_be_numbers_and_to_fall(
    training: types.ModuleType, losses: list[float], complaint: str | None
) -> None:
    if complaint is None:
        assert training.check_losses(losses) == "from 3.00 to 1.00 in 4 steps"
    else:
        with pytest.raises(training.CheckFailed, match=complaint):
            training.check_losses(losses)


def detection(image: int, found: str, truth: str, iou: float) -> dict[str, Any]:
    return {"image": image, "truth": 0 if truth == "leaf" else 1, "class": found, "truth_class": truth, "iou": iou}


def test_each_class_has_to_be_found(training: types.ModuleType) -> None:
    leaf, flower = detection(0, "leaf", "leaf", 0.7), detection(1, "flower", "flower", 0.5)
    assert training.check_detections([leaf, leaf, flower], 8).startswith("2 of 8 objects found")
    for poor in ([leaf], [leaf, detection(0, "flower", "leaf", 0.9)], [leaf, detection(0, "flower", "flower", 0.49)]):
        with pytest.raises(training.CheckFailed, match="no flower"):
            training.check_detections(poor, 8)
    with pytest.raises(training.CheckFailed, match=r"0 of 8 .*no flower, no leaf"):
        training.check_detections([], 8)


def test_gpus_are_counted(training: types.ModuleType) -> None:
    devices = [{"name": "/device:CPU:0", "type": "CPU"}, {"name": "/device:GPU:0", "type": "GPU"}]
    assert training.check_gpus(1, devices) == "1"
    with pytest.raises(training.CheckFailed, match="sees 1, not 2"):
        training.check_gpus(2, devices)


def test_mask_iou(training: types.ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    one, other = numpy.zeros((4, 4)), numpy.zeros((4, 4), bool)
    assert training.mask_iou(one, other) == 0.0
    one[:2] = 1
    assert training.mask_iou(one, one) == 1.0
    other[1:3] = True
    assert training.mask_iou(one, other) == pytest.approx(1 / 3)


def test_scenes_are_the_same_for_the_same_seed(training: types.ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("skimage")
    image, masks, class_ids = training.scene(numpy.random.RandomState(5))
    again, *_ = training.scene(numpy.random.RandomState(5))
    assert image.shape == (training.SIDE, training.SIDE, 3) and image.dtype == numpy.uint8
    assert (image == again).all()
    assert sorted(class_ids) == [1, 2] and masks.any(axis=(0, 1)).all() and not masks.all(axis=2).any()
