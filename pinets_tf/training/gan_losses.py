"""What two networks trained against each other minimise, always computed in float32 or more."""

import keras
import tensorflow as tf
from keras import ops


def discriminator_hinge(real, fake):
    """mean(max(0, 1 - D(x))) + mean(max(0, 1 + D(G(z)))), of logits."""
    return ops.mean(ops.relu(1.0 - _wide(real))) + ops.mean(ops.relu(1.0 + _wide(fake)))


def generator_hinge(fake):
    """-mean(D(G(z))), of logits."""
    return -ops.mean(_wide(fake))


def discriminator_logistic(real, fake):
    """mean(log(1 + exp(-D(x)))) + mean(log(1 + exp(D(G(z))))), of logits."""
    return ops.mean(ops.softplus(-_wide(real))) + ops.mean(ops.softplus(_wide(fake)))


def generator_logistic(fake):
    """mean(log(1 + exp(-D(G(z))))), of logits: the loss that does not saturate."""
    return ops.mean(ops.softplus(-_wide(fake)))


# For each name the loss of the discriminator and that of the generator.
LOSSES = {
    "hinge": (discriminator_hinge, generator_hinge),
    "logistic": (discriminator_logistic, generator_logistic),
}


def with_r1(discriminate, real, gamma):
    """Calls a discriminator once, and returns its logits and gamma / 2 * E ||gradient of D(x) with respect to x||^2.

    The gradient is of the sum of the logits, not of their mean, and so does not get smaller in float16 with the batch.

    Args:
        discriminate: a function from real images to the logits of real images and those of fake ones.
        real: images, at least float32.
        gamma: the weight.

    Returns:
        The real logits, the fake ones, and the penalty, a scalar.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, Eq. 9.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        real_logits, fake_logits = discriminate(real)
        total = ops.sum(_wide(real_logits))
    gradient = _wide(tape.gradient(total, real))
    square = ops.sum(ops.square(gradient), axis=tuple(range(1, len(gradient.shape))))
    return real_logits, fake_logits, 0.5 * gamma * ops.mean(square)


def _wide(x):
    """Returns `x` in float32, or in float64 where it is that."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
