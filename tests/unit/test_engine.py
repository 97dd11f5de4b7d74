# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine's interface, with stand-ins for the process behind it; the parts of the worker that need no py-rattler."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import engine_worker
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine import Engine, EngineError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine_worker import (
    DEFAULTS,
    Reporter,
    WorkerError,
    channel_urls,
    check_channels,
    check_local_archives,
    newest,
)

StandIn = Callable[[str], Engine]
PACKAGE = '{"name": "aaa", "version": "1", "build": "0", "size": 3}'
ANSWER = f"read -r && echo '{{\"packages\": [{PACKAGE}]}}'"


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """An engine whose Python is a shell script."""

    def make(commands: str) -> Engine:
        script = tmp_path / "stand-in-engine"
        script.write_text(f"#!/bin/bash\n{commands}\n")
        script.chmod(0o755)
        return Engine(script, tmp_path, tmp_path / "pkgs", offline=False, platform="linux-64")

    return make


LOCK = Path("/some.lock")


def test_answer_counts_and_not_the_end(stand_in: StandIn) -> None:
    engine = stand_in(f"{ANSWER}; kill -SEGV $$")
    [wanted] = engine.read_lock(LOCK, LOCK)
    assert (str(wanted.package), wanted.size) == ("aaa 1 0", 3)
    engine.close()


def test_one_process_answers_until_it_is_told_to_end(stand_in: StandIn, tmp_path: Path) -> None:
    engine = stand_in(f"echo started >>'{tmp_path}/log'; while {ANSWER}; do :; done; echo ended >>'{tmp_path}/log'")
    for _again in range(2):
        engine.read_lock(LOCK, LOCK)
    engine.close()
    assert (tmp_path / "log").read_text().split() == ["started", "ended"]
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    engine.read_lock(LOCK, LOCK)
    engine.close()
    assert (tmp_path / "log").read_text().split() == ["started", "ended"] * 2


@pytest.mark.parametrize("name", ["nothing", "folder", "text"])
def test_no_engine_is_noticed_before_it_is_started(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").touch(0o644)
    with pytest.raises(EngineError, match=f"(?s){tmp_path / name}.*conda_engine"):
        Engine(tmp_path / name, tmp_path, tmp_path / "pkgs", offline=False, platform="linux-64")


def test_error_gets_its_hint(stand_in: StandIn) -> None:
    answer = '{"error": {"kind": "channel", "message": "cannot read c"}}'
    with pytest.raises(EngineError, match=r"(?s)cannot read c.*mirror"):
        stand_in(f"read -r; echo '{answer}'").read_lock(LOCK, LOCK)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -KILL $$", "memory"),
        ("echo 'cannot open shared object' >&2; exit 127", "(?s)status 127.*shared object"),
        ("exit 0", "no answer"),
        ("read -r; echo -n '{\"packages\": []}'", "no answer"),
    ],
)
def test_no_answer(stand_in: StandIn, commands: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        stand_in(commands).read_lock(LOCK, LOCK)


def test_lock_is_handed_on(stand_in: StandIn, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    engine = stand_in(f"readlink /proc/$$/fd/{fd} >'{tmp_path}/seen'; {ANSWER}")
    engine.lock_fd = fd
    engine.read_lock(LOCK, LOCK)
    os.close(fd)
    assert (tmp_path / "seen").read_text().strip() == str(tmp_path / "lock")


def test_channels() -> None:
    found = channel_urls(["conda-forge", "https://host/c", "/a b/channel", "defaults", "conda-forge/label/dev"])
    assert found == ["conda-forge", "https://host/c", "file:///a%20b/channel", *DEFAULTS, "conda-forge/label/dev"]


@pytest.mark.parametrize("channel", ["", "./c", "../c", "~/c", "conda forge"])
def test_no_channels(channel: str) -> None:
    with pytest.raises(WorkerError, match="channel"):
        channel_urls([channel])


def test_folders_that_are_channels_or_not(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="does not exist"):
        check_channels([(tmp_path / "no where").as_uri()])
    with pytest.raises(WorkerError, match="repodata"):
        check_channels([tmp_path.as_uri()])
    (tmp_path / "a b" / "noarch").mkdir(parents=True)
    (tmp_path / "a b" / "noarch" / "repodata.json.zst").touch()
    check_channels(["conda-forge", "https://host/c", (tmp_path / "a b").as_uri()])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-12-31", (2024, 1, 1)),
        ("2023-12-31T10:00", (2023, 12, 31, 10)),
        ("2023-12-31T10:00:00Z", (2023, 12, 31, 10)),
        ("2023-12-31T10:00:00+02:00", (2023, 12, 31, 8)),
    ],
)
def test_newest(text: str, moment: tuple[int, ...]) -> None:
    assert newest(text) == datetime(*moment, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]  # noqa: UP017


def test_no_newest() -> None:
    assert newest(None) is None
    with pytest.raises(WorkerError, match="tuesday"):
        newest("last tuesday")


def test_local_archives_are_compared(tmp_path: Path) -> None:
    class Record:
        url = (tmp_path / "aaa.conda").as_uri()
        sha256 = bytes.fromhex("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")

    check_local_archives([Record])  # what is not there is told of in other words
    (tmp_path / "aaa.conda").write_text("hello")
    check_local_archives([Record])
    (tmp_path / "aaa.conda").write_text("hullo")
    with pytest.raises(WorkerError, match=r"aaa\.conda"):
        check_local_archives([Record])


def test_log_of_an_installation() -> None:
    lines: list[str] = []
    reporter = Reporter(lines.append)
    reporter.on_transaction_start(2)
    assert reporter.on_some_event_of_a_later_version("x", 1) == 0
    reporter.on_populate_cache_start(7, "aaa")
    reporter.on_download_start(7)
    reporter.on_link_start(0, "aaa")
    assert lines == ["downloading aaa", "linking aaa (1 of 2)"]
    with pytest.raises(AttributeError):
        reporter.something_else  # noqa: B018


def test_every_failure_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def without_rattler(_request: Any, _log: Any) -> Any:
        raise ImportError("No module named 'rattler'")

    async def broken(_request: Any, _log: Any) -> Any:
        raise RuntimeError("what nobody thought of")

    commands = {"without_rattler": without_rattler, "broken": broken}
    monkeypatch.setattr(engine_worker, "COMMANDS", commands)
    answers = [engine_worker.run({"command": name}, lambda _line: None) for name in commands]
    assert [answer["error"]["kind"] for answer in answers] == ["missing", "engine"]
    assert "what nobody thought of" in answers[1]["error"]["message"]
