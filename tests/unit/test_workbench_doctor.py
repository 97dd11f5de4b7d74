# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn doctor`: what is wrong is found, whatever TensorFlow does; each finding says what to do."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import hand_labelled  # noqa: F401 - finds the package
import pytest
from mrcnn_workbench import doctor, probing
from mrcnn_workbench.cli import main
from mrcnn_workbench.doctor import FAIL, OK, WARN
from mrcnn_workbench.site import FILE

GOOD = {
    "tensorflow": "1.15.5", "keras": "2.2.5", "h5py": "2.10.0", "numpy": "1.18.5", "protobuf": "3.19.6",
    "scikit-image": "0.16.2", "pycocotools": "2.0.7", "pyyaml": "6.0.1",
}  # fmt: skip
V100 = "device: 0, name: Tesla V100-SXM2-32GB, pci bus id: 0000:15:00.0, compute capability: 7.0"


def found(look: Any) -> List[Any]:
    return [finding[:3] for finding in look()]


@pytest.fixture
def installed(monkeypatch: Any) -> Dict[str, str]:
    """Names and versions, to be spoiled."""
    have = dict(GOOD)
    monkeypatch.setattr(doctor, "versions", lambda: have)
    return have


# What the environment has


def test_versions_are_those_of_what_is_installed() -> None:
    import numpy  # noqa: PLC0415

    assert doctor.versions()["numpy"] == numpy.__version__


@pytest.mark.parametrize(
    ("name", "version", "level"),
    [("h5py", "3.1.0", FAIL), ("keras", "2.3.1", FAIL), ("protobuf", "4.21.0", FAIL), ("numpy", "1.19.5", WARN)],
)
def test_what_does_not_work_with_tensorflow_1_is_named(installed: Any, name: str, version: str, level: str) -> None:
    assert [finding.level for finding in doctor.packages()] == [OK]
    installed[name] = version
    _versions, finding = doctor.packages()
    assert finding.level == level
    assert "{} {}".format(name, version) in finding.text
    assert "pip install '{}==".format(name) in finding.advice
    installed.update({"tensorflow": "2.21.0", "tf-keras": "2.21.0"})
    assert [finding.level for finding in doctor.packages()] == [OK]


def test_what_is_missing_is_named(installed: Any) -> None:
    del installed["tensorflow"], installed["h5py"]
    _versions, finding = doctor.packages()
    assert finding.level == FAIL and "h5py, tensorflow not in" in finding.text
    installed["tensorflow-gpu"] = "1.15.5"
    assert "tensorflow-gpu 1.15.5" in next(doctor.packages()).text


def test_two_opencvs_are_one_too_many(installed: Any) -> None:
    installed["opencv-python-headless"] = "4.5.5.64"
    assert found(doctor.opencv) == []
    installed["opencv-python"] = "4.5.5.64"
    ((level, _about, text),) = found(doctor.opencv)
    assert level == WARN and "opencv-python 4.5.5.64 and opencv-python-headless" in text


@pytest.fixture
def package(tmp_path: Path, monkeypatch: Any) -> Any:
    """Makes a package that comes before all others."""
    monkeypatch.syspath_prepend(str(tmp_path / "first"))

    def make(name: str, code: str = "") -> Path:
        folder = tmp_path / "first" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        return folder

    return make


def test_packages_that_come_before_the_environments_are_named(package: Any, monkeypatch: Any) -> None:
    folder = package("keras").parent
    (finding,) = [finding for finding in doctor.strangers() if "keras" in finding.text]
    assert finding.level == WARN and str(folder) in finding.text
    assert finding.advice == "start it in another folder"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    (finding,) = [finding for finding in doctor.strangers() if "keras" in finding.text]
    assert finding.advice == "unset PYTHONPATH"
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(doctor.python_site, "getusersitepackages", lambda: str(folder))
    (finding,) = [finding for finding in doctor.strangers() if "keras" in finding.text]
    assert finding.advice == "export PYTHONNOUSERSITE=1"


def test_where_mrcnn_comes_from_is_said(package: Any, monkeypatch: Any, tmp_path: Path) -> None:
    folder = package("mrcnn")
    ((level, _about, text),) = found(doctor.mask_rcnn)
    assert level == WARN and str(folder) in text
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "a copy" in next(doctor.mask_rcnn()).text
    monkeypatch.setattr(doctor, "_where", lambda _module: str(tmp_path / "include" / "Mask_RCNN" / "mrcnn"))
    assert "the clone" in next(doctor.mask_rcnn()).text
    monkeypatch.setattr(doctor, "_where", lambda _module: "")
    assert next(doctor.mask_rcnn()).level == FAIL


# Where it is used


def test_cpus_are_those_that_slurm_has_given(monkeypatch: Any) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    ((level, _about, text),) = found(doctor.cpus)
    assert level == OK and text.startswith("1 of ") and "job 12" in text


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/slurm/job_1", "slurm/job_1/memory.max"),
        ("0::/slurm/job_1/step_0", "slurm/memory.max"),
        ("7:memory:/slurm/job_1", "memory/slurm/memory.limit_in_bytes"),
        ("7:cpu,memory:/", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_memory_is_what_a_group_above_allows(tmp_path: Path, line: str, file: str) -> None:
    (tmp_path / "groups").write_text("4:devices:/elsewhere\n{}\n".format(line))
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("max\n" if file.endswith("max") else "9223372036854771712\n")
    node = doctor.memory_limit(tmp_path, tmp_path / "nothing")
    assert doctor.memory_limit(tmp_path, tmp_path / "groups") == node
    (tmp_path / file).write_text("1000000\n")
    assert doctor.memory_limit(tmp_path, tmp_path / "groups") == 1000000


def test_little_memory_is_a_warning(monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor, "memory_limit", lambda: 2 * 10**9)
    (finding,) = doctor.memory()
    assert finding.level == WARN and "--mem" in finding.advice


def test_a_home_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(os.urandom(100000))
    (tmp_path / "apps").symlink_to("/usr")
    (finding,) = doctor.home()
    assert finding.level == OK and "in 2 files" in finding.text
    monkeypatch.setattr(doctor, "HOME_FILES", 2)
    assert next(doctor.home()).level == WARN
    monkeypatch.setattr(doctor, "LOOK_FOR", -1)
    assert "at least 0.0 GB in 0 files" in next(doctor.home()).text


def test_a_folder_that_cannot_be_written_or_is_full_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "LITTLE_DISK", 0)
    assert next(doctor.working_folder()).level == OK
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1e18)
    assert next(doctor.working_folder()).level == WARN
    monkeypatch.setattr(doctor, "NO_DISK", 1e18)
    (finding,) = doctor.working_folder()
    assert finding.level == FAIL and "--run" in finding.advice
    monkeypatch.chdir("/proc")
    assert "nothing can be written here" in next(doctor.working_folder()).text


def test_weights_that_are_missing_or_half_there_are_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MASKRCNN_WEIGHTS", str(tmp_path))
    coco, imagenet = doctor.found_weights()
    assert (coco.level, imagenet.level) == (WARN, OK)
    assert coco.advice == "mrcnn weights fetch coco"
    (tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"half")
    _coco, imagenet = doctor.found_weights()
    assert imagenet.level == WARN and "half a download" in imagenet.text


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12 09:19:07 UTC 2022\nGCC version:  gcc 12\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  390.157  Release Build\n",
    ],
)
def test_the_driver_is_compared_with_cuda(tmp_path: Path, monkeypatch: Any, text: str) -> None:
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text(text)
    assert doctor.driver() == "390.157"
    (_tensorflow, gpus) = judged(why="?")
    assert gpus.level == FAIL and "CUDA 10.0 wants 410.48 or newer" in gpus.text


# What TensorFlow says


def judged(cuda: bool = True, **more: Any) -> List[Any]:
    gpus = dict({"gpus": [], "unfit": "", "why": "", "lacking": [], "seconds": 1}, **more)
    tensorflow = {"version": "1.15.5", "cuda": cuda, "seconds": 3}
    return list(doctor.judged({"tensorflow": tensorflow, "gpus": gpus}))


def test_an_environment_beside_it_that_works_there_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    for name, text in (("here", '{"gpu_types": ["v100"]}'), ("modern", '{"gpu_types": ["v100", "a100"]}')):
        (tmp_path / name / FILE).parent.mkdir(parents=True)
        (tmp_path / name / FILE).write_text(text)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "here"))
    advice = judged(gpus=[V100], unfit="nothing but NaN")[1].advice
    assert "{}/bin/mrcnn, which works on a100 too".format(tmp_path / "modern") in advice
    assert "--gpus=v100:1" in advice


def test_gpus_are_judged(monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor, "driver", lambda: "565.57.01")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert judged(gpus=[V100])[1].level == OK
    assert judged(gpus=[V100], unfit="nothing but NaN")[1].level == FAIL
    assert judged(why="Slurm has given none")[1].level == WARN
    lacking = judged(lacking=["libcudnn.so.7"])[1]
    assert lacking.level == FAIL and "libcudnn.so.7" in lacking.text
    assert judged(cuda=False, why="the build for CPUs")[1].level == WARN, "there is a driver for nothing"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert judged(why="CUDA does not load")[1].level == FAIL
    monkeypatch.setattr(doctor, "driver", lambda: "")
    assert judged(cuda=False, why="the build for CPUs")[1].level == OK


def test_mini_masks_that_are_spoilt_are_said() -> None:
    texts = [next(doctor.judged({"mrcnn": {"mini_masks": works, "seconds": 1}})).text for works in (True, False)]
    assert ["without mini-masks" in text for text in texts] == [False, True]


BROKEN = {
    "raises": ("print('chatter', flush=True)\nraise ImportError('libfoo.so.1: not there')", "ImportError: libfoo.so.1"),
    "lacks AVX": ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "AVX"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
    "leaves": ("import os; os.write(2, b'no more'); os._exit(3)", "exit code 3 (no more)"),
    "hangs": ("import time; time.sleep(60)", "not ready after 2 s"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_tensorflow_that_cannot_be_imported_is_what_it_says(
    package: Any, monkeypatch: Any, capfd: Any, how: str
) -> None:
    code, words = BROKEN[how]
    package("tensorflow", code)
    if how == "hangs":
        monkeypatch.setattr(probing, "TIMEOUT", 2)
    assert main(["doctor", "--json"]) == 1
    said = json.loads(capfd.readouterr().out)
    assert said["ok"] is False
    (finding,) = [finding for finding in said["findings"] if finding["about"] == "tensorflow"]
    assert finding["level"] == FAIL and words in finding["text"]
    assert said["findings"][-1] == finding, "the others would say the same"


def test_people_get_a_line_for_each_and_what_to_do(monkeypatch: Any, capsys: Any) -> None:
    findings = [doctor.Finding(OK, "cpus", "2"), doctor.Finding(FAIL, "h5py", "3.1.0", "another")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok    cpus: 2", "FAIL  h5py: 3.1.0", "      -> another", "", "1 failure, 0 warnings.",
    ]  # fmt: skip
    findings.pop()
    assert main(["doctor"]) == 0


def test_what_cannot_be_looked_at_ends_nothing(monkeypatch: Any) -> None:
    def broken_look() -> Any:
        raise RuntimeError("boom")
        yield

    (finding,) = doctor._guarded(broken_look)
    assert finding == (WARN, "broken look", "cannot be looked at: boom", "")
