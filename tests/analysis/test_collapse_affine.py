"""Models with one layer for each run of affine maps: they compute the same, at the border too."""

import keras
import numpy as np
import pytest
from keras.layers import (
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Dense,
    DepthwiseConv1D,
    DepthwiseConv2D,
    EinsumDense,
    Normalization,
    Rescaling,
    SeparableConv1D,
    SeparableConv2D,
)

from pinets_tf.analysis import collapse_affine, degree, polynomial_summary
from pinets_tf.layers import CCP, NCP, BatchNormalization, PolynomialResidual, ProdPoly
from pinets_tf.models import resnet
from tests.conformance.cases import numpy, randomise
from tests.polynomial_degree import normalises_in_float64

IMAGE = (9, 8, 4)


def norm(**options):
    return keras.layers.BatchNormalization(**options)


def same(filters, size=3, **options):
    return Conv2D(filters, size, padding="same", **options)


def scaled():
    """A normalisation without an offset, of a number that Keras does not round to float32."""
    return Rescaling(0.25)


# Layers, the shape of their input, and how many layers are left of them.
ONE = {
    "dense-norm": (lambda: [Dense(5), norm()], (4,), 1),
    "dense-ours": (lambda: [Dense(5, use_bias=False), BatchNormalization(scale=False)], (4,), 1),
    "dense-uncentred": (lambda: [Dense(5, use_bias=False), norm(center=False)], (4,), 1),
    "norm-dense": (lambda: [norm(), Dense(5, use_bias=False)], (4,), 1),
    "norm-dense-norm": (lambda: [norm(), Dense(5), norm()], (4,), 1),
    "dense-dense": (lambda: [Dense(5), Dense(3)], (4,), 1),
    "dense-dense-of-sequences": (lambda: [Dense(5, use_bias=False), Dense(3)], (6, 4), 1),
    # 8 * 5 is more than 8 * 2 + 2 * 5, but the last three are of 2 * 5 + 5 * 3 and then of 2 * 3.
    "narrow": (lambda: [Dense(2), Dense(5), Dense(3)], (8,), 2),
    # The first two are joined after the others were: 8 * 8 > 8 * 3 + 3 * 8, but 8 * 2 < 8 * 3 + 3 * 2.
    "looks-back": (lambda: [Dense(3), Dense(8), Dense(2)], (8,), 1),
    "bottleneck": (lambda: [Dense(2), Dense(8)], (8,), 2),
    "einsum-norm": (lambda: [EinsumDense("abc,cd->abd", (None, 5)), norm()], (6, 4), 1),
    "einsum-heads": (lambda: [EinsumDense("...x,yxz->...yz", (3, 5), bias_axes="yz"), norm()], (6, 4), 1),
    "einsum-other-bias": (lambda: [EinsumDense("abc,cd->abd", (6, 5), bias_axes="b"), norm()], (6, 4), 2),
    "einsum-other-last": (lambda: [EinsumDense("abc,bd->adc", (5, 4)), norm()], (6, 4), 2),
    "norm-einsum": (lambda: [norm(), EinsumDense("abc,cd->abd", (None, 5))], (6, 4), 2),
    "einsum-dense": (lambda: [EinsumDense("abc,cd->abd", (None, 5)), Dense(3)], (6, 4), 2),
    "conv-norm": (lambda: [same(5, use_bias=False), norm()], IMAGE, 1),
    "conv-norm-strides": (lambda: [same(5, strides=2), BatchNormalization()], IMAGE, 1),
    "conv-norm-dilated": (lambda: [same(5, dilation_rate=2), norm()], IMAGE, 1),
    "conv-norm-grouped": (lambda: [same(6, groups=2), norm()], IMAGE, 1),
    "conv1d-norm": (lambda: [Conv1D(5, 3, padding="causal"), norm()], (9, 4), 1),
    "conv3d-norm": (lambda: [Conv3D(5, 2), norm()], (3, 4, 5, 2), 1),
    "depthwise-norm": (lambda: [DepthwiseConv2D(3, depth_multiplier=2, padding="same"), norm()], IMAGE, 1),
    "depthwise1d-norm": (lambda: [DepthwiseConv1D(3, depth_multiplier=3, strides=2), norm()], (9, 4), 1),
    "separable-norm": (lambda: [SeparableConv2D(5, 3, depth_multiplier=2, padding="same"), norm()], IMAGE, 1),
    "transposed-norm": (lambda: [Conv2DTranspose(5, 3, strides=2, padding="same"), norm()], IMAGE, 1),
    "norm-conv-valid": (lambda: [norm(), Conv2D(5, 3, strides=2)], IMAGE, 1),
    "norm-conv-dilated": (lambda: [norm(), Conv2D(5, 3, dilation_rate=2, use_bias=False)], IMAGE, 1),
    "norm-conv-grouped": (lambda: [norm(), Conv2D(6, 3, groups=2)], IMAGE, 1),
    "norm-conv-1x1-same": (lambda: [norm(), same(5, 1, strides=2)], IMAGE, 1),
    "norm-conv-same": (lambda: [norm(), same(5)], IMAGE, 2),
    "norm-conv-causal": (lambda: [norm(), Conv1D(5, 3, padding="causal")], (9, 4), 2),
    "scale-conv-same": (lambda: [scaled(), same(5, strides=2)], IMAGE, 1),
    "offset-conv-same": (lambda: [Rescaling(0.3, -1.0), same(5)], IMAGE, 2),
    "norm-depthwise": (lambda: [norm(), DepthwiseConv2D(3, depth_multiplier=2)], IMAGE, 1),
    "norm-depthwise-same": (lambda: [norm(), DepthwiseConv2D(3, padding="same")], IMAGE, 2),
    "norm-separable": (lambda: [norm(), SeparableConv1D(5, 3, depth_multiplier=2)], (9, 4), 1),
    "norm-transposed": (lambda: [norm(), Conv2DTranspose(5, 3)], IMAGE, 2),
    "normalization": (lambda: [Normalization(mean=[1, 2, 3, 4], variance=[4, 3, 2, 1]), Dense(5)], (4,), 1),
    "normalization-scalar": (lambda: [Normalization(None, mean=2.0, variance=3.0), Conv2D(5, 3)], IMAGE, 1),
    "normalization-back": (lambda: [Dense(4), Normalization(mean=2.0, variance=3.0, invert=True)], (4,), 1),
    "normalization-of-pixels": (lambda: [Normalization((1, 2, 3), mean=2.0, variance=3.0), Dense(5)], IMAGE, 2),
    "rescaling-of-channels": (lambda: [Rescaling([1.0, 2.0, 3.0, 4.0]), Dense(5)], (4,), 2),
    "norm-of-rows": (lambda: [Dense(5), norm(axis=1)], (6, 4), 2),
    "two-norms": (lambda: [norm(), norm()], (4,), 2),
    "conv-1x1": (lambda: [same(5), same(4, 1)], IMAGE, 1),
    "conv-strided-1x1": (lambda: [same(5, strides=2), Conv2D(4, 1)], IMAGE, 1),
    "conv-dilated-1x1": (lambda: [Conv2D(5, 3, dilation_rate=2), Conv2D(4, 1)], IMAGE, 1),
    "conv-1x1-strided": (lambda: [same(5), Conv2D(4, 1, strides=2)], IMAGE, 2),
    "conv-valid-1x1-strided": (lambda: [Conv2D(5, 3), Conv2D(4, 1, strides=2)], IMAGE, 1),
    "conv-1x1-wide": (lambda: [same(5), same(60, 1)], IMAGE, 2),
    "conv-grouped-1x1": (lambda: [same(6, groups=2), same(4, 1)], IMAGE, 2),
    "conv-1x1-grouped": (lambda: [same(8), same(4, 1, groups=2)], IMAGE, 2),
    "conv-dense": (lambda: [same(5), Dense(4)], IMAGE, 1),
    "dense-conv": (lambda: [Dense(5, use_bias=False), same(4)], IMAGE, 1),
    "separable-1x1": (lambda: [SeparableConv2D(5, 3, padding="same"), same(4, 1)], IMAGE, 1),
    "transposed-1x1": (lambda: [Conv2DTranspose(5, 3, strides=2, padding="same"), same(4, 1)], IMAGE, 1),
    "depthwise-1x1": (lambda: [DepthwiseConv2D(3, padding="same"), same(4, 1)], IMAGE, 2),
    "1x1-conv": (lambda: [same(5, 1, use_bias=False), same(4, strides=2)], IMAGE, 1),
    "1x1-conv-dilated": (lambda: [same(5, 1, use_bias=False), same(4, dilation_rate=2)], IMAGE, 1),
    "1x1-conv-bias": (lambda: [same(5, 1), same(4)], IMAGE, 2),
    "1x1-conv-valid-bias": (lambda: [same(5, 1), Conv2D(4, 3, strides=2)], IMAGE, 1),
    "1x1-depthwise": (lambda: [same(5, 1), DepthwiseConv2D(3)], IMAGE, 2),
    "1x1-strided-conv": (lambda: [same(5, 1, strides=2, use_bias=False), same(4)], IMAGE, 2),
    "valid-valid": (lambda: [Conv1D(8, 2), Conv1D(2, 3)], (9, 4), 1),
    "valid-valid-strided": (lambda: [Conv2D(20, (3, 2), strides=2), Conv2D(2, 2)], (11, 10, 2), 1),
    "valid-valid-both-strided": (lambda: [Conv1D(40, 3, strides=2), Conv1D(1, 2, strides=3)], (25, 2), 1),
    "valid-valid-narrow": (lambda: [Conv2D(1, 3), Conv2D(4, 3)], IMAGE, 2),
    "valid-valid-dilated": (lambda: [Conv1D(8, 2, dilation_rate=2), Conv1D(2, 3)], (9, 4), 2),
    "same-same": (lambda: [same(40, use_bias=False), same(1)], IMAGE, 2),
    "same-valid": (lambda: [Conv1D(8, 2, padding="same"), Conv1D(2, 3)], (9, 4), 2),
    "valid-same": (lambda: [Conv1D(8, 2), Conv1D(2, 3, padding="same")], (9, 4), 2),
    "activation": (lambda: [same(5, activation="relu"), norm()], IMAGE, 2),
    "run": (lambda: [scaled(), same(6), norm(), same(5, 1), BatchNormalization()], IMAGE, 1),
}


def sequential(layers, shape, **options):
    model = keras.Sequential([keras.Input(shape), *layers], **options)
    randomise(model)
    return model


def inputs_of(model, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=(2, *model.input_shape[1:])).astype(dtype)


def layers_in(model):
    return [layer.name for layer in model._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]


def assert_agree(new, old, tolerance, dtype="float32"):
    """Asserts that two models return the same, in the middle and at the border, of each as much as it has."""
    x = inputs_of(old, dtype)
    a, b = numpy(old(x)), numpy(new(x))
    assert a.shape == b.shape and a.dtype == b.dtype
    middle = np.zeros(a.shape, bool)
    middle[:, *[slice(1, -1)] * (a.ndim - 2)] = True
    for part in (middle, ~middle):
        if part.any():
            assert np.abs(a - b)[part].max() <= tolerance * np.abs(a[part]).max()


@pytest.mark.parametrize("name", ONE)
def test_computes_the_same_with_fewer_layers(name):
    make, shape, left = ONE[name]
    model = sequential(make(), shape, name="whole")
    before = model.get_weights()
    collapsed = collapse_affine(model)
    assert_agree(collapsed, model, 1e-5)
    assert len(layers_in(collapsed)) == 1 + left, layers_in(collapsed)
    assert set(layers_in(collapsed)) <= set(layers_in(model))
    assert not {id(weight) for weight in collapsed.weights} & {id(weight) for weight in model.weights}
    assert all(map(np.array_equal, before, model.get_weights()))


COSTS = [
    "run",
    "bottleneck",
    "looks-back",
    "conv-1x1-wide",
    "valid-valid-strided",
    "valid-valid-narrow",
    "separable-1x1",
]


@pytest.mark.parametrize("name", [*COSTS, "transposed-1x1", "norm-conv-grouped"])
def test_costs_no_more(name):
    make, shape, left = ONE[name]
    model = sequential(make(), shape)
    old, new = polynomial_summary(model).total, polynomial_summary(collapse_affine(model)).total
    assert new.multiply_adds <= old.multiply_adds and new.products <= old.products
    assert new.products == 0 if left == 1 else new.multiply_adds == old.multiply_adds


@normalises_in_float64
@pytest.mark.parametrize("name", ["run", "norm-conv-grouped", "valid-valid-both-strided", "transposed-1x1"])
def test_is_exact_in_float64(name):
    keras.config.set_dtype_policy("float64")
    make, shape, _ = ONE[name]
    model = sequential(make(), shape)
    assert_agree(collapse_affine(model), model, 1e-10, "float64")


def test_two_padded_convolutions_are_another_map_at_the_border():
    layers = [same(1, use_bias=False), same(1, use_bias=False)]
    model = sequential(layers, (9, 8, 1))
    one = sequential([same(1, 5, use_bias=False)], (9, 8, 1))
    kernels = [numpy(layer.kernel)[:, :, 0, 0] for layer in layers]
    composed = np.zeros((5, 5))
    for i, j in np.ndindex(3, 3):
        composed[i : i + 3, j : j + 3] += kernels[0] * kernels[1][i, j]
    one.set_weights([composed[:, :, None, None]])
    x = inputs_of(model)
    apart = np.abs(numpy(one(x)) - numpy(model(x)))
    assert apart[:, 1:-1, 1:-1].max() < 1e-5 < 0.01 < apart[:, 0].max()
    assert len(collapse_affine(model).layers) == 3


@pytest.mark.parametrize("size, left", [(None, 2), (16, 1)])
def test_sizes_may_be_unknown(size, left):
    # 24 + 162 < 192 multiply-adds, but the first convolution has four times the positions of the second one.
    model = sequential([norm(), Conv2D(3, 2), BatchNormalization(), Conv2D(6, 3, strides=2)], (size, size, 2))
    collapsed, x = collapse_affine(model), np.random.default_rng(0).normal(size=(2, 16, 16, 2))
    assert len(collapsed.layers) == 1 + left
    np.testing.assert_allclose(numpy(collapsed(x)), numpy(model(x)), rtol=1e-4, atol=1e-5)


def shared():
    z, twice, scores = keras.Input((4,)), Dense(4, name="twice"), Dense(3, name="scores")
    return keras.Model(z, scores(norm(name="kept")(twice(twice(z)))))


def two_takers():
    z = keras.Input((4,))
    x = Dense(5, name="taken")(z)
    return keras.Model(z, keras.layers.Add()([norm()(x), Dense(5)(x)]))


def output():
    z = keras.Input((4,))
    x = Dense(5, name="first")(z)
    return keras.Model(z, [x, norm(name="second")(x)])


def shared_with_a_nested_model():
    z, dense = keras.Input((4,)), Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), dense, norm(name="inside")], name="inner")
    return keras.Model(z, inner(dense(z)))


def shared_with_a_layer():
    z, dense = keras.Input((4,)), Dense(4, name="shared")
    return keras.Model(z, norm()(dense(PolynomialResidual(dense, 2)(z))))


def in_training():
    z = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), Dense(4), norm()], name="inner")
    block = PolynomialResidual(keras.Sequential([Dense(4), norm()]), 2, name="block")
    return keras.Model(z, norm()(block(inner(z, training=True), training=True), training=True))


def other_policies():
    return keras.Sequential([keras.Input((4,)), Dense(5, dtype="mixed_bfloat16"), Dense(3, dtype="float32")])


def adapted():
    dense = Dense(5)
    model = keras.Sequential([keras.Input((4,)), dense, norm()])
    dense.enable_lora(2)
    return model


def channels_first():
    return keras.Sequential([keras.Input((3, 9, 8)), Conv2D(4, 3, data_format="channels_first"), norm(axis=1)])


def whole_numbers():
    return keras.Sequential([keras.Input((4,), dtype="uint8"), Rescaling(0.5), Dense(3)])


class Bent(Dense):
    def call(self, x):
        return keras.ops.square(super().call(x))


ALONE = {
    "shared": shared,
    "two takers": two_takers,
    "output": output,
    "shared with a nested model": shared_with_a_nested_model,
    "shared with a layer": shared_with_a_layer,
    "in training": in_training,
    "other policies": other_policies,
    "adapted": adapted,
    "channels first": channels_first,
    "whole numbers": whole_numbers,
    "own call": lambda: keras.Sequential([keras.Input((4,)), Bent(4), norm()]),
}


@pytest.mark.parametrize("name", ALONE)
def test_leaves_alone_what_stands_for_more(name):
    model = ALONE[name]()
    randomise(model)
    collapsed = collapse_affine(model)
    assert sorted(layers_in(collapsed)) == sorted(layers_in(model)) or name == "shared"
    if name == "shared":
        # What comes after it is one.
        assert [layer.name for layer in collapsed.layers[1:]] == ["twice", "scores"]
    if name == "channels first":
        # TensorFlow has no such convolution on CPUs.
        return
    x = inputs_of(model, model.inputs[0].dtype)
    for new, old in zip(keras.tree.flatten(collapsed(x)), keras.tree.flatten(model(x))):
        np.testing.assert_allclose(numpy(new), numpy(old), rtol=1e-4, atol=1e-4)


def test_residual_network():
    model = resnet((32, 32, 3), 10, order=2, width=4, stage_blocks=(1, 2))
    randomise(model)
    collapsed = collapse_affine(model)
    assert_agree(collapsed, model, 1e-5)
    # The stem, six convolutions in branches and one in a shortcut had batch normalisations.
    gone = [layer for layer in model._flatten_layers() if type(layer) is BatchNormalization]
    assert len(gone) == 8 and len(layers_in(collapsed)) == len(layers_in(model)) - 8
    assert [layer.name for layer in collapsed.layers] == [layer.name for layer in model.layers]
    old, new = polynomial_summary(model).total, polynomial_summary(collapsed).total
    assert new.multiply_adds == old.multiply_adds and new.products < old.products
    assert degree(collapsed) == degree(model) == 8


def nested():
    z = keras.Input((6, 6, 3), name="image")
    inner = keras.Sequential([keras.Input((6, 6, 3)), norm(), Conv2D(4, 3), norm()], name="inner")
    y = keras.Sequential([keras.Input((6, 6, 3)), inner, keras.layers.Flatten(), Dense(5)], name="outer")(z)
    x = keras.Input((6, 6, 3))
    other = keras.Model(x, norm()(Conv2D(2, 1)(x)), name="other")(z)
    block = PolynomialResidual(
        keras.Sequential([Dense(7), norm(), Dense(6)], name="branch"),
        3,
        keras.Sequential([Dense(6), norm()], name="shortcut"),
        factor=keras.Sequential([norm(), Dense(6)], name="factor"),
        normalize="batch",
        gate=True,
        name="block",
    )
    several = ProdPoly([CCP(5, 2, rank=4), keras.Sequential([Dense(6), norm()]), NCP(3, 2, rank=4)], name="several")
    return keras.Model({"image": z}, {"y": several(block(y)), "x": other * 2.0})


def test_nested_models_and_parts_of_layers(tmp_path):
    model = nested()
    randomise(model)
    x = {"image": np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")}
    collapsed = collapse_affine(model)
    block, several = collapsed.get_layer("block"), collapsed.get_layer("several")
    inner = collapsed.get_layer("outer").get_layer("inner")
    inside = [inner, collapsed.get_layer("other"), block.branch, block.shortcut, block.factor]
    assert [len(part.layers) for part in [*inside, several.polynomials[1]]] == [2] * 6
    assert [part.name for part in inside] == ["inner", "other", "branch", "shortcut", "factor"]
    collapsed.save(tmp_path / "collapsed.keras")
    loaded = keras.saving.load_model(tmp_path / "collapsed.keras")
    for name, expected in model(x).items():
        scale = np.abs(numpy(expected)).max()
        np.testing.assert_allclose(numpy(collapsed(x)[name]), numpy(expected), atol=1e-5 * scale)
        np.testing.assert_array_equal(numpy(loaded(x)[name]), numpy(collapsed(x)[name]))


def test_what_is_frozen_stays_frozen():
    layers = [Dense(5, trainable=False), norm(), CCP(4, 2, rank=3, trainable=False), Dense(4), norm(), Dense(3)]
    collapsed = collapse_affine(sequential(layers, (4,)))
    assert [layer.trainable for layer in collapsed.layers[1:]] == [False, False, True]
    model = sequential([Dense(5), norm()], (4,), trainable=False)
    assert not collapse_affine(model).trainable_weights


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_keeps_policies(policy):
    keras.config.set_dtype_policy(policy)
    model = sequential([same(5), norm(), same(4, 1)], IMAGE)
    collapsed = collapse_affine(model)
    assert [layer.dtype_policy.name for layer in collapsed.layers[1:]] == [policy]
    assert collapsed.weights[0].dtype == model.weights[0].dtype
    assert_agree(collapsed, model, 0.03)


def quantised():
    model = keras.Sequential([keras.Input((4,)), Dense(4, name="rounds")])
    model.quantize("int8")
    return model


class Nameless(keras.layers.Layer):
    def __init__(self, needed, **options):
        super().__init__(**options)

    def call(self, x):
        return x

    def get_config(self):
        return {"name": self.name}


REFUSED = {
    "layer": (lambda: Dense(3), r"copy of the graph of a model\. Received: <Dense .*Pass a built functional or seq"),
    "not built": (lambda: keras.Sequential([Dense(3)]), r"Received: <Sequential .*\. Pass a built"),
    "quantised": (quantised, r"before they are quantised\. Received: .* such as rounds\. Pass the model as it was"),
    "no config": (
        lambda: keras.Sequential([keras.Input((4,)), Nameless(1, name="nameless")]),
        r"layer by layer, by their configs\. Received: the layer nameless of .* Give it `get_config`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_it_takes(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        collapse_affine(make())
