"""Spectral normalisation in the forward pass, as GANs of the paper use it."""

import math

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.generation.kernel_wrapper import KernelWrapper


@keras.saving.register_keras_serializable(package="pinets_tf")
class SpectralNormalization(KernelWrapper):
    """A layer whose kernel is divided by its largest singular value in the forward pass.

        sigma = v^T W u,    v = W u / |W u|,    u <- W^T v / |W^T v|
        y     = layer(z) with W / sigma for W

    W is the kernel as a matrix with one column for each output channel. Each call in training advances the stored u by
    `power_iterations` steps; inference takes it as it is. u and v are constants of the gradient, which flows through
    sigma: dW = (G - <G, W / sigma> v u^T) / sigma for a gradient G of the normalised kernel. The stored kernel is left
    alone, where `keras.layers.SpectralNormalization` assigns it the normalised one.

    The layer stays linear if it was. sigma is computed in float32 under `mixed_float16`, `mixed_bfloat16` and in
    narrower types, from the stored kernel, in float64 for float64.

    Args:
        layer: a Keras layer with a `kernel` or `embeddings`: `Dense`, `EinsumDense`, `Conv2D`, `Conv2DTranspose`,
            `DepthwiseConv2D`, `Embedding` ...; used as it is. `quantize` puts the normalised kernel in it for good.
        power_iterations: how often u is advanced in a call in training (Miyato et al., algorithm 1).
        seed: an integer, for the first u; by default one drawn from Python's random state, which
            `keras.utils.set_random_seed` sets.
        **kwargs: those of `keras.layers.Layer`. The dtype policy is that of `layer`; a `dtype` given here is handed to
            it.

    Input shape:
        What `layer` takes.

    Output shape:
        What `layer` returns.

    Raises:
        ValueError: if `layer` is not a Keras layer or has no kernel, or if `power_iterations` is not a positive
            integer.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.layers import SpectralNormalization
    >>> SpectralNormalization(keras.layers.Conv2D(8, 3))(np.ones((2, 6, 6, 3), "float32")).shape[1:]
    TensorShape([4, 4, 8])

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, which the
    discriminators of Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.1, use.
    """

    def __init__(self, layer, power_iterations=1, *, seed=None, **kwargs):
        super().__init__(layer, **kwargs)
        self.power_iterations = positive_integer(
            "power_iterations", power_iterations, "Pass power_iterations=1, which is enough where kernels move slowly."
        )
        self.seed = seed

    def _build_kernel(self, shape):
        self.u = self.add_weight(
            shape=(math.prod(shape[axis] for axis in self._output_axes(len(shape))),),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=False,
            autocast=False,
            name="u",
        )

    def _as_matrix(self, kernel):
        """Returns the kernel with one column for each output channel."""
        columns = self._output_axes(len(kernel.shape))
        rows = [axis for axis in range(len(kernel.shape)) if axis not in columns]
        return ops.reshape(ops.transpose(kernel, rows + columns), (-1, self.u.shape[0]))

    def _effective_kernel(self, kernel, training):
        W = self._as_matrix(kernel)
        constant = ops.stop_gradient(W)
        u = _unit(ops.cast(self.u, self._wide))
        v = _unit(ops.matmul(constant, u))
        if training:
            for step in range(self.power_iterations):
                v = v if step == 0 else _unit(ops.matmul(constant, u))
                u = _unit(ops.matmul(v, constant))
            self.u.assign(ops.cast(u, self.u.dtype))
        sigma = ops.sum(ops.multiply(ops.matmul(W, u), v))
        return ops.divide(kernel, ops.where(sigma > 0, sigma, ops.ones_like(sigma)))

    def get_config(self):
        return {**super().get_config(), "power_iterations": self.power_iterations, "seed": self.seed}


def _unit(vector):
    return ops.divide(vector, ops.maximum(ops.sqrt(ops.sum(ops.square(vector))), keras.config.epsilon() ** 2))
