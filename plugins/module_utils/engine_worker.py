# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one place that calls py-rattler.

``engine.py`` runs this file as a program with the engine's own Python: a request as JSON on standard
input, the answer as JSON in the file that the request names, progress in its log file.
py-rattler can crash while the interpreter shuts down, after all work is done; therefore the answer goes
to a file and the process leaves with ``os._exit``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
        "url": record.url,
        "sha256": record.sha256.hex() if record.sha256 else None,
        "size": record.size or 0,
    }


def virtual_packages(overrides: dict[str, str]) -> list[Any]:
    """What the machine has (``__glibc``, ``__cuda``, ...), with the given versions in their place."""
    from rattler import GenericVirtualPackage, PackageName, Version, VirtualPackage  # noqa: PLC0415
    from rattler.package import BuildString  # noqa: PLC0415

    found = [package.into_generic() for package in VirtualPackage.detect()]
    kept = [package for package in found if package.name.normalized not in overrides]
    return kept + [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in overrides.items()
        if version
    ]


async def solve(request: Request, log: Log) -> Answer:
    """Solves ``specs`` against ``channels`` and writes the solution as a lock file."""
    import rattler  # noqa: PLC0415
    from rattler.exceptions import GatewayError, InvalidMatchSpecError, SolverError  # noqa: PLC0415
    from rattler.repo_data.gateway import SourceConfig  # noqa: PLC0415

    specs = []
    for spec in request["specs"]:
        try:
            specs.append(rattler.MatchSpec(spec, strict=True))
        except InvalidMatchSpecError as error:
            raise WorkerError("spec", f"{spec!r} is not a conda match spec: {error}") from error
    channels = channel_urls(request["channels"])
    newest = request["exclude_newer"]
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
            virtual_packages=virtual_packages(request["virtual_packages"]),
            channel_priority=getattr(rattler.ChannelPriority, request["channel_priority"].capitalize()),
            exclude_newer=datetime.fromisoformat(newest).astimezone(UTC) if newest else None,
        )
    except SolverError as error:
        raise WorkerError("unsatisfiable", str(error).strip()) from error
    except GatewayError as error:
        raise WorkerError("channel", str(error).strip()) from error
    write_lock(Path(request["lock"]), channels, request["platform"], records)
    return {"packages": [describe(record) for record in records]}


def installed(prefix: str) -> list[Any]:
    """The records of an env; none where there is no env yet."""
    import rattler  # noqa: PLC0415

    meta = Path(prefix, "conda-meta")
    return [rattler.PrefixRecord.from_path(path) for path in sorted(meta.glob("*.json"))]


def write_lock(path: Path, channels: list[str], platform: str, records: list[Any]) -> None:
    """Writes the ``pixi.lock`` format; records in order of name so that equal solutions give equal files."""
    from rattler.lock import LockChannel, LockFile, LockPlatform  # noqa: PLC0415

    target = LockPlatform(platform)
    lock = LockFile([target])
    lock.set_channels("default", [LockChannel(url) for url in channels])
    for record in sorted(records, key=lambda r: r.name.normalized):
        lock.add_conda_package("default", target, record)
    lock.to_path(path)


def locked_records(path: str, platform: str) -> list[Any]:
    """The conda packages of a lock file for one platform."""
    from rattler.lock import LockFile  # noqa: PLC0415

    try:
        lock = LockFile.from_path(Path(path))
    except Exception as error:  # py-rattler raises several, none of them documented
        raise WorkerError("lock", f"not a lock file in the pixi.lock format: {str(error).strip()}") from error
    environment = lock.environment("default")
    platforms = {p.name: p for p in lock.platforms()}
    records = None
    if environment and platform in platforms:
        records = environment.conda_repodata_records_for_platform(platforms[platform])
    if not records:
        raise WorkerError("lock", f"the lock has no packages for {platform}, only for {', '.join(sorted(platforms))}")
    return list(records)


async def read_lock(request: Request, log: Log) -> Answer:
    """What a lock file asks for."""
    return {"packages": [describe(record) for record in locked_records(request["lock"], request["platform"])]}


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


async def missing_offline(cache: Any, records: list[Any]) -> list[str]:
    """The packages that would have to come over the network."""
    index = await cache.index()
    return [r.file_name for r in records if not r.url.startswith("file:") and not index.contains_record(r)]


async def install(request: Request, log: Log) -> Answer:
    """Makes the packages of an env those of a lock; packages named in ``ignored`` are left alone."""
    import rattler  # noqa: PLC0415
    from rattler.package_cache import PackageCache, ValidationMode  # noqa: PLC0415

    records = locked_records(request["lock"], request["platform"])
    # A repair reads every cached file: a file that was damaged in place in a hard-linked env is damaged there too.
    mode = ValidationMode.full() if request["reinstall"] else ValidationMode.fast()
    cache = PackageCache.new_layered([request["package_cache"]], validation_mode=mode)
    wanted = [r for r in records if r.name.normalized not in request["ignored"]]
    if request["offline"] and (missing := await missing_offline(cache, wanted)):
        raise WorkerError("offline", f"not in the package cache {request['package_cache']}: {', '.join(missing)}")
    await rattler.install(
        wanted,
        request["prefix"],
        reinstall_packages=set(request["reinstall"]),
        ignored_packages=set(request["ignored"]),
        package_cache=cache,
        # A bug of 0.28.0: it wants the inner objects here.
        requested_specs=[rattler.MatchSpec(spec)._match_spec for spec in request["specs"]],
        reporter=Reporter(log),
    )
    log("linked")
    return {}


COMMANDS = {"solve": solve, "read_lock": read_lock, "install": install}


def run(request: Request, log: Log) -> Answer:
    """Runs one request.

    Returns ``{"error": {"kind", "message"}}`` where it fails.
    """
    try:
        return asyncio.run(COMMANDS[request["command"]](request, log))
    except WorkerError as error:
        return {"error": {"kind": error.kind, "message": str(error)}}
    except Exception as error:  # whatever it is, the module has to hear of it
        log(f"failed: {error!r}")
        return {"error": {"kind": "engine", "message": f"{type(error).__name__}: {str(error).strip()}"}}


def main() -> None:
    """Reads the request, runs it, writes the answer in one rename."""
    request: Request = json.load(sys.stdin)
    with Path(request["log"]).open("a", encoding="utf-8", buffering=1) as stream:
        answer = run(request, lambda line: print(f"{datetime.now():%H:%M:%S} {line}", file=stream))
    part = Path(request["answer"] + ".part")
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(request["answer"])
    os._exit(0)


if __name__ == "__main__":
    main()
