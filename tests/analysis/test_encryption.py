"""Which models are made of products and affine maps, how deep they are, and what is in the way."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from pinets_tf.analysis import collapse_affine, degree, encryption_report, register_layer
from pinets_tf.layers import CCP, NCP, BatchNormalization, Injection, PolynomialResidual
from pinets_tf.layers.generation.learned_constant import LearnedConstant
from pinets_tf.models import resnet
from tests.analysis import networks_of_today
from tests.conformance.cases import every_layer, functional, one_of_each_layer


@every_layer
def test_is_ready_where_it_is_a_polynomial(case):
    model = functional(case)
    report = encryption_report(model)
    assert report.degree == degree(model)
    assert report.ready == (report.degree is not None)
    if report.ready:
        # d numbers are multiplied by at least log2 d products one after another.
        assert 2**report.multiplicative_depth >= report.degree
        assert report.levels == report.multiplicative_depth + report.plaintext_depth


def depths(layer, shape=(6,)):
    report = encryption_report(keras.Sequential([keras.Input(shape), layer]))
    return report.multiplicative_depth, report.plaintext_depth, report.levels


def test_depths():
    free = [keras.layers.Reshape((2, 3)), keras.layers.Flatten(), keras.layers.Dropout(0.5)]
    assert depths(keras.Sequential(free)) == (0, 0, 0)
    assert depths(CCP(4, 3, rank=5)) == (2, 2, 4)
    # b_1, and S_2.
    assert depths(NCP(None, 2, rank=5)) == (1, 3, 4)
    assert depths(NCP(None, 2, rank=5, normalize="batch", gate=True)) == (1, 5, 6)

    class Cube(keras.layers.Layer):
        def call(self, x):
            return x * x * x

    register_layer(Cube, lambda degree: 3 * degree)
    assert depths(Cube()) == (2, 0, 2)
    x, w = keras.Input((4, 4, 3)), keras.Input((5,))
    long, short = keras.layers.Conv2D(3, 1)(keras.layers.Conv2D(3, 1)(x)), ops.multiply(x, x)
    report = encryption_report(keras.Model([x, w], keras.layers.Add()([Injection()([long, w]), short])))
    assert (report.degree, report.multiplicative_depth, report.plaintext_depth, report.levels) == (2, 1, 2, 3)


def test_names_what_is_to_be_replaced():
    network = resnet(
        (16, 16, 3), 3, stage_blocks=(1,), stem="7x7-max", activation="relu", normalize="instance", width=4
    )
    scores = keras.layers.Softmax(name="scores")(
        keras.layers.GRU(2, name="gru")(ops.reshape(network.output, (-1, 3, 1)))
    )
    report = encryption_report(keras.Model(network.input, scores, name="classifier"))
    assert (report.ready, report.degree) == (False, None)
    reasons = {obstacle.layer: (obstacle.reason, obstacle.remedy) for obstacle in report.obstacles}
    assert reasons["stem_pool"] == ("compares encrypted numbers", "Use average pooling")
    assert "normalize='batch'" in reasons["stage_1_block_1/normalize_2"][1]
    assert reasons["gru"][0] == "is not known to be a product or an affine map"
    assert "after decryption if it is the last step" in reasons["scores"][1]
    (inner,) = [path for path in reasons if path.startswith("stage_1_block_1/branch/")]
    assert reasons[inner][0] == "has the activation relu, which is no polynomial"
    lines = str(report).splitlines()
    assert lines[0] == "classifier cannot be computed on encrypted numbers. To be replaced:"
    assert "- stem_pool compares encrypted numbers. Use average pooling." in lines
    assert lines[-1].startswith("Without these: ")


def test_says_what_it_takes():
    words = r"graph of a functional or sequential model\. Received: .*which has none\. Pass keras\.Model"
    with pytest.raises(ValueError, match=words):
        encryption_report(CCP(3, 2, rank=2))


def levels(model):
    """Returns the levels of a model as it stands, composed, and composed between sums."""
    report = encryption_report(model)
    return report.levels, report.composed_levels, report.composed_levels_between_sums


def levels_by_hand(blocks, product_convolution):
    """Returns those of a residual network of order 2 without activations, block by block.

    As it stands, the stem is a convolution and a batch normalisation, and the head a mean and a dense layer. The
    longest way through a block goes through two convolutions, each with a normalisation, the product, and what the
    product goes through: a normalisation with the gate in it, or a convolution, a normalisation and a gate.

    Composed, one map comes before each product, with the maps of the block before it in it, and one after the last
    product. Between sums, a block has a map before its product and one after it, the stem is part of the first map, and
    the head is one.
    """
    of_product = 3 if product_convolution else 1
    as_it_stands = 2 + blocks * (2 * 2 + 1 + of_product) + 2
    return as_it_stands, blocks * (1 + 1) + 1, blocks * (1 + 1 + 1) + 1


@pytest.mark.parametrize("product_convolution", [False, True])
@pytest.mark.parametrize("stage_blocks", [(1,), (2, 1), (2, 2, 2, 2)])
def test_levels_of_residual_networks(stage_blocks, product_convolution):
    options = {"stage_blocks": stage_blocks, "product_convolution": product_convolution, "width": 2}
    model = resnet((32, 32, 3), 10, order=2, **options)
    assert levels(model) == levels_by_hand(sum(stage_blocks), product_convolution)
    if sum(stage_blocks) == 8:
        assert levels(model) == ((68 if product_convolution else 52), 17, 25)
        assert encryption_report(model).multiplicative_depth == 8


class Fifth(keras.layers.Layer):
    def call(self, x):
        return x**5


class FifthOfTwo(keras.layers.Layer):
    def call(self, inputs):
        return inputs[0] * inputs[1] ** 4


def dense(x, activation=None):
    return layers.Dense(x.shape[-1], activation=activation)(x)


def two_maps(x, kernel_size=3):
    return layers.Conv1D(x.shape[-1], kernel_size, padding="same")(layers.Conv1D(x.shape[-1], kernel_size)(x))


# What is made of an input (6, 4), and its products, multiplications with plaintexts, and levels of each kind.
GRAPHS = {
    "a chain": (lambda x: dense(BatchNormalization()(dense(x))), (0, 3, 3, 1, 1)),
    "without multiplications": (lambda x: layers.Flatten()(layers.Dropout(0.5)(x[:, 1:] + 1.0)), (0, 0, 0, 0, 0)),
    "moves within a chain": (lambda x: dense(layers.Reshape((2, 10))(dense(x[:, 1:]))), (0, 2, 2, 1, 1)),
    # The maps around the sum are one for each of its terms, or two.
    "two branches": (
        lambda x: dense(layers.Add()([layers.Conv1D(4, 1)(x), dense(dense(dense(x)))])),
        (0, 4, 4, 1, 2),
    ),
    "a shortcut": (lambda x: dense(layers.Add()([x, dense(x)])), (0, 2, 2, 1, 2)),
    "a sum of levels": (lambda x: layers.Add()([dense(dense(x)), ops.square(x)]), (1, 2, 2, 1, 1)),
    "a product": (lambda x: layers.Multiply()([dense(x), x]), (1, 1, 2, 2, 2)),
    "of three": (lambda x: layers.Multiply()([x, dense(x), x]), (2, 1, 3, 3, 3)),
    "of a product": (lambda x: dense(ops.multiply(dense(x) * x, x)), (2, 2, 4, 4, 4)),
    "with a number": (lambda x: dense(x) * 3.0, (0, 2, 2, 1, 1)),
    "with an array": (lambda x: ops.multiply(np.ones((1, 6, 4), "float32"), dense(x)), (0, 2, 2, 1, 1)),
    "with a constant": (lambda x: layers.Multiply()([dense(x), LearnedConstant((6, 4))(x)]), (0, 2, 2, 1, 1)),
    "a sum with a constant": (lambda x: dense(dense(x) + LearnedConstant((6, 4))(x)), (0, 2, 2, 1, 1)),
    "of constants": (
        lambda x: layers.Add()([x, layers.Multiply()([LearnedConstant((6, 4))(x), LearnedConstant((6, 4))(x)])]),
        (0, 0, 0, 0, 0),
    ),
    "a square": (lambda x: ops.square(dense(x)), (1, 1, 2, 2, 2)),
    "a cube": (lambda x: dense(x) ** 3, (2, 1, 3, 3, 3)),
    "a fourth power": (lambda x: ops.power(dense(x), 4), (2, 1, 3, 3, 3)),
    "a fifth power": (lambda x: x**5, (3, 0, 3, 3, 3)),
    "a first power": (lambda x: dense(dense(x) ** 1), (0, 2, 2, 1, 1)),
    # At least three products for what is of degree 5, also of two inputs.
    "a degree": (lambda x: dense(Fifth()(dense(x))), (3, 2, 5, 5, 5)),
    "a degree of two": (lambda x: FifthOfTwo()([x, dense(dense(x))]), (3, 2, 5, 4, 4)),
    # Without what is to be replaced.
    "an activation": (lambda x: dense(layers.ReLU()(dense(x))), (0, 2, 2, 1, 1)),
    "an activation of a map": (lambda x: dense(dense(x, "relu")), (0, 2, 2, 1, 1)),
    "a residual block": (lambda x: PolynomialResidual(layers.Dense(4), 3)(x), (2, 1, 3, 3, 3)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_levels_of_small_graphs(name):
    register_layer(Fifth, lambda degree: 5 * degree)
    register_layer(FifthOfTwo, lambda x, y: x + 4 * y)
    make, expected = GRAPHS[name]
    x = keras.Input((6, 4))
    model = keras.Model(x, make(x))
    report = encryption_report(model)
    assert (report.multiplicative_depth, report.plaintext_depth, *levels(model)) == expected
    assert report.ready != ("activation" in name)


def assert_collapses(model):
    before, after = levels(model), levels(collapse_affine(model))
    assert before[1] <= after[0] <= before[0]
    # What is left to compose is composed as before.
    assert after[1:] == before[1:]


@pytest.mark.parametrize("name", GRAPHS)
def test_collapsing_takes_no_more_levels(name):
    register_layer(Fifth, lambda degree: 5 * degree)
    register_layer(FifthOfTwo, lambda x, y: x + 4 * y)
    x = keras.Input((6, 4))
    assert_collapses(keras.Model(x, GRAPHS[name][0](x)))


@one_of_each_layer
def test_collapsing_around_each_layer_takes_no_more_levels(case):
    inputs = case.each(keras.Input)
    given = [BatchNormalization()(dense(x)) for x in keras.tree.flatten(inputs)]
    x = case.make()(given if isinstance(case.shape, list) else given[0])
    assert_collapses(keras.Model(inputs, dense(BatchNormalization()(x))))


# What it takes as it stands, and collapsed.
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Stem, downsampling, the depthwise maps and g lose their normalisations, the one after the last sum stays.
        ("star_net", {"size": 16, "stem": 4, "width": 4, "expansion": 2, "classes": 3, "depths": (1, 1)}, (23, 16)),
        # Two normalisations before a convolution of one pixel, and a convolution of that size after another one.
        ("naf_net", {"size": 6, "width": 4, "encoder": (1,), "middle": 0, "decoder": (0,)}, (18, 15)),
        ("bilinear_mlp", {"pixels": 6, "width": 5, "blocks": 2, "classes": 3}, (3 + 1 + 2 + 1 + 1, 1 + 1 + 1 + 1 + 1)),
        # Each normalisation comes before zeros that are padded.
        ("poly_kerv_net", {"size": 4, "filters": 3, "classes": 2}, (12, 12)),
    ],
)
def test_collapsing_networks(name, options, expected):
    model = getattr(networks_of_today, name)(**options, polynomial=True)
    assert_collapses(model)
    assert (levels(model)[0], levels(collapse_affine(model))[0]) == expected
