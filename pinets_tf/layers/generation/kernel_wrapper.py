"""The base of layers that compute another layer with a kernel made from the stored one."""

import functools

import keras
from keras import ops

from pinets_tf._keras import never_cast
from pinets_tf.layers import masks
from pinets_tf.layers.copying import deserialize_layers, hand_down_policy, restore_with_policy
from pinets_tf.layers.parts import build_part, returned_shape

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class KernelWrapper(keras.layers.Layer):
    """Base of wrappers that run a layer with `_effective_kernel(kernel)` in the place of its kernel.

    The stored kernel is only read: gradients flow to it through `_effective_kernel`, and optimizers, checkpoints and
    regularizers see it. Each call makes a view of the layer, which has the same attributes but for the kernel, so that
    replicas, repeated calls in a step and compiled calls do not get in each other's way.

    Args:
        layer: a Keras layer with one `kernel` (or `embeddings`), used as it is.
        **kwargs: those of `keras.layers.Layer`. The dtype policy is that of `layer`; a `dtype` given here is handed to
            it.
    """

    acts_as = "wrapper"

    def __init__(self, layer, **kwargs):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"`layer` must be a Keras layer. Received: layer={layer!r} of type {type(layer).__name__}. "
                "Pass a layer with a kernel, such as Dense(64)."
            )
        given = kwargs.pop("dtype", None)
        super().__init__(dtype=layer.dtype_policy if given is None else given, **kwargs)
        self.layer = layer
        if given is not None:
            hand_down_policy(self.dtype_policy, [layer])
        self.supports_masking = masks.supported(layer)
        self.input_spec = layer.input_spec
        self._kernel_name = ""
        # A model quantises the layers inside alone.
        layer.quantize = functools.partial(self._quantize, layer.quantize)

    @property
    def data_format(self):
        """That of the layer inside, or `None`."""
        return getattr(self.layer, "data_format", None)

    def build(self, input_shape):
        build_part("layer", self.layer, input_shape)
        kernel = getattr(self.layer, "kernel", None)
        kernel = getattr(self.layer, "embeddings", None) if kernel is None else kernel
        names = [name for name, value in vars(self.layer).items() if kernel is not None and value is kernel]
        # What wraps a layer computes with the kernel of that one.
        wraps = isinstance(self.layer, keras.layers.Wrapper)
        if kernel is None or wraps or not (names or self.layer.quantization_mode):
            raise ValueError(
                f"{type(self).__name__} takes layers that compute with one stored `kernel` or `embeddings`. "
                f"Received: {self.layer!r} of type {type(self.layer).__name__}, which has none, that of another layer, "
                "or one made of several weights (LoRA). Pass a layer such as Dense, EinsumDense, Conv2D, "
                "Conv2DTranspose, DepthwiseConv2D or Embedding."
            )
        if 0 in kernel.shape:
            raise ValueError(
                f"{type(self).__name__} takes layers whose kernel is not empty. "
                f"Received: a kernel of shape {tuple(kernel.shape)} for an input of shape {tuple(input_shape)}. "
                "Pass an input with channels."
            )
        self._build_kernel(tuple(kernel.shape))
        if not self.layer.quantization_mode:
            self._kernel_name = names[0]
            # Read as it is stored: `_effective_kernel` works on it in at least float32.
            never_cast(self._kernel)

    @property
    def _kernel(self):
        return vars(self.layer)[self._kernel_name]

    def _output_axes(self, rank):
        """Returns the axes of the kernel that are output channels."""
        if isinstance(self.layer, _TRANSPOSED):
            return [rank - 2]
        if isinstance(self.layer, _DEPTHWISE):
            return [rank - 2, rank - 1]
        if isinstance(self.layer, keras.layers.EinsumDense):
            inputs, labels = self.layer.equation.split("->")[0].replace(" ", "").split(",")
            return [axis for axis, label in enumerate(labels) if label not in inputs]
        return [rank - 1]

    @property
    def _wide(self):
        """The type in which kernels are normalised."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    def _build_kernel(self, shape):
        """Makes what a subclass needs for kernels of this shape."""

    def _effective_kernel(self, kernel, training):
        """Returns the kernel to compute with; `kernel` is the stored one in at least float32."""
        raise NotImplementedError

    def _replacements(self, training):
        """Returns the attributes of the layer that are replaced, by name."""
        kernel = self._effective_kernel(ops.cast(self._kernel, self._wide), training)
        return {self._kernel_name: ops.cast(kernel, self.layer.compute_dtype)}

    def call(self, inputs, training=None, mask=None):
        if self.layer.quantization_mode:
            return masks.apply(self.layer, inputs, mask)
        view = object.__new__(type(self.layer))
        view.__dict__.update(vars(self.layer))
        # Not through Keras's `__setattr__`, which would track the tensors.
        view.__dict__.update(self._replacements(training))
        return masks.apply(view, inputs, mask)

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape):
        return returned_shape("layer", self.layer, input_shape)

    def _quantize(self, quantize, mode=None, config=None, **kwargs):
        """Quantises the layer with the kernel, and whatever else it computes with, put in the place of the stored."""
        chosen = getattr(config, "mode", mode)
        if chosen not in ("int8", "int4"):
            raise NotImplementedError(
                f"A layer inside {type(self).__name__} is quantised to 'int8' or 'int4' alone. "
                f"Received: mode={chosen!r} for {self.layer!r}. Leave it out with `filters`."
            )
        stored = {name: vars(self.layer)[name] for name in self._replacements(False)}
        before = {name: ops.copy(weight) for name, weight in stored.items()}
        for name, value in self._replacements(False).items():
            stored[name].assign(value)
        try:
            quantize(mode=mode, config=config, **kwargs)
        except Exception:
            for name, weight in stored.items():
                weight.assign(before[name])
            raise

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        # While a model is loaded, copies of a wrapper would be given one and the same layer.
        layer.pop("shared_object_id", None)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        return restore_with_policy(lambda rest: super(KernelWrapper, cls).from_config(deserialize_layers(rest)), config)
