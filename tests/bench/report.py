# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The figures, their bounds, and the table."""

import os
import platform
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

MB = 1e6


@dataclass
class Samples:
    """Seconds by what was measured, in the order of the rounds; in those that are ``busy``, others used the machine."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    busy: list[str] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name].append(seconds)

    def median(self, name: str) -> float:
        return round(median(self.seconds[name]), 3)

    def ratio(self, name: str, other: str) -> float:
        """How many times as long as another one it takes: the median of the rounds."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return round(median(one / two for one, two in pairs), 2)


@dataclass(frozen=True)
class Share:
    """What something takes of the disk; files are inodes, folders included."""

    size: float
    files: float

    def figures(self) -> dict[str, float]:
        return {"mb": round(self.size / MB, 2), "files": round(self.files)}


@dataclass(frozen=True)
class Bound:
    """A figure and how large it may be."""

    key: str
    limit: float
    below: bool = False  # whether the limit itself is too much

    def holds(self, value: float | None) -> bool:
        return value is None or value < self.limit or (value == self.limit and not self.below)

    def __str__(self) -> str:
        return f"{'below' if self.below else 'at most'} {self.limit}"


KEY_USERS = "10"
BOUNDS = (
    Bound("replica_vs_cp_al", 1.0),
    Bound("replica_disk_share", 0.03),
    Bound("unchanged_50_vs_1", 1.5),
    Bound("create_vs_micromamba", 1.0, below=True),
    Bound("create_vs_cp_al", 2.0),
)


def figures(folder: Path, samples: Samples, sizes: dict[str, Share], shares: dict[int, Share]) -> dict[str, Any]:
    """All that is written to the file."""
    ratios = {str(count): samples.ratio(f"replicas, {count}", "cp -al, whole") for count in shares}
    micromamba = next((name for name in samples.seconds if re.fullmatch(r"micromamba [\d.]+", name)), None)
    return {
        "machine": machine(folder),
        "versions": versions(),
        "rounds": len(samples.seconds["cp -al"]),
        "busy_rounds": samples.busy,
        "create_seconds": samples.median("conda_env"),
        "create_vs_cp_al": samples.ratio("conda_env", "cp -al"),
        "create_vs_micromamba": samples.ratio("conda_env", micromamba) if micromamba else None,
        "engine_vs_cp_al": samples.ratio("engine", "cp -al"),
        # A replica of ten in one call, everything included. A single user's bears alone what does not depend on their
        # number, start-up above all; it stands beside it.
        "replica_vs_cp_al": ratios[KEY_USERS],
        "replica_vs_cp_al_by_users": ratios,
        "replica_disk_share": round(max(share.size for share in shares.values()) / sizes["the whole env"].size, 4),
        "unchanged_50_vs_1": samples.ratio("unchanged, 50", "unchanged, 1"),
        "sizes": {name: size.figures() for name, size in sizes.items()},
        "replicas": {
            str(count): {"seconds_a_user": samples.median(f"replicas, {count}"), **share.figures()}
            for count, share in shares.items()
        },
        "medians": {name: samples.median(name) for name in samples.seconds},
        "seconds": samples.seconds,
    }


def holds(figures: dict[str, Any]) -> bool:
    """Whether no bound is broken."""
    return all(bound.holds(figures[bound.key]) for bound in BOUNDS)


def table(figures: dict[str, Any]) -> str:
    """The figures, for a person to read."""
    machine, medians, sizes = figures["machine"], figures["medians"], figures["sizes"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['kernel']}; "
        f"{machine['filesystem']}; {', '.join(f'{name} {number}' for name, number in figures['versions'].items())}",
        "",
        f"Medians of {figures['rounds']:<33} {'seconds':>8} {'x cp -al':>9} {'MB new':>8} {'files new':>10}",
    ]

    def title(name: str) -> None:
        lines.extend(["", f"{name} ({sizes[name]['mb']:.0f} MB, {sizes[name]['files']} files and folders)"])

    def line(name: str, seconds: float, base: float | None = None, more: str = "") -> None:
        times = f"{seconds / base:9.1f}" if base else ""
        lines.append(f"  {name:42} {seconds:8.2f} {times} {more}".rstrip())

    title("the conda part")
    for name in medians:
        if name.partition(",")[0] not in ("replicas", "unchanged", "engine") and name != "cp -al, whole":
            line(name.replace(", a loop", " in an Ansible loop, a user"), medians[name], medians["cp -al"])
    line("conda_env, to solve and link alone", medians["engine"], medians["cp -al"])
    title("the whole env")
    whole = medians["cp -al, whole"]
    line("cp -al", whole, whole)
    for count, one in figures["replicas"].items():
        more = f"{one['mb']:8.1f} {one['files']:10.0f}"
        line(f"env_replicas, a user of {count}", one["seconds_a_user"], whole, more)
    lines += ["", "site.yml where nothing is to be changed"]
    for count in (1, 50):
        line(f"for {count} of the users", medians[f"unchanged, {count}"])
    if figures["busy_rounds"]:
        lines += ["", "Others kept the machine busy", *(f"  {name}" for name in figures["busy_rounds"])]
    lines += ["", "Bounds"]
    for bound in BOUNDS:
        value = figures[bound.key]
        verdict = "not measured" if value is None else "held" if bound.holds(value) else "BROKEN"
        lines.append(f"  {bound.key:42} {'-' if value is None else value:>8} {bound}: {verdict}")
        if bound.key == "replica_vs_cp_al":
            ratios = figures["replica_vs_cp_al_by_users"].items()
            lines += [f"    as a user of {n:30} {ratio:>8}{' (this one)' * (n == KEY_USERS)}" for n, ratio in ratios]
    return "\n".join(lines)


def machine(folder: Path) -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    question = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(folder)]
    answer = subprocess.run(question, capture_output=True, text=True, check=True).stdout
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": answer.split()[0],
    }


def versions() -> dict[str, str]:
    names = ("ansible-core", "py-rattler")
    return {"Python": platform.python_version(), **{name: version(name) for name in names}}
