# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that an environment can do Mask R-CNN: import, train, save, load, detect.

It runs in the environment's own Python (3.6 or later), as ENV/bin/maskrcnn-verify; what it consists of lies together in
ENV/share. It trains and detects by the command `mrcnn`, which the role workbench installs. It writes report.json (after
every check, so that a crash leaves one too) and detection.png, both into the folder that --output names, and nothing
into the environment. It exits with 0 if all is well, 1 if a check failed, 2 if it was called wrongly.

expect.json holds one object. Every key may be left out:

    imports     modules to import, in this order: ["tensorflow", "mrcnn.model"]
    versions    a distribution (else a module), or python, to a PEP 440 specifier: {"keras": "==2.2.5", "h5py": "<3"};
                "" asks only that it be there
    tolerated   known complaints of `pip check`, by how they begin; * and ? are wildcards
    locations   a module to the folder it must come from, relative to the environment: {"mrcnn": "include/Mask_RCNN"}
    gpus        how many GPUs TensorFlow has to see, at least
    mini_masks  true: fail, instead of warn, if mrcnn spoils the masks that it makes smaller for training
"""

import argparse
import contextlib
import fnmatch
import importlib
import io
import json
import logging
import os
import platform
import resource
import signal
import site
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from datetime import datetime, timezone
from pathlib import Path

import verify_proof as proof
from verify_proof import CheckFailed, say

try:
    from mrcnn_workbench import host
except ImportError:
    sys.exit("maskrcnn-verify: {} lacks the command mrcnn, which the role workbench installs".format(sys.prefix))

HELP = """\
It imports everything, compares versions, trains on synthetic images for about a minute and detects with what it has
just learnt. The results are report.json and detection.png; the environment itself is only read.

On a node with a GPU, as a job of Slurm's:

    sbatch --partition=gpu --gpus=1 --wrap "{command} --require-gpu --output $HOME/report"

Without --require-gpu a missing GPU is no failure: the report says why there was none, and the proof runs on CPUs.
The exit code is 0 if all is well, 1 if a check failed, 2 if this was called wrongly.
"""

EXPECTED_TYPES = {
    "imports": list, "versions": dict, "tolerated": list, "locations": dict, "gpus": int, "mini_masks": bool,
}  # fmt: skip


class UsageError(Exception):
    """The command line or expect.json cannot be understood."""


# Expectations


def read_expectations(path: Path) -> dict:
    """What expect.json holds. Raises UsageError, for a misspelt key too: it would silently check nothing."""
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("{}: {}".format(path, error)) from error
    if not isinstance(expected, dict):
        raise UsageError("{}: an object is wanted".format(path))
    for key, value in expected.items():
        if key not in EXPECTED_TYPES:
            raise UsageError("{}: unknown key {!r}".format(path, key))
        # A bool is an int to Python, but `"gpus": true` is a mistake.
        if not isinstance(value, EXPECTED_TYPES[key]) or isinstance(value, bool) != (EXPECTED_TYPES[key] is bool):
            raise UsageError("{}: {} has to be {}".format(path, key, EXPECTED_TYPES[key].__name__))
        texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if not all(isinstance(text, str) for text in texts):
            raise UsageError("{}: {} has to hold strings".format(path, key))
    for name, text in expected.get("versions", {}).items():
        try:
            specifiers().SpecifierSet(text)
        except specifiers().InvalidSpecifier as error:
            raise UsageError("{}: versions: {}: {}".format(path, name, error)) from error
    return expected


def specifiers():
    """The library that understands version specifiers; old setuptools carries a copy of it, and so does every pip."""
    for package in ("packaging", "pkg_resources.extern.packaging", "pip._vendor.packaging"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(package + ".specifiers")
    raise UsageError("no library reads version specifiers here: install packaging")


def installed_version(name: str):
    """The version of a distribution, else of the imported module of that name, or None.

    The module answers for `tensorflow` where the distribution is called tensorflow-gpu.
    """
    if name == "python":
        return platform.python_version()
    module_version = getattr(sys.modules.get(name), "__version__", None)
    try:
        metadata = importlib.import_module("importlib.metadata")
    except ImportError:  # before Python 3.8
        library = importlib.import_module("pkg_resources")
        found = library.working_set.by_key.get(library.safe_name(name).lower())
        return found.version if found else module_version
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return module_version


def check_imports(modules: list, seconds: dict) -> str:
    """Import every module, even after one has failed. Notes what each took in `seconds`."""
    broken = []
    for module in modules:
        started = time.time()
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken library raises anything
            broken.append("{} ({}: {})".format(module, type(error).__name__, error))
        seconds[module] = round(time.time() - started, 2)
    if broken:
        raise CheckFailed("cannot import " + "; ".join(broken))
    return "{} in {:.1f} s".format(len(modules), sum(seconds.values()))


def check_versions(expected: dict, found: dict) -> str:
    """Compare versions. Notes those found in `found`, None for what is not there."""
    wrong = []
    for name, specifier in expected.items():
        found[name] = installed_version(name)
        if found[name] is None:
            wrong.append("{} is not installed".format(name))
        elif not specifiers().SpecifierSet(specifier).contains(found[name], prereleases=True):
            wrong.append("{} is {}, not {}".format(name, found[name], specifier))
    if wrong:
        raise CheckFailed("; ".join(wrong))
    return ", ".join("{} {}".format(name, version) for name, version in found.items())


def check_locations(expected: dict, found: dict) -> str:
    """Compare where modules come from. Notes the folders in `found`."""
    wrong = []
    for name in sorted({"mrcnn", *expected}):
        file = getattr(sys.modules.get(name), "__file__", None)
        found[name] = file and str(Path(file).resolve().parent)
        wanted = Path(sys.prefix, expected.get(name, "")).resolve()
        if name in expected and not (file and wanted in Path(file).resolve().parents):
            wrong.append("{} comes from {}, not from {}".format(name, found[name] or "nowhere", wanted))
    if wrong:
        raise CheckFailed("; ".join(wrong))
    return ", ".join("{} from {}".format(*item) for item in found.items() if item[1])


def check_pip(tolerated: list) -> str:
    """Run `pip check`, which complains of distributions that do not fit together, one a line."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, universal_newlines=True
    )
    if run.returncode == 0:
        return "no complaints"
    complaints = [line for line in run.stdout.splitlines() if line.strip()]
    known = [line for line in complaints if any(fnmatch.fnmatchcase(line, text + "*") for text in tolerated)]
    if len(known) < len(complaints) or not complaints:
        new = [line for line in complaints if line not in known]
        raise CheckFailed("; ".join(new) or "exit code {}".format(run.returncode))
    return "tolerated: " + "; ".join(known)


def check_user_site() -> str:
    """Packages in the user's home come before those of every environment with the same version of Python."""
    folder = Path(site.getusersitepackages())
    if site.ENABLE_USER_SITE and folder.is_dir() and any(folder.iterdir()):
        raise CheckFailed(
            "what is in {} comes before the environment's own packages; to leave it out, "
            "export PYTHONNOUSERSITE=1".format(folder)
        )
    return "nothing comes before the environment's own packages"


def check_gpus(wanted: int, record: dict) -> str:
    """Note the devices that TensorFlow sees, and in words the GPUs, or why there are none and what to do."""
    record["devices"] = host.devices()
    gpus = host.gpus(record["devices"])
    text = "; ".join(gpus) or host.why_no_gpu()
    record["gpu"] = text if gpus else "none: " + text
    if len(gpus) < wanted:
        raise CheckFailed("{} wanted, {} seen: {}".format(wanted, len(gpus), text))
    if not gpus and host.gpu_is_given():
        raise CheckFailed("CUDA_VISIBLE_DEVICES={}, none seen: {}".format(os.environ["CUDA_VISIBLE_DEVICES"], text))
    return record["gpu"]


# The report


@contextlib.contextmanager
def quiet():
    """Hold back what libraries print; say the end of it if they fail."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
            yield
    except Exception:
        for line in held.getvalue().splitlines()[-10:]:
            say("      | " + line)
        raise


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Report:
    """What is found out, kept on disk from the first moment on."""

    def __init__(self, path: Path, **data):
        self.path = path
        self.data = dict(
            data, ok=False, reason="did not finish", started=now(), finished=None, python=platform.python_version(),
            prefix=sys.prefix, checks=[], warnings=[], seconds={}, **host.whereabouts()
        )  # fmt: skip
        self.save()

    def check(self, name: str, function, *arguments, required: bool = True):
        """Run one check. Returns what it returns, or None if it failed, which only counts if it is `required`."""
        started, result = time.time(), None
        self.data["reason"] = "did not finish: {}".format(name)
        self.save()
        entry = {"name": name, "ok": True, "detail": ""}
        try:
            with quiet():
                result = function(*arguments)
            entry["detail"] = result if isinstance(result, str) else ""
        except CheckFailed as error:
            entry.update(ok=False, detail=str(error))
        except Exception as error:  # whatever a broken environment comes up with
            entry.update(ok=False, detail="{}: {}".format(type(error).__name__, error), trace=traceback.format_exc())
            say("      | " + entry["trace"].rstrip().replace("\n", "\n      | "))
        self.data["seconds"][name] = round(time.time() - started, 2)
        if required or entry["ok"]:
            self.data["checks"].append(entry)
        else:
            self.data["warnings"].append("{}: {}".format(name, entry["detail"]))
        word = "ok" if entry["ok"] else "FAIL" if required else "warn"
        say("{:<5} {}{}".format(word, name, ": " + entry["detail"] if entry["detail"] else ""))
        self.save()
        return result

    def failed(self) -> list:
        """The names of the checks that failed."""
        return [entry["name"] for entry in self.data["checks"] if not entry["ok"]]

    def finish(self) -> bool:
        """Judge, and write the last version."""
        failed = self.failed()
        self.data.update(ok=not failed, finished=now(), reason="failed: " + ", ".join(failed) if failed else "")
        self.save()
        return not failed

    def save(self) -> None:
        """Replace the file in one step, so that nobody ever reads half of it."""
        # In kB on Linux.
        self.data["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        part = self.path.with_name("." + self.path.name)
        part.write_text(json.dumps(self.data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(self.path)


def prove(report: Report, expected: dict, output: Path, steps: int, seed: int) -> None:
    """All checks, in order. Those that cannot run because another failed are left out."""
    data, gpus = report.data, expected.get("gpus", 0)
    imports, versions, locations = (data.setdefault(key, {}) for key in ("import_seconds", "versions", "locations"))
    report.check("imports", check_imports, expected.get("imports", []), imports)
    report.check("versions", check_versions, expected.get("versions", {}), versions)
    report.check("pip", check_pip, expected.get("tolerated", []))
    report.check("user_site", check_user_site, required=False)
    if (steps or gpus) and "imports" not in report.failed():
        report.check("gpus", check_gpus, gpus, data, required=gpus > 0)
        if not gpus and not host.gpus(data.get("devices", [])):
            # Else what is started below would insist on the GPU that was given and is not seen.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if steps and not {"imports", "gpus"}.intersection(report.failed()):
        # On the folder that is known to be writable; weights are 3 MB.
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=str(output)) as folder:
            prove_training(report, expected, Path(folder), steps, seed)
    report.check("locations", check_locations, expected.get("locations", {}), locations)


def prove_training(report: Report, expected: dict, folder: Path, steps: int, seed: int) -> None:
    """Train, detect with what was learnt, and draw it."""
    data = report.data
    if not report.check("images", proof.make_images, folder, seed):
        return
    report.check("mini_masks", proof.check_mini_masks, required=expected.get("mini_masks", False))
    if not report.check("training", proof.train, folder, steps, seed, data):
        return
    report.check("losses", proof.check_losses, data["training"]["losses"])
    if report.check("detection", proof.detect, folder, data):
        report.check("found", proof.check_found, folder, data["detections"])
        picture = report.path.with_name("detection.png")
        report.check("picture", proof.draw, folder, data["detections"], picture)


def count(text: str) -> int:
    """A number, zero or more."""
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


def terminated(*_) -> None:
    """End in good order when a batch system or a time limit ends us."""
    raise SystemExit("terminated")


def main(arguments=None) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=HELP.format(command=Path(sys.argv[0]).absolute()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("maskrcnn-verify"), metavar="DIR",
        help="the folder for report.json and detection.png, made if need be (default: ./%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--require-gpu", action="store_true", help="fail, at once and with what to do, if TensorFlow sees no GPU"
    )
    parser.add_argument(
        "--steps", type=count, default=proof.STEPS, metavar="N",
        help="training steps; 0: no training (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=count, default=1, metavar="N", help="of images and weights (default: %(default)s)"
    )
    parser.add_argument(
        "--expect", type=Path, default=Path(__file__).with_name("expect.json"), metavar="FILE",
        help="what is expected, as JSON (default: what the environment was provisioned with)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    output = options.output.absolute()
    warnings.simplefilter("ignore")
    try:
        expected = read_expectations(options.expect)
        expected["gpus"] = max(expected.get("gpus", 0), int(options.require_gpu))
        output.mkdir(parents=True, exist_ok=True)
        report = Report(output / "report.json", steps=options.steps, seed=options.seed)
        # An old picture would pass for the new one.
        with contextlib.suppress(FileNotFoundError):
            (output / "detection.png").unlink()
    except UsageError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error("{}; name another folder with --output".format(error))

    # Before the first import of numpy: on a shared node, a library would start a thread for every core it sees.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(host.cpus())
    os.environ["MPLBACKEND"] = "Agg"  # needs no display
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, terminated)
    started = time.time()
    prove(report, expected, output, options.steps, options.seed)
    ok = report.finish()
    say("{} in {:.0f} s, {} MB; see {}".format(
        "all is well" if ok else report.data["reason"], time.time() - started, report.data["peak_rss_mb"], output,
    ))  # fmt: skip
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
