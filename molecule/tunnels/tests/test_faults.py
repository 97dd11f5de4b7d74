"""What goes wrong between a laptop and a cluster: each time something sensible happens, and it is said what."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import (
    ADA,
    BIN,
    CODE_WANTED,
    CONTROL_C,
    ENDED,
    FOLDER,
    GRACE,
    LOGS,
    MISSING,
    NODE,
    NOT_ALLOWED,
    UNREACHABLE,
    URL,
    USAGE,
    WAITS,
    Person,
    Watch,
    container,
    on,
    traces,
    wait_until,
)

ON_NODE = f"tensorboard --no-browser --node twiki {LOGS}"
IN_JOB = f"tensorboard --no-browser {LOGS}"
LONG = "/".join(["a-folder-with-a-name-of-thirty"] * 4)
PACKAGES = f"{BIN % ADA}/../lib/python3.6/site-packages"
# It asks the cluster twice a minute how a server is.
NOTICED = 60


@contextmanager
def sshd_with(machine: str, setting: str) -> Iterator[None]:
    """A machine whose admins have set something else; new connections go by it."""
    file = "/etc/ssh/sshd_config.d/a-test.conf"
    reload = "kill -HUP $(cat /run/sshd.pid) && sleep 0.5"
    on(machine).check_output(f"echo {setting} >{file} && {reload}")
    try:
        yield
    finally:
        on(machine).check_output(f"rm {file} && {reload}")


@pytest.fixture
def taken(ada: Person) -> int:
    """The port that TensorBoard would be shown at, used by something else."""
    ada.opens("exec python3 -m http.server --bind 127.0.0.1 6006")
    assert wait_until(lambda: ada.desk.run("curl --silent 127.0.0.1:6006").succeeded)
    return 6006


def job_of(ada: Person) -> str:
    [server] = ada.servers()
    return str(server["job"])


def test_a_port_that_is_taken(ada: Person, taken: int) -> None:
    status, said = ada.runs(f"maskrcnn {ON_NODE} --port {taken}")
    assert status == USAGE and str(taken) in said, said
    assert ada.servers() == [], "it is said before anything is started"
    watch = ada.watches(ON_NODE)
    assert watch.port == taken + 1 and watch.answers()
    # A second one beside it, at a port that is named.
    assert ada.watches(f"{ON_NODE} --port 7007").port == 7007


def test_servers_that_are_ended(ada: Person) -> None:
    """By Slurm in several ways, and by something that leaves them no time; who watches hears of it."""
    before = traces(ADA)["twiki"]
    watches = [ada.watches(IN_JOB) for _ in range(4)]
    killed, *cancelled = ada.servers()
    signals = ["", "--batch --signal=TERM", "--full --signal=KILL"]
    for server, signal in zip(cancelled, signals, strict=True):
        on("gruffalo", ADA).check_output(f"scancel {signal} {server['job']}")
    on("twiki").check_output(
        f"kill -KILL $(ps -u {ADA} -o pid=,args= | awk '/tunnel_servers.py {killed['id']}/ {{print $1}}')"
    )
    for watch in watches:
        assert watch.terminal.ends(NOTICED) == ENDED, watch.terminal.said
    assert ada.servers() == []
    listed = ada.does("maskrcnn list --all")
    assert all(server["id"] in listed for server in (killed, *cancelled))
    # Who was killed could not tidy up. The next one on that node does.
    after = ada.watches(f"{ON_NODE} --stop-on-exit")
    after.terminal.press(CONTROL_C)
    assert after.terminal.ends() == 0, after.terminal.said
    ada.runs("maskrcnn logout")
    assert wait_until(lambda: traces(ADA)["twiki"] == before), (before, traces(ADA))


def test_a_job_that_is_put_back_into_the_queue(ada: Person) -> None:
    watch = ada.watches(IN_JOB)
    job = job_of(ada)
    on("gruffalo").check_output(f"scontrol requeue {job}")
    watch.terminal.shows("pending", NOTICED)
    # Slurm waits for two minutes.
    on("gruffalo").check_output(f"scontrol update jobid={job} starttime=now")
    assert wait_until(lambda: len(URL.findall(watch.terminal.said)) > 1, 60), watch.terminal.said
    assert Watch(ada, watch.terminal).answers()
    assert job_of(ada) == job


def test_a_job_that_starts_later(ada: Person) -> None:
    first = on("gruffalo", GRACE).check_output("sbatch --parsable --exclusive --output=/dev/null --wrap 'sleep 600'")
    try:
        # Ada leaves it in the queue,
        one = ada.opens(f"exec maskrcnn {IN_JOB}")
        one.shows("is pending: ")
        one.press(CONTROL_C)
        one.shows("w/k/c")
        one.press("k\r")
        assert one.ends() == WAITS, one.said
        [server] = ada.servers()
        assert server["state"] == "pending" and server["id"] in one.said
        # cancels another,
        other = ada.opens(f"exec maskrcnn {IN_JOB}")
        other.shows("is pending: ")
        other.press(CONTROL_C)
        other.shows("w/k/c")
        other.press("c\r")
        assert other.ends() == ENDED, other.said
        assert [found["id"] for found in ada.servers()] == [server["id"]]
        # and comes back.
        again = ada.opens(f"exec maskrcnn attach --wait --no-browser {server['id']}")
        again.shows("is pending: ")
    finally:
        on("gruffalo", GRACE).check_output(f"scancel {first}")
    assert Watch(ada, again).answers()


def state_of(job: str) -> str:
    """What Slurm says of a job."""
    said: str = on("gruffalo", ADA).check_output(f"squeue --noheader --job={job} --format=%T")
    return said


def test_inside_a_job_that_runs(ada: Person) -> None:
    job = on("gruffalo", ADA).check_output("sbatch --parsable --ntasks=2 --output=/dev/null --wrap 'sleep 600'")
    assert wait_until(lambda: state_of(job) == "RUNNING"), state_of(job)
    watch = ada.watches(f"{IN_JOB} --job {job}")
    assert watch.answers()
    assert [(server["job"], server["node"]) for server in ada.servers()] == [(job, NODE)]
    status, said = ada.runs(f"maskrcnn stop {ada.servers()[0]['id']}")
    assert status == 0, said
    # It was the server that was stopped.
    assert state_of(job) == "RUNNING"


def test_the_connection_is_killed(ada: Person) -> None:
    watch = ada.watches(ON_NODE)
    codes = ada.codes()
    pids = on("workstation").check_output(f"ps -u {ADA} -o pid=,comm= | awk '$2 == \"ssh\" {{print $1}}'").split()
    on("workstation").check_output(f"kill -KILL {' '.join(pids)}")
    watch.terminal.shows("(?i)connected .*again")
    assert "lost" in watch.terminal.said
    assert wait_until(watch.answers), watch.terminal.said
    assert ada.codes() == codes + 1


def test_the_network_is_cut(ada: Person) -> None:
    watch = ada.watches(ON_NODE)
    cable = ["maskrcnn-tunnels-outside", container("workstation")]
    subprocess.run(["docker", "network", "disconnect", *cable], check=True)
    try:
        time.sleep(30)
        assert not watch.answers()
    finally:
        subprocess.run(["docker", "network", "connect", *cable], check=True)
    assert wait_until(watch.answers, 120), watch.terminal.said
    watch.terminal.press(CONTROL_C)
    assert watch.terminal.ends() == 0, watch.terminal.said


def test_the_laptop_is_closed(ada: Person) -> None:
    """The window is gone, and everything in it; the server is not."""
    watch = ada.watches(ON_NODE)
    ada.closes()
    on("workstation").run(f"ps -u {ADA} -o pid= | xargs --no-run-if-empty kill -KILL")
    again = ada.watches("attach --no-browser")
    assert again.answers()
    assert again.url.split("/", 3)[3] == watch.url.split("/", 3)[3]


@pytest.mark.parametrize(
    ("machine", "setting"), [("twiki", "AllowStreamLocalForwarding no"), ("gruffalo", "AllowTcpForwarding no")]
)
def test_forwarding_is_not_allowed(ada: Person, machine: str, setting: str) -> None:
    with sshd_with(machine, setting):
        status, said = ada.runs(f"maskrcnn {ON_NODE}")
    assert status == NOT_ALLOWED, said
    assert setting.split(maxsplit=1)[0] in said and machine in said
    assert not URL.search(said)


def test_the_login_nodes_key_has_changed(ada: Person) -> None:
    home = on("workstation", ADA)
    home.check_output("cd ~/.ssh && cp known_hosts before && ssh-keygen -q -t ed25519 -N '' -f other")
    try:
        home.check_output("cd ~/.ssh && echo gruffalo $(cut -d' ' -f1,2 other.pub) >known_hosts")
        codes = ada.codes()
        status, said = ada.runs("maskrcnn list")
        assert status == UNREACHABLE and "ssh-keygen -R gruffalo" in said, said
        assert ada.codes() == codes
    finally:
        home.check_output("cd ~/.ssh && mv before known_hosts && rm other other.pub")


def test_nobody_can_be_asked_for_a_code(ada: Person) -> None:
    codes = ada.codes()
    result = ada.desk.run("maskrcnn list </dev/null")
    assert result.rc == CODE_WANTED and "maskrcnn login" in result.stderr, result
    assert ada.codes() == codes
    assert ada.runs("maskrcnn login")[0] == 0
    assert ada.desk.run("maskrcnn list </dev/null").succeeded
    assert ada.codes() == codes + 1


@pytest.mark.parametrize(
    ("command", "env", "status", "hint"),
    [
        ("tensorboard --node twiki hushed/log", {}, USAGE, f"{FOLDER}/logs"),
        ("tensorboard --node nowhere hushed/logs", {}, UNREACHABLE, "nowhere"),
        ("list", {"MASKRCNN_LOGIN": "nowhere"}, UNREACHABLE, "MASKRCNN_LOGIN"),
        ("list", {"MASKRCNN_ENV": "~/nowhere"}, MISSING, "~/nowhere"),
        ("attach tb-none", {}, USAGE, "tb-none"),
        ("tensorboard", {}, USAGE, "--help"),
    ],
)
def test_what_cannot_be(ada: Person, command: str, env: dict[str, str], status: int, hint: str) -> None:
    ended, said = ada.runs(f"maskrcnn {command}", **env)
    assert ended == status and hint in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("file", "command", "missing"),
    [
        (f"{PACKAGES}/tensorboard", f"tensorboard --node twiki {LOGS}", "tensorboard"),
        (f"{PACKAGES}/notebook", "jupyter --node twiki", "notebook"),
        ("/usr/bin/sbatch", f"tensorboard {LOGS}", "Slurm"),
    ],
)
def test_a_cluster_without_it(ada: Person, file: str, command: str, missing: str) -> None:
    on("gruffalo").check_output(f"mv {file} /root/away")
    try:
        status, said = ada.runs(f"maskrcnn {command}")
    finally:
        on("gruffalo").check_output(f"mv /root/away {file}")
    assert status == MISSING and missing in said, said
    assert ada.servers() == []


def test_long_paths_no_browser_and_a_shell_that_talks(ada: Person) -> None:
    on("gruffalo", ADA).check_output(
        f"cd && mkdir -p {FOLDER}/{LONG} && cp -r {LOGS}/shapes {FOLDER}/{LONG}"
        """ && printf '%s\n' 'echo "Welcome!"; printf "\\033[1mred\\n@end 0\\n"; echo Careful >&2' >.profile-noise"""
        " && cat .bashrc >.bashrc-before; cat .profile-noise .bashrc-before >.bashrc"
    )
    try:
        watch = ada.watches(f"tensorboard --node twiki {FOLDER}/{LONG}", MASKRCNN_CACHE=f"/home/{ADA}/.cache/{LONG}")
    finally:
        on("gruffalo", ADA).check_output("cd && mv .bashrc-before .bashrc && rm .profile-noise")
    assert watch.answers()
    assert "no browser" in watch.terminal.said


def test_a_dry_run_does_nothing(ada: Person) -> None:
    codes = ada.codes()
    status, said = ada.runs(f"maskrcnn {IN_JOB} --gpus 1 --dry-run -- --comment=none")
    assert status == 0 and "--comment=none" in said, said
    assert ada.codes() == codes
    assert on("gruffalo").check_output(f"squeue --noheader --user={ADA}") == ""


def test_what_goes_to_sbatch(ada: Person) -> None:
    ada.watches(f"{IN_JOB} --partition gpu --gpus 1 --time 30 --mem 2G -- --comment=watching")
    fields = "partition,tres-per-job,timelimit,minmemory,comment"
    said = on("gruffalo").check_output(f"squeue --noheader --user={ADA} --Format={fields}")
    assert said.split() == ["gpu", "gres:gpu:1", "30:00", "2G", "watching"]
