# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof of an environment, as far as it goes without TensorFlow: expectations, report, exit codes."""

from __future__ import annotations

import importlib
import json
import os
import pwd
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"
FILES = ROLES / "verify" / "files"
WORKBENCH = ROLES / "workbench" / "files"
PYTHON = "=={}.{}.*".format(*sys.version_info)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The program as a module, found as it finds its own second half."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder is what users are given
    monkeypatch.syspath_prepend(str(FILES))
    monkeypatch.syspath_prepend(str(WORKBENCH))
    return importlib.import_module("verify_env")


@pytest.fixture
def proof(env: types.ModuleType) -> types.ModuleType:
    return importlib.import_module("verify_proof")


@pytest.fixture
def fake_pip(tmp_path: Path) -> dict[str, str]:
    """Environment variables under which `python -m pip check` complains once."""
    (tmp_path / "path" / "pip").mkdir(parents=True)
    (tmp_path / "path" / "pip" / "__init__.py").touch()
    (tmp_path / "path" / "pip" / "__main__.py").write_text(
        "print('imgaug 0.4.0 requires opencv-python, which is not installed.')\nraise SystemExit(1)\n"
    )
    return {
        "PYTHONPATH": f"{tmp_path / 'path'}:{WORKBENCH}",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def tensorflow(tmp_path: Path, fake_pip: dict[str, str]) -> dict[str, str]:
    """The same variables, with a stand-in for TensorFlow: what BUILT_FOR and GPUS say, and no computing."""
    package = tmp_path / "path" / "tensorflow"
    (package / "python" / "client").mkdir(parents=True)
    for folder in (package, package / "python", package / "python" / "client"):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "import os\nfrom types import SimpleNamespace as Thing\n__version__ = '1.15.5'\n"
        "ConfigProto = lambda **threads: Thing(gpu_options=Thing(), **threads)\n"
        "test = Thing(is_built_with_cuda=lambda: os.environ['BUILT_FOR'] == 'gpu')\n"
    )
    (package / "python" / "client" / "device_lib.py").write_text(
        "import os\nfrom types import SimpleNamespace as Thing\n"
        "def list_local_devices(config):\n"
        "    kinds = ['CPU'] + ['GPU'] * int(os.environ['GPUS'])\n"
        "    assert config.gpu_options.allow_growth\n"
        "    return [Thing(name=k, device_type=k, physical_device_desc='a ' + k) for k in kinds]\n"
    )
    return fake_pip


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
    assert checks(report) == dict.fromkeys(["imports", "versions", "pip", "user_site", "locations"], True)
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


def test_what_the_training_lacks_is_said(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    fake_pip["PYTHONNOUSERSITE"] = "1"
    (tmp_path / "path" / "numpy.py").write_text("raise ImportError('numpy is broken')\n")
    code, said, report = run(tmp_path, fake_pip, {"imports": ["json"], **TOLERANT})
    assert code == 1
    assert report["reason"] == "failed: images"
    assert "numpy is broken" in said
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["report.json"], "no pictures are left"


def test_without_the_command_it_says_who_installs_it(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    code, said, report = run(tmp_path, fake_pip | {"PYTHONPATH": str(tmp_path / "path")}, TOLERANT)
    assert code == 1 and report == {}
    assert "role workbench" in said and "Traceback" not in said


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


def test_losses_have_to_fall(proof: types.ModuleType) -> None:
    assert proof.check_losses([3.0, 2.0, 1.5, 1.0]) == "from 3.00 to 1.00 in 4 epochs"
    with pytest.raises(proof.CheckFailed, match="did not fall"):
        proof.check_losses([3.0, 3.1, 2.9, 3.0])


CLASSES = ("leaf", "flower")


def detection(image: int, found: str, truth: str, iou: float) -> dict[str, Any]:
    return {"image": image, "truth": 0 if truth == "leaf" else 1, "class": found, "truth_class": truth, "iou": iou}


def test_each_class_has_to_be_found(proof: types.ModuleType) -> None:
    leaf, flower = detection(0, "leaf", "leaf", 0.7), detection(1, "flower", "flower", 0.5)
    assert proof.check_detections([leaf, leaf, flower], 8, CLASSES).startswith("2 of 8 objects found")
    for poor in ([leaf], [leaf, detection(0, "flower", "leaf", 0.9)], [leaf, detection(0, "flower", "flower", 0.49)]):
        with pytest.raises(proof.CheckFailed, match="no flower"):
            proof.check_detections(poor, 8, CLASSES)
    with pytest.raises(proof.CheckFailed, match=r"0 of 8 .*no flower, no leaf"):
        proof.check_detections([], 8, CLASSES)


@pytest.mark.parametrize(
    ("machine", "options", "outcome"),
    [
        ({"BUILT_FOR": "gpu", "CUDA_VISIBLE_DEVICES": "0,1", "GPUS": "2"}, [], ("ok", "a GPU; a GPU")),
        ({"BUILT_FOR": "gpu", "GPUS": "1"}, ["--require-gpu"], ("ok", "a GPU")),
        ({"BUILT_FOR": "cpu", "GPUS": "0"}, [], ("ok", "maskrcnn_gpu")),
        ({"BUILT_FOR": "cpu", "CUDA_VISIBLE_DEVICES": "0", "GPUS": "0"}, [], ("warn", "maskrcnn_gpu")),
        ({"BUILT_FOR": "cpu", "CUDA_VISIBLE_DEVICES": "0", "GPUS": "0"}, ["--require-gpu"], ("FAIL", "maskrcnn_gpu")),
        (
            {"BUILT_FOR": "gpu", "CUDA_VISIBLE_DEVICES": "NoDevFiles", "GPUS": "0"},
            ["--require-gpu"],
            ("FAIL", "sbatch"),
        ),
    ],
)
def test_a_missing_gpu_is_explained_and_fails_only_where_it_is_required(
    tmp_path: Path, tensorflow: dict[str, str], machine: dict[str, str], options: list[str], outcome: tuple[str, str]
) -> None:
    word, why = outcome
    _, said, report = run(tmp_path, tensorflow | machine, {"imports": ["tensorflow"], **TOLERANT}, *options)
    assert why in report["gpu"]
    assert [device["type"] for device in report["devices"]] == ["CPU"] + ["GPU"] * int(machine["GPUS"])
    assert [line.split()[0] for line in said.splitlines() if " gpus: " in line] == [word]
    assert any(warning.startswith("gpus: ") for warning in report["warnings"]) is (word == "warn")
    # There is no mrcnn: the training fails, unless there is none for want of a GPU.
    assert report["reason"] == ("failed: gpus" if word == "FAIL" else "failed: training")


def test_a_required_gpu_is_looked_for_without_a_training_too(tmp_path: Path, tensorflow: dict[str, str]) -> None:
    for gpus, wanted in (("1", 0), ("0", 1)):
        machine = {"BUILT_FOR": "gpu", "GPUS": gpus}
        options = ["--steps", "0", "--require-gpu"]
        assert run(tmp_path, tensorflow | machine, {"imports": ["tensorflow"], **TOLERANT}, *options)[0] == wanted


def test_the_report_says_who_ran_it_where_and_on_how_much(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    environ = fake_pip | {"SLURM_JOB_ID": "42", "SLURM_CPUS_ON_NODE": "1", "USER": "somebody-else"}
    report = run(tmp_path, environ, TOLERANT, "--steps", "0")[2]
    assert report["slurm_job_id"] == "42" and report["cpus"] == 1
    assert report["user"] == pwd.getpwuid(os.getuid()).pw_name and report["host"] == os.uname().nodename
    outside = run(tmp_path, fake_pip, TOLERANT, "--steps", "0")[2]
    assert outside["slurm_job_id"] is None and outside["cpus"] == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("given", ["0", "many", "1000000"])
def test_slurm_gives_no_more_cpus_than_the_kernel(
    env: types.ModuleType, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
    assert env.host.cpus() == len(os.sched_getaffinity(0))


def test_packages_in_the_home_are_warned_of(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    folder = tmp_path / "home" / ".local" / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    folder.mkdir(parents=True)
    (folder / "numpy.py").touch()
    # In a virtual environment Python leaves the home out by itself.
    command = [sys._base_executable, str(FILES / "verify_env.py"), "--steps", "0", "--expect", "expect.json"]  # type: ignore[attr-defined]
    (tmp_path / "expect.json").write_text(json.dumps(TOLERANT))
    warned = []
    for environ in (fake_pip, fake_pip | {"PYTHONNOUSERSITE": "1"}):
        assert subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False).returncode == 0
        warned.append(json.loads((tmp_path / "maskrcnn-verify" / "report.json").read_text())["warnings"])
    assert len(warned[0]) == 1 and str(folder) in warned[0][0]
    assert warned[1] == []


def test_a_folder_that_cannot_be_written_to_is_a_usage_error(tmp_path: Path, fake_pip: dict[str, str]) -> None:
    (tmp_path / "out").write_text("a file")
    code, said, _ = run(tmp_path, fake_pip, TOLERANT)
    assert code == 2
    assert "--output" in said
