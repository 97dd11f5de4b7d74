# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pip has to do in an env, and doing it with the env's own pip."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_errors import explain, relevant
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    GitPin,
    Pin,
    Wanted,
    as_url,
    brought_by_conda,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package, Plan
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import prefix_lock
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.site_packages import (
    Distribution,
    PrefixError,
    SitePackages,
    VerifyFiles,
    canonical_version,
)

OnDrift = Literal["repair", "keep"]

# The settings of the machine's pip that say where packages come from and how to get there. All others
# (target, user, constraint, no-deps ...) could make this pip do something else than what was planned.
PLACE_SETTINGS = {"index-url", "extra-index-url", "find-links", "no-index", "keyring-provider"}
WAY_SETTINGS = {
    "trusted-host", "cert", "client-cert", "proxy", "timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir"
}  # fmt: skip
CONFIG_LINE = re.compile(r"^(?P<section>[^.\s]+)\.(?P<key>[a-z-]+)=(?P<value>['\"].*)$")


class PipError(Exception):
    """pip failed; the message says why and what to do, ``output`` holds pip's own lines."""

    def __init__(self, message: str, output: list[str]) -> None:
        super().__init__(message)
        self.output = output


@dataclass
class Survey:
    """What is there, what is wanted, and so what there is to do."""

    plan: Plan = field(default_factory=Plan)
    todo: list[Wanted] = field(default_factory=list)
    left_to_conda: list[dict[str, str]] = field(default_factory=list)
    kept: list[dict[str, str]] = field(default_factory=list)
    debris: list[Path] = field(default_factory=list)
    doubled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Surveyor:
    """Compares an env with what is wanted in it; changes nothing."""

    wanted: list[Wanted]
    on_drift: OnDrift
    verify_files: VerifyFiles
    conda_packages: frozenset[str] = frozenset()
    """What conda is about to bring to an env that is not there yet, as a preview needs to know."""

    def survey(self, site: SitePackages | None) -> Survey:
        """Without a site there is nothing yet, and everything is to be installed."""
        survey = Survey()
        for wanted in self.wanted:
            if site is None:
                if not brought_by_conda(wanted.name, self.conda_packages):
                    self._install(survey, wanted)
            elif wanted.name in site.conda:
                _leave_to_conda(survey, wanted, site)
            else:
                self._compare(survey, wanted, site)
        return survey

    def _compare(self, survey: Survey, wanted: Wanted, site: SitePackages) -> None:
        there = site.distributions.get(wanted.name, [])
        leftovers = site.leftovers.get(wanted.name, [])
        if not there:
            survey.debris += leftovers
            self._install(survey, wanted)
            return
        present, broken = _present(wanted, there), _broken(there, leftovers)
        drifted = present != wanted.package
        # Somebody put another version there and pip finished it: that it also left something lying about is no damage.
        if broken and not (self.on_drift == "keep" and drifted and len(there) == 1 and there[0].whole):
            self._finish(survey, wanted, there, leftovers)
            survey.plan.before[wanted.name] = present
            if not drifted:
                survey.plan.repaired[wanted.name] = broken
            return
        reason = "" if drifted else site.faults(there[0], self.verify_files)
        survey.plan.before[wanted.name] = present
        if not drifted and not reason:
            survey.plan.after[wanted.name] = present
        elif self.on_drift == "keep":
            self._keep(survey, wanted, present, reason or "another version")
        else:
            self._install(survey, wanted)
            if reason:
                survey.plan.repaired[wanted.name] = reason

    def _finish(self, survey: Survey, wanted: Wanted, there: list[Distribution], leftovers: list[Path]) -> None:
        """Clears away what is half done, then installs; pip itself refuses to uninstall what has no RECORD."""
        survey.debris += [*leftovers, *(d.info for d in there if not d.whole)]
        if len(there) > 1:
            survey.doubled[wanted.name] = sum(d.whole for d in there)
        self._install(survey, wanted)

    @staticmethod
    def _install(survey: Survey, wanted: Wanted) -> None:
        survey.todo.append(wanted)
        survey.plan.after[wanted.name] = wanted.package

    @staticmethod
    def _keep(survey: Survey, wanted: Wanted, present: Package, reason: str) -> None:
        survey.plan.after[wanted.name] = present
        survey.kept.append(_entry(wanted, found=present.release, reason=reason))


def _leave_to_conda(survey: Survey, wanted: Wanted, site: SitePackages) -> None:
    owned = site.conda[wanted.name]
    entry = _entry(wanted, version=owned.version)
    others = [d for d in site.distributions.get(wanted.name, []) if d.info.name != owned.folder]
    if others or not (site.folder / owned.folder).exists():
        entry["found"] = ", ".join(d.version or "half an installation" for d in others) or "nothing"
    survey.left_to_conda.append(entry)


def _entry(wanted: Wanted, **more: str) -> dict[str, str]:
    return {"name": wanted.name, "pin": wanted.package.release, **more}


def _present(wanted: Wanted, there: list[Distribution]) -> Package:
    """What is there, in the spelling of what is wanted if it is the same."""
    if len(there) > 1 or not there[0].version:
        return wanted.package
    found = there[0].package
    same = not found.build and canonical_version(found.version) == canonical_version(wanted.package.version)
    return wanted.package if isinstance(wanted, Pin) and same else found


def _broken(there: list[Distribution], leftovers: list[Path]) -> str:
    """What an interrupted pip left behind, in words."""
    if len(there) > 1:
        return "installed twice: " + ", ".join(d.version or "half an installation" for d in there)
    if not there[0].whole:
        return "half an installation"
    return "remains of an interrupted installation" if leftovers else ""


@dataclass(frozen=True)
class Pip:
    """The env's own pip, shut off from everything that could change the result."""

    prefix: Path
    tmpdir: Path
    find_links: list[str]
    no_index: bool

    def install(self, todo: list[Wanted], lock: int) -> None:
        """Installs exactly these, whatever is there of them already."""
        settings = self._settings()
        if pins := [wanted for wanted in todo if isinstance(wanted, Pin)]:
            lines = [*self._places(), *(pin.line for pin in pins)]
            self._install("requirements.txt", lines, ["--require-hashes"], settings, lock)
        # After the pins, which may be what a build needs. One call for each tells whose build failed.
        for git in (wanted for wanted in todo if isinstance(wanted, GitPin)):
            self._install(f"{git.name}.txt", [git.line], ["--no-index"], {}, lock)

    def uninstall(self, name: str, lock: int) -> None:
        self._run(["uninstall", "--yes", name], {}, lock)

    def _install(self, name: str, lines: list[str], more: list[str], settings: Mapping[str, str], lock: int) -> None:
        # In a file, not on the command line, which everybody on the machine can read.
        path = self.tmpdir / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._run([
            "install", "--no-deps", "--no-build-isolation", "--no-user", "--compile", "--force-reinstall",
            "--no-warn-script-location", "--no-warn-conflicts", "--progress-bar=off", *more,
            "--requirement", str(path),
        ], settings, lock)  # fmt: skip

    def _places(self) -> list[str]:
        """Where to look for wheels, as lines of a requirements file."""
        links = (f"--find-links {as_url(place)}" for place in self.find_links)
        return [*(["--no-index"] if self.no_index else []), *links]

    def _settings(self) -> dict[str, str]:
        """The machine's own settings for indexes, from its pip.conf files and environment."""
        wanted = WAY_SETTINGS | (set() if self.no_index else PLACE_SETTINGS)
        return {key: value for key, value in machine_settings(self._python, self.tmpdir).items() if key in wanted}

    @property
    def _python(self) -> Path:
        return self.prefix / "bin" / "python"

    def _run(self, arguments: list[str], settings: Mapping[str, str], lock: int) -> None:
        command = [
            *_pip_command(self._python), "--no-input", "--disable-pip-version-check", "--no-color", *arguments
        ]  # fmt: skip
        environment = self._environment(settings)
        done = subprocess.run(
            command, env=environment, cwd=self.tmpdir, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            # pip keeps the env locked even if this process is killed.
            pass_fds=[lock],
        )  # fmt: skip
        if done.returncode:
            why = explain(done.stdout, done.returncode, self._searched(settings), environment["PATH"])
            raise PipError(why, relevant(done.stdout))

    def _searched(self, settings: Mapping[str, str]) -> str:
        places = [*self.find_links, *settings.get("find-links", "").split()]
        if not self.no_index and "no-index" not in settings:
            places.append("the package index")
        return ", ".join(places) or "nowhere: no_index is set and find_links is empty"

    def _git_config(self) -> Path:
        """The machine's git settings, and leave to read repositories of others on it, as a mirror's are.

        git asks for that leave because a repository of somebody else's could make it run programs; those it needs to
        be read are not among them.
        """
        file = self.tmpdir / "gitconfig"
        file.write_text("[include]\n\tpath = /etc/gitconfig\n[safe]\n\tdirectory = *\n", encoding="utf-8")
        return file

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        return {
            **kept,
            **{f"PIP_{key.replace('-', '_').upper()}": value for key, value in settings.items()},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_ROOT_USER_ACTION": "ignore",
            "PYTHONNOUSERSITE": "1",
            # As in an activated env: a compiler or git that conda brought is found.
            "PATH": f"{self.prefix}/bin:{os.environ.get('PATH', os.defpath)}",
            "CONDA_PREFIX": str(self.prefix),
            "TMPDIR": str(self.tmpdir),
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_SYSTEM": str(self._git_config()),
        }


def _pip_command(python: Path) -> list[str]:
    return [str(python), "-I", "-m", "pip"]


def machine_settings(python: Path, cwd: Path) -> dict[str, str]:
    """What the machine's pip.conf files and environment say to ``pip install``. Raises PipError."""
    done = subprocess.run(
        [*_pip_command(python), "config", "list"], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise PipError(f"{python}: its pip does not start", relevant(done.stdout + done.stderr))
    return parse_config(done.stdout)


def parse_config(text: str) -> dict[str, str]:
    """The settings that hold for ``pip install``, from what ``pip config list`` prints."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for match in filter(None, map(CONFIG_LINE.match, text.splitlines())):
        if match["section"] in found:
            # Several values of one setting come on lines of their own; the environment takes them in one.
            found[match["section"]][match["key"]] = " ".join(str(ast.literal_eval(match["value"])).split())
    return {**found["global"], **found["install"], **found[":env:"]}


@dataclass(frozen=True)
class PipPrefix:
    """An env that conda made and pip adds to."""

    prefix: Path
    surveyor: Surveyor
    pip: Pip

    def survey(self) -> Survey:
        """What there is to do; fails if the env cannot be worked on."""
        self._require_env()
        return self.surveyor.survey(SitePackages(self.prefix))

    def preview(self) -> Survey:
        """The same for check mode, where an env that conda_env has yet to make is an empty one."""
        try:
            self._require_env()
            site = SitePackages(self.prefix)
        except PrefixError:
            if self._is_somebody_elses_folder():
                raise
            return self.surveyor.survey(None)
        return self.surveyor.survey(site)

    def apply(self, lock_timeout: float) -> Survey:
        """Makes it so; returns what was done."""
        survey = self.survey()
        if not survey.plan:
            return survey
        with prefix_lock(self.prefix, lock_timeout) as lock:
            # Whoever had the lock until now may have done some of it.
            survey = self.survey()
            if survey.plan:
                self._require_pip()
                self._carry_out(survey, lock)
                self._confirm(self.survey())
        return survey

    def _carry_out(self, survey: Survey, lock: int) -> None:
        SitePackages(self.prefix).remove(survey.debris)
        for name, times in survey.doubled.items():
            for _dummy in range(times):
                self.pip.uninstall(name, lock)
        self.pip.install(survey.todo, lock)

    @staticmethod
    def _confirm(after: Survey) -> None:
        if after.plan:
            faults = [f"{p} is missing" for p in after.plan.installed]
            faults += [f"{a} instead of {b.release}" for a, b in after.plan.changed]
            faults += [f"{name}: {reason}" for name, reason in sorted(after.plan.repaired.items())]
            raise PipError(
                f"pip finished, but not everything is as wanted: {'; '.join(faults)}. Does a wheel hold another "
                "version than its name says, or a list of files that is wrong (verify_files=none skips that)?", []
            )  # fmt: skip

    def _is_somebody_elses_folder(self) -> bool:
        """Something is there, but no env, not even one that is half made."""
        return self.prefix.exists() and not (self.prefix / "conda-meta").is_dir() and any(self.prefix.iterdir())

    def _require_env(self) -> None:
        if not self.prefix.is_dir():
            raise PrefixError(f"{self.prefix} does not exist: let conda_env make the env first")
        if not (self.prefix / "conda-meta").is_dir():
            raise PrefixError(f"{self.prefix} is not a conda env: it has no conda-meta folder")

    def _require_pip(self) -> None:
        site = SitePackages(self.prefix)
        if not (site.folder / "pip" / "__main__.py").exists():
            raise PrefixError(f"{self.prefix} has no pip: add pip to its conda packages")
        # Its Python is about to be started: root must not run what another user can write.
        places = [self.prefix, self.prefix / "bin", self.prefix / "conda-meta", site.folder]
        others = [str(place) for place in places if place.stat().st_uid != 0]
        if os.geteuid() == 0 and others:
            raise PrefixError(f"root does not run the Python of another user's env ({others[0]}): become its owner")
