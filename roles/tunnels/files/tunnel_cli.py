# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""TensorBoard and Jupyter on this cluster, for you alone: on sockets, not on ports.

To see them, run `maskrcnn` on your own computer; a copy of it for this cluster is beside this file.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tunnel_output as output
import tunnel_run
import tunnel_slurm as slurm
import tunnel_where as where
from tunnel_logdirs import folders, with_events
from tunnel_screen import prepare, screen, sessions
from tunnel_servers import answers
from tunnel_state import LIVE, NODE, Store, TunnelError, sockets_folder

EXIT_CODES = """\
Exit codes: 0 all is well, 1 something failed, 2 wrong usage, 3 the server or its job has ended, 5 its job still waits,
8 something is missing here: TensorBoard, Jupyter, Slurm.
"""
PENDING = 5
MISSING = 8
SETTINGS = "share/crophpc.maskrcnn/tunnels/settings.json"


def settings() -> dict:
    """The site's settings."""
    found = json.loads(Path(__file__).with_name("settings.json").read_text(encoding="utf-8"))
    found["socket_dir"] = os.environ.get("MASKRCNN_SOCKET_DIR") or found["socket_dir"]
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="maskrcnn-serve", description=__doc__, epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    # Not required=True, which Python 3.6 does not know here.
    verbs = top.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("--porcelain", action="store_true", help=argparse.SUPPRESS)
        return added

    tensorboard = verb("tensorboard", "start TensorBoard for one or several log folders")
    tensorboard.add_argument("logdirs", nargs="+", metavar="[NAME=]LOGDIR")
    jupyter = verb("jupyter", "start Jupyter in a folder, or in your home")
    jupyter.add_argument("directory", nargs="?", default="~", metavar="DIR")
    for starts in (tensorboard, jupyter):
        place = starts.add_mutually_exclusive_group()
        place.add_argument("--here", action="store_true", help="on this machine, without a job")
        place.add_argument("--node", help="on that machine, without a job")
        place.add_argument("--job", help="in that running job of yours")
        for option in ("partition", "time", "gpus", "mem", "account"):
            starts.add_argument("--" + option, default="", help="for a job of its own, as sbatch takes it")
        starts.epilog = "What follows after -- is given to sbatch."
    listing = verb("list", "list your servers")
    listing.add_argument("--all", action="store_true", help="those that have ended, too")
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = verb("show", "say how a server is")
    show.add_argument("id")
    show.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="until it is ready, or has ended")
    show.add_argument("--probe", action="store_true", help="ask it for its page, on its node")
    stop = verb("stop", "end servers")
    stop.add_argument("ids", nargs="*", metavar="ID")
    stop.add_argument("--all", action="store_true", help="all of yours")
    logs = verb("logs", "show a server's log")
    logs.add_argument("id")
    logs.add_argument("--lines", type=int, default=1000, metavar="N")
    logs.add_argument("--follow", action="store_true", help="as it grows")
    session = verb("screen", "start a command in a terminal that stays when you leave, or go back to it")
    session.add_argument("--list", action="store_true", help="list those that there are")
    session.add_argument("--detach", action="store_true", help="start it, and leave it at once")
    session.add_argument("name", nargs="?")
    session.add_argument("command", nargs=argparse.REMAINDER)
    verb("check", "say what is here, and what is missing")
    verbs.add_parser("run").add_argument("id")
    return top


def decoded(arguments: list) -> list:
    """The command line; as the workstation sends it, in hexadecimal, which every login shell leaves alone."""
    if arguments[:1] != ["--hex"]:
        return arguments
    return [bytes.fromhex("" if text == "-" else text).decode("utf-8", "surrogateescape") for text in arguments[1:]]


# Verbs


def start(options, extra: list, store: Store, say, site: dict) -> int:
    """Start TensorBoard or Jupyter."""
    package = {"tensorboard": "tensorboard", "jupyter": "notebook"}[options.verb]
    if not importlib.util.find_spec(package):
        raise TunnelError(
            "{} is not installed in {}".format(package, sys.prefix),
            "{} -m pip install {}".format(sys.executable, package), MISSING,
        )  # fmt: skip
    if options.node and options.node != NODE:
        return on_node(options.node)
    facts = to_show(options, say)
    refuse_unfit(options.gpus, site)
    if options.job:
        slurm.running(options.job)
    elif not (options.here or options.node):
        slurm.tool("sbatch")
    where.refresh(store, store.all())
    if options.here or options.node:
        where.clean(store, sockets_folder(site["socket_dir"]))
    record = store.new(options.verb, **facts)
    if options.job:
        where.start_step(store, record, options.job)
    elif options.here or options.node:
        where.start_here(store, record)
    else:
        wanted = {
            "partition": options.partition or site["gpu_partition" if options.gpus else "partition"],
            "time": options.time or site["time"], "mem": options.mem or site["mem"][options.verb],
            "gpus": options.gpus, "account": options.account,
        }  # fmt: skip
        where.start_job(store, record, wanted, extra)
    record = store.read(record["id"])
    say.server(record)
    say.hint("On your own computer:  maskrcnn attach {}".format(record["id"]))
    say.hint("without that program:  {} show {}   when it is ready".format(where.command()[0], record["id"]))
    return ended(record, store, say)


def refuse_unfit(gpus: str, site: dict) -> None:
    """Stop before a job waits for GPUs on which this environment's TensorFlow does not compute."""
    wanted = re.match(r"[A-Za-z][\w.-]*", gpus)
    if not wanted or fits(wanted.group(), site):
        return
    hint = "Ask for one of those."
    for path in sorted(Path(sys.prefix).parent.glob("*/" + SETTINGS)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if fits(wanted.group(), json.loads(path.read_text(encoding="utf-8"))):
                hint = "An environment beside it works there; its program is {}.".format(path.with_name("maskrcnn"))
                break
    raise TunnelError(
        "--gpus {}: this environment computes nothing of use there, but on {}".format(
            gpus, " and ".join(site["gpu_types"])
        ), hint, 2,
    )  # fmt: skip


def fits(name: str, site: dict) -> bool:
    """Whether an environment with these settings works on GPUs of a type; some write rtx_8000 for rtx8000."""
    plain = [re.sub("[_-]", "", known.lower()) for known in [name, *site["gpu_types"]]]
    return not site["gpu_types"] or plain[0] in plain[1:]


def to_show(options, say) -> dict:
    """What a server is to show, if that is there."""
    if options.verb == "tensorboard":
        found = folders(options.logdirs)
        for _name, path in found:
            if not with_events(Path(path)):
                say.note("there are no training logs in {} yet; TensorBoard shows them when there are".format(path))
        return {"gpus": options.gpus, "logdirs": found}
    directory = Path(options.directory).expanduser().absolute()
    if not directory.is_dir():
        raise TunnelError("there is no folder {}".format(directory), "Name one that is there, in your home for one.", 2)
    return {"gpus": options.gpus, "directory": str(directory)}


def by_hand(record: dict, site: dict, say) -> None:
    """How to see a server with nothing but ssh."""
    path = "{}/".format(record["secret"]) if record["kind"] == "tensorboard" else "?token=" + record["secret"]
    say.hint("On your own computer:  maskrcnn attach {}".format(record["id"]))
    say.hint("without that program:  ssh -N -J {} -L 127.0.0.1:12345:{} {}".format(
        site["login_host"] or "LOGIN_NODE", record["socket"], record["node"]
    ))  # fmt: skip
    say.hint("and in the browser:    http://127.0.0.1:12345/{}".format(path))


def ended(record: dict, store: Store, say) -> int:
    """The exit code for how a server is. If it has ended, says what it said last."""
    if record["state"] == "ended":
        say.error("{} has ended: {}".format(record["id"], record["reason"]), "")
        for line in store.last_lines(record["id"], 15):
            say.line("log", line)
        return 3
    return PENDING if record["state"] == "pending" else 0


def on_node(node: str) -> int:
    """Do the same on another machine."""
    arguments = []
    for argument in decoded(sys.argv[1:]):
        if argument == "--node=" + node or (argument == node and arguments[-1:] == ["--node"]):
            arguments = [*(text for text in arguments if text != "--node"), "--here"]
        else:
            arguments.append(argument)
    return there(node, arguments)


def there(node: str, arguments: list) -> int:
    """Run this program on another machine."""
    command = " ".join(map(shlex.quote, where.command(*arguments)))
    return subprocess.call([shutil.which("ssh") or "ssh", "-t" if sys.stdin.isatty() else "-T", "--", node, command])


def listing(options, store: Store, say) -> int:
    """List servers."""
    records = [record for record in where.refresh(store, store.all()) if options.all or record["state"] in LIVE]
    if options.json and not options.porcelain:
        print(output.as_json(records, 2))
    else:
        say.servers(records)
    return 0


def show(options, store: Store, say, site: dict) -> int:
    """Say how one server is, when it is ready if that is wanted."""
    give_up = time.monotonic() + options.wait
    while True:
        record = where.refresh(store, [store.read(options.id)])[0]
        left = give_up - time.monotonic()
        if record["state"] in ("ready", "ended") or left <= 0:
            break
        time.sleep(min(left, 2 if record["state"] == "pending" else 0.3))
    say.server(record)
    if record["state"] == "ready" and options.probe:
        if record["node"] != NODE:
            raise TunnelError("{} runs on {}".format(record["id"], record["node"]), "Ask there.", 2)
        if not answers(record):
            raise TunnelError("{} does not answer on its socket".format(record["id"]), "Stop it, and start another.", 3)
    if record["state"] == "ready":
        by_hand(record, site, say)
    return ended(record, store, say)


def stop(options, store: Store, say) -> int:
    """End servers."""
    if bool(options.ids) == options.all:
        raise TunnelError("which servers?", "stop ID..., or stop --all", 2)
    records = store.all() if options.all else [store.read(name) for name in options.ids]
    code = 0
    for record in where.refresh(store, records):
        if record["state"] == "ended":
            if not options.all:
                say.note("{} had ended already: {}".format(record["id"], record["reason"]))
            continue
        elsewhere = not record["job"] and record["node"] != NODE and record["state"] != "pending"
        if elsewhere and options.porcelain:
            say.line("elsewhere", "{} {}".format(record["node"], record["id"]))
        elif elsewhere:
            code = there(record["node"], ["stop", record["id"]]) or code
        else:
            where.stop(store, record)
            say.line("stopped", record["id"])
    return code


def logs(options, store: Store) -> int:
    """Show a log."""
    store.read(options.id)
    sys.stdout.flush()
    if options.follow:
        command = ["tail", "-n", str(options.lines), "-F", "--", str(store.log(options.id))]
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    print("\n".join(store.last_lines(options.id, options.lines)))
    return 0


def check(store: Store, say, site: dict) -> int:
    """Say what is here. The workstation's `doctor` makes sentences of it."""
    for package in ("tensorboard", "notebook"):
        version = "missing"
        with contextlib.suppress(Exception):  # whatever a broken one comes up with
            version = importlib.import_module(package + (".version" if package == "tensorboard" else "")).__dict__[
                "VERSION" if package == "tensorboard" else "__version__"
            ]
        say.line(package, version)
    say.line("prefix", sys.prefix)
    say.line("slurm", slurm.ask("sinfo", "--version").strip() if shutil.which("sinfo") else "missing")
    say.line("screen", next(filter(shutil.which, ("screen", "tmux")), "missing"))
    say.line("state", store.path)
    say.line("sockets", sockets_folder(site["socket_dir"]))
    say.line("shell", os.environ.get("SHELL", ""))
    return 0


def act(options, extra: list, say) -> int:
    """Do what the command line says."""
    site, store = settings(), Store()
    if options.verb == "run":
        return tunnel_run.run(store, store.read(options.id), site["socket_dir"])
    if options.verb in ("tensorboard", "jupyter"):
        return start(options, extra, store, say, site)
    if options.verb == "screen":
        if options.list or not options.name:
            prepare()
            for name, program in sorted(sessions().items()):
                say.line("session", "{} ({})".format(name, program))
            return 0
        return screen(options.name, options.command + extra, options.detach, say.note)
    return {
        "list": lambda: listing(options, store, say), "show": lambda: show(options, store, say, site),
        "stop": lambda: stop(options, store, say), "logs": lambda: logs(options, store),
        "check": lambda: check(store, say, site),
    }[options.verb]()  # fmt: skip


def main() -> int:
    """The command. Returns its exit code."""
    arguments = decoded(sys.argv[1:])
    extra = []
    if "--" in arguments:
        arguments, extra = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    top = parser()
    options = top.parse_args(arguments)
    if not options.verb:
        top.error("a verb is wanted")
    say = output.Porcelain() if getattr(options, "porcelain", False) else output.Words()
    try:
        code = act(options, extra, say)
    except TunnelError as error:
        say.error(str(error), error.hint)
        code = error.code
    except OSError as error:
        say.error(str(error), "")
        code = 1
    except KeyboardInterrupt:
        code = 130
    say.end(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
