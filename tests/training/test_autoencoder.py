"""What the trainer of autoencoders adds: its optimizer, the error in millimetres, the report, pictures, the runs."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from pinets_tf import training
from pinets_tf.mesh import deformed_spheres
from pinets_tf.training import autoencoder, fitting

SHAPES = deformed_spheres(20, subdivisions=1)
DEVIATION = SHAPES.vertices[:12].std(0)


def value(x):
    return keras.ops.convert_to_numpy(x)


@pytest.fixture
def lessons():
    train, test = SHAPES.vertices[:12], SHAPES.vertices[12:]

    def batches(vertices):
        return tf.data.Dataset.from_tensor_slices((vertices, vertices)).batch(4)

    return training.ShapeLessons(
        training=lambda epoch: batches(train).repeat(3 - epoch),
        steps=lambda: 3,
        batch_size=4,
        validation=batches(test),
        test=batches(test),
        vertices=train,
        test_vertices=test,
        test_names=SHAPES.names[12:],
        faces=SHAPES.faces,
        deviation=DEVIATION,
    )


class Explosion(keras.layers.Layer):
    """Squares, eight times, what lies above the training shapes, as a polynomial network may do with a test shape."""

    def call(self, x):
        size = keras.ops.max(keras.ops.abs(x), axis=(1, 2), keepdims=True)
        for _ in range(8):
            size = keras.ops.where(size > 60, keras.ops.square(size), size)
        return keras.ops.where(size > 60, x * size, x)


def network(last=None):
    """A linear autoencoder in two halves."""
    shapes, codes = keras.Input((42, 3)), keras.Input((4,))
    code = keras.layers.Dense(4)(keras.layers.BatchNormalization()(keras.layers.Flatten()(shapes)))
    encoder = keras.Model(shapes, code, name="encoder")
    answer = keras.layers.Reshape((42, 3))(keras.layers.Dense(126)(codes))
    decoder = keras.Model(codes, last(answer) if last else answer, name="decoder")
    return keras.Model(shapes, decoder(encoder(shapes)))


def halves(model):
    return model.get_layer("encoder"), model.get_layer("decoder")


def test_weight_decay_goes_through_the_moments():
    w, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    variable = keras.Variable(w.astype("float32"))
    optimizer = training.CoupledAdam(0.1, l2=0.05)
    for step, gradient in enumerate(([0.5, 0.5], [-1.0, 2.0]), 1):
        optimizer.apply([tf.constant(gradient)], [variable])
        g = np.array(gradient) + 0.05 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(value(variable), w, rtol=1e-5)
    assert training.CoupledAdam.from_config(optimizer.get_config()).l2 == 0.05
    with pytest.raises(ValueError, match=r"`l2` must be 0 or more. Received: l2=-1. Pass a small number"):
        training.CoupledAdam(l2=-1)


def test_without_decay_equals_the_adam_of_keras():
    variables = []
    for optimizer in (training.CoupledAdam(0.1), keras.optimizers.Adam(0.1, epsilon=1e-8)):
        variable = keras.Variable(np.ones(3, "float32"))
        for gradient in (0.5, -1.0):
            optimizer.apply([tf.fill(3, gradient)], [variable])
        variables.append(value(variable))
    np.testing.assert_array_equal(*variables)


@pytest.fixture
def recipe(monkeypatch):
    """Flags of their own, as a script defines them."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr("absl.flags._defines._flagvalues.FLAGS", values)
    for name, default in (("epochs", 10), ("recipe_epochs", 300)):
        flags.DEFINE_integer(name, default, "", flag_values=values)
    for name, default in (("learning_rate", 1e-3), ("weight_decay", 5e-5), ("decay_factor", 0.99)):
        flags.DEFINE_float(name, default, "", flag_values=values)
    flags.DEFINE_bool("decay_normalization", True, "", flag_values=values)
    values.mark_as_parsed()
    return values


def test_the_recipe_ends_at_its_rate_after_any_number_of_epochs(recipe):
    model = network()
    optimizer = training.adam_optimizer(model, steps_per_epoch=7)
    rates = [float(value(optimizer._learning_rate(step))) for step in range(71)]
    # Constant within an epoch; 30 epochs of the recipe for each.
    assert rates[0] == rates[6] == pytest.approx(1e-3) and rates[7] == pytest.approx(1e-3 * 0.99**30, rel=1e-4)
    assert rates[70] == pytest.approx(1e-3 * 0.99**300, rel=1e-4)
    assert optimizer.l2 == 5e-5
    optimizer.build(model.trainable_variables)
    assert all(optimizer._use_weight_decay(variable) for variable in model.trainable_variables)
    recipe.decay_normalization = False
    optimizer = training.adam_optimizer(model, steps_per_epoch=7)
    optimizer.build(model.trainable_variables)
    spared = [v.path for v in model.trainable_variables if not optimizer._use_weight_decay(v)]
    assert {path.rsplit("/", 1)[1] for path in spared} == {"gamma", "beta"}


def test_loss_and_error_are_those_of_the_formula():
    shapes, answers = SHAPES.vertices[:3], SHAPES.vertices[3:6]
    deviation = DEVIATION.copy()
    deviation[7] = 0
    scale = np.where(deviation > 0, deviation, 1)
    loss = value(training.standardised_l1(deviation)(shapes, answers))
    np.testing.assert_allclose(loss, (np.abs(shapes - answers) / scale).mean((1, 2)), rtol=1e-5)
    error = value(training.vertex_error(shapes, answers))
    np.testing.assert_allclose(error, np.linalg.norm(shapes - answers, axis=-1).mean(1), rtol=1e-5)


def test_parameters_with_and_without_normalization():
    counted = training.count_parameters(network())
    # The moving statistics of 2 * 126 are not learned.
    assert counted == {
        "parameters": 2 * 126 + 126 * 4 + 4 + 4 * 126 + 126,
        "parameters_without_normalization": 126 * 4 + 4 + 4 * 126 + 126,
    }


def test_every_shape_counts_in_the_error():
    shapes = np.zeros((5, 4, 3))
    answers = np.zeros((5, 4, 3)) + [[[0.3]], [[0.6]], [[0.9]], [[1.2]], [[90.0]]]
    errors = training.shape_errors(shapes, answers, np.full((4, 3), 10.0), tuple("abcde"))
    root = np.sqrt(3)
    np.testing.assert_allclose(errors.shapes_mm, np.array([0.3, 0.6, 0.9, 1.2, 90]) * root)
    np.testing.assert_allclose(errors.standardised, [0.03, 0.06, 0.09, 0.12, 9])
    numbers = errors.summary()
    assert numbers["vertex_error_mm"] == pytest.approx(18.6 * root)
    assert numbers["median_mm"] == pytest.approx(0.9 * root)
    assert numbers["deviation_mm"] == pytest.approx(np.std(errors.vertices_mm))
    assert (numbers["not_finite"], numbers["far_off"], numbers["officially_dropped"]) == (0, 1, 1)
    assert numbers["officially_filtered_mm"] == pytest.approx(0.75 * root)
    # Far off by the median alone, which the official script keeps.
    kept = training.shape_errors(shapes, answers, np.full((4, 3), 1000.0), tuple("abcde")).summary()
    assert (kept["far_off"], kept["officially_dropped"]) == (1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_reported(tmp_path, bad):
    answers = np.ones((3, 4, 3), "float32")
    answers[1, 2, 0] = bad
    errors = training.shape_errors(np.zeros((3, 4, 3)), answers, np.full((4, 3), 10.0), ("a", "smile/17", "c"))
    numbers = errors.summary()
    assert np.isnan(numbers["vertex_error_mm"]) and np.isnan(numbers["deviation_mm"])
    assert (numbers["not_finite"], numbers["officially_dropped"], numbers["test_shapes"]) == (1, 1, 3)
    assert numbers["median_mm"] == numbers["officially_filtered_mm"] == pytest.approx(np.sqrt(3))
    text = training.write_shape_report(errors, np.array([[0, 1, 2]]), tmp_path)
    assert text.startswith("vertex error: mean nan mm, median 1.732 mm, deviation nan mm, of 3 shapes")
    assert "not finite: 1 shapes (smile/17); the mean of the others is 1.732 mm" in text
    assert (tmp_path / "report.txt").read_text(encoding="utf-8").startswith(text)
    with np.load(tmp_path / "errors.npz") as saved:
        assert np.isnan(saved["shapes_mm"]).tolist() == [False, True, False] and saved["names"][1] == "smile/17"
        np.testing.assert_allclose(saved["vertices_mm"], np.full(4, np.sqrt(3)))
    nothing = training.shape_errors(np.zeros((1, 4, 3)), np.full((1, 4, 3), bad), np.ones((4, 3)), ("a",))
    assert "not finite: 1 shapes (a)" in training.write_shape_report(nothing, np.array([[0, 1, 2]]), tmp_path)


def test_answers_too_large_for_float32_are_far_off_and_not_lost():
    answers = np.full((2, 4, 3), 1e30, "float32")
    answers[0] = 1
    errors = training.shape_errors(np.zeros((2, 4, 3), "float32"), answers, np.full((4, 3), 10.0), ("a", "b"))
    assert errors.summary()["vertex_error_mm"] == pytest.approx(np.sqrt(3) * 1e30 / 2)
    assert errors.far_off.tolist() == [False, True] and training.millimetres(1.5e30) == "1.50e+30 mm"


def test_errors_of_the_report():
    with pytest.raises(ValueError, match=r"are \(n, V, 3\).*answers \(1, 4, 3\).*Pass the answers to these shapes"):
        training.shape_errors(np.zeros((2, 4, 3)), np.zeros((1, 4, 3)), np.ones((4, 3)), ("a", "b"))
    with pytest.raises(ValueError, match=r"deviation \(3,\), 2 names"):
        training.shape_errors(np.zeros((2, 4, 3)), np.zeros((2, 4, 3)), np.ones(3), ("a", "b"))


def fit(model, lessons, folder, epochs=3):
    return training.fitting.fit_network(
        model,
        training.CoupledAdam(keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.9, staircase=True), l2=5e-5),
        lessons,
        folder,
        loss=training.standardised_l1(DEVIATION),
        metrics=[keras.metrics.MeanMetricWrapper(training.vertex_error, name="vertex_error_mm")],
        epochs=epochs,
        xla="off",
        columns=("loss", "vertex_error_mm"),
        title="spheres",
        remedy="",
    )


def test_trains_tests_and_draws(lessons, tmp_path, capsys):
    model = network()
    went = fit(model, lessons, tmp_path)
    assert "vertex_error_mm" in capsys.readouterr().out and went["shapes_per_second"] > 0
    result = training.evaluate_autoencoder(model, halves, lessons, tmp_path, title="spheres")
    answers = value(model(lessons.test_vertices, training=False))
    expected = np.linalg.norm(answers - lessons.test_vertices, axis=-1)
    assert result["vertex_error_mm"] == pytest.approx(expected.mean(), abs=1e-4)
    assert result["median_mm"] == pytest.approx(np.median(expected), abs=1e-4)
    assert result["milliseconds_per_shape"] > 0 and "cores" in result["device"]
    assert "of 8 shapes" in capsys.readouterr().out
    for name in ("curves", "reconstructions", "interpolation", "samples"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "interpolation.gif").read_bytes().startswith(b"GIF8")
    latent = value(halves(model)[0](lessons.vertices, training=False))
    with np.load(tmp_path / "latent.npz") as saved:
        np.testing.assert_allclose(saved["mean"], latent.mean(0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(saved["covariance"], np.cov(latent, rowvar=False), rtol=1e-3, atol=1e-3)
    again = training.load_autoencoder(tmp_path)
    np.testing.assert_allclose(value(again(lessons.test_vertices, training=False)), answers, rtol=1e-5, atol=1e-4)


def test_resumed_equals_uninterrupted(lessons, tmp_path):
    keras.utils.set_random_seed(1)
    whole = network()
    fit(whole, lessons, tmp_path / "whole")
    keras.utils.set_random_seed(1)
    # Another process would end here and begin again with other initial values.
    fit(network(), lessons, tmp_path / "parts", epochs=2)
    keras.utils.set_random_seed(2)
    second = network()
    fit(second, lessons, tmp_path / "parts")
    for weight, other in zip(second.get_weights(), whole.get_weights()):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("explodes", [False, True])
def test_a_trained_model_whose_test_shape_explodes_is_caught(lessons, tmp_path, capsys, explodes):
    model = network(Explosion() if explodes else None)
    # Trained to the end: the principal components of the training shapes, on which nothing explodes.
    _, _, axes = np.linalg.svd((lessons.vertices - lessons.vertices.mean(0)).reshape(12, -1), full_matrices=False)
    mean = lessons.vertices.mean(0).reshape(-1)
    encoder, decoder = halves(model)
    encoder.layers[2].set_weights([np.ones(126), np.zeros(126), np.zeros(126), np.ones(126) - 1e-3])
    encoder.layers[3].set_weights([axes[:4].T, -mean @ axes[:4].T])
    decoder.layers[1].set_weights([axes[:4], mean])
    test = lessons.test_vertices.copy()
    test[5] = lessons.vertices.mean(0) * 1.5
    lessons = dataclasses.replace(lessons, test_vertices=test)
    result = training.evaluate_autoencoder(model, halves, lessons, tmp_path)
    printed = capsys.readouterr().out
    if not explodes:
        # A shape half as large again is far off for this network, and counts.
        assert (result["not_finite"], result["far_off"]) == (0, 1) and "far off: 1 shapes (sphere-17 " in printed
        return
    exploded = ~np.isfinite(value(model(test, training=False))).all((1, 2))
    assert 0 < exploded.sum() < 8
    assert result["not_finite"] == exploded.sum() and np.isnan(result["vertex_error_mm"])
    assert np.isfinite(result["officially_filtered_mm"]) and result["officially_dropped"] >= exploded.sum()
    for name, bad in zip(lessons.test_names, exploded):
        assert (name in printed[printed.index("not finite") :].splitlines()[0]) == bad
    # The result says so in words that JSON has.
    assert json.loads(json.dumps(fitting.finish(tmp_path, result)))["vertex_error_mm"] is None
    assert (tmp_path / "reconstructions.png").exists() and (tmp_path / "interpolation.gif").exists()


def test_latent_vectors_that_are_not_finite_are_not_drawn(lessons, tmp_path, capsys):
    model = network()
    encoder, decoder = halves(model)
    encoder.layers[-1].set_weights([np.full((126, 4), np.inf), np.zeros(4)])
    autoencoder.show_latent_space(encoder, decoder, lessons, tmp_path)
    assert "Latent vectors are not finite" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_principal_components(lessons, tmp_path):
    result = training.run_pca(tmp_path / "pca", lessons, 4, facts={"network": "pca"})
    flat, test = (vertices.reshape(len(vertices), -1) for vertices in (lessons.vertices, lessons.test_vertices))
    mean = flat.mean(0)
    _, _, axes = np.linalg.svd(flat - mean, full_matrices=False)
    answers = (test - mean) @ axes[:4].T @ axes[:4] + mean
    expected = np.linalg.norm((answers - test).reshape(-1, 42, 3), axis=-1).mean()
    assert result["vertex_error_mm"] == pytest.approx(expected, rel=1e-3)
    assert (result["latent"], result["parameters"], result["network"]) == (4, 5 * 126, "pca")
    assert training.results(tmp_path) == [result]
    # Twelve shapes have eleven directions.
    assert training.run_pca(tmp_path / "pca", lessons, 16, facts={})["latent"] == 11


def test_a_workdir_without_a_network(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder with model\.keras\. Received: .* which has none\. Train first"):
        training.load_autoencoder(tmp_path)


def test_views_turn_and_do_not_mirror():
    axes = np.eye(3)
    np.testing.assert_allclose(training.View(0, 0, "y").turned(axes), axes, atol=1e-12)
    for up, row in (("x", 0), ("y", 1), ("z", 2)):
        for view in (training.View(0, 0, up), training.View(33, 20, up)):
            assert np.linalg.det(view.turned(axes)) == pytest.approx(1)
        np.testing.assert_allclose(training.View(33, 0, up).turned(axes)[row], [0, 1, 0], atol=1e-12)
    # From above, what is in front comes lower.
    assert training.View(0, 30, "y").turned(np.array([[0, 0, 1.0]]))[0, 1] < 0


def test_pictures_show_what_is_finite(tmp_path):
    shapes = SHAPES.vertices[:3]
    answers = shapes.copy()
    answers[1, 5] = np.nan
    answers[2] = 1e30
    with np.errstate(all="raise", under="ignore"):
        training.draw_reconstructions(shapes, answers, ["a", "b", "c"], SHAPES.faces, tmp_path / "r.png")
        training.draw_strip(answers, SHAPES.faces, tmp_path / "s.png", within=shapes)
        training.write_animation(answers, SHAPES.faces, tmp_path / "a.gif", within=shapes)
    assert {path.name for path in tmp_path.iterdir()} == {"r.png", "s.png", "a.gif"}
    import matplotlib.image

    strip = matplotlib.image.imread(tmp_path / "s.png")[..., :3]
    panels = np.array_split(strip, 3, axis=1)
    # Grey triangles in the first two panels, a word in the third.
    covered = [float((panel.min(-1) < 0.99).mean()) for panel in panels]
    assert covered[0] > 0.2 and covered[1] > 0.2 and 0 < covered[2] < 0.1


def test_missing_extras(monkeypatch, tmp_path, lessons):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"drawn with matplotlib.*pip install 'pinets_tf\[examples\]'"):
        training.draw_strip(SHAPES.vertices[:1], SHAPES.faces, tmp_path / "s.png")
    monkeypatch.setitem(__import__("sys").modules, "sklearn.decomposition", None)
    with pytest.raises(ImportError, match=r"found with scikit-learn.*pip install 'pinets_tf\[examples\]'"):
        training.run_pca(tmp_path, lessons, 2, facts={})
