# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What TensorFlow and all that needs it say when they are imported: slowly, or not at all, or not even that.

So a process of its own does it. It runs `probe`, and says what comes of each step in a line of JSON.
"""

# What is slow to import, or may be broken, is imported where that is found out.
# ruff: noqa: PLC0415

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, NamedTuple, Tuple

from mrcnn_workbench import host

TIMEOUT = 180  # seconds, for everything

Answer = Dict[str, Any]


class Cuda(NamedTuple):
    """What a TensorFlow wants for GPUs: CUDA, the oldest driver for that, and libraries."""

    version: str
    driver: Tuple[int, ...]
    libraries: Tuple[str, ...]


# By the first two numbers of TensorFlow's version.
CUDAS = {
    "1.15": Cuda("10.0", (410, 48), ("libcudart.so.10.0", "libcublas.so.10.0", "libcusolver.so.10.0", "libcudnn.so.7")),
    # Its libraries come with wheels, which TensorFlow finds by itself.
    "2.21": Cuda("12.5", (525, 60, 13), ()),
}


def cuda_for(version: str) -> Cuda:
    """What a version of TensorFlow wants; nothing is known of most."""
    return CUDAS.get(".".join(version.split(".")[:2]), Cuda("", (), ()))


def _tensorflow() -> Answer:
    tf = host.tensorflow()
    return {"version": tf.__version__, "cuda": bool(tf.test.is_built_with_cuda())}


def _gpus() -> Answer:
    tf = host.tensorflow()
    found = host.gpus(host.devices())
    lacking = []
    for library in cuda_for(tf.__version__).libraries if tf.test.is_built_with_cuda() and not found else ():
        try:
            ctypes.CDLL(library)
        except OSError:
            lacking.append(library)
    return {"gpus": found, "unfit": host.unfit(found), "why": "" if found else host.why_no_gpu(), "lacking": lacking}


def _keras() -> Answer:
    import keras

    return {"version": keras.__version__}


def _mrcnn() -> Answer:
    from mrcnn_workbench import mask_rcnn

    return {"mini_masks": mask_rcnn.mini_masks_work()}


STEPS = {"tensorflow": _tensorflow, "gpus": _gpus, "keras": _keras, "mrcnn": _mrcnn}


def probe() -> None:
    for name, step in STEPS.items():
        began = time.monotonic()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                answer = step()
        except Exception as error:  # whatever is broken
            answer = {"error": "{}: {:.300}".format(type(error).__name__, " ".join(str(error).split()))}
        answer.update(step=name, seconds=round(time.monotonic() - began, 1))
        print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # without what libraries do at the end


class Probe:
    """That process, with the same modules as this one."""

    def __init__(self) -> None:
        code = "import sys; sys.path[:] = {!r}; from mrcnn_workbench import probing; probing.probe()".format(sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2"),
        )

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def answers(self) -> Dict[str, Answer]:
        """What came of the steps, in their order, up to the first that did not end: that has an `error`."""
        late = False
        try:
            output, errors = self.process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            late = True
            self.process.kill()
            output, errors = self.process.communicate()
        found: Dict[str, Answer] = {}
        for line in output.decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict) and answer.get("step") in STEPS:
                    found[answer["step"]] = answer
        for name in STEPS:
            if name not in found:
                found[name] = {"error": self._end(late, errors.decode(errors="replace").strip())}
                break
        return found

    def _end(self, late: bool, errors: str) -> str:
        code = self.process.returncode
        if late:
            return "not ready after {} s; on a GPU that it has no code for it compiles for an hour and more".format(
                TIMEOUT
            )
        if code == -signal.SIGILL:
            return "this node's CPU lacks what TensorFlow is built for (AVX); use another node"
        how = "signal {}".format(signal.Signals(-code).name) if code < 0 else "exit code {}".format(code)
        last = errors.splitlines()[-1] if errors else "it said nothing"
        return "the process that imports it has ended with {} ({:.200})".format(how, last)
