# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with an environment, or with where it is used, and what to do.

The quick things are looked at while TensorFlow is imported, by another process.
"""

import contextlib
import importlib
import importlib.util
import os
import platform
import re
import resource
import shutil
import site as python_site
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

from mrcnn_workbench import host, site, weights
from mrcnn_workbench.errors import count
from mrcnn_workbench.probing import Answer, Probe, cuda_for

OK, WARN, FAIL = "ok", "warn", "FAIL"
AGAIN = "have the environment provisioned again"


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do about it."""

    level: str
    about: str
    text: str
    advice: str = ""


class Rule(NamedTuple):
    """A version from which on a library does not work with TensorFlow 1.15, and the one to have."""

    name: str
    first_bad: Tuple[int, ...]
    level: str
    why: str
    wanted: str


RULES = (
    Rule("h5py", (3,), FAIL, "Keras 2.2.5 cannot load weights with it", "2.10.0"),
    Rule("keras", (2, 2, 6), FAIL, "Mask_RCNN needs what only older ones have", "2.2.5"),
    Rule("protobuf", (4,), FAIL, "TensorFlow 1.15 cannot be imported with it", "3.19.6"),
    Rule("numpy", (1, 19), WARN, "TensorFlow 1.15 wants an older one", "1.18.5"),
)
USUAL = "coco"  # the weights that trainings begin with unless somebody says otherwise
TENSORFLOWS = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu")
NEEDED = ("h5py", "numpy", "scikit-image", "pycocotools", "PyYAML")
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
MODULES = ("tensorflow", "keras", "h5py", "numpy", "scipy", "skimage", "google.protobuf", "mrcnn", "mrcnn_workbench")
DRIVER = Path("/proc/driver/nvidia/version")

LOOK_FOR = 2  # seconds, at a home
GB = 1e9
HOME_BYTES, HOME_FILES = 15 * GB, 250000  # what clusters with small homes allow; jobs suffer from more
NEARLY = 0.8
LITTLE_MEMORY = 4 * GB
LITTLE_DISK, NO_DISK = 2 * GB, 0.3 * GB  # a checkpoint has 0.26 GB, a run some of them
FEW_FILES = 1000


def examine() -> Iterator[Finding]:
    """Everything, the quick things first."""
    slow = Probe()
    try:
        for look in (packages, opencv, mask_rcnn, strangers, cpus, memory, home, working_folder, slurm, found_weights):
            yield from _guarded(look)
        yield from judged(slow.answers())
    finally:
        slow.stop()


def _guarded(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What cannot be looked at is a finding too."""
    try:
        yield from look()
    except Exception as error:  # whatever is broken here
        yield Finding(WARN, look.__name__.replace("_", " "), "cannot be looked at: {}".format(error))


# What the environment has


def versions() -> Dict[str, str]:
    """The versions of what is installed, by names in small letters; of two, the one that is imported."""
    name = "importlib.metadata" if sys.version_info >= (3, 8) else "importlib_metadata"
    found: Dict[str, str] = {}
    for one in importlib.import_module(name).distributions():
        found.setdefault(str(one.metadata["Name"]).lower().replace("_", "-"), str(one.version))
    return found


def _numbers(version: str) -> Tuple[int, ...]:
    """`2.10.0rc1` is (2, 10, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def _pip(*wanted: str) -> str:
    return "{}/bin/python -m pip install {}".format(sys.prefix, " ".join("'{}'".format(pin) for pin in wanted))


def packages() -> Iterator[Finding]:
    have = versions()
    tensorflow = next((name for name in TENSORFLOWS if name in have), "")
    keras = "keras" if have.get(tensorflow, "").startswith("1.") else "tf-keras"
    shown = [name for name in (tensorflow, keras, *NEEDED, "protobuf") if name.lower() in have]
    yield Finding(
        OK, "versions", "Python {}, {}".format(
            platform.python_version(), ", ".join("{} {}".format(name, have[name.lower()]) for name in shown)
        )
    )  # fmt: skip
    missing = [name for name in (keras, *NEEDED) if name.lower() not in have] + ([] if tensorflow else ["tensorflow"])
    if missing:
        yield Finding(
            FAIL, "versions", "{} not in {}".format(", ".join(missing), sys.prefix),
            "run the `mrcnn` of a Mask R-CNN environment, or " + AGAIN,
        )  # fmt: skip
    if have.get(tensorflow, "").startswith("1."):
        for rule in RULES:
            version = have.get(rule.name, "")
            if version and _numbers(version) >= rule.first_bad:
                text = "{} {}: {}".format(rule.name, version, rule.why)
                yield Finding(rule.level, "versions", text, _pip(rule.name + "==" + rule.wanted) + ", or " + AGAIN)


def opencv() -> Iterator[Finding]:
    have = versions()
    found = ["{} {}".format(name, have[name]) for name in OPENCVS if name in have]
    if len(found) > 1:
        text = "{} are the same module, cv2, and the last one that was installed has won".format(" and ".join(found))
        advice = "pip uninstall all of them, then {}".format(_pip("opencv-python-headless==4.5.5.64"))
        yield Finding(WARN, "opencv", text, advice)


def _where(module: str) -> str:
    """The folder or file that a module would be imported from; nothing if it is not there."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return ""
    if spec is None:
        return ""
    places = list(spec.submodule_search_locations or [])
    return str(places[0] if places else spec.origin or "")


def _inside(path: str, folder: str) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(root + os.sep)


def mask_rcnn() -> Iterator[Finding]:
    where = _where("mrcnn")
    clone = str(Path(sys.prefix) / "include" / "Mask_RCNN")
    if not where:
        yield Finding(FAIL, "mrcnn", "the package mrcnn is not there", AGAIN)
    elif _inside(where, clone):
        yield Finding(OK, "mrcnn", "{}, the clone, where edits take effect".format(where))
    elif _inside(where, sys.prefix):
        yield Finding(OK, "mrcnn", "{}, a copy".format(where))
    else:
        yield Finding(WARN, "mrcnn", "{} is not this environment's".format(where), _rid_of(where))


def strangers() -> Iterator[Finding]:
    """Modules that come from elsewhere, before or instead of the environment's."""
    found: Dict[str, List[str]] = {}
    for module in MODULES:
        where = _where(module)
        if where and module != "mrcnn" and not _inside(where, sys.prefix):
            found.setdefault(str(Path(where).parent), []).append(module)
    for folder, modules in found.items():
        text = "{} from {}, not from the environment".format(" and ".join(modules), folder)
        yield Finding(WARN, "packages", text, _rid_of(folder))
    path = os.environ.get("PYTHONPATH")
    if path and not found:
        yield Finding(OK, "packages", "PYTHONPATH is set ({}), but none of this comes from there".format(path))


def _rid_of(path: str) -> str:
    if any(entry and _inside(path, entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        return "unset PYTHONPATH"
    if _inside(path, python_site.getusersitepackages()):
        return "export PYTHONNOUSERSITE=1"
    return "start it in another folder"


# Where it is used


def cpus() -> Iterator[Finding]:
    ours, all_of_them = host.cpus(), os.cpu_count()
    job = os.environ.get("SLURM_JOB_ID")
    by = ", given by Slurm in job {}".format(job) if job else ""
    yield Finding(OK, "cpus", "{} of {} on {}{}".format(ours, all_of_them, platform.node(), by))


def memory_limit(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int:
    """The bytes that this process may have, as far as the kernel is going to see to it: the node's at most."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    lines = groups.read_text().splitlines() if groups.is_file() else []
    for _number, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = top / path.lstrip("/")
        while True:
            with contextlib.suppress(OSError, ValueError):  # `max`
                limits.append(int((group / name).read_text()))
            if group == top:
                break
            group = group.parent
    return min(limits)


def memory() -> Iterator[Finding]:
    limit = memory_limit()
    text = "{:.1f} GB may be used".format(limit / GB)
    if limit < LITTLE_MEMORY:
        yield Finding(
            WARN, "memory", text + "; that is little", "ask Slurm for more (--mem=16G), or use a smaller image_size"
        )
    else:
        yield Finding(OK, "memory", text)


def home() -> Iterator[Finding]:
    folder = Path.home()
    size, files, whole = _measured(folder)
    text = "{}: {}{:.1f} GB in {}, {:.0f} GB free".format(
        folder, "" if whole else "at least ", size / GB, count(files, "file"), shutil.disk_usage(str(folder)).free / GB
    )
    much = size > NEARLY * HOME_BYTES or files > NEARLY * HOME_FILES
    advice = "many clusters allow 15 GB and 250,000 files in a home: move data and runs to where they belong"
    yield Finding(WARN if much else OK, "home", text, advice if much else "")


def _measured(folder: Path) -> Tuple[int, int, bool]:
    """Bytes and files in a folder, on its own filesystem, and whether that is all: who has much need not wait."""
    until, size, files = time.monotonic() + LOOK_FOR, 0, 0
    device, waiting = folder.stat().st_dev, [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if time.monotonic() > until:
                    return size, files, False
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [entry.path] if found.st_dev == device else []
                    else:
                        size, files = size + found.st_blocks * 512, files + 1
    return size, files, True


def working_folder() -> Iterator[Finding]:
    folder = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".mrcnn-doctor-") as file:
            file.write(b"mrcnn")
            file.flush()
    except OSError as error:
        advice = "cd to a folder of yours that is large, or name one with --run"
        yield Finding(
            WARN, "working folder", "{}: nothing can be written here ({})".format(folder, error.strerror), advice
        )
        return
    found = os.statvfs(str(folder))
    free = found.f_bavail * found.f_frsize
    text = "{}: can be written, {:.1f} GB free".format(folder, free / GB)
    if free < LITTLE_DISK or (found.f_files and found.f_favail < FEW_FILES):
        text += ", {}".format(count(found.f_favail, "more file")) if found.f_files else ""
        advice = (
            "checkpoints need about 0.3 GB each, and a run keeps four: free some, or name another folder with --run"
        )
        yield Finding(FAIL if free < NO_DISK else WARN, "working folder", text, advice)
    else:
        yield Finding(OK, "working folder", text)


def slurm() -> Iterator[Finding]:
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        text = "in job {} on {}".format(job, os.environ.get("SLURM_JOB_PARTITION") or "a partition")
    elif shutil.which("sbatch"):
        text = "there; `mrcnn submit` trains in a job, on partition {}".format(site.read().gpu_partition)
    else:
        text = "not on this machine, so trainings run here"
    yield Finding(OK, "slurm", text)


def found_weights() -> Iterator[Finding]:
    for wanted in weights.known().values():
        places = weights.look(wanted)
        whole = [place.path for place in places if place.whole]
        wrong = ["{}: {}".format(place.path, place.wrong) for place in places if place.wrong]
        level = WARN if wrong or (not whole and wanted.name == USUAL) else OK
        text = "; ".join(["{}: {}".format(wanted.name, whole[0] if whole else "not here"), *wrong])
        yield Finding(level, "weights", text, "" if whole else "mrcnn weights fetch " + wanted.name)


def driver() -> str:
    """The version of the NVIDIA driver; nothing where there is none."""
    with contextlib.suppress(OSError):
        found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+[\d.]*)", DRIVER.read_text())
        if found:
            return found.group(1)
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=True
            ).stdout
            return said.decode(errors="replace").strip().splitlines()[0] if said.strip() else ""
    return ""


# What TensorFlow says


def judged(answers: Dict[str, Answer]) -> Iterator[Finding]:
    """What is to be thought of the steps of `probing`."""
    for name, answer in answers.items():
        if "error" in answer:
            yield Finding(FAIL, name, answer["error"], "if no line above says why: " + AGAIN)
            if name == "tensorflow":
                return  # the others would say the same
        elif name == "gpus":
            yield _judged_gpus(answer, answers["tensorflow"])
        elif name == "mrcnn":
            text = "imported in {} s".format(answer["seconds"])
            yield Finding(
                OK, name, text if answer["mini_masks"] else text + "; trains without mini-masks, which it spoils"
            )
        else:
            yield Finding(OK, name, "{}, imported in {} s".format(answer["version"], answer["seconds"]))


def _judged_gpus(answer: Answer, tensorflow: Answer) -> Finding:
    version, have = tensorflow.get("version", ""), driver()
    wants = cuda_for(version)
    old = bool(have) and _numbers(have) < wants.driver
    if answer["unfit"]:
        types = " or ".join("--gpus={}:1".format(name) for name in site.read().gpu_types)
        advice = "; ".join([*_elsewhere(), "ask Slurm for another: {}".format(types)])
        return Finding(FAIL, "gpus", answer["unfit"], advice)
    if answer["gpus"]:
        return Finding(OK, "gpus", "{} (driver {})".format("; ".join(answer["gpus"]), have or "unknown"))
    if not tensorflow.get("cuda"):
        return Finding(WARN if have else OK, "gpus", "none: {}".format(answer["why"]))
    if old:
        text = "none: the driver is {}, and TensorFlow {} with CUDA {} wants {} or newer".format(
            have, version, wants.version, ".".join(map(str, wants.driver))
        )
        return Finding(FAIL, "gpus", text, "use another node, or have the driver updated")
    if answer["lacking"]:
        text = "none: TensorFlow {} wants CUDA {}, and these do not load: {}".format(
            version, wants.version, ", ".join(answer["lacking"])
        )
        return Finding(FAIL, "gpus", text, AGAIN + ", with maskrcnn_gpu=true")
    return Finding(FAIL if host.gpu_is_given() else WARN, "gpus", "none: {}".format(answer["why"]))


def _elsewhere() -> Iterator[str]:
    """Environments beside this one that work on more types of GPUs."""
    here = site.read().gpu_types
    for prefix, other in site.others():
        more = [name for name in other.gpu_types if name not in here]
        if more:
            yield "use {}/bin/mrcnn, which works on {} too".format(prefix, " and ".join(more))
