# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compiles a profile's pip lists to complete, hashed requirements: NAME-cpu.txt and NAME-gpu.txt.

uv resolves for the profile's Python and platform, whatever interpreter runs this. The files hold no
markers and only what can be installed there: the hashes of the matching wheels, of the source where
there is no wheel. Run as ``lock_pip.py NAME...``; ``--check`` asks, without network, whether the files
still belong to the profiles.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROFILES = Path(__file__).resolve().parent.parent / "playbooks" / "profiles"
BUILDS = ("cpu", "gpu")
# What a profile that names no other is for.
PLATFORM = "x86_64-manylinux2014"

# What a conda package is called on PyPI, where that is not its own name.
PYPI_NAMES = {"matplotlib-base": "matplotlib", "py-opencv": "opencv-python", "pytorch": "torch"}
# Not Python packages, or none that pip could be asked for.
NOT_ON_PYPI = {"python", "cudatoolkit", "cudnn", "nccl"}

CONDA_SPEC = re.compile(r"^(?:[\w/.-]+::)?(?P<name>[A-Za-z0-9_.-]+?)\s*(?P<version>[=<>!~].*)?$")
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)")


class LockError(Exception):
    """Something that the maintainer has to put right; the message says what."""


@dataclass(frozen=True)
class Inputs:
    """All that decides what is in one lock file."""

    python: str
    platform: str
    requirements: list[str]
    constraints: list[str]
    excluded: list[str]
    exclude_newer: str

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def constraint(spec: str) -> str | None:
    """The pip constraint that says the same as a conda spec; None if there is nothing to say."""
    match = CONDA_SPEC.match(spec.strip())
    if not match:
        raise LockError(f"conda spec {spec!r}: not understood")
    name = match["name"].lower()
    version = (match["version"] or "").replace(" ", "")
    if name in NOT_ON_PYPI or not version:
        return None
    name = PYPI_NAMES.get(name, name)
    if version.startswith("="):
        exact = version.startswith("==")
        number = version.lstrip("=").split("=")[0]  # after a second `=` comes the build
        version = f"=={number}" if exact or number.endswith("*") else f"=={number}.*"
    return f"{name}{version}"


def inputs(profile: dict[str, Any], build: str) -> Inputs:
    """The inputs of the lock file for one build (cpu or gpu)."""
    conda, pip = profile["conda"], profile["pip"]
    specs = [*conda["specs"], *conda.get(f"{build}_specs", [])]
    constraints = (constraint(spec) for spec in specs)
    return Inputs(
        python=str(profile["python"]),
        platform=str(pip.get("platform", PLATFORM)),
        requirements=sorted([*pip["requirements"], *pip.get(f"{build}_requirements", [])]),
        constraints=sorted(c for c in constraints if c),
        excluded=sorted([*pip.get("excluded", []), *pip.get(f"{build}_excluded", [])]),
        exclude_newer=str(pip["exclude_newer"]),
    )


def uv(wanted: Inputs, *more: str) -> str:
    """What ``uv pip compile`` says. Its file names are what the annotations show, so they are named for the reader."""
    # A run that were told of its last output would keep to it; without, the result follows from the inputs alone.
    with tempfile.TemporaryDirectory() as folder:
        texts = {
            "pip.requirements": wanted.requirements,
            "conda.specs": wanted.constraints,
            "excluded": [f"{name} ; python_version < '0'" for name in wanted.excluded],
        }
        for name, lines in texts.items():
            Path(folder, name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        command = [
            str(Path(sys.executable).with_name("uv")), "pip", "compile", "pip.requirements",
            "--constraint=conda.specs", "--override=excluded", f"--python-version={wanted.python}",
            f"--python-platform={wanted.platform}", f"--exclude-newer={wanted.exclude_newer}",
            "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet", *more,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LockError(f"uv could not resolve the requirements:\n{done.stderr}")
    return done.stdout


def usable_hashes(pylock: str) -> dict[str, list[str]]:
    """``name==version`` to the SHA-256s of its wheels for the platform, or of its source if there are none."""
    found = {}
    for package in tomllib.loads(pylock)["packages"]:
        files = package.get("wheels") or [package["sdist"]]
        found[f"{package['name']}=={package['version']}"] = sorted(file["hashes"]["sha256"] for file in files)
    return found


def with_hashes(pins: str, hashes: dict[str, list[str]]) -> Iterator[str]:
    """The lines of uv's list of pins, each pin followed by its hashes."""
    for line in pins.splitlines():
        if line.startswith((" ", "#")):
            yield line
        elif line in hashes:
            yield " \\\n".join([line, *(f"    --hash=sha256:{digest}" for digest in hashes[line])])
        else:
            raise LockError(f"uv wrote {line!r}, which has a marker or no file for the platform")


def header(name: str, build: str, wanted: Inputs) -> list[str]:
    return [
        f'# Made by "make pins PROFILE={name}" from {name}.yml ({build}): not to be edited.',
        f"# inputs sha256:{wanted.fingerprint()}",
    ]


def compiled(name: str, build: str, wanted: Inputs) -> str:
    """The text of a lock file."""
    hashes = usable_hashes(uv(wanted, "--format=pylock.toml"))
    lines = [*header(name, build, wanted), *with_hashes(uv(wanted), hashes)]
    return "".join(f"{line}\n" for line in lines)


def pins(text: str) -> dict[str, str]:
    """Name to version of everything in a lock file."""
    matches = (PIN.match(line) for line in text.splitlines())
    return {match["name"]: match["version"] for match in matches if match}


def complaints(wanted: Inputs, text: str) -> Iterator[str]:
    """What in a lock file does not belong to the profile any more."""
    if f"# inputs sha256:{wanted.fingerprint()}" not in text.splitlines():
        yield "the profile has changed since it was made"
    locked = pins(text)
    for line in wanted.requirements:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"{line} is wanted, {version or 'nothing'} is locked"
    for line in wanted.constraints:
        limit = Requirement(line)
        version = locked.get(canonicalize_name(limit.name))
        if version is not None and not limit.specifier.contains(version, prereleases=True):
            yield f"conda brings {line}, {version} is locked"
    for name in sorted(locked.keys() & {canonicalize_name(name) for name in wanted.excluded}):
        yield f"{name} is excluded, but locked"


def check(path: Path, name: str, wanted: Inputs) -> list[str]:
    if not path.exists():
        return [f'{path.name}: missing; run "make pins PROFILE={name}"']
    found = complaints(wanted, path.read_text(encoding="utf-8"))
    return [f'{path.name}: {line}; run "make pins PROFILE={name}"' for line in found]


def run(names: list[str], checking: bool) -> list[str]:
    """Writes or checks the files of these profiles; what is wrong with them."""
    wrong = []
    for name in names:
        profile = yaml.safe_load((PROFILES / f"{name}.yml").read_text(encoding="utf-8"))
        for build in BUILDS:
            path, wanted = PROFILES / f"{name}-{build}.txt", inputs(profile, build)
            if checking:
                wrong += check(path, name, wanted)
            else:
                path.write_text(compiled(name, build, wanted), encoding="utf-8")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help="all of them if none is named")
    parser.add_argument("--check", action="store_true", help="write nothing, use no network, say what is out of date")
    args = parser.parse_args()
    names = args.profiles or sorted(path.stem for path in PROFILES.glob("*.yml"))
    try:
        wrong = run(names, args.check)
    except LockError as error:
        wrong = [str(error)]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
