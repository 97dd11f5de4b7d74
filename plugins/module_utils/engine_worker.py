# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one place that calls py-rattler.

``engine.py`` runs this file as a program with the engine's own Python: requests as lines of JSON on standard
input, each answered by a line of JSON on standard output, progress in the log file that the request names.
py-rattler can crash while the interpreter shuts down, after all work is done; therefore the process leaves with
``os._exit``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

# What conda means by the channel name "defaults" on Linux.
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")

Request = dict[str, Any]
Answer = dict[str, Any]
Log = Callable[[str], None]


class WorkerError(Exception):
    """An error with words meant for the user; ``kind`` tells ``engine.py`` which hint to add."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def channel_urls(channels: Iterable[str]) -> list[str]:
    """The channels as py-rattler takes them: names, URLs, or ``file://`` URLs for absolute paths."""
    urls: list[str] = []
    for channel in channels:
        if not re.fullmatch(r"/.*|[^\s.~]\S*", channel):
            raise WorkerError("channel", f"channel {channel!r} is neither a name nor a URL nor an absolute path")
        if channel == "defaults":
            urls.extend(DEFAULTS)
        else:
            urls.append(Path(channel).as_uri() if channel.startswith("/") else channel)
    return urls


def describe(record: Any) -> dict[str, Any]:
    """A repodata record as plain data."""
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "size": record.size or 0,
    }


def virtual_packages(overrides: dict[str, str]) -> list[Any]:
    """What the machine has (``__glibc``, ``__cuda``, ...), with the given versions in their place."""
    from rattler import GenericVirtualPackage, PackageName, Version, VirtualPackage
    from rattler.package import BuildString

    found = [package.into_generic() for package in VirtualPackage.detect()]
    packages = [package for package in found if package.name.normalized not in overrides]
    for name, version in overrides.items():
        if version:
            try:
                packages.append(GenericVirtualPackage(PackageName(name), Version(version), BuildString("0")))
            except Exception as error:  # py-rattler has one class for each part
                raise WorkerError("input", f"virtual_packages: {name}: {version!r}: {error}") from error
    return packages


def newest(text: str | None) -> datetime | None:
    """The moment after which packages are ignored; a day alone counts to its end, in UTC so that all machines agree."""
    if not text:
        return None
    try:
        # Python 3.10 does not read the Z.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise WorkerError("input", f"exclude_newer: {text!r} is not a day or time in ISO 8601") from error
    if len(text) <= len("2023-12-31"):
        moment += timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)  # noqa: UP017 - Python 3.10 has no UTC


async def solve(request: Request, log: Log) -> Answer:
    """Solves ``specs`` against ``channels`` and writes the solution as a lock file."""
    import rattler
    from rattler.exceptions import GatewayError, InvalidMatchSpecError, ParseSubdirError, SolverError
    from rattler.repo_data.gateway import SourceConfig

    specs = []
    for spec in request["specs"]:
        try:
            specs.append(rattler.MatchSpec(spec, strict=True))
        except InvalidMatchSpecError as error:
            raise WorkerError("spec", f"{spec!r} is not a conda match spec: {error}") from error
    channels = channel_urls(request["channels"])
    check_channels(channels)
    machine = virtual_packages(request["virtual_packages"])
    log(f"solving {', '.join(request['specs'])} from {', '.join(channels)}")
    gateway = rattler.Gateway(
        cache_dir=request["repodata_cache"],
        default_config=SourceConfig(cache_action="force-cache-only" if request["offline"] else "cache-or-fetch"),
    )
    try:
        records = await rattler.solve(
            [rattler.Channel(url) for url in channels],
            specs,
            gateway=gateway,
            platforms=[request["platform"], "noarch"],
            locked_packages=installed(request["prefix"]) if request["keep_versions"] else None,
            virtual_packages=machine,
            channel_priority=getattr(rattler.ChannelPriority, request["channel_priority"].capitalize()),
            exclude_newer=newest(request["exclude_newer"]),
        )
    except SolverError as error:
        asked = f"{', '.join(request['specs'])} from {', '.join(channels)} for {request['platform']}"
        words = f"{asked} cannot be had: {str(error).strip().removeprefix('Cannot solve the request because of: ')}"
        if "__" in words:
            assumed = ", ".join(f"{package.name.normalized}={package.version}" for package in machine)
            words += f"\nAssumed of the machine (virtual_packages): {assumed}."
        raise WorkerError("unsatisfiable", words) from error
    except GatewayError as error:
        words = str(error).strip()
        unread = [url for url in channels if rattler.Channel(url).base_url.rstrip("/") in words]
        kind = "offline" if request["offline"] else "channel"
        raise WorkerError(kind, f"cannot read channel {' or '.join(unread or channels)}: {words}") from error
    except ParseSubdirError as error:
        raise WorkerError("input", f"platform: {error}") from error
    write_lock(Path(request["lock"]), channels, request["platform"], records)
    return {"packages": [describe(record) for record in records]}


def check_channels(urls: list[str]) -> None:
    """Raises WorkerError for a folder that is no channel, of which py-rattler says only that a file is missing."""
    for url in urls:
        folder = Path(unquote(url.removeprefix("file://")))
        if url.startswith("file://") and not any(folder.glob("*/repodata.json*")):
            there = "has no repodata.json in its subfolders" if folder.is_dir() else "does not exist"
            raise WorkerError("channel", f"channel {folder} {there}")


def installed(prefix: str) -> list[Any]:
    """The records of an env, as far as they can be read; none where there is no env yet."""
    import rattler

    records = []
    for path in sorted(Path(prefix, "conda-meta").glob("[!.]*.json")):
        with contextlib.suppress(Exception):  # of a damaged one py-rattler raises several
            records.append(rattler.PrefixRecord.from_path(path))
    return records


def write_lock(
    path: Path, channels: list[str], platform: str, records: list[Any], files: Iterable[dict[str, str]] = ()
) -> None:
    """Writes the ``pixi.lock`` format, with files for pip.

    Records are in order of name so that equal solutions give equal files.
    """
    from rattler.lock import LockChannel, LockFile, LockPlatform

    target = LockPlatform(platform)
    lock = LockFile([target])
    lock.set_channels("default", [LockChannel(url) for url in channels])
    for record in sorted(records, key=lambda r: r.name.normalized):
        lock.add_conda_package("default", target, record)
    for file in files:
        lock.add_pypi_package("default", target, file["name"], file["version"], file["url"])
    lock.to_path(path)
    sums = {file["url"]: file["sha256"] for file in files}
    path.write_text(with_sums(path.read_text(encoding="utf-8"), sums), encoding="utf-8")


def with_sums(lock: str, sums: dict[str, str]) -> str:
    """A lock's text with the sums of pip's files, which py-rattler 0.28.0 reads and keeps but cannot be given."""

    def add(match: re.Match[str]) -> str:
        return f"{match[0]}  sha256: {sums[match['url']]}\n"

    text, count = re.subn(r"^- pypi: (?P<url>\S+)\n  name: .*\n  version: .*\n", add, lock, flags=re.MULTILINE)
    if count != len(sums):
        raise WorkerError("engine", f"{len(sums)} files for pip were added to the lock, {count} are in it")
    return text


def locked(path: str, platform: str, name: str) -> tuple[Any, Any]:
    """The environment of a lock file, and the platform in it; ``name`` is what messages call it."""
    from rattler.lock import LockFile

    try:
        lock = LockFile.from_path(Path(path))
    except Exception as error:  # py-rattler raises several, none of them documented
        raise WorkerError("lock", f"{name} is not a lock file in the pixi.lock format: {str(error).strip()}") from error
    environment = lock.environment("default")
    platforms = {p.name: p for p in lock.platforms()}
    if not environment or platform not in platforms:
        others = ", ".join(sorted(platforms.keys() - {platform}))
        raise WorkerError("lock", f"{name} has no packages for {platform}" + (f", only for {others}" if others else ""))
    return environment, platforms[platform]


def locked_records(path: str, platform: str, name: str = "") -> list[Any]:
    """The conda packages of a lock file for one platform; ``name`` is what messages call it, if not its path."""
    environment, target = locked(path, platform, name or path)
    records = environment.conda_repodata_records_for_platform(target)
    if not records:
        raise WorkerError("lock", f"{name or path} has no conda packages for {platform}")
    return list(records)


async def read_lock(request: Request, log: Log) -> Answer:
    """What a lock file asks for; with ``channel`` it is written anew, to ask for the same from there."""
    import rattler

    records = locked_records(request["lock"], request["platform"], request["name"])
    if request["channel"]:
        channels = channel_urls([request["channel"]])
        for record in records:
            record.url = f"{rattler.Channel(channels[0]).base_url.rstrip('/')}/{record.subdir}/{record.file_name}"
        write_lock(Path(request["lock"]), channels, request["platform"], records)
    return {"packages": [describe(record) for record in records]}


async def read_pip(request: Request, log: Log) -> Answer:
    """What a lock file has for pip."""
    environment, target = locked(request["lock"], request["platform"], request["name"])
    packages = environment.pypi_packages_for_platform(target) or []
    return {
        "packages": [
            {"name": p.name, "version": p.version, "file": p.location.partition("#")[0].rpartition("/")[2]}
            for p in packages
        ]
    }


def best_file(pin: dict[str, Any], python: str, platforms: Iterable[str] | None = None) -> dict[str, Any]:
    """Of a pin's files the one that pip would choose: the wheel that is most special, or else the source.

    ``platforms`` are those of this machine if not given.
    """
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    version = [int(part) for part in python.split(".")[:2]]
    interpreter = f"cp{version[0]}{version[1]}"
    wanted = [*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)]
    ranks = {tag: rank for rank, tag in reversed([*enumerate(wanted)])}
    ranked = []
    for file in pin["files"]:
        tags = parse_wheel_filename(file["name"])[3] if file["name"].endswith(".whl") else set()
        if not tags or tags & ranks.keys():
            ranked.append((min((ranks[tag] for tag in tags & ranks.keys()), default=len(wanted)), file["name"], file))
    if not ranked:
        names = ", ".join(file["name"] for file in pin["files"])
        raise WorkerError("input", f"{pin['name']}=={pin['version']}: {names} does not fit Python {python} here")
    best: dict[str, Any] = min(ranked)[2]
    return best


async def add_pip(request: Request, log: Log) -> Answer:
    """Adds files for pip to a lock file."""
    environment, target = locked(request["lock"], request["platform"], request["lock"])
    channels = [str(channel) for channel in environment.channels()]
    records = environment.conda_repodata_records_for_platform(target)
    python = next((str(r.version) for r in records if r.name.normalized == "python"), None)
    if not python:
        raise WorkerError("input", "there are requirements for pip, but the specs bring no python")
    files = [{"version": pin["version"], **best_file(pin, python), "name": pin["name"]} for pin in request["pins"]]
    write_lock(Path(request["lock"]), channels, request["platform"], records, files)
    return {}


async def repodata(request: Request, log: Log) -> Answer:
    """What repodata says of the packages of lock files."""
    records = [record for lock in request["locks"] for record in locked_records(lock, request["platform"])]
    return {"records": [json.loads(record.to_json()) for record in records]}


class Reporter:
    """Writes the progress of an installation to the log: downloads, links, and how far it is."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.names: dict[int, str] = {}
        self.total = self.linked = 0
        self.reported: dict[int, float] = {}

    def __getattr__(self, event: str) -> Callable[..., int]:
        """py-rattler calls twenty events; those without a method of their own are of no interest."""
        if not event.startswith("on_"):
            raise AttributeError(event)
        return lambda *_arguments: 0

    def on_transaction_start(self, total: int) -> None:
        self.total = total

    def on_populate_cache_start(self, operation: int, name: str) -> int:
        self.names[operation] = name
        return operation

    def on_download_start(self, entry: int) -> int:
        self.log(f"downloading {self.names.get(entry, '?')}")
        return entry

    def on_download_progress(self, entry: int, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self.reported.setdefault(entry, now) > 2:  # noqa: PLR2004 - seconds between two lines
            self.reported[entry] = now
            size = f"{total / 1e6:.0f}" if total else "?"
            self.log(f"downloading {self.names.get(entry, '?')}: {done / 1e6:.0f} of {size} MB")

    def on_unlink_start(self, _operation: int, name: str) -> int:
        self.log(f"removing {name}")
        return 0

    def on_link_start(self, _operation: int, name: str) -> int:
        self.linked += 1
        self.log(f"linking {name} ({self.linked} of {self.total})")
        return 0


def check_local_archives(records: list[Any]) -> None:
    """Raises WorkerError for one that is not what repodata or lock say: py-rattler compares those of downloads only."""
    for record in records:
        path = Path(unquote(record.url.removeprefix("file://")))
        if record.url.startswith("file://") and record.sha256 and path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
            if digest.digest() != record.sha256:
                words = f"{path} has the sha256 {digest.hexdigest()}, and not {record.sha256.hex()} as its channel says"
                raise WorkerError("package", words)


async def link(request: Request, log: Log, records: list[Any], prefix: str, *, verify: bool, **options: Any) -> None:
    """Downloads and links what is in ``names``; with ``verify`` every cached file of these packages is read first.

    Raises WorkerError.
    """
    import rattler
    from rattler.exceptions import InstallerError
    from rattler.package_cache import PackageCache, ValidationMode

    folder = request["package_cache"]
    mode = ValidationMode.full() if verify else ValidationMode.fast()
    cache = PackageCache.new_layered([folder], validation_mode=mode)
    index = await cache.index()
    linked = [r for r in records if r.name.normalized in request["names"]]
    uncached = [r for r in linked if not index.contains_record(r)]
    missing = [r.file_name for r in uncached if not r.url.startswith("file:")]
    if missing and request["offline"]:
        raise WorkerError("offline", f"not in the package cache {folder}: {', '.join(missing)}")
    check_local_archives(linked if verify else uncached)
    reporter: Any = Reporter(log)
    try:
        await rattler.install(records, prefix, package_cache=cache, reporter=reporter, **options)
    except InstallerError as error:
        words = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(error).strip())
        log(f"failed: {words}")
        unfetched = re.match(r"failed to fetch (\S+)", words)
        if "os error 28" in words or "os error 122" in words:  # disk full, quota used up
            raise WorkerError("space", words) from error
        if unfetched:
            url = next((r.url for r in records if r.file_name == unfetched[1]), unfetched[1])
            cause = words.rpartition("Caused by: ")[2]
            raise WorkerError("package", f"cannot get {url} as the channel's repodata describes it: {cause}") from error
        raise WorkerError("engine", words) from error


async def fetch(request: Request, log: Log) -> Answer:
    """Brings the packages in ``names`` into the cache.

    ``install`` removes old packages while it still downloads new ones; what cannot be had must fail before that.
    py-rattler fills its cache only on the way to a prefix, so they are linked into one to be thrown away.
    """
    # With the env's Python, for which ``noarch`` packages are linked; no more than its record is looked at.
    names = {*request["names"], "python"}
    records = [r for r in locked_records(request["lock"], request["platform"]) if r.name.normalized in names]
    scratch = Path(request["scratch"])
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        (scratch / "conda-meta").mkdir(parents=True)
        if "python" not in request["names"]:
            for record in Path(request["prefix"], "conda-meta").glob("python-[0-9]*.json"):
                shutil.copy(record, scratch / "conda-meta")
        await link(request, log, records, str(scratch), verify=request["verify"])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {}


async def install(request: Request, log: Log) -> Answer:
    """Makes the packages of an env those of a lock; packages named in ``ignored`` are left alone."""
    import rattler

    records = locked_records(request["lock"], request["platform"])
    await link(
        request,
        log,
        [r for r in records if r.name.normalized not in request["ignored"]],
        request["prefix"],
        # A file that was damaged in place in a hard-linked env is damaged in the cache too.
        verify=bool(request["reinstall"]),
        reinstall_packages=set(request["reinstall"]),
        ignored_packages=set(request["ignored"]),
        # A bug of 0.28.0: it wants the inner objects here.
        requested_specs=[rattler.MatchSpec(spec)._match_spec for spec in request["specs"]],
    )
    log("linked")
    return {}


COMMANDS = {
    "solve": solve,
    "read_lock": read_lock,
    "read_pip": read_pip,
    "add_pip": add_pip,
    "repodata": repodata,
    "fetch": fetch,
    "install": install,
}


def run(request: Request, log: Log) -> Answer:
    """Runs one request.

    Returns ``{"error": {"kind", "message"}}`` where it fails.
    """
    import asyncio

    try:
        return asyncio.run(COMMANDS[request["command"]](request, log))
    except WorkerError as error:
        return {"error": {"kind": error.kind, "message": str(error)}}
    except ImportError as error:
        return {"error": {"kind": "missing", "message": f"{sys.executable} has no usable py-rattler: {error}"}}
    except Exception as error:  # whatever it is, the module has to hear of it
        log(f"failed: {error!r}")
        return {"error": {"kind": "engine", "message": f"{type(error).__name__}: {str(error).strip()}"}}


def main() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what else is printed is no answer
    for line in sys.stdin:
        request: Request = json.loads(line)
        with Path(request["log"]).open("a", encoding="utf-8", buffering=1) as stream:

            def log(line: str, stream: TextIO = stream) -> None:
                stream.write(f"{datetime.now():%H:%M:%S} {line}\n")

            answers.write(json.dumps(run(request, log)) + "\n")
    os._exit(0)


if __name__ == "__main__":
    main()
