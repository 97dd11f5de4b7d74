# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What mrcnn uses of Keras, as it was in Keras 2.2, made of tf-keras on TensorFlow 2; `compat` puts it into place."""

import types
from typing import Any, List

import tensorflow.compat.v1 as tf
from tf_keras.src.saving.legacy import hdf5_format

keras = tf.keras


class Layer(keras.layers.Layer):
    """A layer that says what it knows of its output's shape: without that, layers after it cannot be built."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        output = super().__call__(inputs, *args, **kwargs)
        if tf.is_tensor(output):  # of several, mrcnn's own shapes are not always right
            output.set_shape(self.compute_output_shape(tf.nest.map_structure(keras.backend.int_shape, inputs)))
        return output


class Lambda(keras.layers.Lambda):
    """A function as a layer. A variable that it makes becomes a constant, since Keras would not know of it."""

    def __init__(self, function: Any, *args: Any, **kwargs: Any) -> None:
        def with_constants(*inputs: Any, **options: Any) -> Any:
            with tf.variable_creator_scope(lambda _next, **variable: tf.convert_to_tensor(variable["initial_value"])):
                return function(*inputs, **options)

        super().__init__(with_constants, *args, **kwargs)


class Reshape(keras.layers.Reshape):
    """One whose shape may have a None."""

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__([-1 if size is None else size for size in target_shape], **kwargs)


class SGD(keras.optimizers.SGD):
    """Gradient descent whose `clipnorm` is for all gradients together, not for each."""

    def __init__(self, lr: float = 0.01, clipnorm: Any = None, **kwargs: Any) -> None:
        super().__init__(learning_rate=lr, global_clipnorm=clipnorm, **kwargs)


class Model(keras.Model):
    """A model that mrcnn can compile: before, it empties `_losses` and adds its own; after, it adds what to report."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_losses":
            self.__dict__["_added_losses"] = []
        super().__setattr__(name, value)

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Add a tensor to the loss. Keras would make a layer of it, which a second compile could not take away."""
        self.__dict__["_added_losses"].append(losses)

    @property
    def losses(self) -> List[Any]:
        """What the loss consists of: tensors."""
        return [*super().losses, *self.__dict__["_added_losses"]]

    def get_losses_for(self, inputs: Any) -> List[Any]:
        """Keras adds up what depends on no input, and what depends on the model's; here the first is all of it."""
        return self.losses if inputs is None else []

    @property
    def metrics_names(self) -> List[str]:
        """The names of what is reported of a step; a name that is appended is that of the next of metrics_tensors."""
        return _Names(self, super().metrics_names)

    @property
    def metrics_tensors(self) -> "_Tensors":
        """What is reported of a step, of which Keras forms means over an epoch; append is all that it can do."""
        return _Tensors(self)


class _Names(List[str]):
    def __init__(self, model: Model, names: List[str]) -> None:
        super().__init__(names)
        self._model = model

    def append(self, name: str) -> None:
        super().append(name)
        self._model.__dict__["_next_metric"] = name


class _Tensors:
    def __init__(self, model: Model) -> None:
        self._model = model

    def append(self, tensor: Any) -> None:
        name = self._model.__dict__.pop("_next_metric")
        metric = keras.metrics.Mean(name=name)
        metric(tensor)
        setattr(self._model, "_mean_" + name, metric)  # by this Keras learns of it


def _of_layers(function: Any) -> Any:
    """A function for a model's weights as one for those of layers."""

    def called(group: Any, layers: Any) -> Any:
        # Of the model itself it also wants weights outside its layers; mrcnn's have none.
        model = types.SimpleNamespace(layers=list(layers), _trainable_weights=[], _non_trainable_weights=[])
        model._flatten_layers = lambda: model.layers
        return function(group, model)

    return called


saving = types.SimpleNamespace(
    save_weights_to_hdf5_group=_of_layers(hdf5_format.save_weights_to_hdf5_group),
    load_weights_from_hdf5_group=_of_layers(hdf5_format.load_weights_from_hdf5_group),
    load_weights_from_hdf5_group_by_name=_of_layers(hdf5_format.load_weights_from_hdf5_group_by_name),
)
