# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lets the package `mrcnn`, unchanged, run on TensorFlow 2: imported before it, in a script of your own too.

    from mrcnn_workbench import compat  # before tensorflow, keras and mrcnn

From then on `import tensorflow` gives TensorFlow's own `compat.v1`, and `import keras` the Keras of tf-keras, with what
mrcnn takes from Keras 2.2 and later ones have changed: `keras22.py`. On TensorFlow 1.15 this does nothing. It says no
to versions that it was not tested with, since what it builds on is not promised to stay.
"""

import importlib
import os
import sys
import types
import warnings
from typing import Any, Dict, Iterable

from mrcnn_workbench.errors import WorkbenchError

TESTED = ("1.15", "2.21")  # of TensorFlow and, where that is 2, of tf-keras
# Parts of Keras that its users import by name.
PARTS = (
    "activations", "applications", "backend", "callbacks", "constraints", "datasets", "initializers", "layers",
    "losses", "metrics", "models", "optimizers", "preprocessing", "regularizers", "utils",
)  # fmt: skip


def check(name: str, version: str) -> None:
    """Raises WorkbenchError for a version, of TensorFlow or tf-keras, that this was not tested with."""
    if ".".join(version.split(".")[:2]) not in TESTED:
        raise WorkbenchError(
            "{} {} is installed, and mrcnn was tested with {} only; have the environment provisioned again".format(
                name, version, " and ".join("{}.*".format(known) for known in TESTED)
            )
        )


def install() -> None:
    """Put everything in its place. Raises WorkbenchError for versions that are not known, and if tf-keras is missing.

    A module that has imported `tensorflow` before keeps the one that it has.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read when TensorFlow's `keras` is first used
    tensorflow = importlib.import_module("tensorflow")
    check("TensorFlow", tensorflow.__version__)
    if tensorflow.__version__.startswith("1."):
        return
    try:
        version = importlib.import_module("tf_keras").__version__
    except ImportError as error:
        raise WorkbenchError(
            "tf-keras is missing ({}); have the environment provisioned again".format(error)
        ) from error
    check("tf-keras", version)
    v1 = tensorflow.compat.v1
    v1.logging.set_verbosity(v1.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        v1.disable_v2_behavior()
    sys.modules.update({"tensorflow": _TensorFlow(tensorflow), **_keras(v1, version)})
    _mend_numpy()
    _mend_skimage()


class _TensorFlow(types.ModuleType):
    """TensorFlow's `compat.v1` under the name `tensorflow`; modules below that are found as ever."""

    def __init__(self, tensorflow: Any) -> None:
        super().__init__("tensorflow")
        self.__path__, self.__spec__, self.__file__ = tensorflow.__path__, tensorflow.__spec__, tensorflow.__file__
        self.compat, self._v1 = tensorflow.compat, tensorflow.compat.v1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._v1, name)

    def __dir__(self) -> Iterable[str]:
        return dir(self._v1)


def _keras(v1: Any, version: str) -> Dict[str, Any]:
    """The modules of a package `keras` as mrcnn knows it, by name."""
    old = importlib.import_module("mrcnn_workbench.keras22")
    parts = {part: _copy("keras." + part, getattr(v1.keras, part)) for part in PARTS}
    parts["layers"].__dict__.update(Layer=old.Layer, Lambda=old.Lambda, Reshape=old.Reshape)
    parts["models"].Model = old.Model
    parts["optimizers"].SGD = old.SGD
    saving = _copy("keras.engine.saving", old.saving)
    data_utils = parts["utils"].data_utils = _copy("keras.utils.data_utils", v1.keras.utils)
    engine = parts["engine"] = types.ModuleType("keras.engine")
    engine.__dict__.update(Layer=old.Layer, Model=old.Model, saving=saving, topology=saving, __path__=[])
    package = _copy("keras", v1.keras)
    package.__dict__.update(parts, Model=old.Model, __version__=version)
    below = {**parts, "engine.saving": saving, "engine.topology": saving, "utils.data_utils": data_utils}
    return {"keras": package, **{"keras." + name: module for name, module in below.items()}}


def _copy(name: str, module: Any) -> Any:
    """A module with the same things in it; what is changed there, nobody else will see."""
    made = types.ModuleType(name, module.__doc__)
    made.__dict__.update({key: value for key, value in vars(module).items() if not key.startswith("__")})
    made.__dict__["__path__"] = []  # there may be modules below it
    return made


def _mend_numpy() -> None:
    """Give imgaug 0.4.0 the table of types that numpy has had until 2.0."""
    np: Any = importlib.import_module("numpy")
    if not hasattr(np, "sctypes"):
        np.sctypes = {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64, np.longdouble],
            "complex": [np.complex64, np.complex128, np.clongdouble],
            "others": [bool, object, bytes, str, np.void],
        }


def _mend_skimage() -> None:
    """Let scikit-image resize masks of truth values, which it refuses from 0.19 on, and spoiled before."""
    transform: Any = importlib.import_module("skimage.transform")
    resize = transform.resize

    def resized(image: Any, *args: Any, **kwargs: Any) -> Any:
        return resize(image.astype(float) if image.dtype == bool else image, *args, **kwargs)

    transform.resize = resized


install()
