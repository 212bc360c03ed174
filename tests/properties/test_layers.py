"""Every layer, in any configuration: refused in words, or it keeps what every layer promises."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from pinets_tf import layers
from tests.conformance.cases import numpy, randomise, tensorflow_only
from tests.polynomial_degree import differences
from tests.properties.budgets import LAYERS, hold, in_both_modes

pytestmark = tensorflow_only

POLICIES = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
# Those with which a layer stays a polynomial at inference.
LINEAR = (None, "batch", "affine", "offset", "vertex_batch", "vertex_affine")
NORMALIZERS = (*LINEAR[:4], "layer", "instance", "tanh")
# Layers inside of layers, by names that print well. These are linear:
PARTS = {
    "Dense": lambda units: keras.layers.Dense(units),
    "Dense without bias": lambda units: keras.layers.Dense(units, use_bias=False, kernel_initializer="he_normal"),
    "Two Dense": lambda units: keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(units)]),
    "Conv1D": lambda units: keras.layers.Conv1D(units, 3, padding="same"),
    "Conv2D": lambda units: keras.layers.Conv2D(units, 3, padding="same"),
    "Conv2D strided": lambda units: keras.layers.Conv2D(units, 2, strides=2),
    "Conv2DTranspose": lambda units: keras.layers.Conv2DTranspose(units, 3, strides=2, padding="same"),
    "DepthwiseConv2D": lambda units: keras.layers.DepthwiseConv2D(3, padding="same"),
    "EinsumDense": lambda units: keras.layers.EinsumDense("ab,bc->ac", output_shape=units),
    # And these are not.
    "Tanh": lambda units: keras.layers.Activation("tanh"),
    "Normalisation": lambda units: keras.layers.LayerNormalization(),
    "Dense and tanh": lambda units: keras.Sequential([keras.layers.Dense(units, activation="tanh")]),
}
NOT_LINEAR = ("Tanh", "Normalisation", "Dense and tanh")
DENSE = ("Dense", "Dense without bias", "Two Dense")
MAPS = ("Conv2D", "Conv2D strided", "Conv2DTranspose", "DepthwiseConv2D")
WRONG_NUMBERS = (0, -1, 1.5, True, "2", None, np.nan, [2])


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer to be given to another."""

    name: str
    units: int = 1

    def make(self):
        return PARTS[self.name](self.units)


@dataclasses.dataclass(frozen=True)
class Draw:
    """A layer by its class and arguments, of which those that are layers are parts, and an input for it."""

    name: str
    arguments: dict
    shape: tuple | list
    policy: str
    batch: int
    seed: int = 0

    def make(self):
        def given(value):
            if isinstance(value, Draw):
                return value.make()
            if isinstance(value, list):
                return [given(each) for each in value]
            return value.make() if isinstance(value, Part) else value

        options = {name: given(value) for name, value in self.arguments.items()}
        return getattr(layers, self.name)(**options, dtype=self.policy)

    def each(self, function):
        return [function(shape) for shape in self.shape] if isinstance(self.shape, list) else function(self.shape)

    def input(self):
        rng = np.random.default_rng(self.seed)
        return self.each(lambda shape: rng.normal(size=(self.batch, *shape)).astype("float32"))

    @property
    def linear(self):
        """Whether the degree of the layer is its order, or less."""
        parts = [value for value in self.arguments.values() if isinstance(value, (Part, str))]
        named = [part.name if isinstance(part, Part) else part for part in parts]
        inner = [value.linear for value in self.arguments.get("polynomials", ()) if isinstance(value, Draw)]
        never = self.name in ("FeaStConv", "GATConv", "LogMelSpectrogram")
        unbounded = any(name in (*NOT_LINEAR, "layer", "instance", "tanh") for name in named)
        return all(inner) and not never and not unbounded


sizes = st.integers(1, 4)
vectors = st.tuples(sizes)
sequences = st.tuples(sizes, sizes)
images = st.tuples(st.integers(1, 6), st.integers(1, 6), sizes)
flags = st.booleans()


def mostly(usual, rare):
    """Returns a strategy that draws from the second of two once in five times."""
    return st.integers(0, 4).flatmap(lambda number: rare if number == 3 else usual)


def one_wrong(arguments, wrong):
    """Returns arguments of which one in four has another value, perhaps one that makes no sense."""
    spoilt = [(key, value) for key in sorted(wrong) for value in wrong[key]]
    spoilt = mostly(st.just(()), st.sampled_from(spoilt).map(lambda pair: (pair,)))
    return st.builds(lambda given, others: {**given, **dict(others)}, arguments, spoilt)


def drawn(name, arguments, shapes, batches=None):
    batches = st.integers(0, 3) if batches is None else batches
    return st.builds(Draw, st.just(name), arguments, shapes, st.sampled_from(POLICIES), batches, st.integers(0, 2**16))


def horner(**more):
    """The arguments that all layers of Horner steps have."""
    return {
        "order": sizes,
        "normalize": st.sampled_from((*NORMALIZERS, Part("Tanh"), Part("Normalisation"))),
        "normalize_at": st.sampled_from(("product", "order", "last")),
        "gate": flags,
        **more,
    }


WRONG_HORNER = {
    "order": WRONG_NUMBERS,
    "normalize": ("nonsense", 3, Part("Dense", 7)),
    "normalize_at": ("first", None, 2),
}
WRONG_OPERATORS = ("Dense", 3, Part("Tanh"), Part("Conv2D strided", 2))


@st.composite
def polynomials(draw, name, **more):
    shape = draw(st.one_of(vectors, sequences, images))
    parts = DENSE if len(shape) < 3 else (*DENSE, "Conv2D")
    operator = draw(st.one_of(st.none(), st.builds(Part, st.sampled_from(parts), sizes)))
    identity = draw(st.booleans())
    rank = shape[-1] if identity else draw(sizes)
    operator = Part(operator.name, rank) if operator and identity else operator
    arguments = st.fixed_dictionaries(
        horner(
            units=st.one_of(sizes, st.none()),
            rank=st.just(None if operator else rank),
            operator=st.just(operator),
            identity_factors=st.just(identity),
            use_bias=flags,
            **more,
        )
    )
    wrong = {**WRONG_HORNER, "units": WRONG_NUMBERS, "rank": WRONG_NUMBERS, "operator": WRONG_OPERATORS}
    # Convolutions of Keras 3.15 take no empty batch.
    batches = st.integers(len(shape) > 2, 3)
    return draw(drawn(name, one_wrong(arguments, wrong), st.just(shape), batches))


@st.composite
def residuals(draw):
    shape = draw(st.one_of(vectors, images))
    if len(shape) == 3:
        # A window of two pixels needs as many.
        shape = (max(shape[0], 2), max(shape[1], 2), shape[2])
    kinds = DENSE if len(shape) == 1 else (*DENSE, "Conv2D", "Conv2D strided")
    kind, units = draw(st.sampled_from((*kinds, "Normalisation", "Dense and tanh"))), draw(sizes)
    changes = (kind != "Normalisation" and units != shape[-1]) or "strided" in kind
    shortcut = Part(kind if kind in kinds else "Dense", units) if changes or draw(flags) else None
    arguments = st.fixed_dictionaries(
        horner(
            branch=st.just(Part(kind, units)),
            shortcut=st.just(shortcut),
            factor=st.sampled_from((None, Part("Dense", units if shortcut else shape[-1]))),
        )
    )
    wrong = {**WRONG_HORNER, "branch": (None, "Dense", Part("Dense", 7)), "factor": (3, Part("Dense", 7))}
    return draw(drawn("PolynomialResidual", one_wrong(arguments, wrong), st.just(shape), st.integers(1, 3)))


@st.composite
def pooled(draw):
    shape = draw(st.one_of(sequences, images))
    arguments = st.fixed_dictionaries(
        horner(
            factor=st.builds(Part, st.sampled_from((*DENSE, "Dense and tanh")), st.just(shape[-1])),
            data_format=st.sampled_from((None, "channels_last")),
        )
    )
    wrong = {**WRONG_HORNER, "factor": (None, "Dense", Part("Dense", 7)), "data_format": ("first", "channels_first")}
    shapes = mostly(st.just(shape), st.just(shape[-1:]))
    return draw(drawn("PooledProduct", one_wrong(arguments, wrong), shapes, st.integers(1, 3)))


@st.composite
def injections(draw):
    shape = draw(st.one_of(vectors, sequences, images))
    options = horner(
        factor=st.one_of(st.none(), st.builds(Part, st.sampled_from(DENSE), st.just(shape[-1]))),
        skip=flags,
        offset=flags,
        data_format=st.sampled_from((None, "channels_last")),
    )
    del options["order"]
    wrong = {**WRONG_HORNER, "factor": (3, "Dense", Part("Dense", 7)), "data_format": ("first", 1)}
    del wrong["order"]
    others = [[shape, (1, 2, 3, 4)], [shape, shape], (2, *shape)]
    pairs = mostly(vectors.map(lambda latent: [shape, latent]), st.sampled_from(others))
    return draw(drawn("Injection", one_wrong(st.fixed_dictionaries(options), wrong), pairs, st.integers(1, 3)))


@st.composite
def products(draw):
    shape = draw(st.one_of(vectors, sequences))
    names = draw(st.lists(st.sampled_from(("CCP", "NCP", "NCPSkip")), min_size=1, max_size=3))
    inner = st.fixed_dictionaries(
        {"units": sizes, "order": st.integers(1, 2), "rank": sizes, "normalize": st.sampled_from(LINEAR[:4])}
    )
    # A sequence hands its policy down.
    parts = [Draw(name, draw(inner), (), "float32", 0) for name in names]
    arguments = st.just({"polynomials": parts})
    wrong = {"polynomials": ([], None, "CCP", [Part("Dense", 2), 3], Part("Dense", 2))}
    return draw(drawn("ProdPoly", one_wrong(arguments, wrong), st.just(shape)))


@st.composite
def wrappers(draw, name, options, wrong):
    shape = draw(st.one_of(vectors, images))
    kinds = ("Dense", "Dense without bias", *(MAPS if len(shape) == 3 else ("EinsumDense",)))
    part = st.builds(Part, st.sampled_from(kinds), sizes)
    arguments = st.fixed_dictionaries({"layer": part, **options})
    wrong = {**wrong, "layer": (None, "Dense", Part("Tanh"), Part("Two Dense", 2))}
    if len(shape) == 3:
        # A window of two pixels needs as many.
        shape = (max(shape[0], 2), max(shape[1], 2), shape[2])
    return draw(drawn(name, one_wrong(arguments, wrong), st.just(shape), st.integers(1, 3)))


@st.composite
def on_meshes(draw, name, options, wrong):
    vertices, length = draw(sizes), draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    table = rng.integers(0, vertices + 1, (vertices, length)).tolist()
    key = "spirals" if name.startswith("Spiral") else "neighbors"
    kept = st.one_of(st.none(), st.lists(st.integers(0, vertices - 1), min_size=1, max_size=4))
    arguments = {"filters": sizes, key: st.just(table), "keep": kept, "use_bias": flags, **options}
    if name == "GMMConv":
        arguments["coordinates"] = st.just(rng.uniform(-1, 1, (vertices, length, 2)).tolist())
        wrong = {**wrong, "coordinates": ([], [[[np.nan]]], "x")}
    tables = ([], [[vertices + 1]], [[-1]], [[0.5]], "spirals", None)
    wrong = {**wrong, "filters": WRONG_NUMBERS, key: tables, "keep": ([vertices], [-1], [], [0.5], "all")}
    shapes = mostly(st.tuples(st.just(vertices), sizes), st.one_of(vectors, sequences))
    return draw(drawn(name, one_wrong(st.fixed_dictionaries(arguments), wrong), shapes))


@st.composite
def resamples(draw):
    row = st.lists(st.sampled_from((0.0, 0.5, 1.0, -2.0)), min_size=3, max_size=3)
    matrix = draw(st.lists(row, min_size=1, max_size=4))
    wrong = {"matrix": ([[np.nan, 0, 0]], [], [1.0, 2.0], [[]])}
    shapes = st.tuples(mostly(st.just(3), sizes), sizes)
    return draw(drawn("VertexResample", one_wrong(st.just({"matrix": matrix}), wrong), shapes))


@st.composite
def standardizations(draw):
    vertices, channels = draw(sizes), draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    mean, deviation = rng.normal(size=(vertices, channels)), rng.integers(0, 3, (vertices, channels)).astype(float)
    arguments = st.fixed_dictionaries({"mean": st.just(mean), "deviation": st.just(deviation), "invert": flags})
    wrong = {"deviation": (-1 - deviation, deviation[:0], deviation * np.nan), "mean": ("x", mean[0], [])}
    shapes = mostly(st.just((vertices, channels)), st.sampled_from(((vertices, channels + 1), (channels,))))
    return draw(drawn("VertexStandardization", one_wrong(arguments, wrong), shapes))


STRATEGIES = {
    "BatchNormalization": drawn(
        "BatchNormalization",
        st.fixed_dictionaries({"momentum": st.floats(0, 1), "epsilon": st.floats(1e-5, 1), "scale": flags}),
        st.one_of(vectors, sequences, images),
    ),
    "CCP": polynomials("CCP"),
    "EqualizedLearningRate": wrappers(
        "EqualizedLearningRate",
        {"gain": st.floats(0.5, 2), "learning_rate_multiplier": st.floats(0.01, 1)},
        {"gain": (0.0, -1.0, np.nan, np.inf, "1"), "learning_rate_multiplier": (0, -1.0, True, None)},
    ),
    "FeaStConv": on_meshes("FeaStConv", {"heads": sizes}, {"heads": WRONG_NUMBERS}),
    "GATConv": on_meshes(
        "GATConv",
        {"heads": sizes, "combine": st.sampled_from(("average", "average", "concat"))},
        {"heads": WRONG_NUMBERS, "combine": ("sum", None)},
    ),
    "GMMConv": on_meshes("GMMConv", {"kernels": sizes}, {"kernels": WRONG_NUMBERS}),
    "Injection": injections(),
    "LogMelSpectrogram": drawn(
        "LogMelSpectrogram",
        one_wrong(
            st.fixed_dictionaries(
                {
                    "mels": sizes,
                    "hop": st.integers(1, 16),
                    "fft_length": st.sampled_from((16, 32)),
                    "lowest_hz": st.sampled_from((0.0, 500.0, 2000.0)),
                }
            ),
            {
                "mels": (*WRONG_NUMBERS, 40),
                "hop": WRONG_NUMBERS,
                "fft_length": (*WRONG_NUMBERS, 3, 24),
                "lowest_hz": (-1.0, 1e9, np.nan),
                "highest_hz": (0.0, 1e9, np.nan),
            },
        ),
        st.tuples(st.integers(20, 60)),
    ),
    "NCP": polynomials("NCP"),
    "NCPSkip": polynomials("NCPSkip", learn_skip=flags),
    "PolynomialResidual": residuals(),
    "PooledProduct": pooled(),
    "ProdPoly": products(),
    "SpectralNormalization": wrappers(
        "SpectralNormalization",
        {"power_iterations": st.integers(1, 3), "seed": st.integers(0, 9)},
        {"power_iterations": WRONG_NUMBERS},
    ),
    "SpiralConv": on_meshes("SpiralConv", {}, {}),
    "SpiralPolynomial": on_meshes(
        "SpiralPolynomial",
        horner(
            variant=st.sampled_from(("simple", "full")),
            residual=flags,
            normalize=st.sampled_from((*NORMALIZERS, "vertex_batch", "vertex_affine", Part("Tanh"))),
        ),
        {**WRONG_HORNER, "variant": ("both", None)},
    ),
    "VertexResample": resamples(),
    "VertexStandardization": standardizations(),
}


def check(case):
    """Asserts what every layer promises, and returns whether it was made rather than refused."""
    x = case.input()
    try:
        layer = case.make()
        y = layer(x)
    except (ValueError, TypeError) as error:
        assert "Received:" in str(error), error
        return False
    expected = layer.compute_output_shape(case.each(lambda shape: (case.batch, *shape)))
    assert tuple(y.shape) == tuple(expected)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    values = numpy(y).astype("float64")
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(numpy(layer(x)).astype("float64"), values)
    config = layer.get_config()
    again = type(layer).from_config(config).get_config()
    assert json.dumps(_comparable(again), sort_keys=True) == json.dumps(_comparable(config), sort_keys=True)
    if case.policy == "float64" and case.linear:
        check_degree(case, layer)
    return True


def _comparable(config):
    """Returns a config without the policies of Sequentials, which Keras 3.15 forgets and which compute nothing."""
    if isinstance(config, list):
        return [_comparable(value) for value in config]
    if not isinstance(config, dict):
        return config
    forgotten = ["dtype"] if {"layers", "build_input_shape"} <= config.keys() else []
    return {key: _comparable(value) for key, value in config.items() if key not in forgotten}


def check_degree(case, layer):
    randomise(layer)
    shapes = case.shape if isinstance(case.shape, list) else [case.shape]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])

    def function(values):
        parts = np.split(values, ends[:-1], axis=1)
        parts = [part.reshape(-1, *shape) for part, shape in zip(parts, shapes)]
        return layer(parts if isinstance(case.shape, list) else parts[0])

    rng = np.random.default_rng(case.seed)
    _, above, rounding = differences(
        function, rng.normal(size=ends[-1]), rng.normal(size=ends[-1]), getattr(layer, "order", 1)
    )
    assert above <= 100 * rounding, f"degree above {getattr(layer, 'order', 1)}: {above:.2g}, rounding {rounding:.2g}"


# What once kept none of the promises.
ONCE = {
    # `hand_down_policy` leaves out layers without weights, which Keras builds as they are made.
    "policy": Draw("PolynomialResidual", {"branch": Part("Tanh")}, (3,), "float64", 1),
    # The shape of the input, of two numbers, is taken for two shapes.
    "inputs": Draw("Injection", {}, (3,), "float32", 1),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in ONCE.items()])
def test_layers_that_once_kept_no_promise(case):
    check(case)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@in_both_modes
@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_their_promises(name, long):
    made = hold(check, STRATEGIES[name], LAYERS[name], long)
    # Many are valid, or the property would say little.
    assert sum(made) > len(made) / 3 or not long
