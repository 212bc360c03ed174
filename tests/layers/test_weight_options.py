"""What may be said of kernels and biases holds alike in every layer that takes it."""

import inspect
import re

import keras
import pytest

from pinets_tf import layers
from pinets_tf.layers.weight_options import WeightOptions
from tests.conformance.cases import FIRST

OPTIONS = {
    "kernel_initializer": "ones",
    "bias_initializer": keras.initializers.Constant(2.0),
    "kernel_regularizer": "l2",
    "bias_regularizer": "l1",
    "kernel_constraint": "unit_norm",
    "bias_constraint": "non_neg",
}
every_one = pytest.mark.parametrize("cls", [FIRST[cls][1].cls for cls in FIRST if issubclass(cls, WeightOptions)])


@every_one
def test_every_option_reaches_the_weights_and_the_config(cls):
    case = FIRST[cls][1]
    layer = cls.from_config({**case.make().get_config(), **OPTIONS, "use_bias": True})
    layer.build(case.input_shape)
    kernels = [w for w in layer.trainable_weights if isinstance(w.constraint, keras.constraints.UnitNorm)]
    biases = [w for w in layer.trainable_weights if isinstance(w.constraint, keras.constraints.NonNeg)]
    assert kernels and biases
    for weights, regularizer, start in ((kernels, keras.regularizers.L2, 1.0), (biases, keras.regularizers.L1, None)):
        for weight in weights:
            assert isinstance(weight.regularizer, regularizer)
            assert start is None or (keras.ops.convert_to_numpy(weight) == start).all()
    assert 2.0 in keras.ops.convert_to_numpy(biases[-1])
    config = layer.get_config()
    assert {name: config[name]["class_name"] for name in OPTIONS} == {
        "kernel_initializer": "Ones",
        "bias_initializer": "Constant",
        "kernel_regularizer": "L2",
        "bias_regularizer": "L1",
        "kernel_constraint": "UnitNorm",
        "bias_constraint": "NonNeg",
    }
    assert cls.from_config(config).get_config() == config


@every_one
def test_the_signature_shows_every_documented_argument(cls):
    documented = re.search(r"Args:\n(.*?)\n\n", inspect.getdoc(cls), re.DOTALL)[1]
    names = {name for line in re.findall(r"^    (\w[\w, ]*):", documented, re.MULTILINE) for name in line.split(", ")}
    assert names >= set(OPTIONS) | {"use_bias"}
    assert names <= inspect.signature(cls).parameters.keys()


def test_a_layer_derived_from_ours_shows_its_own_signature():
    class Quadratic(layers.CCP):
        def __init__(self, units, rank=8):
            super().__init__(units, 2, rank)

    assert list(inspect.signature(Quadratic).parameters) == ["units", "rank"]


@every_one
def test_unknown_arguments_are_refused(cls):
    with pytest.raises(ValueError, match=r"Unrecognized keyword arguments.*kernel_initialiser"):
        FIRST[cls][1].make(kernel_initialiser="ones")


GLOROT, ZEROS, ONES = (
    {"module": "keras.initializers", "class_name": name, "config": config, "registered_name": None}
    for name, config in (("GlorotUniform", {"seed": None}), ("Zeros", {}), ("Ones", {}))
)
OF_OTHER_KERAS = {**GLOROT, "config": {"seed": None, "input_axes": None, "output_axes": None}}
# What version 0.1 wrote into configs for options that are dropped, and something else that it might have.
DROPPED = {
    (layers.NCP, "b_initializer"): (None, ONES),
    (layers.NCPSkip, "b_initializer"): (None, ONES),
    (layers.FeaStConv, "u_initializer"): (GLOROT, ONES),
    (layers.FeaStConv, "c_initializer"): (ZEROS, ONES),
    (layers.GATConv, "a_initializer"): (OF_OTHER_KERAS, {**GLOROT, "config": {"seed": 3}}),
    (layers.GMMConv, "mu_initializer"): (None, ONES),
    (layers.GMMConv, "initial_sigma"): (None, 0.5),
}


@pytest.mark.parametrize("cls, option", DROPPED)
def test_dropped_options_are_refused_unless_at_their_defaults(cls, option):
    default, other = DROPPED[cls, option]
    config = FIRST[cls][1].make().get_config()
    assert option not in config
    assert cls.from_config({**config, option: default}).get_config() == config
    rule = rf"^{cls.__name__} has no option `{option}` any more\. "
    received = rf"Received: a config of an earlier version with {option}={re.escape(repr(other))}, .*"
    with pytest.raises(ValueError, match=rule + received + r"Take the entry out of the config"):
        cls.from_config({**config, option: other})


def test_every_dropped_option_is_tried():
    dropped = {(cls, name) for cls in FIRST for name, _ in getattr(cls, "DROPPED", ())}
    assert dropped == DROPPED.keys()


def test_an_option_of_a_layer_derived_from_ours_may_have_the_name_of_a_dropped_one():
    class Started(layers.NCP):
        def __init__(self, units, order, rank, b_initializer="zeros", **kwargs):
            super().__init__(units, order, rank, **kwargs)
            self.b_initializer = b_initializer

        def get_config(self):
            return {**super().get_config(), "b_initializer": self.b_initializer}

    again = Started.from_config({**layers.NCP(3, 2, rank=4).get_config(), "b_initializer": "ones"})
    assert again.b_initializer == "ones"
