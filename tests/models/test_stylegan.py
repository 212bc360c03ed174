"""StyleGAN: sizes of the published networks, AdaIN, styles, growing, noise, precision, saving."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import degree, first_not_polynomial
from pinets_tf.layers.generation.minibatch_deviation import MinibatchDeviation
from pinets_tf.layers.generation.noise_injection import NoiseInjection
from pinets_tf.layers.generation.style_mixing import StyleMixing
from pinets_tf.models import stylegan
from pinets_tf.models.stylegan import (
    carry_weights,
    stylegan_discriminator,
    stylegan_generator,
    stylegan_mapping,
    stylegan_synthesis,
)
from tests.conformance.cases import first_elsewhere, numpy, tensorflow_only
from tests.polynomial_degree import assert_polynomial_degree, normalises_in_float64


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def randomise(model):
    """Gives every weight that is trained a random value of its size, so that nothing hides behind a zero or one."""
    for number, weight in enumerate(model.trainable_weights):
        weight.assign(numpy(weight) + 0.3 * normal(*weight.shape, seed=number))
    return model


def synthesis(size=8, **options):
    return randomise(stylegan_synthesis(size, latent=16, base_channels=32, max_channels=12, **options))


def discriminator(size=8, **options):
    return randomise(stylegan_discriminator(size, base_channels=32, max_channels=12, **options))


def generator(size=8, polynomial=False, noise=True, **options):
    return stylegan_generator(
        stylegan_mapping(10, 16, 3, polynomial=polynomial), synthesis(size, noise=noise), **options
    )


def trained_size(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_parameters_of_the_mapping_network():
    assert stylegan_mapping().count_params() == 8 * (512 * 512 + 512) == 2_101_248
    products = stylegan_mapping(polynomial=True, normalize=None)
    assert products.count_params() == 15 * (512 * 512 + 512)


@tensorflow_only
def test_parameters_of_the_published_networks():
    # The release has a map to and from colours for every size, and a bias behind the constant.
    widths = [min(512, 16384 // 2**step) for step in range(2, 10)]
    colours, bias, mapping = sum(3 * width + 3 for width in widths), 512, 2_101_248
    assert trained_size(stylegan_synthesis(1024)) + mapping + colours + bias == 26_219_627
    assert trained_size(stylegan_discriminator(1024)) + sum(4 * width for width in widths) == 23_087_249


def test_plain_mapping_network_in_numpy():
    mapping = randomise(stylegan_mapping(6, 5, 3))
    z = normal(4, 6)
    x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True))
    for n in range(1, 4):
        W, b = mapping.get_layer(f"S_{n}").layer.get_weights()
        x = x @ W * 0.01 * np.sqrt(2 / len(W)) + 0.01 * b
        x = np.maximum(x, 0.2 * x)
    np.testing.assert_allclose(numpy(mapping(z)), x, rtol=1e-4, atol=1e-5)


def test_polynomial_mapping_network_in_numpy():
    mapping = randomise(stylegan_mapping(6, 5, 3, polynomial=True, normalize=None))
    z = normal(4, 6)
    normalized = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True))
    W, b = mapping.get_layer("A_1").layer.get_weights()
    x = normalized @ W * 0.01 / np.sqrt(6) + 0.01 * b
    for n in (2, 3):
        S, b = mapping.get_layer(f"S_{n}").layer.get_weights()
        A, a = mapping.get_layer(f"product_{n}").A.layer.get_weights()
        factor = normalized @ A * 0.01 * 0.3 / np.sqrt(6) + 0.01 * a
        x = factor * (x @ S * 0.01 / np.sqrt(5) + 0.01 * b)
    np.testing.assert_allclose(numpy(mapping(z)), x, rtol=1e-4, atol=1e-5)


def test_the_polynomial_mapping_network_starts_close_to_a_linear_one():
    mapping = stylegan_mapping(128, 128, polynomial=True, normalize=None)
    z = normal(500, 128)
    products = [mapping.get_layer(f"product_{n}").output for n in (2, 8)]
    for x in keras.Model(mapping.input, products)(z):
        # Each product has a deviation of sqrt(1 + 0.3^2) times the one before.
        assert 0.9 < numpy(x).std() < 1.6
    # The mirrored w would be the opposite for a linear map. Each factor 1 + 0.3 a becomes 1 - 0.3 a instead.
    correlation = np.corrcoef(numpy(mapping(z)).ravel(), numpy(mapping(-z)).ravel())[0, 1]
    np.testing.assert_allclose(correlation, -(((1 - 0.3**2) / (1 + 0.3**2)) ** 7), atol=0.1)


@normalises_in_float64
@pytest.mark.parametrize("normalize", [None, "batch"])
def test_degree_of_the_mapping_network(normalize):
    keras.config.set_dtype_policy("float64")
    mapping = stylegan_mapping(6, 5, 4, polynomial=True, normalize=normalize)
    after_pixel_norm = keras.Model(mapping.get_layer("pixel_norm").output, mapping.output)
    assert_polynomial_degree(after_pixel_norm, (6,), 4)
    assert degree(after_pixel_norm) == 4
    assert isinstance(mapping.get_layer(first_not_polynomial(mapping)), keras.layers.UnitNormalization)


def test_adain_in_numpy():
    maps, w = keras.Input((5, 4, 3)), keras.Input((6,))
    model = keras.Model([maps, w], stylegan._adain(maps, w, "adain"))
    layer = model.get_layer("adain")
    (A, a), (B, b) = (thin.layer.get_weights() for thin in (layer.A, layer.B))
    assert not a.any() and not b.any() and np.abs(A - B).max() > 0.1
    a, b = normal(3, seed=3), normal(3, seed=4)
    layer.A.layer.bias.assign(a)
    layer.B.layer.bias.assign(b)
    x, z = normal(2, 5, 4, 3), normal(2, 6, seed=1)
    scale, offset = ((z @ W / np.sqrt(6) + bias)[:, None, None] for W, bias in ((A, a), (B, b)))
    centred = x - x.mean((1, 2), keepdims=True)
    expected = (1 + scale) * centred / np.sqrt(np.mean(centred**2, (1, 2), keepdims=True) + 1e-8) + offset
    np.testing.assert_allclose(numpy(model([x, z])), expected, rtol=1e-4, atol=1e-5)


def test_blur_in_numpy():
    maps = keras.Input((5, 4, 2))
    x = normal(2, 5, 4, 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = sum(weights[i, j] * padded[:, i : i + 5, j : j + 4] for i in range(3) for j in range(3))
    np.testing.assert_allclose(numpy(keras.Model(maps, stylegan._blurred(maps))(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("batch", "group"), [(8, 4), (3, 3), (6, 2)])
def test_minibatch_deviation_in_numpy(batch, group):
    x = normal(batch, 2, 3, 5)
    groups = x.reshape(group, batch // group, 2, 3, 5)
    deviation = np.sqrt(groups.var(axis=0) + 1e-8).mean(axis=(1, 2, 3))
    got = numpy(MinibatchDeviation(4 if batch != 3 else 3)(x))
    np.testing.assert_array_equal(got[..., :5], x)
    expected = np.broadcast_to(np.tile(deviation, group)[:, None, None], (batch, 2, 3))
    np.testing.assert_allclose(got[..., 5], expected, rtol=1e-5)


def test_noise_is_drawn_in_training_or_fixed():
    x = np.zeros((3, 4, 4, 2), "float32")
    plain, fixed, again, other = (
        NoiseInjection(seed, name=f"n_{name}") for seed, name in ((None, 0), (1, 0), (1, 0), (1, 1))
    )
    for layer in (plain, fixed, again, other):
        np.testing.assert_array_equal(numpy(layer(x, training=True)), x)
        layer.strength.assign([1.0, 2.0])
    np.testing.assert_array_equal(numpy(plain(x)), x)
    first, second = (numpy(plain(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1 and np.abs(first[0] - first[1]).max() > 0.1
    np.testing.assert_allclose(first[..., 1], 2 * first[..., 0])
    constant = numpy(fixed(x))
    np.testing.assert_array_equal(constant[0], constant[1])
    np.testing.assert_array_equal(numpy(again(x)), constant)
    assert constant.std() > 0.5 and np.abs(numpy(other(x)) - constant).max() > 0.1


def test_styles_mix_neighbours_from_a_layer_on():
    w = normal(400, 3)
    styles = numpy(StyleMixing(5, mixing=0.9, seed=0)(w, training=True))
    from_neighbour = (styles == np.roll(w, 1, axis=0)[:, None]).all(axis=2)
    own = (styles == w[:, None]).all(axis=2)
    assert (own ^ from_neighbour).all() and own[:, 0].all()
    # Once an image has changed to its neighbour it stays with it.
    assert (from_neighbour[:, 1:] >= from_neighbour[:, :-1]).all()
    mixed = from_neighbour.any(axis=1)
    assert 0.85 < mixed.mean() < 0.95
    starts = np.bincount(from_neighbour.argmax(axis=1)[mixed], minlength=5) / mixed.sum()
    np.testing.assert_allclose(starts, [0, 0.25, 0.25, 0.25, 0.25], atol=0.07)


def test_average_and_truncation():
    w = normal(50, 3) + 5
    layer = StyleMixing(4, mixing=0.0, decay=0.9, truncation=0.5, truncated=3)
    np.testing.assert_array_equal(numpy(layer(w, training=True)), np.repeat(w[:, None], 4, axis=1))
    layer(w, training=True)
    average = 0.19 * w.mean(axis=0)
    np.testing.assert_allclose(numpy(layer.average), average, rtol=1e-5)
    styles = numpy(layer(w))
    np.testing.assert_array_equal(styles[:, 3], w)
    np.testing.assert_allclose(styles[:, :3], np.repeat((average + w)[:, None] / 2, 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(numpy(layer.average), average, rtol=1e-5)


def test_generator_without_mixing_and_noise_is_the_same_in_training():
    z = normal(4, 10)
    model = generator(4, mixing=0.0, noise=False)
    np.testing.assert_allclose(numpy(model(z, training=True)), numpy(model(z)), rtol=1e-4, atol=1e-5)
    mixing = generator(4, mixing=1.0, noise=False)
    mixing.set_weights(model.get_weights())
    assert np.abs(numpy(mixing(z, training=True)) - numpy(model(z))).max() > 0.01
    np.testing.assert_allclose(numpy(mixing(z)), numpy(model(z)), rtol=1e-6)


def test_growing_generators():
    styles = normal(3, 4, 16)
    small, plain, growing = synthesis(4), synthesis(8), synthesis(8, fade=True)
    carried = carry_weights(small, growing)
    assert {"constant", "adain_2", "convolution_2", "noise_2", "rgb_4"} <= set(carried)
    assert not {"adain_3", "rgb_8", "fade"} & set(carried)
    assert carry_weights(growing, plain)[-1] == "rgb_8"
    assert float(growing.get_layer("fade").alpha) == 0
    smaller, larger = numpy(small(styles[:, :2])), numpy(plain(styles))
    doubled = smaller.repeat(2, axis=1).repeat(2, axis=2)
    for alpha in (0.0, 0.25, 1.0):
        growing.get_layer("fade").alpha.assign(alpha)
        expected = (1 - alpha) * doubled + alpha * larger
        np.testing.assert_allclose(numpy(growing(styles)), expected, rtol=1e-4, atol=1e-4)


def test_growing_discriminators():
    small, plain, growing = discriminator(4), discriminator(8), discriminator(8, fade=True)
    assert {"rgb_4", "convolution_4", "dense", "scores"} <= set(carry_weights(small, growing))
    assert "rgb_8" in carry_weights(growing, plain)
    images = normal(4, 8, 8, 3)
    halved = images.reshape(4, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    for alpha, expected in ((0.0, small(halved)), (1.0, plain(images))):
        growing.get_layer("fade").alpha.assign(alpha)
        np.testing.assert_allclose(numpy(growing(images)), numpy(expected), rtol=1e-3, atol=1e-3)


def test_carried_generator_has_its_average():
    old = generator(4)
    old(normal(4, 10), training=True)
    new = generator(8)
    # The styles have another number of layers, and the same average.
    assert {"mapping/S_1", "styles", "synthesis/convolution_2"} <= set(carry_weights(old, new))
    np.testing.assert_array_equal(numpy(new.get_layer("styles").average), numpy(old.get_layer("styles").average))
    other = stylegan_mapping(10, 15, 3)
    with pytest.raises(ValueError, match=r"one name and shape. Received: S_1 with weights of shapes .* Rename one"):
        carry_weights(old.get_layer("mapping"), other)


@pytest.mark.parametrize(("policy", "polynomial"), first_elsewhere([("float32", False), ("mixed_float16", True)]))
def test_precision_and_saving(policy, polynomial, tmp_path):
    keras.config.set_dtype_policy(policy)
    z = normal(4, 10)
    inputs = keras.Input((10,))
    images = generator(8, polynomial=polynomial, truncation=0.7)(inputs)
    model = keras.Model(inputs, [images, discriminator(8)(images)])
    for training in (True, False):
        for output in model(z, training=training):
            assert keras.backend.standardize_dtype(output.dtype) == "float32"
            assert np.isfinite(numpy(output)).all()
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for expected, output in zip(model(z), again(z)):
        np.testing.assert_array_equal(numpy(output), numpy(expected))


@tensorflow_only
def test_every_weight_is_trained():
    import tensorflow as tf

    model, scores = generator(8, polynomial=True), discriminator(8)
    weights = [*model.trainable_weights, *scores.trainable_weights]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.softplus(-scores(model(normal(4, 10), training=True), training=True)))
    for weight, gradient in zip(weights, tape.gradient(loss, weights)):
        assert np.isfinite(numpy(gradient)).all() and np.abs(numpy(gradient)).max() > 0, weight.path


@tensorflow_only
def test_xla_compiles_random_numbers_and_groups():
    import tensorflow as tf

    styles, noise, deviation = StyleMixing(3), NoiseInjection(), MinibatchDeviation(4)

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec((None, 6))])
    def outputs(w):
        return deviation(noise(tf.reshape(styles(w, training=True), (-1, 3, 3, 2)), training=True))

    for batch in (4, 6):
        assert np.isfinite(numpy(outputs(tf.constant(normal(batch, 6))))).all()
    assert np.abs(numpy(styles.average)).max() > 0


@tensorflow_only
def test_generator_exports(tmp_path):
    import tensorflow as tf

    model = generator(4, polynomial=True)
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for batch in (1, 3):
        z = normal(batch, 10)
        np.testing.assert_allclose(loaded.serve(z).numpy(), numpy(model(z)), rtol=1e-4, atol=1e-4)


ERRORS = {
    "size": (
        lambda: stylegan_synthesis(24),
        "`size` must be 4 times a power of two",
        "size=24",
        "Pass 32 or 64",
    ),
    "fade": (
        lambda: stylegan_discriminator(4, fade=True),
        "fades in from one of half its size",
        "fade=True with size=4",
        "Pass size=8",
    ),
    "layers": (
        lambda: stylegan_mapping(layers=0),
        "`layers` must be a positive integer",
        "layers=0",
        "such as layers=8",
    ),
    "base channels": (
        lambda: stylegan_synthesis(8, base_channels=0.5),
        "`base_channels` must be a positive integer",
        "base_channels=0.5",
        "such as base_channels=512",
    ),
    "sizes of w": (
        lambda: stylegan_generator(stylegan_mapping(8, 8, 2), synthesis()),
        "of the size that the synthesis network takes",
        "w of size 8 for styles of size 16",
        "Pass stylegan_mapping(width=16), or stylegan_synthesis(latent=8)",
    ),
    "mixing": (
        lambda: generator(mixing=2),
        "`mixing` must be from 0 to 1",
        "mixing=2",
        "Pass mixing=1.0",
    ),
    "numbers of the styles": (
        lambda: StyleMixing(8, truncation="1"),
        "`truncation` must be from 0 to 1",
        "truncation='1'",
        "Pass truncation=1.0",
    ),
    "styles": (lambda: StyleMixing(0), "`styles` must be a positive integer", "styles=0", "Pass the number of layers"),
    "width": (lambda: stylegan_mapping(width=0), "`width` must be a positive integer", "width=0", "such as width=8"),
    "fade of the generator": (
        lambda: stylegan_synthesis(4, fade=True),
        "fades in from one of half its size",
        "fade=True with size=4",
        "Pass size=8",
    ),
    "size of the discriminator": (
        lambda: stylegan_discriminator(2),
        "`size` must be 4 times a power of two",
        "size=2",
        "Pass 32 or 64",
    ),
    "group of the discriminator": (
        lambda: stylegan_discriminator(8, group=0),
        "`group` must be a positive integer",
        "group=0",
        "such as group=4",
    ),
    "noise": (
        lambda: NoiseInjection(0).build((None, None, 8, 3)),
        "drawn for positions that are known",
        "fixed_seed=0 with an input of shape (None, None, 8, 3)",
        "pass fixed_seed=None",
    ),
    "group": (
        lambda: MinibatchDeviation(0),
        "`group` must be a positive integer",
        "group=0",
        "such as group=4",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_says_rule_received_remedy(case):
    function, *parts = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)
