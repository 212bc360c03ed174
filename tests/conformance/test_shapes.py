"""A shape is refused in words when a layer is called on a symbolic input, or the layer computes on it."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import (
    CCP,
    NCP,
    EqualizedLearningRate,
    Injection,
    LogMelSpectrogram,
    NCPSkip,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpectralNormalization,
)
from tests.conformance.cases import CASES, FIRST, tensorflow_only

pytestmark = tensorflow_only

# What says how something is computed and not what is wrong with the input.
INTERNALS = ("function_node", "unsupported operand", "Exception encountered", "[Op:", "positional argument", "NoneType")
# The first variant of each layer, and those of layers inside of another.
VARIANTS = dict(FIRST.values()) | {
    name: CASES[name]
    for name in ("CCP-sequential", "CCP-conv-instance", "NCP-conv", "NCP-spiral", "Injection-batch")
    if name in CASES
}


def odd_shapes(shape):
    """Returns shapes of other ranks, with unknown sizes, sizes of one, and empty axes."""
    shapes = [(), shape[:-1], (*shape, 1), (*shape, 2), (3, *shape), (None, *shape)]
    shapes += [(*shape[:-1], size) for size in (1, None, 0)]
    if len(shape) > 1:
        shapes += [(size, *shape[1:]) for size in (1, None, 0)] + [(None,) * len(shape)]
    return list(dict.fromkeys(shapes))


def pairs_of_inputs(case):
    if isinstance(case.shape, tuple):
        return [(shape, case.shape) for shape in odd_shapes(case.shape)]
    first, second = case.shape
    return [
        *[([shape, second], case.shape) for shape in odd_shapes(first)],
        *[([first, shape], case.shape) for shape in odd_shapes(second)],
    ]


def each(shapes, function):
    return [function(shape) for shape in shapes] if isinstance(shapes, list) else function(shapes)


def known(shape, usual):
    """Returns `shape` with unknown sizes made those that are usual for the layer, if they are at the same place."""
    usual = usual if len(usual) == len(shape) else (3,) * len(shape)
    return tuple(likely if size is None else size for size, likely in zip(shape, usual))


def check(layer, shapes, usual):
    """Asserts that `shapes` are refused in words or computed, and returns whether they are computed."""
    rng = np.random.default_rng(0)
    try:
        symbolic = layer(each(shapes, lambda shape: keras.KerasTensor((None, *shape))))
    except ValueError as error:
        assert not any(words in str(error) for words in INTERNALS), str(error)
        return False
    if isinstance(shapes, list):
        definite = [known(shape, other) for shape, other in zip(shapes, usual)]
    else:
        definite = known(shapes, usual)
    y = layer(each(definite, lambda shape: rng.normal(size=(2, *shape)).astype("float32")))
    assert len(y.shape) == len(symbolic.shape)
    assert all(size in (None, real) for size, real in zip(symbolic.shape, y.shape))
    assert tuple(layer.compute_output_shape(each(shapes, lambda shape: (None, *shape)))) == symbolic.shape
    assert tuple(layer.compute_output_shape(each(definite, lambda shape: (2, *shape)))) == tuple(y.shape)
    return True


@pytest.mark.parametrize("name", VARIANTS)
def test_symbolic_shapes_are_refused_or_computed(name):
    case = VARIANTS[name]
    computed = [check(case.make(), shapes, usual) for shapes, usual in pairs_of_inputs(case)]
    assert not all(computed)


@pytest.mark.parametrize("name", VARIANTS)
def test_inputs_of_another_number_are_refused(name):
    if name == "BatchNormalization":
        pytest.skip("Keras's own words")
    case = VARIANTS[name]
    first = case.shape[0] if isinstance(case.shape, list) else case.shape
    for number in (1, 3) if isinstance(case.shape, list) else (1, 2):
        with pytest.raises(ValueError, match="eceived") as caught:
            case.make()([keras.KerasTensor((None, *first))] * number)
        assert not any(words in str(caught.value) for words in INTERNALS)


class TwoArguments(keras.layers.Layer):
    def call(self, x, y):
        return x + y


class TwoOutputs(keras.layers.Layer):
    def call(self, x):
        return x, x


class WithoutConfig(keras.layers.Layer):
    def __init__(self, needed):
        super().__init__()
        self.needed = needed


def network(inputs, outputs, size=4):
    inputs = [keras.Input((size,)) for _ in range(inputs)]
    x = keras.layers.Add()(inputs) if len(inputs) > 1 else inputs[0]
    outputs = [keras.layers.Dense(4)(x) for _ in range(outputs)]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0])


# Layers that are refused everywhere inside of another layer of vectors of four numbers.
WRONG = {
    "two inputs": keras.layers.Add,
    "two inputs of attention": keras.layers.Attention,
    "an injection": Injection,
    "two arguments": TwoArguments,
    "heads": lambda: keras.layers.MultiHeadAttention(2, 2),
    "two outputs": TwoOutputs,
    "a model of two inputs": lambda: network(2, 1),
    "a model of two outputs": lambda: network(1, 2),
    "a model of another size": lambda: network(1, 1, size=7),
    "an input": lambda: keras.layers.InputLayer((7,)),
    "a cell": lambda: keras.layers.LSTMCell(4),
    "sequences": lambda: keras.layers.LSTM(4),
    "images": lambda: keras.layers.Conv2D(4, 3),
    "positions": keras.layers.GlobalAveragePooling1D,
}
# And those that are refused where they are copied.
NOT_COPIED = {"without a config": lambda: WithoutConfig(1), "lambda": lambda: keras.layers.Lambda(lambda x: 2 * x)}


def dense():
    return keras.layers.Dense(4)


COPYING = {
    "operator of CCP": lambda layer: CCP(3, 2, operator=layer),
    "operator of NCP": lambda layer: NCP(3, 2, operator=layer),
    "operator of NCPSkip": lambda layer: NCPSkip(3, 2, operator=layer, normalize="batch"),
    "normalize": lambda layer: CCP(3, 2, rank=4, normalize=layer),
    "factor of an injection": lambda layer: Injection(layer, offset=True),
    "factor of a pooled product": PooledProduct,
}
USING = {
    "branch": lambda layer: PolynomialResidual(layer, 2),
    "shortcut": lambda layer: PolynomialResidual(dense(), 2, layer),
    "factor": lambda layer: PolynomialResidual(dense(), 2, factor=layer),
    "first polynomial": lambda layer: ProdPoly([layer, dense()]),
    "second polynomial": lambda layer: ProdPoly([dense(), layer]),
    "spectral": SpectralNormalization,
    "equalised": EqualizedLearningRate,
}


@pytest.mark.parametrize("place", COPYING | USING)
def test_layers_that_cannot_be_inside_of_another_are_refused(place):
    shapes = {"factor of an injection": [(5, 4), (4,)], "factor of a pooled product": (5, 4)}.get(place, (4,))
    for make in (WRONG | NOT_COPIED if place in COPYING else WRONG).values():
        with pytest.raises(ValueError, match=r"eceived|incompatible") as caught:
            (COPYING | USING)[place](make())(each(shapes, lambda shape: keras.KerasTensor((None, *shape))))
        assert not any(words in str(caught.value) for words in INTERNALS)


WRAPPED = {
    "another wrapper": lambda: keras.layers.SpectralNormalization(dense()),
    "one of ours": lambda: SpectralNormalization(dense()),
    "time": lambda: keras.layers.TimeDistributed(dense()),
    "recurrent": lambda: keras.layers.LSTM(4),
    "two kernels": lambda: keras.layers.SeparableConv1D(4, 3),
    "without weights": lambda: keras.layers.Activation("tanh"),
    "low rank": lambda: keras.layers.Dense(4, lora_rank=2),
}


@pytest.mark.parametrize("wrapper", [SpectralNormalization, EqualizedLearningRate])
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_refuse_layers_without_a_kernel_of_their_own(name, wrapper):
    with pytest.raises(ValueError, match="takes layers"):
        wrapper(WRAPPED[name]())(keras.KerasTensor((None, 5, 4)))


@pytest.mark.parametrize("wrapper", [SpectralNormalization, EqualizedLearningRate])
def test_wrappers_refuse_an_empty_kernel(wrapper):
    with pytest.raises(ValueError, match=r"kernel is not empty\. Received: .*\(0, 4\).* Pass an input with channels"):
        wrapper(dense())(keras.KerasTensor((None, 0)))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((16000, 1), r"two axes.*Received: an input of shape \(None, 16000, 1\)\. Take out an axis"),
        ((512,), r"longer than half a window, 512 samples\. Received: .*\(None, 512\)\. Pad the waveforms"),
    ],
)
def test_waveforms(shape, words):
    layer = LogMelSpectrogram(mels=32, hop=516)
    with pytest.raises(ValueError, match=words):
        layer(keras.KerasTensor((None, *shape)))
    with pytest.raises(ValueError, match=words):
        layer.compute_output_shape((None, *shape))
    assert layer(np.zeros((2, 513), "float32")).shape == layer.compute_output_shape((2, 513))
