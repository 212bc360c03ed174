"""What a summary counts is what TensorFlow's profiler counts, and what it does not know it says."""

import collections
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from pinets_tf.analysis import polynomial_summary
from pinets_tf.layers import CCP, NCP, NCPSkip
from pinets_tf.models import linear_generator, mesh_autoencoder, resnet, sngan_generator
from tests.conformance.cases import tensorflow_only

MULTIPLY_ADDS = ("BatchMatMulV2", "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "MatMul")
# By how many operations the profiler counts each; the difference of a square of differences is one.
PRODUCTS = {"Mul": 1, "RealDiv": 1, "Square": 1, "SquaredDifference": 2}
rng = np.random.default_rng(0)


def profile(model):
    """Returns the multiply-adds and products of a frozen model by TensorFlow's profiler.

    Those of weights alone, which are the same for every batch, are left out. Those in fused normalisations, einsums and
    powers, which the profiler does not know, are added: an einsum of two tensors multiplies for each combination of its
    indices, and an n-th power is n - 1 products.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    inputs = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    function = tf.function(lambda *xs: model(xs[0] if len(xs) == 1 else list(xs), training=False))
    graph = convert_variables_to_constants_v2(function.get_concrete_function(*inputs)).graph
    depend = {}
    for operation in graph.get_operations():
        if operation.type == "Placeholder" or any(x.op.name in depend for x in operation.inputs):
            depend[operation.name] = operation
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    counted, todo = collections.Counter(), [tf.compat.v1.profiler.profile(graph, cmd="scope", options=options)]
    while todo:
        node = todo.pop()
        todo += node.children
        if node.name in depend:
            counted[depend[node.name].type] += node.float_ops
    fused = [operation.outputs[0] for operation in depend.values() if operation.type == "FusedBatchNormV3"]
    products = sum(counted[kind] / times for kind, times in PRODUCTS.items()) + sum(
        x.shape.num_elements() for x in fused
    )
    multiply_adds = sum(counted[kind] for kind in MULTIPLY_ADDS) / 2
    for operation in depend.values():
        if operation.type == "Einsum":
            labels = "".join(operation.get_attr("equation").decode().partition("->")[0].split(","))
            sizes = [size for x in operation.inputs for size in x.shape]
            multiply_adds += math.prod(dict(zip(labels, sizes)).values())
        if operation.type == "Pow":
            exponent = int(tf.get_static_value(operation.inputs[1]))
            products += (exponent - 1) * operation.outputs[0].shape.num_elements()
    return multiply_adds, products


def vector(layer):
    return keras.Sequential([keras.Input((60,)), layer])


def blocks(order, **options):
    return resnet((32, 32, 3), 10, stage_blocks=(1, 1), order=order, width=8, **options)


def meshes(operator, **options):
    """Returns an autoencoder of random tables in the places of two levels of a mesh."""
    levels = [SimpleNamespace(spirals=rng.integers(0, size, (size, 6))) for size in (400, 200)]
    up, down = np.zeros((400, 200)), np.eye(400)[::2]
    up[np.arange(400), np.arange(400) // 2] = 0.5
    up[np.arange(400), (np.arange(400) // 2 + 1) % 200] = 0.5
    hierarchy = SimpleNamespace(levels=levels, down=[down], up=[up])
    return mesh_autoencoder(hierarchy, operator, activation=None, widths=(8,), latent=4, **options)


def convolutions():
    images = keras.Input((20, 20, 4))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(images)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = keras.layers.SeparableConv2D(5, 3)(x)
    x = keras.layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)
    x = keras.layers.Multiply()([x, keras.layers.LayerNormalization()(x)])
    x = keras.layers.Dense(7)(keras.layers.UnitNormalization()(keras.layers.RMSNormalization()(x)))
    return keras.Model(images, keras.ops.square(x))


MODELS = {
    "CCP": lambda: vector(CCP(10, 3, rank=16)),
    "NCP": lambda: vector(NCP(10, 3, rank=16, gate=True)),
    "NCPSkip": lambda: vector(NCPSkip(10, 4, rank=16, learn_skip=True)),
    "resnet-order-2": lambda: blocks(2, normalize="instance", activation="relu", pooled_rank=1, gate=False),
    "resnet-order-3": lambda: blocks(3, product_convolution=True),
    "sngan": lambda: sngan_generator(16, width=16, injection=True, polynomials=2, order=3),
    "transposed": lambda: linear_generator(width=0.1),
    "mesh-full": lambda: meshes("full", order=3),
    "mesh-feast": lambda: meshes("feast", heads=2),
    "convolutions": convolutions,
}


@tensorflow_only
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_profiler(name):
    model = MODELS[name]()
    total = polynomial_summary(model).total
    multiply_adds, products = profile(model)
    assert total.multiply_adds == pytest.approx(multiply_adds, rel=1e-3)
    assert total.products == pytest.approx(products, rel=1e-3)
    assert total.parameters == model.count_params()
    assert not any("call" in vars(layer) or "_step" in vars(layer) for layer in model._flatten_layers())


def test_maps_that_the_profiler_does_not_know():
    def counted(layer, *shape):
        return polynomial_summary(keras.Sequential([keras.Input(shape), layer])).total.multiply_adds

    grouped = keras.layers.Conv2D(6, 3, groups=2, data_format="channels_first")
    assert counted(grouped, 4, 7, 8) == 5 * 6 * 6 * 3 * 3 * 2
    assert counted(keras.layers.EinsumDense("abcd,ced->abe", (None, 6)), 5, 3, 2) == 5 * 3 * 2 * 6


def test_orders_degrees_and_memory():
    images = keras.Input((8, 8, 2), name="images")
    stem = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.Flatten(name="flat")], name="stem")
    x = stem(images)
    ccp = CCP(5, 3, rank=4, name="ccp")
    product = keras.layers.Multiply(name="product")([ccp(x), NCP(5, 2, rank=4, name="ncp")(x)])
    head = keras.layers.Dense(5, name="head")
    model = keras.Model(images, head(keras.layers.ReLU(name="relu")(head(product))), name="small")
    summary = polynomial_summary(model)
    rows = {row.layer: row for row in summary.rows}
    expected = {"stem/flat": 1, "ccp": 3, "ncp": 2, "product": 5, "relu": None}
    assert {name: rows[name].degree for name in expected} == expected
    assert (rows["ccp"].order, rows["ccp"].rank, rows["product"].order) == (3, 4, None)
    # Three factors, x_2 and x_3 of four numbers each and five outputs.
    assert (rows["ccp"].activation_bytes, rows["stem/flat"].activation_bytes) == (4 * (5 * 4 + 5), 0)
    # A layer that is called twice.
    assert [row.parameters for row in summary.rows if row.layer == "head"] == [30, 0]
    assert summary.total.parameters == model.count_params() == sum(row.parameters for row in summary.rows)
    assert summary.total.degree is None

    lines = str(summary).splitlines()
    assert lines[0].split("  ")[0] == "Layer (type)" and lines[-1].startswith("small (Functional)")
    ccp_line = next(line for line in lines if line.startswith("ccp (CCP)"))
    assert ccp_line.split()[-8:] == ["3", "3", "4", "1,753", "1,748", "8", "0.1", "KiB"]
    markdown = summary.markdown().splitlines()
    assert markdown[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert "| ccp (CCP) | (None, 5) | 3 | 3 | 4 | 1,753 | 1,748 | 8 | 0.1 KiB |" in markdown


class Outer(keras.layers.Layer):
    """A layer of a user: all products of two numbers of its input."""

    def call(self, x):
        return keras.ops.reshape(x[..., :, None] * x[..., None, :], (-1, x.shape[-1] ** 2))


class CountedOuter(Outer):
    def multiply_adds(self, input_shape):
        return input_shape[0] * input_shape[1] ** 2


class DoubleDense(keras.layers.Dense):
    def call(self, x):
        return super().call(x) + super().call(2 * x)


def test_says_what_it_does_not_know():
    summary = polynomial_summary(vector(Outer(name="outer")))
    assert (summary.unknown, summary.total.multiply_adds, summary.rows[0].products) == (("outer",), None, None)
    assert str(summary).endswith("Multiplications unknown: outer.") and "unknown" in str(summary).splitlines()[2]
    assert "| at least 0 | at least 0 |" in summary.markdown()
    summary = polynomial_summary(vector(CountedOuter()))
    assert (summary.unknown, summary.total.multiply_adds) == ((), 3600)
    # It does something else than the class that it is derived from.
    summary = polynomial_summary(vector(DoubleDense(2, name="double")))
    assert (summary.unknown, summary.total.parameters) == (("double",), 122)
    summary = polynomial_summary(keras.Sequential([keras.Input((3, 2)), keras.layers.LSTM(2, name="lstm")]))
    assert summary.unknown == ("lstm",)


class Doubled(keras.Model):
    def call(self, x):
        return 2 * super().call(x)


def test_says_what_it_takes():
    words = r"graph of a functional or sequential model\. Received: .*which has none\. Pass keras\.Model"
    with pytest.raises(ValueError, match=words):
        polynomial_summary(CCP(3, 2, rank=2))
    z = keras.Input((3,))
    with pytest.raises(ValueError, match=r"Received: .*whose `call` does something else\. Pass keras\.Model"):
        polynomial_summary(Doubled(z, keras.layers.Dense(2)(z)))
    words = r"all sizes of its inputs but the batch\. Received: the input images of .*\(None, None, None, 3\)\. Make"
    with pytest.raises(ValueError, match=words):
        polynomial_summary(resnet((None, None, 3), 10, stage_blocks=(1,), width=4))
