"""Which models are made of products and affine maps, how deep they are, and what is in the way."""

import keras
import pytest
from keras import ops

from pinets_tf.analysis import degree, encryption_report, register_layer
from pinets_tf.layers import CCP, NCP, Injection
from pinets_tf.models import resnet
from tests.conformance.cases import every_layer, functional


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
