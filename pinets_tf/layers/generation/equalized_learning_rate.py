"""The equalised learning rate of progressive GANs and StyleGAN."""

import math

import keras
from keras import ops

from pinets_tf.layers.checks import positive_number
from pinets_tf.layers.copying import uses_default_kernel_initializer
from pinets_tf.layers.generation.kernel_wrapper import KernelWrapper


@keras.saving.register_keras_serializable(package="pinets_tf")
class EqualizedLearningRate(KernelWrapper):
    """A layer whose kernel is scaled when it is used instead of when it is drawn.

        y = layer(z) with m gain / sqrt(fan_in) W for the kernel W and m b for the bias b

    m is `learning_rate_multiplier`. W is drawn from N(0, 1 / m^2), so that the kernel in use starts with the deviation
    gain / sqrt(fan_in), that of He et al. Adam moves all weights by about its learning rate, whatever their size: so
    every layer changes at the same relative speed, m times that of a layer without multiplier.

    The layer stays linear if it was. The scaling is done in at least float32 also under `mixed_float16`.

    Args:
        layer: a Keras layer with a `kernel` and a `kernel_initializer`: `Dense`, `EinsumDense`, `Conv2D`,
            `Conv2DTranspose` ...; used as it is. Where its `kernel_initializer` is the default of its class and it is
            not built yet, it is replaced by the one above. `quantize` puts the scaled kernel in it for good.
        gain: the deviation of the output at the start, for inputs of deviation one; sqrt(2) before ReLU.
        learning_rate_multiplier: m, such as 0.01 in the mapping network of StyleGAN.
        **kwargs: those of `keras.layers.Layer`. The dtype policy is that of `layer`; a `dtype` given here is handed to
            it.

    Input shape:
        What `layer` takes.

    Output shape:
        What `layer` returns.

    Raises:
        ValueError: if `layer` is not a Keras layer or has no kernel, or if a number is not positive.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.layers import EqualizedLearningRate
    >>> dense = EqualizedLearningRate(keras.layers.Dense(8), learning_rate_multiplier=0.01)
    >>> dense(np.ones((2, 5), "float32")).shape[-1], bool(np.std(dense.layer.get_weights()[0]) > 50)
    (8, True)

    Source: Karras et al., "Progressive Growing of GANs", ICLR 2018, Sec. 4.1; "A Style-Based Generator Architecture for
    GANs", CVPR 2019, whose mapping network Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec.
    5.1, replace.
    """

    def __init__(self, layer, gain=2**0.5, learning_rate_multiplier=1.0, **kwargs):
        super().__init__(layer, **kwargs)
        for name, value in (("gain", gain), ("learning_rate_multiplier", learning_rate_multiplier)):
            positive_number(name, value, f"Pass {name}=1.0.")
        if "kernel_initializer" not in vars(layer):
            raise ValueError(
                "EqualizedLearningRate takes layers with a `kernel` and a `kernel_initializer`. "
                f"Received: {layer!r} of type {type(layer).__name__}. "
                "Pass a layer such as Dense, EinsumDense, Conv2D or Conv2DTranspose."
            )
        self.gain = float(gain)
        self.learning_rate_multiplier = float(learning_rate_multiplier)
        if not layer.built and uses_default_kernel_initializer(layer):
            layer.kernel_initializer = keras.initializers.RandomNormal(stddev=1.0 / self.learning_rate_multiplier)

    def _effective_kernel(self, kernel, training):
        outputs = self._output_axes(len(kernel.shape))
        fan_in = math.prod(size for axis, size in enumerate(kernel.shape) if axis not in outputs)
        return ops.multiply(kernel, self.learning_rate_multiplier * self.gain / math.sqrt(fan_in))

    def _replacements(self, training):
        bias = vars(self.layer).get("bias")
        if bias is None or self.learning_rate_multiplier == 1.0:
            return super()._replacements(training)
        return {**super()._replacements(training), "bias": ops.multiply(bias, self.learning_rate_multiplier)}

    def get_config(self):
        return {
            **super().get_config(),
            "gain": self.gain,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
