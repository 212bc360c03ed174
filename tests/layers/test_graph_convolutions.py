"""FeaStConv, GATConv and GMMConv compute their equations, over sets of neighbours."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.layers import FeaStConv, GATConv, GMMConv
from tests.conformance.cases import tensorflow_only
from tests.polynomial_degree import multiplies_in_float64

# Six vertices, the last of which has no neighbour but itself; 6 stands for none.
NEIGHBORS = np.array([[0, 1, 2, 3], [1, 0, 2, 6], [2, 0, 1, 3], [3, 0, 2, 4], [4, 3, 6, 6], [5, 6, 6, 6]])
COORDINATES = np.random.default_rng(5).uniform(-1, 1, (*NEIGHBORS.shape, 2)) * (NEIGHBORS < 6)[..., None]


def feast(neighbors, coordinates, filters=4, **options):
    return FeaStConv(filters, neighbors, **{"heads": 3, **options})


def gat(neighbors, coordinates, filters=4, **options):
    return GATConv(filters, neighbors, **{"heads": 2, **options})


def concatenated(neighbors, coordinates, filters=4, **options):
    return GATConv(filters, neighbors, combine="concat", **{"heads": 2, **options})


def gmm(neighbors, coordinates, filters=4, **options):
    return GMMConv(filters, neighbors, coordinates, **{"kernels": 3, **options})


every_layer = pytest.mark.parametrize("make", [feast, gat, concatenated, gmm])


def numpy(x):
    return ops.convert_to_numpy(x)


def batch(size=2, vertices=6, channels=5, dtype="float64"):
    return np.random.default_rng(0).normal(size=(size, vertices, channels)).astype(dtype)


def random_weights(layer):
    """Gives what is trained random values, the same for layers of the same sizes."""
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) / 2)
    return layer


def built(make, neighbors=NEIGHBORS, coordinates=COORDINATES, **options):
    layer = make(neighbors, coordinates, **{"dtype": "float64", **options})
    layer.build((None, len(neighbors), 5))
    return random_weights(layer)


def sums_over_neighbors(term):
    """Returns y[i] = sum of term(i, [j of N_i, ...]) for every vertex."""
    rows = [[(place, j) for place, j in enumerate(row) if j < len(NEIGHBORS)] for row in NEIGHBORS]
    return np.stack([term(i, row) for i, row in enumerate(rows)])


def twin_of_feast(layer, x):
    W, u, c, b = (numpy(weight) for weight in (layer.kernel, layer.u, layer.c, layer.bias))

    def term(i, row):
        y = np.zeros(4)
        for _, j in row:
            q = np.exp([u[:, m] @ (x[j] - x[i]) + c[m] for m in range(3)])
            y += sum(q[m] / q.sum() * (W[m].T @ x[j]) for m in range(3)) / len(row)
        return y + b

    return sums_over_neighbors(term)


def attention(layer, x, i, row, h):
    W, a = numpy(layer.kernel)[h], numpy(layer.a)[h]
    scores = [a @ np.concatenate([W.T @ x[i], W.T @ x[j]]) for _, j in row]
    weights = np.exp([score if score > 0 else 0.2 * score for score in scores])
    return sum(weight / weights.sum() * (W.T @ x[j]) for weight, (_, j) in zip(weights, row))


def twin_of_gat(layer, x):
    b = numpy(layer.bias)
    return sums_over_neighbors(lambda i, row: sum(attention(layer, x, i, row, h) for h in range(2)) / 2 + b)


def twin_of_concatenated(layer, x):
    b = numpy(layer.bias)
    return sums_over_neighbors(lambda i, row: np.concatenate([attention(layer, x, i, row, h) for h in range(2)]) + b)


def twin_of_gmm(layer, x):
    W, mu, b = (numpy(weight) for weight in (layer.kernel, layer.mu, layer.bias))
    precisions = [np.linalg.inv(np.diag(np.exp(numpy(layer.log_sigma)[k]) ** 2)) for k in range(3)]
    coordinates = COORDINATES.astype("float32").astype("float64")

    def term(i, row):
        y = np.zeros(4)
        for place, j in row:
            for k in range(3):
                away = coordinates[i, place] - mu[k]
                y += np.exp(-0.5 * away @ precisions[k] @ away) * (W[k].T @ x[j])
        return y + b

    return sums_over_neighbors(term)


@multiplies_in_float64
@pytest.mark.parametrize(
    "make, twin",
    [(feast, twin_of_feast), (gat, twin_of_gat), (concatenated, twin_of_concatenated), (gmm, twin_of_gmm)],
)
def test_equals_the_equation(make, twin):
    layer, x = built(make), batch()
    tolerance = 1e-6 if isinstance(layer, GATConv) else 1e-12  # The slope of `leaky_relu` is a float32 on TensorFlow.
    np.testing.assert_allclose(numpy(layer(x)), [twin(layer, sample) for sample in x], rtol=tolerance, atol=tolerance)
    bare = make(NEIGHBORS, COORDINATES, use_bias=False, dtype="float64")
    bare.build((None, 6, 5))
    assert bare.bias is None
    bare.set_weights([numpy(weight) for weight in layer.weights if weight is not layer.bias])
    np.testing.assert_allclose(numpy(bare(x)), numpy(layer(x)) - numpy(layer.bias), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("make", [feast, gat, gmm])
def test_one_output_and_one_head(make):
    few = {"kernels": 1} if make is gmm else {"heads": 1}
    layer = make(NEIGHBORS, COORDINATES, filters=1, **few)
    assert layer(batch(dtype="float32")).shape == (2, 6, 1)


@every_layer
def test_the_order_of_neighbors_is_irrelevant(make):
    rng = np.random.default_rng(2)
    orders = np.argsort(rng.random(NEIGHBORS.shape), axis=1)
    neighbors = np.take_along_axis(NEIGHBORS, orders, 1)
    coordinates = np.take_along_axis(COORDINATES, orders[..., None], 1)
    assert (neighbors[:, 0] != NEIGHBORS[:, 0]).any()
    expected, value = (
        numpy(built(make, *tables, dtype="float32")(batch()))
        for tables in ((NEIGHBORS, COORDINATES), (neighbors, coordinates))
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@every_layer
def test_empty_places_do_not_count(make):
    padded = np.pad(NEIGHBORS, ((0, 0), (0, 3)), constant_values=6)
    # Where there is no neighbour the coordinates are irrelevant, too.
    coordinates = np.pad(COORDINATES, ((0, 0), (0, 3), (0, 0)))
    coordinates[padded == 6] = 0.3
    expected = numpy(built(make, dtype="float32")(batch()))
    value = numpy(built(make, padded, coordinates, dtype="float32")(batch()))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@every_layer
def test_a_vertex_sees_its_neighbors_alone(make):
    layer, x = built(make, dtype="float32"), batch(1)
    before = numpy(layer(x))
    x[0, 4] += 1.0
    changed = np.abs(numpy(layer(x)) - before).max(-1)[0] > 1e-4
    np.testing.assert_array_equal(changed, (NEIGHBORS == 4).any(1))


def test_feast_shares_do_not_change_when_all_vertices_move_together():
    layer, x = built(feast, dtype="float32"), batch(dtype="float32")
    layer.kernel.assign(np.ones(layer.kernel.shape) * np.arange(1, 4)[:, None, None])
    moved = numpy(layer(x + 1.0)) - numpy(layer(x))
    # All columns of W_m are m times ones, so the outputs move by 5 times the mean of the shares times m.
    shares = moved[..., 0] / 5
    assert (shares > 1).all() and (shares < 3).all()
    np.testing.assert_allclose(numpy(layer(x + 2.0)) - numpy(layer(x)), 2 * moved, rtol=1e-4)


def test_gat_ignores_what_is_common_to_the_scores_of_a_vertex():
    layer, x = built(gat, dtype="float32"), batch(dtype="float32")
    layer.a.assign(np.zeros(layer.a.shape))
    means = np.stack([x[:, row[row < 6]].mean(1) for row in NEIGHBORS], 1)
    expected = means @ numpy(layer.kernel).mean(0) + numpy(layer.bias)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


@every_layer
def test_vertices_that_are_not_kept_are_left_out(make):
    layer, kept = built(make, dtype="float32"), built(make, keep=[4, 1, 5], dtype="float32")
    assert kept.compute_output_shape((None, 6, 5)) == (None, 3, 4)
    np.testing.assert_allclose(numpy(kept(batch())), numpy(layer(batch()))[:, [4, 1, 5]], rtol=1e-4, atol=1e-5)


@every_layer
def test_a_vertex_without_any_neighbor_gives_the_bias(make):
    neighbors = NEIGHBORS.copy()
    neighbors[5] = 6
    layer = built(make, neighbors, dtype="float32")
    np.testing.assert_allclose(numpy(layer(batch()))[:, 5], [numpy(layer.bias)] * 2, rtol=1e-6)


def gradients(layer, x):
    """Returns the gradients of a loss with respect to x and to what is trained."""
    variables = layer.trainable_weights
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(tf.cast(layer(x), "float32")))
        return [numpy(tf.convert_to_tensor(gradient)) for gradient in tape.gradient(loss, [x, *variables])]
    if keras.backend.backend() == "jax":
        import jax

        def loss(x, trained):
            y, _ = layer.stateless_call(trained, [weight.value for weight in layer.non_trainable_variables], x)
            return ops.mean(ops.square(ops.cast(y, "float32")))

        inner, weights = jax.grad(loss, (0, 1))(ops.convert_to_tensor(x), [weight.value for weight in variables])
        return [numpy(gradient) for gradient in (inner, *weights)]
    pytest.skip("gradients on TensorFlow and JAX")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float16"])
@every_layer
def test_gradients_are_finite_and_there(make, policy):
    # The last two vertices have one and no neighbour; equal features everywhere are where quotients go wrong.
    neighbors = np.concatenate([NEIGHBORS, [[7, 7, 7, 7]]])
    neighbors[neighbors == 6] = 7
    coordinates = np.concatenate([COORDINATES, np.zeros((1, 4, 2))])
    layer = built(make, neighbors, coordinates, dtype=policy)
    for x in (batch(vertices=7), np.zeros((2, 7, 5)), 50 * batch(vertices=7)):
        found = gradients(layer, x.astype("float16" if "16" in policy else "float32"))
        assert len(found) == 1 + len(layer.trainable_weights)
        assert all(np.isfinite(gradient).all() for gradient in found)
    ordinary = gradients(layer, batch(vertices=7).astype("float16" if "16" in policy else "float32"))
    assert all(np.abs(gradient).max() > 0 for gradient in ordinary)


@pytest.mark.parametrize("make", [feast, gat])
def test_large_float16_scores_stay_finite(make):
    layer = built(make, dtype="mixed_float16")
    steered = layer.u if make is feast else layer.a
    steered.assign(np.full(steered.shape, 30.0))
    assert np.isfinite(numpy(layer(20 * batch(dtype="float16")))).all()


@tensorflow_only
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("make", [feast, gat, concatenated])
def test_heads_do_not_change_the_variance_at_the_start(make, heads):
    x = np.repeat(np.random.default_rng(0).normal(size=(64, 1, 64)), 6, 1)
    layer = make(NEIGHBORS, None, filters=64, heads=heads)
    assert 0.8 < numpy(layer(x)).std() < 1.2


@tensorflow_only
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kernels", [1, 4, 8, 27])
def test_gmm_kernels_cover_the_cube_at_the_start(dimensions, kernels):
    points = np.random.default_rng(0).uniform(-1, 1, (200, 1, dimensions))
    layer = GMMConv(4, np.arange(200)[:, None], points, kernels=kernels)
    layer.build((None, 200, 5))
    weights = numpy(layer._weightings())
    assert weights.shape == (200, kernels, 1)
    assert np.quantile(weights.max(1), 0.05) > 0.2 and weights.max(1).min() > 0.08
    assert weights.sum(1).max() < 2.5
    assert len(np.unique(numpy(layer.mu).round(4), axis=0)) == kernels
    np.testing.assert_allclose(numpy(ops.exp(layer.log_sigma)), kernels ** (-1 / dimensions), rtol=1e-5)


def test_gmm_sigma_stays_positive():
    layer = built(gmm, dtype="float32")
    for value in (-40.0, 40.0):
        layer.log_sigma.assign(np.full(layer.log_sigma.shape, value))
        assert np.isfinite(numpy(layer(batch()))).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients(layer, batch(dtype="float32")))


def test_feast_equals_tensorflow_graphics():
    graph_convolution = pytest.importorskip("tensorflow_graphics.geometry.convolution.graph_convolution")
    import tensorflow as tf

    layer, x = built(feast, dtype="float32"), batch(dtype="float32")
    i, place = np.nonzero(NEIGHBORS < 6)
    counts = (NEIGHBORS < 6).sum(1)
    entries = sorted(zip(i, NEIGHBORS[i, place]))
    shares = [1 / counts[row] for row, _ in entries] * 2
    indices = [(sample, *entry) for sample in range(2) for entry in entries]
    u, c, W, b = (numpy(weight) for weight in (layer.u, layer.c, layer.kernel, layer.bias))
    theirs = graph_convolution.feature_steered_convolution(
        data=tf.constant(x),
        neighbors=tf.SparseTensor(np.array(indices, "int64"), np.array(shares, "float32"), (2, 6, 6)),
        sizes=None,
        var_u=-u,
        var_v=u,
        var_c=c,
        var_w=W,
        var_b=b,
    )
    np.testing.assert_allclose(numpy(layer(x)), theirs.numpy(), rtol=1e-4, atol=1e-5)


ERRORS = {
    "filters": (lambda: feast(NEIGHBORS, None, filters=0), "`filters` must be a positive", "filters=0", "filters=16"),
    "heads": (lambda: feast(NEIGHBORS, None, heads=0), "`heads` must be a positive", "heads=0", "heads=8"),
    "attentions": (lambda: gat(NEIGHBORS, None, heads=1.5), "`heads` must be a positive", "heads=1.5", "heads=8"),
    "kernels": (lambda: gmm(NEIGHBORS, COORDINATES, kernels=-1), "`kernels` must be", "kernels=-1", "kernels=8"),
    "keep": (lambda: feast(NEIGHBORS, None, keep=[6]), "`keep` must be a list of vertices", "type int64", "or None"),
    "combine": (
        lambda: GATConv(4, NEIGHBORS, combine="sum"),
        "`combine` must be one of 'average', 'concat'",
        "combine='sum'",
        "Pass one of",
    ),
    "division": (
        lambda: concatenated(NEIGHBORS, None, filters=3),
        "`filters` / `heads` outputs each",
        "filters=3, heads=2",
        "or combine='average'",
    ),
    "neighbors of floats": (
        lambda: feast(NEIGHBORS * 1.0, None),
        "`neighbors` must be a table of integers",
        "shape (6, 4) and type float64",
        "pinets_tf.mesh.spirals",
    ),
    "neighbors out of range": (
        lambda: gat(NEIGHBORS + 1, None),
        "`neighbors` holds indices of vertices",
        "from 1 to 7 for 6 vertices",
        "pinets_tf.mesh.spirals",
    ),
    "coordinates of another table": (
        lambda: gmm(NEIGHBORS, COORDINATES[:, :3]),
        "`coordinates` must have finite numbers",
        "coordinates of shape (6, 3, 2), and neighbours of shape (6, 4)",
        "zero where there is none",
    ),
    "coordinates of two axes": (
        lambda: gmm(NEIGHBORS, COORDINATES[..., 0]),
        "(vertices, most neighbours, dimensions)",
        "coordinates of shape (6, 4), and",
        "Pass one point for each entry",
    ),
    "coordinates not finite": (
        lambda: gmm(NEIGHBORS, np.where(NEIGHBORS[..., None] < 6, COORDINATES, np.nan)),
        "`coordinates` must have finite numbers",
        "shape (6, 4, 2), with entries that are not finite",
        "zero where there is none",
    ),
    "filters of GAT": (lambda: gat(NEIGHBORS, None, filters=0), "`filters` must be", "filters=0", "filters=16"),
    "filters of GMM": (lambda: gmm(NEIGHBORS, COORDINATES, filters=0), "`filters` must be", "filters=0", "filters=16"),
    "keep of GAT": (lambda: gat(NEIGHBORS, None, keep=[6]), "`keep` must be a list", "type int64", "or None"),
    "keep of GMM": (lambda: gmm(NEIGHBORS, COORDINATES, keep=[6]), "`keep` must be a list", "type int64", "or None"),
    "neighbors of GMM": (
        lambda: gmm(NEIGHBORS[0], COORDINATES),
        "`neighbors` must be a table of integers of two axes",
        "an array of shape (4,)",
        "pinets_tf.mesh.spirals",
    ),
    "another mesh for FeaSt": (
        lambda: feast(NEIGHBORS, None)(batch(vertices=7)),
        "FeaStConv takes features (batch, vertices, channels) of its own template",
        "shape (2, 7, 5), where the template has 6 vertices",
        "Pass shapes of the topology",
    ),
    "another mesh for GAT": (
        lambda: gat(NEIGHBORS, None)(batch(vertices=7)),
        "GATConv takes features (batch, vertices, channels) of its own template",
        "shape (2, 7, 5), where the template has 6 vertices",
        "Pass shapes of the topology",
    ),
    "another mesh": (
        lambda: gmm(NEIGHBORS, COORDINATES)(batch(vertices=7)),
        "GMMConv takes features (batch, vertices, channels) of its own template",
        "shape (2, 7, 5), where the template has 6 vertices",
        "Pass shapes of the topology",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_says_rule_received_remedy(case):
    function, *parts = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)
