# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""TensorBoard or Jupyter on a unix socket: the process that tunnel_run.py starts and watches.

What to serve, with the secret, comes on stdin, since every user of the machine can read a command line.
"""

# The libraries differ from environment to environment, and are slow to import.
# ruff: noqa: PLC0415

import http.client
import json
import os
import socket
import sys
from pathlib import Path


class Connection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str, timeout: float):
        super().__init__("127.0.0.1", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def answers(record: dict, timeout: float = 10) -> bool:
    """Whether a server shows its page, or what stands for it, to whoever knows its secret."""
    connection = Connection(record["socket"], timeout)
    tensorboard = record["kind"] == "tensorboard"
    try:
        connection.request(
            "GET", "/{}/".format(record["secret"]) if tensorboard else "/api/status",
            headers={} if tensorboard else {"Authorization": "token " + record["secret"]},
        )  # fmt: skip
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Scrubbed:
    """A stream that never shows the secret: Jupyter notes each request with all that is in its address."""

    def __init__(self, stream, secret: str):
        self.stream, self.secret = stream, secret

    def write(self, text: str) -> int:
        return self.stream.write(text.replace(self.secret, "[secret]"))

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def serve_tensorboard(record: dict) -> None:
    """Serve TensorBoard until the process ends."""
    import socketserver

    from tensorboard import program

    class Server(program.WerkzeugServer):
        """On a socket that only the user can connect to."""

        def server_bind(self) -> None:
            before = os.umask(0o177)
            try:
                socketserver.TCPServer.server_bind(self)
            finally:
                os.umask(before)
            self.server_name, self.server_port = "127.0.0.1", 0

        def get_url(self) -> str:
            return "unix://" + record["socket"]

        def print_serving_message(self) -> None:
            pass

    getattr(program, "setup_environment", int)()  # newer ones have it elsewhere
    server = program.TensorBoard(server_class=Server)
    flags = {
        "host": "unix://" + record["socket"], "port": 0, "path_prefix": "/" + record["secret"],
        "logdir": log_folder(record),
    }  # fmt: skip
    try:
        # Newer ones would read logs in a process that opens a port for everybody.
        server.configure(load_fast="false", **flags)
    except ValueError:
        server.configure(**flags)
    paths = ", ".join(path for _name, path in record["logdirs"])
    print("TensorBoard {} shows {}".format(program.version.VERSION, paths))
    # Not by its main(), which would tell everybody about this server in a file in /tmp.
    server._make_server().serve_forever()


def log_folder(record: dict) -> str:
    """The folder to show: the one asked for, or one with links to several, by the names that they are to have."""
    if len(record["logdirs"]) == 1 and not record["logdirs"][0][0]:
        return record["logdirs"][0][1]
    folder = Path(record["socket"]).with_name("logs")
    folder.mkdir(0o700)
    for name, path in record["logdirs"]:
        (folder / name).symlink_to(path)
    return str(folder)


def serve_jupyter(record: dict) -> None:
    """Serve Jupyter until the process ends."""
    runtime = Path(record["socket"]).with_name("r")
    runtime.mkdir(0o700)
    os.environ["JUPYTER_RUNTIME_DIR"] = str(runtime)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # kernels may do as any Python does
    try:
        from notebook.notebookapp import main

        app = identity = "NotebookApp"
        folder = "notebook_dir"
    except ImportError:  # from 7 on
        from notebook.app import main

        app, identity, folder = "ServerApp", "IdentityProvider", "root_dir"
    # The user's own settings of ports, passwords and the like are not for this one.
    settings = {
        "sock": record["socket"], "sock_mode": "0600", "password": "", "open_browser": False, "certfile": "",
        "keyfile": "", "custom_display_url": "", "allow_root": os.geteuid() == 0, folder: record["directory"],
    }  # fmt: skip
    config = runtime.with_name("config.json")
    config.touch(0o600)
    # Kernels would listen on ports that tell everybody what they print.
    sections = {app: settings, "KernelManager": {"transport": "ipc"}}
    sections.setdefault(identity, {})["token"] = record["secret"]
    config.write_text(json.dumps(sections), encoding="utf-8")
    kernels_without_ports()
    main(["--config=" + str(config)])


def kernels_without_ports() -> None:
    """Have Jupyter start IPython's kernels by way of tunnel_kernel.py."""
    from jupyter_client.manager import KernelManager

    as_specified = KernelManager.format_kernel_cmd

    def format_kernel_cmd(self, *arguments, **options) -> list:
        command = as_specified(self, *arguments, **options)
        for module in ("ipykernel_launcher", "ipykernel"):
            if module in command[1:] and command[command.index(module) - 1] == "-m":
                at = command.index(module)
                command[at - 1 : at + 1] = [str(Path(__file__).with_name("tunnel_kernel.py"))]
        return command

    KernelManager.format_kernel_cmd = format_kernel_cmd


def main() -> None:
    """Serve what stdin says."""
    record = json.load(sys.stdin)
    sys.stdin.close()
    sys.stdin = Path(os.devnull).open(encoding="ascii")  # noqa: SIM115 # kernels inherit it
    sys.stdout, sys.stderr = Scrubbed(sys.stdout, record["secret"]), Scrubbed(sys.stderr, record["secret"])
    if not record["gpus"] and record["kind"] == "tensorboard":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.argv[1:] = []
    {"tensorboard": serve_tensorboard, "jupyter": serve_jupyter}[record["kind"]](record)


if __name__ == "__main__":
    main()
