# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program on users' computers, in every shell that is here: its command line, what it makes of ssh's words and of
the cluster's answers. Real connections are the business of the scenario molecule/tunnels; ssh is a stand-in here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "tunnels" / "files" / "maskrcnn"
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

# What a cluster does that has one server. $FAKE is the folder with what it is to say.
SSH = """#!/bin/sh
# Every call, one a line, is noted.
printf '%s\\n' "$*" >>"$FAKE/calls"
case " $* " in
*' -V '*) echo "$(cat "$FAKE/version")" >&2; exit 0 ;;
*' -O check '*) test -f "$FAKE/connected" ;;
*' -O forward '*:6006:*) test ! -f "$FAKE/taken" ;;
*' -O '*) ;;
*' -f -N '*)
    while [ "$1" != -E ]; do shift; done
    cat "$FAKE/refusal" >"$2" 2>/dev/null && exit 255
    touch "$FAKE/connected"
    ;;
*maskrcnn-serve*)
    # Shells may talk when they start, and not end their line.
    cat "$FAKE/noise" 2>/dev/null
    cat "$FAKE/answer"
    ;;
esac
"""
# Its page, for the look at the port.
CURL = "#!/bin/sh\ntest ! -f $FAKE/no-page\n"

READY = {
    "host": "gruffalo",
    "id": "tb-2345",
    "kind": "tensorboard",
    "state": "ready",
    "node": "n21-twiki",
    "job": "77",
    "socket": "/tmp/maskrcnn-2001/tb-2345/s",
    "secret": "0123456789abcdef",
}


def answer(code: int = 0, **facts: str) -> str:
    lines = [f"{key}\t{value}\n" for key, value in facts.items()]
    return "".join(["\n@maskrcnn-serve 1\n", *lines, f"@end {code}\n"])


class Workstation:
    def __init__(self, tmp_path: Path, shell: list[str]) -> None:
        self.home, self.fake, self.shell = tmp_path / "home", tmp_path / "fake", shell
        for folder in (self.home, self.fake, tmp_path / "bin"):
            folder.mkdir()
        for name, text in (("ssh", SSH), ("curl", CURL)):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)
        self.say("version", "OpenSSH_9.2p1 Debian-2")
        self.say("answer", answer(**READY))
        self.environ = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "FAKE": str(self.fake),
            "MASKRCNN_LOGIN": "gruffalo",
        }
        # Where ssh's sockets are has to have a short path, and pytest's has not always.
        self.cache = Path("/tmp", f"mw{os.getpid()}")
        self.environ["MASKRCNN_CACHE"] = str(self.cache)

    def say(self, name: str, text: str) -> None:
        (self.fake / name).write_text(text)

    def calls(self) -> str:
        calls = self.fake / "calls"
        return calls.read_text() if calls.exists() else ""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.shell, str(PROGRAM), *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, out, err

    def watch(self, *arguments: str) -> tuple[int, str, str]:
        """Until it shows an address, and then for somebody to leave it."""
        process = self.start(*arguments)
        assert process.stdout is not None
        address = process.stdout.readline()
        if address:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        return process.returncode, address, err


@pytest.fixture(params=SHELLS)
def workstation(request: pytest.FixtureRequest, tmp_path: Path) -> Workstation:
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed here")
    made = Workstation(tmp_path, shell)
    request.addfinalizer(lambda: shutil.rmtree(made.cache, ignore_errors=True))
    return made


# The command line


def test_help_connects_to_nothing(workstation: Workstation) -> None:
    code, out, err = workstation.run("--help")
    assert (code, err) == (0, "")
    for word in ("tensorboard", "jupyter", "attach", "doctor", "--stop-on-exit", "MASKRCNN_LOGIN", "Exit codes"):
        assert word in out
    assert workstation.calls() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["tensorboard"],
        ["tensorboard", "logs", "--port", "none"],
        ["tensorboard", "logs", "--port", "65536"],
        ["tensorboard", "logs", "--port"],
        ["tensorboard", "logs", "--node", "-oProxyCommand=id"],
        ["tensorboard", "logs", "--node", "twiki", "--gpus", "1"],
        ["tensorboard", "logs", "--job", "7", "--time", "1:00"],
        ["tensorboard", "logs", "--job", "x"],
        ["tensorboard", "logs", "--wait=yes"],
        ["tensorboard", "logs", "-p", "1"],
        ["jupyter", "one", "two"],
        ["list", "--port", "1"],
        ["list", "tb-2345"],
        ["logs"],
        ["stop"],
    ],
)
def test_wrong_usage_connects_to_nothing(workstation: Workstation, arguments: list[str]) -> None:
    code, out, err = workstation.run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert "-f -N" not in workstation.calls()


@pytest.mark.parametrize(
    ("name", "value"), [("LOGIN", "-oProxyCommand=id"), ("USER", "a b"), ("ENV", "/a; id"), ("CACHE", '/a"b')]
)
def test_settings_that_ssh_would_take_for_something_else(workstation: Workstation, name: str, value: str) -> None:
    workstation.environ[f"MASKRCNN_{name}"] = value
    assert workstation.run("list")[0] == 2


def test_dry_run_says_all_and_does_nothing(workstation: Workstation) -> None:
    code, out, err = workstation.run(
        "tensorboard",
        "--dry-run",
        "--gpus=1",
        "a=logs/my leaves",
        f"{workstation.home}/x",
        "--",
        "--constraint",
        "it's",
    )
    assert (code, err, workstation.calls()) == (0, "", "")
    assert "maskrcnn-serve tensorboard --gpus=1 a=logs/my leaves ~/x -- --constraint it's" in out
    assert not workstation.cache.exists()


def test_ssh_config_is_included_once(workstation: Workstation) -> None:
    config = workstation.home / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text("Host old\n    User ada")
    for _ in range(2):
        assert workstation.run("ssh-config", "--install")[0] == 0
    assert config.read_text() == "Include crophpc-maskrcnn.conf\nHost old\n    User ada"
    entries = (config.parent / "crophpc-maskrcnn.conf").read_text()
    assert entries == workstation.run("ssh-config")[1]
    assert "ProxyJump gruffalo" in entries


# Connections


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("ada@gruffalo: Permission denied (publickey,keyboard-interactive).", 6, "maskrcnn login"),
        (
            "@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            4,
            "ssh-keygen -R",
        ),
        ("No ED25519 host key is known for gruffalo.\nHost key verification failed.", 6, "does not know the host key"),
        ("ssh: Could not resolve hostname gruffalo: Name or service not known", 4, "MASKRCNN_LOGIN"),
        ("ssh: connect to host gruffalo port 22: Connection timed out", 4, "VPN"),
        ("channel 0: open failed: administratively prohibited: open failed", 7, "AllowTcpForwarding"),
        ("unix_listener: path too long for Unix domain socket", 4, "MASKRCNN_CACHE"),
        ("something \x1b[31mnew", 4, "something [31mnew"),
    ],
)
def test_why_there_is_no_connection(workstation: Workstation, said: str, code: int, words: str) -> None:
    workstation.say("refusal", said)
    found, out, err = workstation.run("list")
    assert (found, out) == (code, "")
    assert words in err
    assert "\x1b" not in err


def test_windows_own_ssh_is_refused(workstation: Workstation) -> None:
    workstation.say("version", "OpenSSH_for_Windows_8.6p1, LibreSSL 3.4.3")
    code, _, err = workstation.run("list")
    assert code == 1
    assert "WSL" in err


def test_what_ssh_is_given_is_for_its_user_alone(workstation: Workstation) -> None:
    assert workstation.watch("tensorboard", "logs", "--node", "twiki", "--no-browser")[0] == 0
    folders = [workstation.cache, *(path for path in workstation.cache.iterdir() if path.is_dir())]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]
    configs = {path.name: path for path in workstation.cache.rglob("*.conf")}
    assert sorted(configs) == ["gruffalo.conf", "twiki.conf"]
    assert "ProxyJump gruffalo" in configs["twiki.conf"].read_text()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in configs.values())


def test_folder_of_somebody_else_is_not_used(workstation: Workstation, tmp_path: Path) -> None:
    workstation.cache.symlink_to(tmp_path)
    try:
        code, _, err = workstation.run("list")
    finally:
        workstation.cache.unlink()
    assert code == 1
    assert "MASKRCNN_CACHE" in err


def test_long_home_has_its_connections_elsewhere(workstation: Workstation) -> None:
    del workstation.environ["MASKRCNN_CACHE"]
    home = workstation.home / ("x" * 120)
    home.mkdir()
    workstation.environ["HOME"] = str(home)
    assert workstation.run("list")[0] == 0
    found = re.search(rf"-F (/tmp/maskrcnn-ssh-{os.getuid()}/\d+)/", workstation.calls())
    assert found
    shutil.rmtree(found[1])


# What the cluster answers


def test_shown_until_it_is_left(workstation: Workstation) -> None:
    workstation.say("noise", "\x1b[32mWelcome to gruffalo!\n@end 3\nquota: 91 %")
    code, address, err = workstation.watch("tensorboard", "logs", "--no-browser")
    assert (code, address) == (0, "http://127.0.0.1:6006/0123456789abcdef/\n")
    assert "maskrcnn attach tb-2345" in err
    assert "Welcome" not in err
    calls = workstation.calls()
    assert "-O forward -L 127.0.0.1:6006:/tmp/maskrcnn-2001/tb-2345/s n21-twiki" in calls
    assert "-O cancel -L 127.0.0.1:6006:" in calls
    assert "0123456789abcdef" not in calls
    assert not list(workstation.cache.rglob("*.html"))


def test_remote_command_is_proof_against_every_login_shell(workstation: Workstation) -> None:
    workstation.watch("tensorboard", "it's $HOME; `id`!", "--no-browser")
    command = next(line for line in workstation.calls().splitlines() if b"it's".hex() in line)
    words = command[command.index("exec ") :].split()
    assert words[1].endswith("/bin/maskrcnn-serve")
    assert "it's $HOME; `id`!" in [bytes.fromhex(word).decode() for word in words[3:]]


def test_next_port_if_one_is_taken(workstation: Workstation) -> None:
    workstation.say("taken", "")
    assert workstation.watch("attach", "tb-2345", "--no-browser")[1].startswith("http://127.0.0.1:6007/")


def test_named_port_that_is_taken(workstation: Workstation) -> None:
    workstation.say("taken", "")
    code, out, err = workstation.run("attach", "tb-2345", "--port", "6006")
    assert (code, out) == (2, "")
    assert "6006" in err


def test_browser_is_given_a_page_without_the_secret_in_its_address(workstation: Workstation, tmp_path: Path) -> None:
    browser = tmp_path / "bin" / "browse"
    browser.write_text('#!/bin/sh\nprintf %s "$1" >$FAKE/address\ncp -p "${1#file://}" $FAKE/page\n')
    browser.chmod(0o755)
    workstation.environ["BROWSER"] = "browse"
    _, address, _ = workstation.watch("attach", "tb-2345")
    assert "0123456789abcdef" not in (workstation.fake / "address").read_text()
    assert f"url={address.strip()}" in (workstation.fake / "page").read_text()
    assert stat.S_IMODE((workstation.fake / "page").stat().st_mode) == 0o600


def test_sockets_are_not_forwarded(workstation: Workstation) -> None:
    workstation.say("no-page", "")
    code, out, err = workstation.run("attach", "tb-2345")
    assert (code, out) == (7, "")
    assert "AllowStreamLocalForwarding" in err


def test_ended_server_shows_its_last_lines(workstation: Workstation) -> None:
    workstation.say(
        "answer", answer(3, **dict(READY, state="ended"), log="Out of memory", error="tb-2345 has ended: it was killed")
    )
    code, _, err = workstation.run("attach", "tb-2345")
    assert code == 3
    assert "| Out of memory" in err


def test_waiting_job_is_left_in_the_queue(workstation: Workstation, tmp_path: Path) -> None:
    workstation.say("answer", answer(5, **dict(READY, state="pending", reason="Priority", start="2030-01-01T10:00:00")))
    # Not two minutes.
    program = tmp_path / "maskrcnn"
    program.write_text(PROGRAM.read_text().replace("PATIENCE=120", "PATIENCE=0"))
    shell = [*workstation.shell, str(program), "attach", "tb-2345"]
    run = subprocess.run(
        shell,
        env=workstation.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 5
    assert "Priority, expected to start at 2030-01-01T10:00:00" in run.stderr
    assert "maskrcnn stop tb-2345" in run.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node", "-oProxyCommand=id"),
        ("socket", "/tmp/a b"),
        ("socket", "0.0.0.0:22"),
        ("secret", '"><script>'),
        ("id", "tb-../."),
        ("kind", "other"),
        ("job", "1 2"),
    ],
)
def test_answer_that_makes_no_sense(workstation: Workstation, key: str, value: str) -> None:
    workstation.say("answer", answer(**dict(READY, **{key: value})))
    assert workstation.run("attach", "tb-2345")[:2] == (1, "")
    assert "-O forward" not in workstation.calls()


def test_environment_that_is_not_there(workstation: Workstation) -> None:
    workstation.say("answer", "tcsh: /x/bin/maskrcnn-serve: Command not found.\nbash: no: No such file or directory\n")
    code, _, err = workstation.run("list")
    assert code == 8
    assert "MASKRCNN_ENV" in err


def test_list_as_json(workstation: Workstation) -> None:
    workstation.say("answer", answer(host="gruffalo", json='[{"id": "tb-2345"}]'))
    assert workstation.run("list", "--json")[:2] == (0, '[{"id": "tb-2345"}]\n')
