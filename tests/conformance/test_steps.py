"""A step as it is computed, often by one operation, against what it says in the words of an interpreter."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.layers import CCP, NCP, Injection, NCPSkip, PolynomialResidual, PooledProduct, SpiralPolynomial
from pinets_tf.layers.mesh.spiral_polynomial import PER_VERTEX
from pinets_tf.layers.polynomial.interpreter import Interpreter, Tensors, reader
from pinets_tf.layers.polynomial.step import NORMALIZERS, PLACES
from tests.conformance.cases import ON_TENSORFLOW, SPIRALS, numpy

if ON_TENSORFLOW:
    import tensorflow as tf


class Plain(Tensors):
    """Computes each step by `Step.read`, one operation after another."""

    step = Interpreter.step


def _conv(filters=4, **options):
    return keras.layers.Conv2D(filters, 3, padding="same", **options)


MAPS, VECTORS, MESHES = (6, 5, 5, 4), (6, 4), (6, 5, 4)
# For each layer how it is made, and the shapes of its inputs. Of maps, TensorFlow takes the step as one operation.
LAYERS = {
    "CCP": (lambda **options: CCP(None, 3, operator=_conv(), **options), [MAPS]),
    "CCP-vectors": (lambda **options: CCP(3, 3, rank=4, **options), [VECTORS]),
    "NCP": (lambda **options: NCP(None, 3, operator=_conv(), **options), [MAPS]),
    "NCPSkip": (lambda **options: NCPSkip(None, 3, operator=_conv(), **options), [MAPS]),
    "NCPSkip-learned": (lambda **options: NCPSkip(None, 3, operator=_conv(), learn_skip=True, **options), [MAPS]),
    "PolynomialResidual": (lambda **options: PolynomialResidual(_conv(), 3, **options), [MAPS]),
    "PolynomialResidual-factor": (lambda **options: PolynomialResidual(_conv(), 3, factor=_conv(), **options), [MAPS]),
    # A factor that is one vector, the same at every position.
    "Injection": (lambda **options: Injection(**options), [MAPS, VECTORS]),
    "Injection-skip": (lambda **options: Injection(skip=True, **options), [MAPS, VECTORS]),
    "Injection-offset": (lambda **options: Injection(offset=True, **options), [MAPS, VECTORS]),
    "Injection-maps": (
        lambda **options: Injection(factor=keras.layers.Dense(4), skip=True, offset=True, **options),
        [MAPS, MAPS],
    ),
    "PooledProduct": (lambda **options: PooledProduct(keras.layers.Dense(4), 3, **options), [MAPS]),
    **{
        f"SpiralPolynomial-{variant}{'-residual' * residual}": (
            lambda variant=variant, residual=residual, **options: SpiralPolynomial(
                4, SPIRALS, 3, variant=variant, residual=residual, **options
            ),
            [MESHES],
        )
        for variant in ("simple", "full")
        for residual in (False, True)
    },
}


# One of each class, in every run.
FIRST = (
    "CCP",
    "NCP",
    "NCPSkip",
    "PolynomialResidual",
    "Injection-maps",
    "PooledProduct",
    "SpiralPolynomial-full-residual",
)


def _normalizers(name):
    """Returns the normalisers of a layer: those of the package, and layers of Keras."""
    of_vertices = PER_VERTEX if name.startswith("Spiral") else ()
    # Vectors have no positions.
    named = [x for x in NORMALIZERS if not (x == "instance" and name == "CCP-vectors")]
    of_keras = [
        keras.layers.BatchNormalization(momentum=0.9),
        keras.Sequential([keras.layers.Activation("tanh"), keras.layers.Dense(4)]),
    ]
    return [None, *named, *of_vertices, *of_keras]


def _variants(name):
    """Yields the options of a layer."""
    for normalize, place, gate in itertools.product(_normalizers(name), PLACES, (False, True)):
        # Without a normaliser all places are the same.
        if normalize is not None or place == "product":
            yield {"normalize": normalize, "normalize_at": place, "gate": gate}


# The largest relative error of one rounding.
ROUNDING = {"float32": 2.0**-24, "float64": 2.0**-53, "mixed_float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}
# Two steps, each of which may round in four places where the other text does not: the product, what is normalised, and
# two sums. It holds relative to the largest number, of gradients to that of all gradients of a layer, since that of a
# gate is a sum of terms that cancel.
ROUNDINGS = 2 * 4


def _set_weights(layer):
    """Gives every weight and statistic a random value, so that gates and offsets take part."""
    rng = np.random.default_rng(1)
    for weight in (x for x in layer.weights if "float" in x.dtype):
        low, high = (0.5, 1.5) if any(name in weight.path for name in ("variance", "gamma", "gate")) else (-0.5, 0.5)
        weight.assign(rng.uniform(low, high, weight.shape))


def _numbers(layer, inputs, training, read):
    """Returns what a layer computes, the gradients in training, and its statistics afterwards."""
    _set_weights(layer)
    before = reader.set(lambda _, *of_masks: read(*of_masks))
    try:
        if not (training and ON_TENSORFLOW):
            y, gradients = layer(inputs, training=training), []
        else:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                y = layer(inputs, training=True)
                # Each number has a weight of its own, since those that are normalised add up to a constant.
                weights = np.random.default_rng(2).normal(size=y.shape)
                total = ops.sum(ops.cast(y, "float64") * weights)
            gradients = tape.gradient(total, [*layer.trainable_variables, *keras.tree.flatten(inputs)])
    finally:
        reader.reset(before)
    statistics = [x for x in layer.non_trainable_variables if "moving" in x.path]
    # The last b_n of an NCP without products, say, has no gradient.
    groups = [[y], [x for x in gradients if x is not None], *([x] for x in statistics)]
    return [np.concatenate([[0.0], *(numpy(x).astype("float64").ravel() for x in group)]) for group in groups]


def _check(name, policy, variants):
    keras.config.set_dtype_policy(policy)
    make, shapes = LAYERS[name]
    rng = np.random.default_rng(0)
    inputs = [ops.convert_to_tensor(rng.normal(size=shape), policy.removeprefix("mixed_")) for shape in shapes]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    for options in variants:
        layer = make(**options)
        layer.build(keras.tree.map_structure(lambda x: tuple(x.shape), inputs))
        for training in (False, True):
            computed, said = (_numbers(layer, inputs, training, read) for read in (Tensors, Plain))
            for one, other in zip(computed, said, strict=True):
                bound = ROUNDINGS * ROUNDING[policy] * np.abs(other).max()
                np.testing.assert_allclose(one, other, rtol=0, atol=bound, err_msg=f"{options}, {training=}")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", FIRST)
def test_a_step_computes_what_it_says(name, policy):
    _check(name, policy, [x for x in _variants(name) if x["normalize_at"] == "product" and x["gate"]])


@pytest.mark.long
@pytest.mark.parametrize("policy", ROUNDING)
@pytest.mark.parametrize("name", LAYERS)
def test_every_step_computes_what_it_says(name, policy):
    _check(name, policy, _variants(name))
