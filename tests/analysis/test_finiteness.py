"""The layer and the order at which numbers stop being finite are named as they were put in."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.analysis import first_not_finite
from pinets_tf.layers import CCP, NCP, BatchNormalization, Injection, NCPSkip
from pinets_tf.models import resnet

POLICY = "mixed_float16"


def model_of(cls, order, weights, **options):
    """Returns a model of a model of one polynomial in which every matrix is 1 and every vector 1 or what is given."""
    layer = cls(
        1, order, rank=1, kernel_initializer="ones", use_bias=False, dtype=POLICY, name=cls.__name__.lower(), **options
    )
    body = keras.Sequential([keras.Input((1,)), layer], name="body")
    for weight in layer.weights:
        name = weight.path.split("/", 1)[1].removeprefix(layer.name + "/")
        weight.assign(ops.full(weight.shape, weights.pop(name, 1.0)))
    assert not weights, f"no such weights: {weights}"
    z = keras.Input((1,), name="z")
    return keras.Model(z, keras.layers.Dense(1, kernel_initializer="ones", name="head")(body(z)))


def filled(value):
    return np.full((2, 1), value, "float32")


# x_1 = z and x_n = z (x_{n-1} + 1) of an NCP in which every matrix and vector is 1.
@pytest.mark.parametrize(("value", "order", "largest"), [(300.0, 2, 301), (40.0, 3, 1641), (16.0, 4, 4368)])
def test_names_the_order_of_a_product(value, order, largest):
    found = first_not_finite(model_of(NCP, 4, {}), filled(value))
    assert (found.layer, found.order, found.what) == ("body/ncp", order, f"product of order {order}")
    assert (found.dtype, round(found.largest)) == ("float16", largest)
    assert str(found) == (
        f"the product of order {order} in layer body/ncp is the first number that is not finite "
        f"(float16, from numbers of at most {largest})"
    )


def test_nothing_is_named_where_all_is_finite():
    assert first_not_finite(model_of(NCP, 4, {}), filled(15.0)) is None


AFFINE = {"normalize": "affine"}
OTHERS = {
    "x_1": (NCP, 2, {"b_1": 3000.0}, {}, 40.0, ("body/ncp", "product of order 1", 1)),
    "a factor": (NCP, 3, {"A_3/kernel": 3000.0}, {}, 25.0, ("body/ncp/A_3", "output", 3)),
    "a state": (NCP, 3, {"b_3": 6e4, "S_3/kernel": 1e3}, {}, 7.0, ("body/ncp", "state of order 3", 3)),
    "a cast": (NCP, 3, {"b_3": 1e5}, {}, 1.0, ("body/ncp", "weight b_3", 3)),
    "a skip": (NCPSkip, 3, {"V_3/kernel": 5e4}, {"learn_skip": True}, 2.0, ("body/ncpskip/V_3", "output", 3)),
    "a normalisation": (CCP, 2, {"normalize_2/gamma": 1e5}, AFFINE, 2.0, ("body/ccp", "normalisation of order 2", 2)),
    "a sum": (CCP, 2, {}, {}, 255.5, ("body/ccp", "sum of order 2", 2)),
    "a read-out": (CCP, 2, {"C/kernel": 6e4}, {}, 2.0, ("body/ccp/C", "output", None)),
    "a tanh hides it": (
        CCP,
        3,
        {},
        {"normalize": keras.Sequential([keras.layers.Activation("tanh")])},
        300.0,
        ("body/ccp", "product of order 2", 2),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_names_what_else_overflows_in_a_polynomial(name):
    cls, order, weights, options, value, expected = OTHERS[name]
    found = first_not_finite(model_of(cls, order, dict(weights), **options), filled(value))
    assert (found.layer, found.what, found.order) == expected
    assert found.dtype == "float16"
    if name == "a cast":
        assert found.largest == 1e5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compiling it takes most of the time")
def test_names_the_block_of_a_resnet():
    keras.config.set_dtype_policy(POLICY)
    network = resnet((8, 8, 1), 3, stage_blocks=(1, 2), order=3, width=4, normalize=None, gate=False)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)) / 20
    assert first_not_finite(network, images) is None
    block = network.get_layer("stage_2_block_2")
    # The last layer of the branch normalises.
    block.branch.layers[-1].beta.assign(ops.full(block.branch.layers[-1].beta.shape, 3000.0))
    network.get_layer("stage_2_block_1").branch.layers[-1].beta.assign(ops.full((8,), 10.0))
    found = first_not_finite(network, images)
    assert (found.layer, found.order, found.what) == ("stage_2_block_2", 3, "product of order 3")
    block.branch.layers[0].kernel.assign(ops.full(block.branch.layers[0].kernel.shape, 6e4))
    found = first_not_finite(network, images)
    assert found.layer == f"stage_2_block_2/branch/{block.branch.layers[0].name}"
    assert (found.order, found.what) == (None, "output")


def test_inputs_and_weights_come_first():
    x, z = keras.Input((3, 3, 2), name="map"), keras.Input((4,), name="latent")
    model = keras.Model([x, z], Injection(name="injection")([x, z]))
    values = [np.ones((1, 3, 3, 2), "float32"), np.ones((1, 4), "float32")]
    model.layers[-1].A.bias.assign([np.nan, 0.0])
    found = first_not_finite(model, values)
    assert (found.layer, found.what, found.dtype) == ("injection/A", "weight bias", "float32")
    assert str(found) == "the weight bias of layer injection/A is the first number that is not finite (float32)"
    values[1][0, 2] = -np.inf
    found = first_not_finite(model, values)
    assert (found.layer, found.what, found.order) == ("latent", "input", None)


def test_names_casts_and_operations_of_a_graph():
    x = keras.Input((2,))
    half = keras.Model(x, keras.layers.Dense(2, dtype=POLICY, name="half")(ops.multiply(x, x)))
    found = first_not_finite(half, np.full((1, 2), 1e3))
    assert (found.layer, found.what, found.dtype, found.largest) == ("half", "input", "float16", 1e6)
    found = first_not_finite(half, np.full((1, 2), 1e20))
    assert found.layer.startswith("multiply")
    assert (found.what, found.dtype) == ("output", "float32")


def test_leaves_the_model_as_it_was():
    layers = [keras.layers.Dropout(0.5), BatchNormalization(), keras.layers.Dense(3), keras.layers.GaussianNoise(1.0)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    before = [ops.convert_to_numpy(weight) for weight in model.variables]
    for training in (False, True):
        assert first_not_finite(model, np.ones((8, 4), "float32"), training=training) is None
    for weight, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_a_recurrent_layer_is_one_layer():
    # JAX traces the cell, where nothing has a value.
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.SimpleRNN(2, activation=None, name="recurrent")])
    assert first_not_finite(model, np.ones((1, 3, 2), "float32")) is None
    found = first_not_finite(model, np.full((1, 3, 2), 3e38, "float32"))
    assert found.layer.startswith("recurrent")
    assert found.what == "output"


def test_says_what_it_takes():
    with pytest.raises(ValueError, match=r"with the weights that it has. Received: <.*no weights yet. Pass a model"):
        first_not_finite(NCP(2, 2, rank=2), filled(1.0))
    with pytest.raises(
        ValueError, match=r"outside of compiled functions. Received: inputs without values.* Pass arrays"
    ):
        first_not_finite(model_of(NCP, 2, {}), keras.Input((1,)))
