"""Models whose later products are left out: which these are, what stands for them, and of which degree they are."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from pinets_tf.analysis import (
    contributions,
    count_products,
    degree,
    first_not_finite,
    polynomial_summary,
    product_stages,
    register_layer,
    without_products,
)
from pinets_tf.layers import CCP, NCP, NCPSkip, PolynomialResidual, PooledProduct, ProdPoly
from pinets_tf.layers.generation.learned_constant import LearnedConstant
from tests.analysis.networks_of_today import star_net
from tests.conformance.cases import numpy, randomise

RNG = np.random.default_rng(0)
VECTOR, ONE, MAP, CHANNELS = (4,), (1,), (2, 3, 4), (4,)
SCALES = RNG.normal(size=4).astype("float32")


def constant(x):
    return LearnedConstant(VECTOR)(x)


def broadcast(a, b):
    return a + np.zeros_like(b)


# Of each product: what makes it, the shapes of its inputs, and what it is with none of its products, with one, ...
PRODUCTS = {
    "Multiply": (lambda a, b: layers.Multiply()([a, b]), [VECTOR] * 2, [lambda a, b: a, lambda a, b: a * b]),
    "Multiply-three": (
        lambda a, b, c: layers.Multiply()([a, b, c]),
        [VECTOR] * 3,
        [lambda a, b, c: a, lambda a, b, c: a * b, lambda a, b, c: a * b * c],
    ),
    "Multiply-broadcast": (
        lambda a, b, c: layers.Multiply()([a, b, c]),
        [ONE, VECTOR, ONE],
        [lambda a, b, c: broadcast(a, b), lambda a, b, c: a * b, lambda a, b, c: a * b * c],
    ),
    # Keras puts the axes that are missing behind that of the batch.
    "Multiply-vector-by-map": (
        lambda a, b: layers.Multiply()([a, b]),
        [CHANNELS, MAP],
        [lambda a, b: broadcast(a[:, None, None], b), lambda a, b: a[:, None, None] * b],
    ),
    "Multiply-map-by-vector": (
        lambda a, b: layers.Multiply()([a, b]),
        [MAP, CHANNELS],
        [lambda a, b: a, lambda a, b: a * b[:, None, None]],
    ),
    "*": (lambda a, b: a * b, [VECTOR] * 2, [lambda a, b: a, lambda a, b: a * b]),
    "*-broadcast": (lambda a, b: a * b, [ONE, VECTOR], [broadcast, lambda a, b: a * b]),
    "*-twice": (
        lambda a, b, c: (a * b) * c,
        [VECTOR] * 3,
        [lambda a, b, c: a, lambda a, b, c: a * b, lambda a, b, c: a * b * c],
    ),
    "ops.multiply": (ops.multiply, [VECTOR] * 2, [lambda a, b: a, lambda a, b: a * b]),
    "square": (ops.square, [VECTOR], [lambda a: a, np.square]),
    "power": (lambda a: ops.power(a, 4), [VECTOR], [lambda a, n=n: a**n for n in (1, 2, 3, 4)]),
    "**": (lambda a: a**3, [VECTOR], [lambda a, n=n: a**n for n in (1, 2, 3)]),
    "first-power": (lambda a: a**1, [VECTOR], [lambda a: a]),
    "einsum": (lambda a, b: ops.einsum("bi,bi->bi", a, b), [VECTOR] * 2, [lambda a, b: a, lambda a, b: a * b]),
    "einsum-three": (
        lambda a, b, c: ops.einsum("bhwc,bc,bhwc->bhwc", a, b, c),
        [MAP, CHANNELS, MAP],
        [lambda a, b, c: a, lambda a, b, c: a * b[:, None, None], lambda a, b, c: a * b[:, None, None] * c],
    ),
    "einsum-vector-by-map": (
        lambda a, b: ops.einsum("bc,bhwc->bhwc", a, b),
        [CHANNELS, MAP],
        [lambda a, b: broadcast(a[:, None, None], b), lambda a, b: a[:, None, None] * b],
    ),
    "einsum-array": (
        lambda a, b: ops.einsum("bi,i,bi->bi", a, SCALES, b),
        [VECTOR] * 2,
        [lambda a, b: a * SCALES, lambda a, b: a * SCALES * b],
    ),
    # Products with what does not depend on the input are none that are left out.
    "number": (lambda a: 3 * a, [VECTOR], [lambda a: 3 * a]),
    "array": (lambda a: ops.multiply(SCALES[None], a), [VECTOR], [lambda a: SCALES * a]),
    "constant": (lambda a: layers.Multiply()([constant(a), a]), [VECTOR], [lambda a: SCALES * a]),
    "constant-first": (
        lambda a, b: layers.Multiply()([constant(a), a, b]),
        [VECTOR] * 2,
        [lambda a, b: SCALES * a, lambda a, b: SCALES * a * b],
    ),
    "constant-last": (
        lambda a, b: layers.Multiply()([a, b, constant(a)]),
        [VECTOR] * 2,
        [lambda a, b: SCALES * a, lambda a, b: SCALES * a * b],
    ),
    "square-of-constant": (
        lambda a: ops.square(constant(a)) * a * a,
        [VECTOR],
        [lambda a: SCALES**2 * a, lambda a: SCALES**2 * a * a],
    ),
}


def model_of(make, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], make(*inputs))
    for layer in model.layers:
        if isinstance(layer, LearnedConstant):
            layer.weights[0].assign(SCALES.reshape(layer.weights[0].shape))
    return model


def batch(*shapes):
    given = [RNG.normal(size=(3, *shape)).astype("float32") for shape in shapes]
    return given if len(given) > 1 else given[0]


def assert_stages(model, x, expected, **tolerances):
    """Asserts what a model computes with each number of products, and that the degree is that of what is computed."""
    assert count_products(model) == len(expected) - 1
    degrees = []
    for products, values in enumerate(expected):
        stage = without_products(model, products)
        found = numpy(stage(x))
        np.testing.assert_allclose(found, values, **{"rtol": 1e-5, "atol": 1e-5, **tolerances})
        assert count_products(stage) == products
        degrees.append(degree(stage))
        parts = contributions(stage, x)
        assert len(parts) == degrees[-1] + 1
        np.testing.assert_allclose(parts.sum(0), found, rtol=1e-4, atol=1e-4)
    assert degrees[0] == 1 and degrees == sorted(degrees)
    return degrees


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_is_left_of_a_product(name):
    make, shapes, stages = PRODUCTS[name]
    x = batch(*shapes)
    expected = [stage(*(x if isinstance(x, list) else [x])) for stage in stages]
    degrees = assert_stages(model_of(make, *shapes), x, expected)
    assert degrees == [n + 1 for n in range(len(stages))]


SUMMING = {
    "Dot": lambda a, b: layers.Dot(1)([a, b]),
    "einsum": lambda a, b: ops.einsum("bi,bi->b", a, b),
    "matmul": lambda a, b: ops.matmul(ops.expand_dims(a, 1), ops.expand_dims(b, 2)),
}


@pytest.mark.parametrize("name", SUMMING)
def test_products_that_sum_are_computed_or_refused(name):
    model = model_of(lambda a, b: SUMMING[name](a * a, b), VECTOR, VECTOR)
    x = batch(VECTOR, VECTOR)
    assert count_products(model) == 2
    assert degree(without_products(model, 2)) == 3
    np.testing.assert_allclose(numpy(without_products(model, 2)(x)), numpy(model(x)), rtol=1e-5)
    words = (
        rf"becomes its first operand\. Received: \w+ of type {name}, whose operands are summed over\. Compute more"
        if name != "einsum"
        else r"Received: \w+ of type Einsum, whose operands are summed over"
    )
    for after in (0, 1):
        with pytest.raises(ValueError, match="(?i)" + words):
            without_products(model, after)
    # With a matrix that does not depend on the input, there is no product.
    for make in (
        lambda a: ops.matmul(a, np.eye(4, dtype="float32")),
        lambda a: ops.einsum("bi,ij->bj", a, np.eye(4, dtype="float32")),
    ):
        linear, a = model_of(make, VECTOR), batch(VECTOR)
        assert count_products(linear) == 0
        np.testing.assert_allclose(numpy(without_products(linear, 0)(a)), a, rtol=1e-6)


class Star:
    """A model (L z) * (R z), and what it computes with and without its product."""

    def __init__(self):
        self.left, self.right = layers.Dense(4), layers.Dense(4)
        z = keras.Input(VECTOR)
        self.model = keras.Model(z, self.left(z) * self.right(z))

    def __call__(self, z, has_product=True):
        return self.left(z) * self.right(z) if has_product else self.left(z)


def test_products_are_numbered_along_nested_models_and_calls():
    star, z = Star(), batch(VECTOR)
    twice = model_of(lambda z: star.model(star.model(z)), VECTOR)
    expected = [star(star(z, first), second) for first, second in ((False, False), (True, False), (True, True))]
    assert assert_stages(twice, z, expected) == [1, 2, 4]
    # What is called first is counted first, whatever it is part of.
    other = Star()
    model = model_of(lambda z: other.model(star.model(z) * z), VECTOR)
    expected = [other(star(z, False), False), other(star(z), False), other(star(z) * z, False), other(star(z) * z)]
    assert assert_stages(model, z, expected) == [1, 2, 3, 6]


def test_products_in_a_branch_and_in_a_normaliser():
    star, z = Star(), batch(VECTOR)
    block = model_of(lambda z: PolynomialResidual(star.model, 2)(z) * z, VECTOR)
    Cz = star(z)
    expected = [z + star(z, False), z + Cz, z + z * Cz + Cz, (z + z * Cz + Cz) * z]
    assert assert_stages(block, z, expected) == [1, 2, 3, 4]
    layer = PolynomialResidual(layers.Dense(4), 2, normalize=star.model)
    model = model_of(lambda z: layer(z) * z, VECTOR)
    randomise(layer)
    (copy,) = layer.normalizers
    left, right = (part for part in copy.layers if isinstance(part, layers.Dense))
    Cz = layer.branch(z)
    normalized = [z * 0, left(z * Cz), left(z * Cz) * right(z * Cz)]
    expected = [z + x + Cz for x in normalized]
    expected.append(expected[-1] * z)
    assert count_products(model) == 3
    for products, values in enumerate(expected):
        stage = without_products(model, products)
        np.testing.assert_allclose(numpy(stage(z)), values, rtol=1e-5, atol=1e-5)
        assert (count_products(stage), degree(stage)) == (products, (1, 2, 4, 5)[products])


class Bent(CCP):
    def call(self, z, training=None):
        return ops.relu(super().call(z, training))


SEQUENCE = (5, 4)
# What is followed by a product with z; how many products it has.
PARTS = {
    "layer-twice": (lambda: _twice(CCP(4, 3, rank=3)), VECTOR, 4),
    "sequential": (lambda: keras.Sequential([layers.Dense(4), NCP(4, 3, rank=3)]), VECTOR, 2),
    "ProdPoly": (lambda: ProdPoly([Star().model, NCP(4, 2, rank=3), Star().model]), VECTOR, 3),
    "operator": (lambda: NCPSkip(4, 2, operator=Star().model), VECTOR, 4),
    "normaliser": (
        lambda: PolynomialResidual(layers.Dense(4), 3, normalize=keras.Sequential([NCP(4, 2, rank=3)])),
        VECTOR,
        4,
    ),
    "normaliser-layer": (lambda: PolynomialResidual(layers.Dense(4), 2, normalize=CCP(4, 2, rank=3)), VECTOR, 2),
    "factors": (lambda: PooledProduct(CCP(4, 2, rank=3), 3), SEQUENCE, 4),
}


def _twice(layer):
    return keras.Sequential([keras.Input(VECTOR), layer, layers.Dense(4), layer])


@pytest.mark.parametrize("name", PARTS)
def test_degrees_at_every_stage(name):
    make, shape, products = PARTS[name]
    part = make()
    model, z = model_of(lambda z: part(z) * z, shape), batch(shape)
    randomise(model)
    assert count_products(model) == products + 1
    degrees = []
    for after in range(products + 2):
        stage = without_products(model, after)
        parts, y = contributions(stage, z), numpy(stage(z))
        np.testing.assert_allclose(parts.sum(0), y, rtol=1e-4, atol=1e-4 * np.abs(y).max())
        degrees.append(degree(stage))
        assert len(parts) == degrees[-1] + 1 and np.abs(parts[-1]).max() > 0
        assert count_products(stage) == after
    np.testing.assert_allclose(y, numpy(model(z)), rtol=1e-5, atol=1e-5 * np.abs(y).max())
    assert degrees[0] == 1 and degrees == sorted(degrees) and degrees[-1] == degree(model)


@pytest.mark.parametrize("make", [lambda: Bent(4, 2, rank=3), lambda: layers.TimeDistributed(CCP(4, 2, rank=3))])
def test_what_is_not_read_is_computed_in_full(make):
    keras.saving.register_keras_serializable("tests")(Bent)
    layer, z = make(), batch(SEQUENCE)
    model = model_of(lambda z: PolynomialResidual(keras.Sequential([layer]), 2)(z) * z, SEQUENCE)
    randomise(model)
    assert count_products(model) == 2 and degree(model) is None
    Cz = layer(z)
    expected = [z + Cz, z + z * Cz + Cz, (z + z * Cz + Cz) * z]
    for products, values in enumerate(expected):
        np.testing.assert_allclose(numpy(without_products(model, products)(z)), values, rtol=1e-5, atol=1e-5)


class Gate(layers.Layer):
    def call(self, inputs):
        return inputs[0] * inputs[1] * inputs[1]


class Cube(layers.Layer):
    def call(self, x):
        return x * x * x


def test_what_has_a_degree_alone_is_computed_in_full():
    register_layer(Gate, lambda x, y: x + 2 * y)
    register_layer(Cube, lambda degree: 3 * degree)
    for layer in (Gate, Cube):
        keras.saving.register_keras_serializable("tests")(layer)
    model, z = model_of(lambda z: Gate()([z * z, Cube()(z)]) * z, VECTOR), batch(VECTOR)
    assert count_products(model) == 2
    for products, (values, order) in enumerate([(z * z**6, 7), (z * z * z**6, 8), (z * z * z**6 * z, 9)]):
        stage = without_products(model, products)
        np.testing.assert_allclose(numpy(stage(z)), values, rtol=1e-4)
        assert degree(stage) == order


def mixed():
    """Returns a model of several kinds of products, which is a polynomial of degree 8."""
    star = Star()
    return model_of(lambda z: ops.square(star.model(z) * CCP(4, 2, rank=3, name="ccp")(z)), VECTOR)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .'ccp/U_1/kernel'")
def test_saved_and_trained(tmp_path):
    model, z = mixed(), batch(VECTOR)
    for after in range(5):
        stage = without_products(model, after)
        stage.save(tmp_path / "stage.keras")
        loaded = keras.saving.load_model(tmp_path / "stage.keras")
        np.testing.assert_allclose(numpy(loaded(z)), numpy(stage(z)), rtol=1e-6)
        assert (degree(loaded), count_products(loaded)) == (degree(stage), after)
    before = [numpy(weight).copy() for weight in model.weights]
    stage = without_products(model, 2)
    first = stage(z)
    stage.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=False)
    losses = [float(stage.train_on_batch(z, 0 * z)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2] and np.abs(numpy(stage(z)) - numpy(first)).max() > 0
    # The weights are its own.
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 1e-2), ("mixed_bfloat16", 8e-2), ("float64", 1e-5)]
)
def test_types(policy, tolerance):
    model, z = mixed(), batch(VECTOR)
    keras.config.set_dtype_policy(policy)
    other = mixed()
    for weight, value in zip(other.weights, model.weights, strict=True):
        weight.assign(numpy(value))
    for after in range(5):
        found, expected = without_products(other, after)(z), numpy(without_products(model, after)(z))
        assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(numpy(found).astype("float64"), expected, rtol=0, atol=atol)


def test_masks():
    z = keras.Input((None, 3))
    x = CCP(3, 2, rank=5, normalize="batch", name="ccp")(layers.Masking()(z))
    model = keras.Model(z, layers.GlobalAveragePooling1D()(layers.Multiply()([x, layers.Dense(3)(x)])))
    randomise(model.get_layer("ccp"))
    padded = batch((4, 3))
    padded[:, 2:] = 0
    assert count_products(model) == 2
    values = []
    for after in range(3):
        stage = without_products(model, after)
        values.append(numpy(stage(padded)))
        np.testing.assert_allclose(values[-1], numpy(stage(padded[:, :2])), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values[-1], numpy(model(padded)), rtol=1e-5, atol=1e-5)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in itertools.pairwise(values))


def test_star_net_at_every_stage():
    model = star_net(size=16, stem=4, width=4, expansion=2, classes=3, depths=(1, 2), polynomial=True)
    x = batch((16, 16, 3))
    assert count_products(model) == 3
    degrees = []
    for make in product_stages(model).values():
        stage = make()
        degrees.append(degree(stage))
        y = numpy(stage(x))
        np.testing.assert_allclose(contributions(stage, x).sum(0), y, rtol=1e-4, atol=1e-4 * np.abs(y).max())
    assert degrees == [1, 2, 4, 8]
    # A block without its product hands its first factor on.
    linear = without_products(model, 0)
    one, other, both, none = (numpy(linear(v)) for v in (x[:1], x[1:2], x[:1] + x[1:2], 0 * x[:1]))
    np.testing.assert_allclose(both + none, one + other, rtol=1e-4, atol=1e-5)


def test_what_others_say_of_it():
    model, z = mixed(), batch(VECTOR)
    stage = without_products(model, 2)
    total = polynomial_summary(stage).total
    assert (total.degree, total.multiply_adds, total.parameters) == (degree(stage), None, model.count_params())
    assert first_not_finite(stage, z) is None
    words = r"computes all of its own\. Received: .*, which has some left out already\. Pass the model that it was"
    with pytest.raises(ValueError, match=words):
        without_products(stage, 1)
