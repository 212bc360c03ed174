"""The layers of meshes against their equations, written out vertex by vertex."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.layers import NCP, SpiralConv, SpiralPolynomial, VertexResample, VertexStandardization
from tests.conformance.cases import SPIRALS, numpy, randomise


def template(vertices, length, seed=0):
    """Returns spirals of random vertices, some of their positions empty."""
    rng = np.random.default_rng(seed)
    spirals = rng.integers(0, vertices, (vertices, length))
    spirals[:, 0] = np.arange(vertices)
    spirals[:, -1][rng.random(vertices) < 0.5] = vertices
    spirals[-1, 1:] = vertices
    return spirals


def convolve(x, spirals, kernel):
    """The sum over a spiral, one vertex after the other."""
    y = np.zeros((*x.shape[:2], kernel.shape[2]))
    for v, spiral in enumerate(spirals):
        for position, u in enumerate(spiral):
            if u < len(spirals):
                y[:, v] += x[:, u] @ kernel[position]
    return y


def features(vertices=40, channels=3, batch=4, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, vertices, channels)).astype("float32")


@pytest.mark.parametrize("filters", [7, 3, 1], ids=["wider", "same", "narrower"])
def test_spiral_conv(filters):
    spirals, x = template(40, 6), features()
    layer = SpiralConv(filters, spirals)
    layer.build(x.shape)
    randomise(layer)
    expected = convolve(x, spirals, numpy(layer.kernel)) + numpy(layer.bias)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


def simple(z, spirals, S, order):
    h = convolve(z, spirals, S)
    return sum(h**n for n in range(1, order + 1))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_simple_is_a_polynomial_of_one_convolution(order):
    spirals, z = template(40, 6), features()
    layer = SpiralPolynomial(5, spirals, order, variant="simple")
    layer.build(z.shape)
    randomise(layer)
    expected = simple(z, spirals, numpy(layer.S[0]), order) + numpy(layer.beta)
    np.testing.assert_allclose(numpy(layer(z)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_full_repeats_the_step_of_the_paper(order, residual):
    spirals, z = template(40, 6), features()
    layer = SpiralPolynomial(5, spirals, order, residual=residual)
    layer.build(z.shape)
    randomise(layer)
    x = z
    for n, (A, S) in enumerate(zip(layer.A, layer.S), start=2):
        a = convolve(z, spirals, numpy(A))
        before = x if residual and n > 2 else 0
        x = a * convolve(x, spirals, numpy(S)) + a + before
    expected = x + numpy(layer.beta)
    np.testing.assert_allclose(numpy(layer(z)), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_full_of_order_2_is_an_ncp():
    # Both factors of the product are linear in z: an NCP of order 2 with b_2 = 1.
    spirals, z = template(40, 6), features()
    layer = SpiralPolynomial(3, spirals, 2, use_bias=False)
    ncp = NCP(None, 2, operator=SpiralConv(3, spirals))
    layer.build(z.shape)
    ncp.build(z.shape)
    # x_1 = z: the first convolution passes each vertex on.
    passing = np.zeros(numpy(ncp.factors[0].kernel).shape, "float32")
    passing[0] = np.eye(3)
    for target, value in (
        (ncp.factors[0].kernel, passing),
        (ncp.factors[1].kernel, layer.A[0]),
        (ncp.S[0].kernel, layer.S[0]),
        (ncp.b[0], np.ones(3)),
        (ncp.b[1], np.ones(3)),
    ):
        target.assign(value)
    np.testing.assert_allclose(numpy(ncp(z)), numpy(layer(z)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["simple", "full"])
def test_empty_positions_are_zero_at_every_order(variant):
    # A vertex alone sees itself, and nothing that a normalisation made of the vertex that stands for none.
    spirals, z = template(6, 4), features(6)
    layer = SpiralPolynomial(5, spirals, 4, variant=variant, normalize="vertex_batch", residual=variant == "full")
    layer.build(z.shape)
    randomise(layer)
    others = z.copy()
    others[:, :-1] += 1
    np.testing.assert_allclose(numpy(layer(z))[:, -1], numpy(layer(others))[:, -1], rtol=1e-4, atol=1e-4)
    longer = SpiralPolynomial.from_config(
        {**layer.get_config(), "spirals": np.concatenate([spirals, np.full((6, 1), 6)], axis=1)}
    )
    longer.build(z.shape)
    for weight, value in zip(longer.weights, layer.get_weights()):
        shape = tuple(weight.shape)
        extra = np.ones(shape, value.dtype)
        extra[tuple(map(slice, value.shape))] = value
        weight.assign(longer._table_values("spirals") if weight is longer.spirals else extra)
    np.testing.assert_allclose(numpy(longer(z)), numpy(layer(z)), rtol=1e-4, atol=1e-4)


def test_statistics_of_every_vertex_and_channel():
    spirals, z = template(40, 6), features(batch=64) + np.arange(40)[None, :, None]
    layer = SpiralPolynomial(5, spirals, 2, normalize="vertex_batch", use_bias=False)
    layer.build(z.shape)
    a, s = (convolve(z, spirals, numpy(kernel)) for kernel in (layer.A[0], layer.S[0]))
    product = a * s
    expected = (product - product.mean(0)) / np.sqrt(product.var(0) + 1e-5) + a
    np.testing.assert_allclose(numpy(layer(z, training=True)), expected, rtol=1e-3, atol=1e-3)
    assert layer.normalizers[0].gamma.shape == (40 * 5,)


def test_instance_statistics_are_over_the_vertices_of_a_shape():
    spirals, z = template(40, 6), features()
    layer = SpiralPolynomial(5, spirals, 2, normalize="instance", use_bias=False)
    layer.build(z.shape)
    a, s = (convolve(z, spirals, numpy(kernel)) for kernel in (layer.A[0], layer.S[0]))
    product = a * s
    expected = (product - product.mean(1, keepdims=True)) / np.sqrt(product.var(1, keepdims=True) + 1e-5) + a
    np.testing.assert_allclose(numpy(layer(z)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("filters", [7, 1], ids=["wider", "narrower"])
@pytest.mark.parametrize("settings", [{}, {"variant": "simple", "order": 4}, {"order": 3, "normalize": "instance"}])
def test_keep_leaves_out_the_other_vertices(filters, settings):
    spirals, z, keep = template(40, 6), features(), [5, 39, 0]
    for cls in (SpiralConv, SpiralPolynomial):
        options = settings if cls is SpiralPolynomial else {}
        whole, part = cls(filters, spirals, **options), cls(filters, spirals, keep=keep, **options)
        for layer in (whole, part):
            layer.build(z.shape)
        randomise(whole)
        for target, weight in zip(part.trainable_weights, whole.trainable_weights):
            target.assign(weight)
        np.testing.assert_allclose(numpy(part(z)), numpy(whole(z))[:, keep], rtol=1e-4, atol=1e-4)
        assert part.compute_output_shape((None, 40, 3)) == (None, 3, filters)


def test_initial_values_keep_the_variance():
    spirals = np.stack([(np.arange(500) + n) % 500 for n in range(7)], axis=1)
    z = features(500, 32, batch=8)
    for order in (1, 2, 3, 5):
        assert 0.7 < numpy(SpiralPolynomial(32, spirals, order)(z)).std() < 1.4


def test_kernels_differ():
    layer = SpiralPolynomial(4, SPIRALS, 3, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    layer.build((None, 5, 4))
    kernels = [numpy(kernel) for kernel in (*layer.A, *layer.S)]
    assert all(np.abs(one - two).max() > 0.01 for n, one in enumerate(kernels) for two in kernels[:n])


def test_gradients_equal_those_of_a_plain_gather():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the gradient of ours is TensorFlow's")
    spirals, x = template(40, 6), tf.constant(features(channels=4))
    up = tf.constant(features(channels=5, seed=2))
    for make in (
        lambda: SpiralConv(5, spirals),
        lambda: SpiralConv(5, spirals, keep=[5, 39, 0]),
        lambda: SpiralConv(2, spirals),
        lambda: SpiralPolynomial(2, spirals, 2, keep=[5, 39, 0]),
        lambda: SpiralPolynomial(5, spirals, 3),
        lambda: VertexResample(
            np.random.default_rng(0).random((40, 40)) * (np.random.default_rng(1).random((40, 40)) < 0.1)
        ),
    ):
        layer = make()
        layer.build(x.shape)
        gradients = []
        for values in (True, False):
            if not values:  # As after loading the weights of another process.
                layer._table_values = lambda name: None
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(y * up[:, : y.shape[1], : y.shape[2]])
            gradients.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
        for one, two in zip(*gradients):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_resample_is_a_product_with_the_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(30, 40, density=0.1, random_state=0, format="csr")
    x = features()
    expected = np.einsum("vu,buc->bvc", matrix.toarray(), x)
    for form in (matrix, matrix.tocoo(), matrix.toarray()):
        np.testing.assert_allclose(numpy(VertexResample(form)(x)), expected, rtol=1e-4, atol=1e-5)


def test_resample_keeps_what_is_not_finite_in_its_place():
    x = features(5)
    x[:, 0] = np.nan
    y = numpy(VertexResample(np.array([[1, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1]]))(x))
    assert np.isnan(y[:, 0]).all() and np.isfinite(y[:, 1:]).all()


def test_standardisation_and_back():
    shapes = features(batch=50) * [1, 2, 0] + [100, 200, 300]
    mean, deviation = shapes.mean(0), shapes.std(0)
    standardized = numpy(VertexStandardization(mean, deviation)(shapes))
    np.testing.assert_allclose(standardized.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(standardized[..., :2].std(0), 1, atol=1e-3)
    np.testing.assert_allclose(standardized[..., 2], 0, atol=1e-3)
    back = numpy(VertexStandardization(mean, deviation, invert=True)(standardized + [0, 0, 7]))
    np.testing.assert_allclose(back, shapes, rtol=1e-5)


def test_config_is_small_and_finds_its_table():
    spirals = template(2000, 9)
    layer = SpiralConv(4, spirals)
    assert len(str(layer.get_config())) < 2000
    again = SpiralConv.from_config(layer.get_config())
    again.build((None, 2000, 3))
    np.testing.assert_array_equal(numpy(again.spirals), spirals)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SpiralConv(0, SPIRALS), "`filters` must be a positive integer. Received: filters=0."),
        (lambda: SpiralConv(4, [1, 2, 3]), r"`spirals` must be a table of integers of two axes. Received: .*\(3,\)"),
        (lambda: SpiralConv(4, [[0.5, 1]]), "type float64. Pass what `pinets_tf.mesh.spirals` returns."),
        (lambda: SpiralConv(4, [[0, 3], [1, 2]]), "Received: indices from 0 to 3 for 2 vertices."),
        (lambda: SpiralConv(4, SPIRALS, keep=[5]), "`keep` must be a list of vertices, from 0 to 4."),
        (lambda: SpiralConv(4, SPIRALS, keep=[0.5]), r"Received: an array of shape \(1,\) and type float64."),
        (lambda: SpiralPolynomial(4, SPIRALS, variant="half"), "`variant` must be one of 'simple', 'full'."),
        (lambda: SpiralPolynomial(4, SPIRALS, normalize="vertex"), "`normalize` must be one of 'vertex_batch', "),
        (lambda: SpiralPolynomial(4, SPIRALS, 0), "`order` must be a positive integer."),
        (lambda: SpiralPolynomial(0, SPIRALS), "`filters` must be a positive integer. Received: filters=0. Pass"),
        (lambda: SpiralPolynomial(4, [[0.5, 1]]), "`spirals` must be a table of integers .* type float64. Pass"),
        (lambda: SpiralPolynomial(4, SPIRALS, keep=[5]), "`keep` must be a list of vertices, from 0 to 4. .* Pass the"),
        (lambda: VertexResample("matrix"), r"`matrix` must have a row .* Received: a matrix of shape \(1,\). Pass"),
        (lambda: VertexResample(np.ones(3)), r"Received: a matrix of shape \(3,\)."),
        (lambda: VertexResample(np.full((2, 3), np.nan)), "with entries that are not finite"),
        (lambda: VertexStandardization(np.ones((5, 3)), np.ones((4, 3))), r"shape \(5, 3\) and \(4, 3\)."),
        (lambda: VertexStandardization(np.ones((5, 3)), -np.ones((5, 3))), "the deviation not negative"),
        (lambda: VertexStandardization(np.full((5, 3), np.inf), np.ones((5, 3))), "not all finite"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_errors_of_another_topology():
    standardization = VertexStandardization(np.ones((5, 3)), np.ones((5, 3)))
    for layer in (SpiralConv(4, SPIRALS), SpiralPolynomial(4, SPIRALS), VertexResample(np.eye(5)), standardization):
        with pytest.raises(ValueError, match=r"Received: an input of shape \(None, 6, 3\), where the template has 5"):
            layer.build((None, 6, 3))
    with pytest.raises(ValueError, match="as many channels as their mean"):
        standardization.build((None, 5, 2))


def test_a_table_that_was_never_loaded_is_refused():
    config = SpiralConv(4, template(7, 3, seed=5)).get_config()
    config["spirals"]["sha256"] = "another process"
    layer = SpiralConv.from_config(config)
    layer.build((None, 7, 3))
    assert (numpy(layer.spirals) > 7).all()
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(Exception, match="is not in"):
            layer(ops.ones((1, 7, 3)))
