# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where verify_env.py runs: the user, the Slurm job, the CPUs and the GPUs that they have been given."""

# TensorFlow is slow to import and may be broken, which is for a check to find out.
# ruff: noqa: PLC0415

import ctypes
import os
import platform
import pwd
import site
from pathlib import Path

NO_GPUS = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that name none; the last is old Slurm's


class CheckFailed(Exception):
    """What was checked is not as expected; the message says what is."""


def whereabouts() -> dict:
    """Who runs this, where and on how much, for the report."""
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
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(allowed, int(given)) if given.isdigit() and int(given) else allowed


def check_user_site() -> str:
    """Packages in the user's home come before those of every environment with the same version of Python."""
    folder = Path(site.getusersitepackages())
    if site.ENABLE_USER_SITE and folder.is_dir() and any(folder.iterdir()):
        raise CheckFailed(
            "what is in {} comes before the environment's own packages; to leave it out, "
            "export PYTHONNOUSERSITE=1".format(folder)
        )
    return "nothing comes before the environment's own packages"


def session_config():
    """TensorFlow's settings for the CPUs and GPUs that we may use."""
    import tensorflow as tf

    config = tf.ConfigProto(intra_op_parallelism_threads=cpus(), inter_op_parallelism_threads=cpus())
    config.allow_soft_placement = True
    config.gpu_options.allow_growth = True  # leave GPU memory to others
    return config


def check_gpus(wanted: int, record: dict) -> str:
    """Note the devices that TensorFlow sees, and in words the GPUs, or why there are none and what to do."""
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    record["devices"] = [
        {"name": device.name, "type": device.device_type, "description": device.physical_device_desc}
        for device in device_lib.list_local_devices(session_config())
    ]
    gpus = [device["description"] for device in record["devices"] if device["type"] == "GPU"]
    text = "; ".join(gpus) or why_no_gpu(tf.test.is_built_with_cuda())
    record["gpu"] = text if gpus else "none: " + text
    if len(gpus) < wanted:
        raise CheckFailed("{} wanted, {} seen: {}".format(wanted, len(gpus), text))
    if not gpus and gpu_is_given():
        raise CheckFailed("CUDA_VISIBLE_DEVICES={}, none seen: {}".format(os.environ["CUDA_VISIBLE_DEVICES"], text))
    return record["gpu"]


def gpu_is_given() -> bool:
    """Whether Slurm, or the user, has named a GPU for us."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "") not in NO_GPUS


def why_no_gpu(built_with_cuda: bool) -> str:
    """Why TensorFlow sees no GPU, and what to do to use one."""
    if not built_with_cuda:
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
