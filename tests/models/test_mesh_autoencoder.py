"""Autoencoders of meshes: sizes of the paper, equal results of equal forms, latent vectors, saving and export."""

import contextlib
import io
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from pinets_tf.analysis import degree
from pinets_tf.layers import SpiralConv, SpiralPolynomial
from pinets_tf.models import mesh_autoencoder
from pinets_tf.models.mesh_autoencoder import OPERATORS
from tests.conformance.cases import first_elsewhere, numpy, tensorflow_only
from tests.polynomial_degree import assert_polynomial_degree, normalises_in_float64

sparse = pytest.importorskip("scipy.sparse")


def hierarchy(sizes, lengths, seed=0):
    """Returns levels of random spirals, whose steps down select vertices and whose steps up mix three."""
    rng = np.random.default_rng(seed)
    levels, down, up = [], [], []
    for size, length in zip(sizes, lengths):
        spirals = np.concatenate([np.arange(size)[:, None], rng.integers(0, size + 1, (size, length - 1))], axis=1)
        coordinates = rng.uniform(-1, 1, (size, length, 2)) * (spirals < size)[..., None]
        levels.append(SimpleNamespace(spirals=spirals, coordinates=coordinates.astype("float32")))
    for fine, coarse in itertools.pairwise(sizes):
        kept = np.sort(rng.choice(fine, coarse, replace=False))
        down.append(sparse.csr_array((np.ones(coarse), (np.arange(coarse), kept)), (coarse, fine)))
        rows = np.repeat(np.arange(fine), 3)
        shares = rng.dirichlet(np.ones(3), fine).reshape(-1)
        up.append(sparse.coo_array((shares, (rows, rng.integers(0, coarse, 3 * fine))), (fine, coarse)).tocsr())
    return SimpleNamespace(levels=levels, down=down, up=up)


SMALL = hierarchy((40, 12, 5), (6, 5, 4))


def small(operator="spiral", **options):
    return mesh_autoencoder(SMALL, operator, widths=(6, 8), latent=4, **options)


def shapes(batch=4, seed=3):
    return np.random.default_rng(seed).normal(size=(batch, 40, 3)).astype("float32")


def trained_size(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_parameters_of_the_official_networks():
    # CoMA's levels. The official networks also have a dummy vertex in the two linear maps of the latent vector: 32 * 16
    # weights in the encoder, 32 * 16 weights and 32 biases in the decoder.
    coma = hierarchy((5023, 1256, 314, 79, 20), (9, 9, 9, 9, 8))
    dummy = 32 * 16 + 32 * 16 + 32
    assert trained_size(mesh_autoencoder(coma, "spiral")) == 48_547 - dummy
    assert trained_size(mesh_autoencoder(coma, "simple", activation=None)) == 48_547 - dummy
    # Without the scale and offset of the normalisation, 301,760 in the official network.
    assert trained_size(mesh_autoencoder(coma, "full", activation=None)) == 376_515 - 301_760 - dummy
    # With them: the official ones have two for each channel of every vertex and of the dummy; ours leave out the dummy
    # and, at the steps down, the vertices that are not kept.
    kept = sum(size * width for size, width in zip((1256, 314, 79, 20), (16, 16, 16, 32)))
    decoded = sum(size * width for size, width in zip((79, 314, 1256, 5023), (32, 16, 16, 3)))
    for operator, official in (("simple", 350_307), ("full", 376_515)):
        model = mesh_autoencoder(coma, operator, activation=None, normalize="vertex_batch")
        assert trained_size(model) == official - 301_760 - dummy + 2 * (kept + decoded)


@pytest.mark.parametrize(
    "operator, options",
    [
        ("spiral", {}),
        ("simple", {"order": 3}),
        ("full", {"order": 3, "residual": True}),
        ("full", {"order": 2, "normalize": "vertex_batch"}),
        ("full", {"order": 2, "normalize": "instance"}),
    ],
)
def test_steps_down_inside_the_operator_change_nothing(operator, options):
    def apart(filters, level, **more):
        return OPERATORS[operator](filters, level, **more)

    joined, separate = small(operator, **options), small(apart, **options)
    for target, weight in zip(joined.trainable_weights, separate.trainable_weights):
        if target.shape == weight.shape:
            target.assign(weight)
    np.testing.assert_allclose(numpy(joined(shapes())), numpy(separate(shapes())), rtol=1e-3, atol=1e-3)
    normal = options.get("normalize") == "instance"
    resamples = [layer.name for layer in joined._flatten_layers() if layer.name.startswith("down")]
    assert bool(resamples) == normal


@normalises_in_float64
@pytest.mark.parametrize(
    "operator, options, expected", [("full", {}, 4), ("spiral", {}, 1), ("simple", {"order": 3}, 9)]
)
def test_degree_of_linear_networks(operator, options, expected):
    # An operator in the encoder, and one in the decoder.
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    model = mesh_autoencoder(hierarchy((40, 12), (6, 5)), operator, activation=None, widths=(6,), latent=4, **options)
    keras.config.set_floatx("float32")
    assert degree(model) == expected
    assert_polynomial_degree(model, (40, 3), expected)


def test_encoder_and_decoder_make_up_the_model():
    mean, deviation = shapes(50).mean(0) + 100, shapes(50).std(0)
    model = small("full", mean=mean, deviation=deviation)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    x = shapes() + 100
    codes = encoder(x)
    assert codes.shape == (4, 4)
    np.testing.assert_allclose(numpy(decoder(codes)), numpy(model(x)), rtol=1e-5)
    between = numpy(decoder((codes[:1] + codes[1:2]) / 2))
    assert between.shape == (1, 40, 3) and np.isfinite(between).all()
    # Far from the mean of the shapes nothing starts.
    assert np.abs(numpy(model(x)) - x).max() < 30


def test_standardisation_is_part_of_the_model():
    mean, deviation = 100 + shapes(50).mean(0), 2 * shapes(50).std(0)
    raw, standardized = small(mean=mean, deviation=deviation), small()
    for target, weight in zip(raw.trainable_weights, standardized.trainable_weights):
        target.assign(weight)
    x = shapes()
    expected = numpy(standardized(x)) * deviation + mean
    np.testing.assert_allclose(numpy(raw(x * deviation + mean)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("policy", first_elsewhere(["mixed_float16", "mixed_bfloat16"]))
def test_coordinates_stay_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    x = shapes() * 1e-3 + 300
    model = small("full", normalize="vertex_batch", mean=x.mean(0), deviation=x.std(0))
    assert model.output.dtype == model.get_layer("encoder").output.dtype == "float32"
    assert np.abs(numpy(model(x)) - x).max() < 0.1
    assert {layer.compute_dtype for layer in model._flatten_layers() if isinstance(layer, SpiralPolynomial)} == {
        policy[6:]
    }


@pytest.mark.parametrize(
    "operator",
    [operator if operator == "full" else pytest.param(operator, marks=pytest.mark.long) for operator in OPERATORS],
)
def test_every_operator_trains_and_comes_back(operator, tmp_path):
    x = shapes(16)
    model = small(operator)
    model.compile(keras.optimizers.Adam(3e-3), "mae")
    losses = model.fit(x, x, epochs=12, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 1_000_000
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(again(x)), numpy(model(x)), rtol=1e-5, atol=1e-6)


@tensorflow_only
@pytest.mark.parametrize(
    "operator, activation", [("full", None), pytest.param("spiral", "elu", marks=pytest.mark.long)]
)
def test_encoder_decoder_and_autoencoder_are_exported(operator, activation, tmp_path):
    import tensorflow as tf

    litert = pytest.importorskip("ai_edge_litert.interpreter")
    options = {"normalize": "vertex_batch"} if operator == "full" else {}
    model = small(operator, activation=activation, mean=shapes().mean(0), deviation=shapes().std(0), **options)
    codes = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    parts = {"encoder": shapes(3), "decoder": codes, "whole": shapes(3)}
    for name, inputs in parts.items():
        part = model if name == "whole" else model.get_layer(name)
        expected = numpy(part(inputs))
        with contextlib.redirect_stdout(io.StringIO()):
            part.export(tmp_path / name, verbose=False)
        loaded = tf.saved_model.load(tmp_path / name)
        np.testing.assert_allclose(loaded.serve(inputs), expected, rtol=1e-4, atol=1e-5)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / name))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        interpreter = litert.Interpreter(model_content=converter.convert())
        place = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(place, inputs.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, inputs)
        interpreter.invoke()
        outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"operator": "cheb"}, "`operator` must be one of 'gat', "),
        ({"widths": (6, 8, 8)}, r"Received: widths=\(6, 8, 8\) for 2 steps."),
        ({"widths": (6, 0)}, "`widths` must be a positive integer."),
        ({"latent": 0}, "`latent` must be a positive integer."),
        ({"mean": np.zeros((40, 3))}, "Received: only one of them."),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        mesh_autoencoder(SMALL, **{"operator": "spiral", "widths": (6, 8), "latent": 4, **arguments})


def test_an_operator_of_ones_own():
    def operator(filters, level, **options):
        return SpiralConv(2 * filters if filters == 3 else filters, level.spirals, **options)

    with pytest.raises(ValueError):
        small(operator, mean=np.zeros((40, 3)), deviation=np.ones((40, 3)))
    assert small(lambda filters, level, **options: SpiralConv(filters, level.spirals, **options)).output_shape == (
        None,
        40,
        3,
    )
