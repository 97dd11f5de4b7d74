# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An IPython kernel without a port: what `python -m ipykernel_launcher` does, in the Python of any kernel spec.

For what forked processes print, ipykernel opens one port that others could write to, whatever the transport; here that
is a socket beside the kernel's others.
"""

import os
import sys

# Neither this folder nor, as with -m, the current one.
del sys.path[0]

import zmq
from ipykernel import iostream, kernelapp

PIPE = "ipc://{}/pipe-{}".format(os.environ["JUPYTER_RUNTIME_DIR"], os.getpid())
with_port = iostream.IOPubThread._setup_pipe_in


def setup_pipe_in(self) -> None:
    """As it was, but for where it listens."""
    to_port = zmq.Socket.bind_to_random_port
    zmq.Socket.bind_to_random_port = lambda socket, *_, **__: socket.bind(PIPE) and None
    try:
        with_port(self)
    finally:
        zmq.Socket.bind_to_random_port = to_port


def setup_pipe_out(_self):
    """What a forked process prints to; with a context of its own."""
    context = zmq.Context()
    pipe = context.socket(zmq.PUSH)
    pipe.linger = 3000
    pipe.connect(PIPE)
    return context, pipe


iostream.IOPubThread._setup_pipe_in = setup_pipe_in
iostream.IOPubThread._setup_pipe_out = setup_pipe_out
kernelapp.launch_new_instance()
