# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where this runs: the user, the Slurm job, the CPUs and the GPUs that they have been given."""

# TensorFlow is slow to import and may be broken, which is for its caller to find out.
# ruff: noqa: PLC0415

import contextlib
import ctypes
import importlib
import os
import platform
import pwd
import re
import signal
from typing import Any, Dict, Iterator, List, Sequence

NO_GPUS = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that name none; the last is old Slurm's
NEWEST_OF_TF1 = 7  # of compute capabilities


def whereabouts() -> Dict[str, Any]:
    """Who runs this, where and on how much, for reports."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, say
        user = str(os.getuid())
    return {
        "host": platform.node(), "user": user, "slurm_job_id": os.environ.get("SLURM_JOB_ID"), "cpus": cpus(),
    }  # fmt: skip


def cpus() -> int:
    """How many CPUs we may use: those that the kernel lets us run on, or the fewer that Slurm has given us."""
    allowed = len(os.sched_getaffinity(0))
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(allowed, int(given)) if given.isdigit() and int(given) else allowed


@contextlib.contextmanager
def handling(numbers: Sequence[int], handler: Any) -> Iterator[None]:
    """These signals go to a handler meanwhile."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def tensorflow() -> Any:
    """The module, as mrcnn sees it."""
    importlib.import_module("mrcnn_workbench.compat")
    return importlib.import_module("tensorflow")


def session_config() -> Any:
    """TensorFlow's settings for the CPUs and GPUs that we may use."""
    tf = tensorflow()
    config = tf.ConfigProto(intra_op_parallelism_threads=cpus(), inter_op_parallelism_threads=cpus())
    config.allow_soft_placement = True
    config.gpu_options.allow_growth = True  # leave GPU memory to others
    return config


def devices() -> List[Dict[str, str]]:
    """What TensorFlow computes on: name, type (CPU or GPU) and description."""
    from tensorflow.python.client import device_lib

    return [
        {"name": device.name, "type": device.device_type, "description": device.physical_device_desc}
        for device in device_lib.list_local_devices(session_config())
    ]


def gpus(found: List[Dict[str, str]]) -> List[str]:
    """The descriptions of the GPUs among devices."""
    return [device["description"] for device in found if device["type"] == "GPU"]


def unfit(descriptions: List[str]) -> str:
    """Why these GPUs compute nothing that is of use with this TensorFlow; nothing if they do.

    The wheels of 1.15 have code for compute capabilities up to 7; on 8.0 losses become NaN (matterport/Mask_RCNN#355,
    tensorflow#44200), and on 8.9 nothing runs.
    """
    tf = tensorflow()
    if tf.__version__.startswith("1.") and "nv" not in tf.__version__:
        for text in descriptions:
            name = re.search(r"name: ([^,]+)", text)
            capability = re.search(r"compute capability: (\d+)", text)
            if capability and int(capability.group(1)) > NEWEST_OF_TF1:
                return "TensorFlow {} computes nothing but NaN on the GPU here, {}; ask Slurm for another one".format(
                    tf.__version__, name.group(1) if name else text
                )
    return ""


def gpu_is_given() -> bool:
    """Whether Slurm, or the user, has named a GPU for us."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "") not in NO_GPUS


def why_no_gpu() -> str:
    """Why TensorFlow sees no GPU, and what to do to use one."""
    if not tensorflow().test.is_built_with_cuda():
        return "TensorFlow is the build for CPUs; for GPUs, provision the environment with maskrcnn_gpu=true"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "{} has no NVIDIA driver; run this on a node with GPUs: sbatch --partition=gpu --gpus=1".format(
            platform.node()
        )
    if not gpu_is_given():
        return "Slurm has given none; ask for one: sbatch --partition=gpu --gpus=1"
    return (
        "TensorFlow's CUDA libraries do not load, or not on this type of GPU; "
        "with TF_CPP_MIN_LOG_LEVEL=0 in the environment this says more"
    )
