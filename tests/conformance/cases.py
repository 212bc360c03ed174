"""Every public layer, in the variants that matter, for the guarantees of this folder."""

import dataclasses
import importlib
import os
from collections.abc import Callable

import keras
import numpy as np
import pytest

from pinets_tf.layers import (
    CCP,
    NCP,
    BatchNormalization,
    EqualizedLearningRate,
    FeaStConv,
    GATConv,
    GMMConv,
    Injection,
    LogMelSpectrogram,
    NCPSkip,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpectralNormalization,
    SpiralConv,
    SpiralPolynomial,
    VertexResample,
    VertexStandardization,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to make with keyword arguments such as `dtype`, the shape of one input, and its degree at inference.

    The shape is a list of shapes for a layer of several inputs.
    """

    cls: type
    make: Callable
    shape: tuple[int, ...] | list[tuple[int, ...]]
    degree: int | None
    has_template: bool = False

    def batch(self, size=3, dtype="float32", seed=0):
        rng = np.random.default_rng(seed)
        return self.each(lambda shape: rng.normal(size=(size, *shape)).astype(dtype))

    def each(self, function):
        """Returns what `function` makes of the shape of the input, or a list with that of each."""
        return [function(shape) for shape in self.shape] if isinstance(self.shape, list) else function(self.shape)

    @property
    def input_shape(self):
        """The shape with a batch of any size."""
        return self.each(lambda shape: (None, *shape))

    @property
    def axes(self):
        """How many axes the largest input has, without the batch."""
        return max(map(len, self.shape)) if isinstance(self.shape, list) else len(self.shape)


def _conv(**options):
    return keras.layers.Conv2D(4, 3, padding="same", **options)


def _residual(order, normalize, **options):
    branch = keras.Sequential([_conv(strides=2), keras.layers.BatchNormalization(momentum=0.9)])
    shortcut = keras.layers.Conv2D(4, 1, strides=2)
    return PolynomialResidual(branch, order, shortcut, normalize=normalize, **options)


def _product(**options):
    return ProdPoly([NCP(6, 2, rank=5), keras.layers.BatchNormalization(), CCP(4, 3, rank=5)], **options)


def _pooled(order=2, degree=2, **settings):
    return Case(
        PooledProduct,
        lambda **options: PooledProduct(keras.layers.Dense(3), order, **settings, **options),
        (6, 6, 3),
        degree,
    )


def _injection(**settings):
    return Case(Injection, lambda **options: Injection(**settings, **options), [(6, 6, 4), (5,)], 2)


def on_vectors(cls, order=3, **settings):
    return Case(cls, lambda **options: cls(4, order, rank=6, **settings, **options), (5,), order)


def on_images(cls, degree=3, **settings):
    return Case(cls, lambda **options: cls(4, 3, operator=_conv(), **settings, **options), (6, 6, 3), degree)


# Spirals of five vertices, of which one has no neighbour; 5 stands for none.
SPIRALS = [[0, 1, 2, 3], [1, 2, 0, 5], [2, 0, 1, 3], [3, 0, 2, 5], [4, 5, 5, 5]]
MIDPOINTS = np.array([[1, 0, 0, 0, 0], [0.5, 0, 0.5, 0, 0], [0.2, 0.3, 0, 0, 0.5], [0, 0, 0, 0, 0]])

COORDINATES = np.random.default_rng(2).uniform(-1, 1, (5, 4, 2))


def _neighbors(cls, degree, *tables, **settings):
    return Case(
        cls, lambda **options: cls(4, SPIRALS, *tables, **settings, **options), (5, 3), degree, has_template=True
    )


def _spiral(order=2, degree=None, **settings):
    return Case(
        SpiralPolynomial,
        lambda **options: SpiralPolynomial(4, SPIRALS, order, **settings, **options),
        (5, 3),
        order if degree is None else degree,
        has_template=True,
    )


def _standardization(**settings):
    mean, deviation = np.arange(15.0).reshape(5, 3), np.arange(15.0).reshape(5, 3) % 4
    return Case(
        VertexStandardization,
        lambda **options: VertexStandardization(mean, deviation, **settings, **options),
        (5, 3),
        1,
        has_template=True,
    )


CASES = {
    "BatchNormalization": Case(BatchNormalization, lambda **options: BatchNormalization(**options), (6, 6, 3), 1),
    "CCP": on_vectors(CCP),
    "CCP-order-1": on_vectors(CCP, order=1),
    "CCP-layer": dataclasses.replace(on_vectors(CCP, normalize="layer", normalize_at="order"), degree=None),
    "CCP-conv-instance": on_images(CCP, degree=None, normalize="instance"),
    "CCP-gate-instance": on_images(CCP, degree=1, normalize="instance", gate=True),
    "CCP-gate-affine": dataclasses.replace(on_vectors(CCP, normalize="affine", gate=True), degree=1),
    "NCPSkip-offset": on_vectors(NCPSkip, normalize="offset"),
    "CCP-sequence": Case(CCP, lambda **options: CCP(4, 3, rank=6, **options), (7, 5), 3),
    "CCP-sequential": Case(
        CCP,
        lambda **options: CCP(
            4, 3, operator=keras.Sequential([keras.layers.Dense(7), keras.layers.Dense(6)]), **options
        ),
        (5,),
        3,
    ),
    "CCP-no-readout": Case(CCP, lambda **options: CCP(None, 3, rank=6, **options), (5,), 3),
    "EqualizedLearningRate": Case(
        EqualizedLearningRate,
        lambda **options: EqualizedLearningRate(_conv(), 1.0, 0.1, **options),
        (6, 6, 3),
        1,
    ),
    "FeaStConv-keep": _neighbors(FeaStConv, None, heads=3, keep=[3, 0]),
    "GATConv": _neighbors(GATConv, None, heads=3),
    "GATConv-concat-keep": _neighbors(GATConv, None, heads=2, combine="concat", keep=[3, 0]),
    "GMMConv-keep": _neighbors(GMMConv, 1, COORDINATES, kernels=3, keep=[3, 0], use_bias=False),
    "Injection": _injection(),
    "Injection-skip-offset": _injection(skip=True, offset=True, bias_initializer="ones"),
    "Injection-batch": _injection(normalize="batch"),
    "Injection-gate-batch": dataclasses.replace(
        _injection(normalize="batch", skip=True, gate=True, factor=keras.layers.Dense(4, use_bias=False)), degree=1
    ),
    "Injection-vectors": dataclasses.replace(_injection(), shape=[(4,), (5,)]),
    "LogMelSpectrogram": Case(
        LogMelSpectrogram,
        lambda **options: LogMelSpectrogram(6, 16, fft_length=64, lowest_hz=300.0, **options),
        (96,),
        None,
    ),
    "NCP": on_vectors(NCP),
    "NCP-gate": dataclasses.replace(on_vectors(NCP, gate=True), degree=1),
    "NCP-identity": dataclasses.replace(on_vectors(NCP, identity_factors=True), shape=(6,)),
    "NCP-sequential": Case(
        NCP,
        lambda **options: NCP(3, 2, operator=keras.Sequential([_conv(), keras.layers.Conv2D(4, 1)]), **options),
        (6, 6, 3),
        2,
    ),
    "NCP-tanh": dataclasses.replace(on_vectors(NCP, normalize="tanh", normalize_at="last"), degree=None),
    "NCP-conv": on_images(NCP),
    "NCPSkip": on_vectors(NCPSkip),
    "NCPSkip-conv-identity": dataclasses.replace(on_images(NCPSkip, identity_factors=True), shape=(6, 6, 4)),
    "NCPSkip-learned-batch": on_vectors(NCPSkip, learn_skip=True, normalize="batch"),
    "NCPSkip-conv-batch": on_images(NCPSkip, normalize="batch"),
    "NCPSkip-regularised": on_vectors(
        NCPSkip, kernel_regularizer="l2", bias_regularizer="l1", kernel_constraint="max_norm"
    ),
    "PolynomialResidual": Case(PolynomialResidual, lambda **options: _residual(2, "batch", **options), (6, 6, 3), 2),
    "PolynomialResidual-order-4": Case(
        PolynomialResidual, lambda **options: _residual(4, None, **options), (6, 6, 3), 4
    ),
    "PolynomialResidual-dense": Case(
        PolynomialResidual,
        lambda **options: PolynomialResidual(keras.layers.Dense(5), 3, gate=True, **options),
        (5,),
        1,
    ),
    "PolynomialResidual-custom": Case(
        PolynomialResidual,
        lambda **options: _residual(
            2, keras.Sequential([keras.layers.Activation("tanh"), keras.layers.Conv2D(4, 1)]), **options
        ),
        (6, 6, 3),
        None,
    ),
    "PolynomialResidual-gate-batch": Case(
        PolynomialResidual, lambda **options: _residual(3, "batch", gate=True, **options), (6, 6, 3), 1
    ),
    "PolynomialResidual-factor": Case(
        PolynomialResidual,
        lambda **options: _residual(3, "batch", factor=keras.layers.Conv2D(4, 1), **options),
        (6, 6, 3),
        3,
    ),
    "PooledProduct": _pooled(),
    "PooledProduct-order-3-batch": _pooled(order=3, degree=3, normalize="batch"),
    "PooledProduct-gate-tanh": _pooled(degree=None, normalize="tanh", normalize_at="order", gate=True),
    "PooledProduct-sequence": dataclasses.replace(_pooled(gate=True, degree=1), shape=(7, 3)),
    "ProdPoly": Case(ProdPoly, _product, (5,), 6),
    "SpectralNormalization": Case(
        SpectralNormalization,
        lambda **options: SpectralNormalization(_conv(), 2, seed=3, **options),
        (6, 6, 3),
        1,
    ),
    "SpiralConv": Case(SpiralConv, lambda **options: SpiralConv(4, SPIRALS, **options), (5, 3), 1, True),
    "SpiralConv-narrow": Case(SpiralConv, lambda **options: SpiralConv(1, SPIRALS, **options), (5, 3), 1, True),
    "SpiralConv-keep": Case(SpiralConv, lambda **options: SpiralConv(4, SPIRALS, [3, 0], **options), (5, 3), 1, True),
    "SpiralPolynomial": _spiral(),
    "SpiralPolynomial-keep": _spiral(keep=[3, 0], normalize="vertex_batch"),
    "SpiralPolynomial-order-3-keep": _spiral(3, keep=[3, 0], normalize="vertex_batch"),
    "SpiralPolynomial-order-3-residual": _spiral(3, residual=True, normalize="vertex_affine"),
    "SpiralPolynomial-simple": _spiral(3, variant="simple", normalize="batch", normalize_at="last"),
    "SpiralPolynomial-simple-residual": _spiral(3, variant="simple", residual=True, gate=True, degree=1),
    "SpiralPolynomial-instance": dataclasses.replace(_spiral(normalize="instance"), degree=None),
    "NCP-spiral": Case(
        NCP, lambda **options: NCP(4, 3, operator=SpiralConv(4, SPIRALS), **options), (5, 3), 3, has_template=True
    ),
    "VertexResample": Case(VertexResample, lambda **options: VertexResample(MIDPOINTS, **options), (5, 3), 1, True),
    "VertexStandardization-invert": _standardization(invert=True),
}

# Layers of another module in the place of ours: `pytest tests/conformance --cases=MODULE`.
CHOSEN = os.environ.get("PINETS_TF_CASES")
if CHOSEN:
    CASES = importlib.import_module(CHOSEN).CASES
of_ours = pytest.mark.skipif(bool(CHOSEN), reason="about the layers of the package")

# The first variant of each layer, where a guarantee holds for all of them alike and costs much.
FIRST = {case.cls: (name, case) for name, case in reversed(CASES.items())}
EVERY_LAYER = dict(FIRST.values())
one_of_each_layer = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in FIRST.values()])
# What has statistics, scalars or losses of its own, which replicas have to agree on.
_SHARED = ("batch", "gate", "learned", "regularised")
SHARING_NAMES = [name for name in CASES if any(word in name for word in _SHARED)]
# On other backends, where compiling takes most of the time, the first variants stand for the others.
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ALL = {name: case for name, case in CASES.items() if ON_TENSORFLOW or FIRST[case.cls][0] == name}
every_layer = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in ALL.items()])


def _others_in_the_long_run(cases):
    seen = set()
    for name, case in cases.items():
        yield pytest.param(case, id=name, marks=[pytest.mark.long] if case.cls in seen else [])
        seen.add(case.cls)


# Where a guarantee costs most: the first variant of each layer in every run, the others in `make test-long`.
every_layer_in_the_long_run = pytest.mark.parametrize("case", list(_others_in_the_long_run(ALL)))
sharing_variants_in_the_long_run = pytest.mark.parametrize(
    "case", list(_others_in_the_long_run({name: CASES[name] for name in SHARING_NAMES}))
)
tensorflow_only = pytest.mark.skipif(not ON_TENSORFLOW, reason="a guarantee of TensorFlow")


def first_elsewhere(values):
    """Returns the values of a parameter, on other backends than TensorFlow the first alone."""
    return values if ON_TENSORFLOW else values[:1]


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def functional(case, **options):
    """Returns a functional model of the layer alone, with a variable batch."""
    inputs = case.each(keras.Input)
    return keras.Model(inputs, case.make(**options)(inputs))


def beside_each_other(cases, **options):
    """Returns a functional model that has the layers of all `cases`, a dict, beside each other.

    It takes the inputs of one after those of another, and returns a list of their outputs.
    """
    inputs = {name: case.each(keras.Input) for name, case in cases.items()}
    outputs = [case.make(name=name, **options)(inputs[name]) for name, case in cases.items()]
    return keras.Model(keras.tree.flatten(list(inputs.values())), outputs)


def batches_of(cases, size=3):
    """Returns a batch for `beside_each_other`."""
    return keras.tree.flatten([case.batch(size) for case in cases.values()])


def with_head(layer, case, head):
    """Returns a functional model of a layer and other layers after it."""
    inputs = case.each(keras.Input)
    return keras.Model(inputs, keras.Sequential(head)(layer(inputs)))


def computing_layers(layer):
    """Returns the layers in and below `layer` that compute: not models, which only pass on, and not their inputs."""
    inner = layer._flatten_layers()
    return [part for part in inner if not isinstance(part, (keras.Model, keras.layers.InputLayer))]


def randomise(layer):
    """Gives every weight a random value, so that no test passes because something starts at zero or one."""
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        if "int" in weight.dtype:
            continue
        value = rng.uniform(0.5, 1.5, weight.shape) if "variance" in weight.path else rng.normal(size=weight.shape) / 2
        weight.assign(value)
