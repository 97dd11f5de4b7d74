# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The cluster's side of tunnels: records, folders, servers that start, end and are killed. Slurm is a stand-in here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles" / "tunnels" / "files"
Record = dict[str, Any]

# As much of TensorBoard as tunnel_servers.py uses: 1.15's, which does not know load_fast, on the standard library.
TENSORBOARD = """
import http.server, os, socket, socketserver
from types import SimpleNamespace
version = SimpleNamespace(VERSION="stand-in")

def setup_environment():
    pass

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == self.server.flags["path_prefix"] + "/" else 404)
        self.end_headers()
        self.wfile.write(self.server.flags["logdir"].encode())
    def log_message(self, *_):
        print("GET", self.path, flush=True)

class WerkzeugServer(http.server.HTTPServer):
    address_family = socket.AF_UNIX
    def __init__(self, flags):
        self.flags = flags
        super().__init__(flags["host"][len("unix://"):], Handler)

class TensorBoard:
    def __init__(self, server_class):
        self.server_class = server_class
    def configure(self, **flags):
        if "load_fast" in flags:
            raise ValueError("Unknown TensorBoard flag: load_fast")
        if "broken" in flags["logdir"]:
            raise SystemExit(7)
        self.flags = flags
    def _make_server(self):
        return self.server_class(self.flags)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder is what users are given
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.syspath_prepend(str(FILES))
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def state(home: Path) -> types.ModuleType:
    return importlib.import_module("tunnel_state")


@pytest.fixture
def where(home: Path) -> types.ModuleType:
    return importlib.import_module("tunnel_where")


@pytest.fixture
def store(state: types.ModuleType) -> Any:
    return state.Store()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets: pytest's own has too long a path."""
    folder = Path("/tmp", f"t{os.getpid()}")
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("MASKRCNN_SOCKET_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(tmp_path: Path, sockets: Path) -> Iterator[Callable[[Record], subprocess.Popen[bytes]]]:
    """Starts what a job would, with the stand-in for TensorBoard."""
    package = tmp_path / "packages" / "tensorboard"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "program.py").write_text(TENSORBOARD)
    programs = shutil.copytree(FILES, tmp_path / "programs")
    (programs / "settings.json").write_text(json.dumps({"socket_dir": "/nowhere"}))
    started: list[subprocess.Popen[bytes]] = []

    def start(record: Record) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, programs / "tunnel_cli.py", "run", record["id"]],
                env=dict(os.environ, PYTHONPATH=str(package.parent)),
                stdout=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(200):
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it never came true")


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A program that prints a text."""
    program = tmp_path / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{text}TEXT\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def get(path: str, what: str) -> tuple[int, bytes]:
    servers = importlib.import_module("tunnel_servers")
    connection = servers.Connection(path, 5)
    connection.request("GET", what)
    answer = connection.getresponse()
    return answer.status, answer.read()


# Records


def test_record_and_log_are_for_their_user_alone(store: Any, home: Path) -> None:
    record = store.new("tensorboard", logdirs=[["", "/logs"]])
    folder = home / ".local" / "state" / "crophpc-maskrcnn"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for ending in ("json", "log"):
        assert stat.S_IMODE((folder / f"{record['id']}.{ending}").stat().st_mode) == 0o600
    assert store.read(record["id"])["secret"] == record["secret"]
    assert store.all()[0]["id"] == record["id"]


def test_end_forgets_the_secret(store: Any) -> None:
    record = store.new("jupyter")
    secret = record["secret"]
    store.end(record, "because")
    assert secret not in (store.path / f"{record['id']}.json").read_text()


@pytest.mark.parametrize("name", ["tb-../x", "../../x", "tb-abcde", ""])
def test_odd_ids_are_refused(store: Any, state: types.ModuleType, name: str) -> None:
    with pytest.raises(state.TunnelError):
        store.read(name)


def test_hostile_records_are_refused_and_left_out(store: Any, state: types.ModuleType, tmp_path: Path) -> None:
    good = store.new("tensorboard")
    text = (store.path / f"{good['id']}.json").read_text()
    (tmp_path / "elsewhere").write_text(text.replace(good["id"], "tb-link"))
    (store.path / "tb-link.json").symlink_to(tmp_path / "elsewhere")
    (store.path / "tb-open.json").write_text(text.replace(good["id"], "tb-open"))
    (store.path / "tb-open.json").chmod(0o644)
    (store.path / "tb-half.json").write_text(text[:40])
    os.mkfifo(store.path / "tb-fifo.json", 0o600)
    for name in ("tb-link", "tb-open", "tb-half", "tb-fifo"):
        with pytest.raises(state.TunnelError):
            store.read(name)
    assert [record["id"] for record in store.all()] == [good["id"]]


def test_folder_that_is_a_link_is_refused(state: types.ModuleType, home: Path, tmp_path: Path) -> None:
    parent = home / ".local" / "state"
    parent.mkdir(parents=True)
    (parent / "crophpc-maskrcnn").symlink_to(tmp_path)
    with pytest.raises(state.TunnelError, match="is a link"):
        state.Store()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_folders_of_others(state: types.ModuleType, tmp_path: Path, sockets: Path) -> None:
    os.chown(sockets, 12345, 12345)
    with pytest.raises(state.TunnelError, match="others"):
        state.sockets_folder(str(sockets))
    os.chown(sockets, 0, 0)
    squatted = sockets / f"maskrcnn-{os.geteuid()}"
    squatted.mkdir()
    os.chown(squatted, 12345, 12345)
    taken_instead = state.sockets_folder(str(sockets))
    assert taken_instead != squatted
    assert stat.S_IMODE(taken_instead.stat().st_mode) == 0o700
    with pytest.raises(state.TunnelError, match="not yours"):
        state.remove_folder(squatted)


def test_what_ended_long_ago_is_forgotten(store: Any) -> None:
    record = store.new("tensorboard")
    store.end(record, "because")
    path = store.path / f"{record['id']}.json"
    os.utime(path, (0, 0))
    store.new("jupyter")
    assert not path.exists()
    assert not path.with_suffix(".log").exists()


# Sockets


def test_folder_for_sockets_stays_the_users_own(state: types.ModuleType, sockets: Path) -> None:
    path = state.socket_folder("tb-2345", str(sockets))
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o700, 0o700]
    (path / "s").touch()
    assert list(state.socket_folder("tb-2345", str(sockets)).iterdir()) == []  # of a job that is started again


def test_long_paths_are_refused_in_time(state: types.ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with pytest.raises(state.TunnelError, match="too long") as error:
        state.sockets_folder(str(folder))
    assert "MASKRCNN_SOCKET_DIR" in error.value.hint


def test_folder_that_others_can_change_is_refused(state: types.ModuleType, sockets: Path) -> None:
    sockets.chmod(0o777)
    with pytest.raises(state.TunnelError, match="others"):
        state.sockets_folder(str(sockets))


# Servers


def test_server_from_start_to_end(store: Any, run: Any, sockets: Path, tmp_path: Path) -> None:
    (tmp_path / "logs, all").mkdir()
    record = store.new("tensorboard", logdirs=[["", str(tmp_path / "logs, all")]])
    process = run(record)
    ready = until(lambda: (now := store.read(record["id"]))["state"] == "ready" and now)
    path = Path(ready["socket"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert get(str(path), "/")[0] == 404
    assert get(str(path), f"/{record['secret']}/") == (200, str(tmp_path / "logs, all").encode())
    arguments = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert record["id"] in arguments
    assert record["secret"] not in arguments
    process.terminate()
    said = process.communicate()[0].decode()
    assert process.returncode == 0
    assert record["secret"] not in said
    assert "[secret]" in said
    assert store.read(record["id"])["state"] == "ended"
    assert not path.parent.exists()


def test_several_folders_by_name(store: Any, run: Any, tmp_path: Path) -> None:
    logdirs = [["a", str(tmp_path / "one:1")], ["b", str(tmp_path / "two")]]
    record = store.new("tensorboard", logdirs=logdirs)
    run(record)
    ready = until(lambda: (now := store.read(record["id"]))["state"] == "ready" and now)
    shown = Path(get(ready["socket"], f"/{record['secret']}/")[1].decode())
    assert {link.name: str(link.readlink()) for link in shown.iterdir()} == dict(logdirs)


def test_killed_server_is_noticed(store: Any, run: Any) -> None:
    record = store.new("tensorboard", logdirs=[["", "/logs"]])
    process = run(record)
    until(lambda: store.read(record["id"])["state"] == "ready")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait(10) == 3
    assert "signal 9" in store.read(record["id"])["reason"]


def test_server_ends_with_whoever_watches_it(store: Any, run: Any, where: types.ModuleType) -> None:
    record = store.new("tensorboard", logdirs=[["", "/logs"]])
    process = run(record)
    ready = until(lambda: (now := store.read(record["id"]))["state"] == "ready" and now)
    child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    process.kill()
    process.communicate()
    until(lambda: not Path("/proc", child).exists())
    assert where.refresh(store, store.all())[0]["state"] == "ended"
    assert not Path(ready["socket"]).parent.exists()


def test_server_that_does_not_start(store: Any, run: Any) -> None:
    record = store.new("tensorboard", logdirs=[["", "/broken"]])
    assert run(record).wait(20) == 3
    assert "exit code 7" in store.read(record["id"])["reason"]


def test_stop_here(store: Any, run: Any, where: types.ModuleType) -> None:
    record = store.new("tensorboard", logdirs=[["", "/logs"]])
    process = run(record)
    until(lambda: store.read(record["id"])["state"] == "ready")
    # Else it would be a zombie, which stop() takes for gone as well.
    where.stop(store, store.read(record["id"]))
    assert process.wait(10) == 0
    assert store.read(record["id"])["reason"] == "it was told to end"


def test_processes_of_another_start_of_the_machine_are_not_touched(
    store: Any, where: types.ModuleType, state: types.ModuleType
) -> None:
    record = store.new("tensorboard")
    record.update(state.process(os.getpid()), state="ready", boot="another")
    store.write(record)
    assert not state.runs_here(record)
    where.stop(store, store.read(record["id"]))  # would end this test
    assert store.read(record["id"])["state"] == "ended"


# Slurm, by what squeue says


@pytest.mark.parametrize(
    "case",
    [
        ("pending", "", "PENDING||Priority|2030-01-01T10:00:00", "pending"),
        ("pending", "", "RUNNING|n21-twiki|None|2030-01-01T10:00:00", "starting"),
        ("ready", "", "RUNNING|n21-twiki|None|N/A", "ready"),
        ("ready", "", "CANCELLED|n21-twiki|None|N/A", "ended"),
        ("pending", "", "CANCELLED||None|N/A", "ended"),
        # Its job was requeued, waits, has just been started again.
        ("ended", "it was told to end", "PENDING||BeginTime|N/A", "pending"),
        ("ended", "it was told to end", "RUNNING|n21-twiki|None|N/A", "starting"),
        ("ended", "it was told to end", "COMPLETING|n21-twiki|None|N/A", "ended"),
        ("ended", "it was killed with signal 9", "RUNNING|n21-twiki|None|N/A", "ended"),
    ],
)
def test_state_of_a_job_is_that_of_its_server(
    store: Any,
    where: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str, str],
) -> None:
    was, reason, says, expected = case
    fake(tmp_path, monkeypatch, "squeue", f"  77|{says}\n  78|FAILED||None|N/A\n")
    record = store.new("tensorboard")
    record.update(state=was, reason=reason, job="77", node="n21-twiki")
    store.write(record)
    found = where.refresh(store, store.all())[0]
    assert found["state"] == expected
    assert store.read(record["id"])["state"] == (expected if expected == "ended" else was)


def test_job_that_slurm_has_forgotten(
    store: Any, where: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "squeue", "")
    record = store.new("tensorboard")
    store.write(dict(record, state="ready", job="77", node="n21-twiki"))
    assert where.refresh(store, store.all())[0]["state"] == "ended"


def test_slurm_that_does_not_answer_ends_nothing(
    store: Any, where: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    record = store.new("tensorboard")
    store.write(dict(record, state="ready", job="77", node="n21-twiki"))
    assert where.refresh(store, store.all())[0]["state"] == "ready"


def test_silence_from_another_node_is_said(store: Any, where: types.ModuleType) -> None:
    record = store.new("tensorboard")
    store.write(dict(record, state="ready", node="another"))
    assert where.refresh(store, store.all())[0]["state"] == "ready"
    os.utime(store.path / f"{record['id']}.json", (0, 0))
    assert where.refresh(store, store.all())[0]["state"] == "silent"


def test_job_is_handed_in_without_a_secret(
    store: Any, where: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "sbatch", "")
    (tmp_path / "bin" / "sbatch").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat >{tmp_path}/script\necho "77;cluster"\n'
    )
    record = store.new("tensorboard")
    where.start_job(store, record, {"partition": "gpu", "gpus": "", "time": "1:00"}, ["--constraint=a b"])
    arguments = (tmp_path / "arguments").read_text()
    assert store.read(record["id"])["job"] == "77"
    assert {"--partition=gpu", "--time=1:00", "--constraint=a b"} <= set(arguments.splitlines())
    assert "gpus" not in arguments
    assert record["secret"] not in arguments + (tmp_path / "script").read_text()


# Log folders


def test_names_of_several_folders(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logdirs = importlib.import_module("tunnel_logdirs")
    for name in ("a/logs", "b/logs", "c=1"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert logdirs.folders(["a/logs"]) == [["", f"{tmp_path}/a/logs"]]
    found = logdirs.folders(["a/logs", "b/logs", "mine=a", "c=1"])
    assert [name for name, _ in found] == ["logs", "logs-2", "mine", "c=1"]
    assert logdirs.folders(["~"]) == [["", str(home)]]


def test_folders_that_may_have_been_meant(home: Path, tmp_path: Path, state: types.ModuleType) -> None:
    logdirs = importlib.import_module("tunnel_logdirs")
    (tmp_path / "work" / "logs" / "leaves20301201").mkdir(parents=True)
    (tmp_path / "work" / "logs" / "leaves20301201" / "events.out.tfevents.1.n").touch()
    with pytest.raises(state.TunnelError) as error:
        logdirs.folders([str(tmp_path / "work" / "log" / "leaves")])
    assert f"{tmp_path}/work/logs/leaves20301201" in error.value.hint
    assert error.value.code == 2


# The command line


SITE = {
    "socket_dir": "/tmp",
    "login_host": "gruffalo",
    "partition": "",
    "gpu_partition": "gpu",
    "gpu_types": ["v100", "rtx8000"],
    "time": "8:00:00",
    "mem": {"tensorboard": "2G", "jupyter": "4G"},
}


def serve(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    programs = home / "programs"
    if not programs.exists():
        shutil.copytree(FILES, programs)
        (programs / "settings.json").write_text(json.dumps(SITE))
    command = [sys.executable, programs / "tunnel_cli.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that are there, as far as one looks before a job is handed in."""
    for name in ("tensorboard", "notebook"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


def test_porcelain_is_marked_and_whole(home: Path, store: Any) -> None:
    store.new("tensorboard", logdirs=[["", "/logs\twith\x1b[31mtricks\n"]])
    lines = serve(home, "list", "--porcelain").stdout.splitlines()
    begin = lines.index("@maskrcnn-serve 1")
    assert lines[-1] == "@end 0"
    assert lines[begin + 1] == f"host\t{socket.gethostname().split('.')[0]}"
    assert not any("\x1b" in line for line in lines)
    assert json.loads(next(line for line in lines if line.startswith("json\t"))[5:])[0]["kind"] == "tensorboard"


def test_secret_is_shown_by_show_alone(home: Path, store: Any) -> None:
    record = store.new("tensorboard", logdirs=[["", "/logs"]])
    for arguments in (["list", "--all"], ["list", "--json"], ["list", "--porcelain"], ["show", record["id"]]):
        assert record["secret"] not in serve(home, *arguments).stdout
    assert f"secret\t{record['secret']}" in serve(home, "show", record["id"], "--porcelain").stdout


def test_hexadecimal_command_line(home: Path) -> None:
    arguments = [text.encode().hex() or "-" for text in ("show", "--porcelain", "tb-ä b")]
    run = serve(home, "--hex", *arguments)
    assert run.returncode == 2
    assert "error\ttb-ä b is no server's ID" in run.stdout


@pytest.mark.usefixtures("installed")
def test_without_slurm_it_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    run = serve(home, "tensorboard", str(tmp_path))
    assert run.returncode == 8
    assert "--node" in run.stderr


@pytest.mark.usefixtures("installed")
def test_job_by_the_sites_settings(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(tmp_path, monkeypatch, "squeue", "  77|PENDING||Priority|N/A\n")
    fake(tmp_path, monkeypatch, "sbatch", "")
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/arguments\necho 77\n')
    assert serve(home, "tensorboard", str(tmp_path)).returncode == 5
    first = (tmp_path / "arguments").read_text().splitlines()
    assert {"--time=8:00:00", "--mem=2G"} <= set(first)
    assert not any(argument.startswith(("--partition", "--gpus")) for argument in first)
    run = serve(home, "jupyter", "--porcelain", "--gpus=1", "--mem=9G", str(tmp_path), "--", "--comment=a b")
    assert {"--partition=gpu", "--gpus=1", "--mem=9G", "--comment=a b"} <= set(
        (tmp_path / "arguments").read_text().splitlines()
    )
    assert {"state\tpending", "job\t77", "@end 5"} <= set(run.stdout.splitlines())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("gpus", ["a100", "a100:2"])
def test_gpus_on_which_it_does_not_compute_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: str
) -> None:
    fake(tmp_path, monkeypatch, "sbatch", "77")
    run = serve(home, "jupyter", "--gpus", gpus, str(tmp_path))
    assert run.returncode == 2
    assert "v100 and rtx8000" in run.stderr
    assert serve(home, "list").stdout.startswith("No servers")


def test_an_environment_beside_it_that_does_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FILES))
    cli = importlib.import_module("tunnel_cli")
    for name, text in (("broken", "{"), ("modern", '{"gpu_types": ["a100"]}')):
        (tmp_path / name / cli.SETTINGS).parent.mkdir(parents=True)
        (tmp_path / name / cli.SETTINGS).write_text(text)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "here"))
    with pytest.raises(cli.TunnelError) as caught:
        cli.refuse_unfit("a100:1", {"gpu_types": ["v100"]})
    assert str(tmp_path / "modern") in caught.value.hint
    cli.refuse_unfit("V_100:1", {"gpu_types": ["v100"]})
    cli.refuse_unfit("2", {"gpu_types": ["v100"]})
    cli.refuse_unfit("a100", {"gpu_types": []})


@pytest.mark.parametrize("package", ["tensorboard", "notebook"])
def test_missing_package_is_said(home: Path, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here")
    run = serve(home, *{"tensorboard": ["tensorboard", "/"], "notebook": ["jupyter"]}[package], "--here")
    assert run.returncode == 8
    assert f"{package} is not installed in {sys.prefix}" in run.stderr
