"""Features of images by Keras models, EfficientNet-Lite0 and the frozen Inception graph, of made-up weights."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from pinets_tf.metrics import EfficientNetLite0, FeatureStatistics, Inception2015, KerasExtractor, score_images

RNG = np.random.default_rng(0)


def small_model(*, softmax=False):
    images = keras.Input((None, None, 3))
    features = layers.GlobalAveragePooling2D(name="pooled")(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, [features, layers.Dense(4, activation="softmax" if softmax else None)(features)])


def test_keras_model_with_logits():
    model, pixels = small_model(), RNG.integers(0, 256, (7, 5, 6, 3)).astype("uint8")
    extractor = KerasExtractor(model, "-small", resize="none")
    features, logits = extractor(pixels)
    # A smaller batch behind a larger one is filled up, and cut again.
    for first, last in ((0, 3), (3, 7)):
        for part, whole in zip(extractor(pixels[first:last]), (features, logits)):
            np.testing.assert_allclose(part, whole[first:last], rtol=1e-6)
    np.testing.assert_allclose(features, pixels.mean((1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(logits, ops.convert_to_numpy(model(pixels.astype("float32"))[1]), atol=1e-6)
    assert features.dtype == logits.dtype == np.float32 and extractor.suffix == "-small"


def test_keras_model_by_the_name_of_a_layer_and_with_probabilities():
    both = small_model(softmax=True)
    model, pixels = keras.Model(both.inputs, both.outputs[1]), RNG.integers(0, 256, (3, 6, 6, 3)).astype("uint8")
    extractor = KerasExtractor(model, "-small", features="pooled", resize="none", probabilities=True)
    features, logits = extractor(pixels)
    expected = [ops.convert_to_numpy(output) for output in both(pixels.astype("float32"))]
    np.testing.assert_allclose(features, expected[0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(logits), expected[1], rtol=1e-4)


def test_keras_model_resizes_and_tiles_grey_images():
    flat = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
    extractor = KerasExtractor(flat, "-flat", size=(8, 8))
    # Stripes a pixel wide become even grey with antialiasing, and stay black or white without.
    stripes = np.broadcast_to(np.array([0, 255] * 16, "uint8")[:, None], (1, 32, 32))[..., None]
    features, logits = extractor(stripes)
    assert logits is None and extractor.resize == "to 8x8, bilinear with antialiasing"
    inner = features.reshape(8, 8, 3)[1:-1]
    np.testing.assert_allclose(inner, 127.5, atol=3)
    np.testing.assert_array_equal(inner[..., 0], inner[..., 2])


@pytest.mark.parametrize(
    "images, words",
    [
        (np.zeros((2, 4, 4, 3), "float32"), r"scored as uint8.*type float32.*to_uint8\(images\)"),
        (np.zeros((4, 4, 3), "uint8"), r"shape \(n, height, width, channels\).*shape \(4, 4, 3\)"),
        (np.zeros((2, 4, 4, 4), "uint8"), r"with 1 or 3 channels. Received: shape \(2, 4, 4, 4\)"),
        ((np.zeros((2, 4, 4, 3), "uint8"), np.zeros(2)), r"is one array. Received: a tuple of 2.*lambda x, y: x"),
    ],
)
def test_errors_of_images(images, words):
    with pytest.raises(ValueError, match=words):
        KerasExtractor(small_model(), "-small", resize="none")(images)


def test_errors_of_a_keras_extractor():
    for suffix in ("", None, "small", "- small"):
        with pytest.raises(ValueError, match=rf"of the 2015 Inception graph alone.*suffix={suffix!r}.*'-VGG16'"):
            KerasExtractor(small_model(), suffix, resize="none")
    with pytest.raises(ValueError, match=r"resizing belongs to the score.*neither `size` nor `resize`.*or 'none'"):
        KerasExtractor(small_model(), "-small")
    maps = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"features \(n, d\).*shape \(None, 6, 6, 4\).*Pool the features"):
        KerasExtractor(maps, "-maps", resize="none")


def state_of_lite0(blocks=((1, 32, 16, 3), (6, 16, 24, 3), (6, 24, 24, 3), (6, 24, 40, 5), (6, 40, 40, 5))):
    """Returns random arrays under the names and in the shapes of the published file."""
    blocks = [*blocks, (6, 40, 80, 3), *[(6, 80, 80, 3)] * 2, (6, 80, 112, 5), *[(6, 112, 112, 5)] * 2]
    blocks += [(6, 112, 192, 5), *[(6, 192, 192, 5)] * 3, (6, 192, 320, 3)]
    state = {}

    def add(convolution, normalization, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{convolution}.weight"] = (scale * RNG.standard_normal(shape, "float32")).astype("float16")
        for part in ("weight", "running_var"):
            state[f"{normalization}.{part}"] = RNG.uniform(0.5, 1.5, shape[0]).astype("float16")
        for part in ("bias", "running_mean"):
            state[f"{normalization}.{part}"] = RNG.normal(0, 0.1, shape[0]).astype("float16")

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    for number, (expansion, inputs, outputs, kernel) in enumerate(blocks):
        name, inner = f"_blocks.{number}.", expansion * inputs
        if expansion > 1:
            add(name + "_expand_conv", name + "_bn0", inner, inputs, 1, 1)
        add(name + "_depthwise_conv", name + "_bn1", inner, 1, kernel, kernel)
        add(name + "_project_conv", name + "_bn2", outputs, inner, 1, 1)
    add("_conv_head", "_bn1", 1280, 320, 1, 1)
    state["_fc.weight"] = (RNG.standard_normal((1000, 1280)) / 36).astype("float16")
    state["_fc.bias"] = RNG.standard_normal(1000).astype("float16")
    return state


def lite0_by_its_arrays(state, images):
    """The network with its normalisations, from plain operations."""

    def normalized(x, name, activate=True):
        scale, offset, mean, variance = (
            state[f"{name}.{part}"].astype("float32") for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = (x - mean) * (scale / np.sqrt(variance + 1e-3)) + offset
        return ops.clip(x, 0, 6) if activate else x

    def convolved(x, name, stride=1):
        kernel = state[f"{name}.weight"].astype("float32")
        if "depthwise" in name:
            return ops.depthwise_conv(x, kernel.transpose(2, 3, 0, 1), stride, "same", "channels_last")
        return ops.conv(x, kernel.transpose(2, 3, 1, 0), stride, "same", "channels_last")

    x = ops.convert_to_tensor(images / np.float32(127.5) - 1)
    x = normalized(convolved(x, "_conv_stem", 2), "_bn0")
    for number in range(16):
        name, shortcut = f"_blocks.{number}.", x
        if number:
            x = normalized(convolved(x, name + "_expand_conv"), name + "_bn0")
        x = normalized(convolved(x, name + "_depthwise_conv", 2 if number in (1, 3, 5, 11) else 1), name + "_bn1")
        x = normalized(convolved(x, name + "_project_conv"), name + "_bn2", activate=False)
        x = x + shortcut if x.shape == shortcut.shape else x
    features = ops.mean(normalized(convolved(x, "_conv_head"), "_bn1"), (1, 2))
    return features, ops.convert_to_numpy(features) @ state["_fc.weight"].T.astype("float32") + state["_fc.bias"]


def test_efficientnet_lite0(tmp_path):
    state, pixels = state_of_lite0(), RNG.integers(0, 256, (2, 224, 224, 3)).astype("uint8")
    np.savez(tmp_path / "lite0.npz", **state)
    extractor = EfficientNetLite0(tmp_path / "lite0.npz")
    features, logits = extractor(pixels)
    assert features.shape == (2, 1280) and logits.shape == (2, 1000) and extractor.suffix == "-EL0"
    if keras.backend.backend() == "jax":
        return  # It compiles each of the plain operations by itself, for a minute.
    for received, expected in zip((features, logits), lite0_by_its_arrays(state, pixels.astype("float32"))):
        expected = ops.convert_to_numpy(expected)
        np.testing.assert_allclose(received, expected, atol=1e-3 * abs(expected).max())


def test_wrong_files_of_efficientnet(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights from an \.npz.*'none.npz', which is not in .*lite0_pytorch"):
        EfficientNetLite0(tmp_path / "none.npz")
    path, state = tmp_path / "wrong.npz", state_of_lite0()
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"10 bytes\), which cannot be read .*copy it again"):
        EfficientNetLite0(path)
    np.savez(path, mu=np.zeros(3))
    with pytest.raises(ValueError, match=r"where _conv_stem.weight has the shape \(32, 3, 3, 3\).*no such array.*Pass"):
        EfficientNetLite0(path)
    state["_blocks.3._depthwise_conv.weight"] = np.zeros((5, 5, 144, 1), "float16")
    np.savez(path, **state)
    with pytest.raises(ValueError, match=r"has the shape \(144, 1, 5, 5\).*shape \(5, 5, 144, 1\).*\(out, in, height"):
        EfficientNetLite0(path)


def inception_graph(tmp_path, scaled, size=2048, without=None):
    """Writes a graph with the ends of the 2015 Inception and its kind of nodes; returns its path and its weights."""
    tf = pytest.importorskip("tensorflow")
    weights = {
        "kernel": RNG.normal(size=(1, 1, 3, 8)),
        "mean": RNG.normal(size=8),
        "variance": RNG.uniform(0.5, 2, 8),
        "offset": RNG.normal(size=8),
        "scale": RNG.normal(size=8),
        "mixed": RNG.normal(size=(1, 1, 8, size)),
        "last": RNG.normal(size=(size, 1008)) / 45,
    }
    weights = {name: value.astype("float32") for name, value in weights.items()}
    with tf.Graph().as_default() as graph:
        jpeg = tf.compat.v1.placeholder(tf.string, (), "DecodeJpeg/contents")
        image = tf.raw_ops.Cast(x=tf.raw_ops.DecodeJpeg(contents=jpeg, channels=3), DstT=tf.float32, name="Cast")
        x = tf.raw_ops.ExpandDims(input=image, axis=0, name="ExpandDims")
        x = tf.raw_ops.ResizeBilinear(images=x, size=[299, 299], name="ResizeBilinear")
        x = tf.raw_ops.Mul(x=tf.raw_ops.Sub(x=x, y=128.0), y=1 / 128, name="Mul")
        strides = [1, 2, 2, 1]
        x = tf.raw_ops.Conv2D(input=x, filter=weights["kernel"], strides=strides, padding="VALID", name="conv/Conv2D")
        x = tf.raw_ops.Relu(features=x, name="conv")
        x = tf.raw_ops.AvgPool(value=x, ksize=[1, 150, 150, 1], strides=[1, 1, 1, 1], padding="VALID")
        x = tf.raw_ops.Conv2D(input=x, filter=weights["mixed"], strides=[1, 1, 1, 1], padding="VALID", name="mixed")
        x = tf.raw_ops.AvgPool(value=x, ksize=[1, 1, 1, 1], strides=[1, 1, 1, 1], padding="VALID", name="pool_3")
        x = tf.raw_ops.Reshape(tensor=x, shape=[1, size], name="pool_3/_reshape")
        last = tf.constant(weights["last"], name="softmax/weights")
        x = tf.raw_ops.MatMul(a=x, b=last, name="softmax/logits/MatMul")
        tf.raw_ops.BiasAdd(value=x, bias=np.ones(1008, "float32"), name="softmax/logits")
    definition = graph.as_graph_def(add_shapes=True)
    # An operation that TensorFlow 2 does not make any more.
    names = ["conv/Conv2D", *(f"conv/batchnorm/{part}" for part in ("mean", "variance", "offset", "scale"))]
    for name in names[1:]:
        node = definition.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[name.split("/")[-1]]))
    node = definition.node.add(name="conv/batchnorm", op="BatchNormWithGlobalNormalization", input=[*names, "^Mul"])
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.attr["variance_epsilon"].f = 0.001
    node.attr["scale_after_normalization"].b = scaled
    next(node for node in definition.node if node.name == "conv").input[0] = "conv/batchnorm"
    definition.versions.producer = 8
    for node in definition.node:
        if node.name == without:
            node.name = "another"
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(definition.SerializeToString())
    return path, weights


@pytest.mark.parametrize("scaled", [False, True])
def test_inception_graph_takes_batches(tmp_path, scaled):
    path, weights = inception_graph(tmp_path, scaled)
    tf = pytest.importorskip("tensorflow")
    pixels = RNG.integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    extractor = Inception2015(path)
    features, logits = extractor(pixels)
    x = tf.raw_ops.ResizeBilinear(images=pixels.astype("float32"), size=[299, 299]).numpy()[:, ::2, ::2]
    x = (x - 128) / 128 @ weights["kernel"][0, 0]
    x = (x - weights["mean"]) / np.sqrt(weights["variance"] + 0.001) * (weights["scale"] if scaled else 1)
    expected = np.maximum(x + weights["offset"], 0).mean((1, 2)) @ weights["mixed"][0, 0]
    assert features.shape == (3, 2048) and logits.shape == (3, 1008)
    np.testing.assert_allclose(features, expected, atol=1e-4 * abs(expected).max())
    # Without the bias.
    np.testing.assert_allclose(logits, expected @ weights["last"], atol=1e-3)
    grey = extractor(pixels[:1, :, :, :1])
    np.testing.assert_array_equal(grey[0], extractor(np.repeat(pixels[:1, :, :, :1], 3, -1))[0])
    assert extractor.network.startswith("Inception 2015-12-05 (sha256 ") and "299x299" in extractor.resize


def test_scores_of_the_inception_graph_have_no_suffix(tmp_path, monkeypatch):
    # Eigenvalues of 2,048 features take seconds.
    monkeypatch.setattr("pinets_tf.metrics.scores.frechet_distance", lambda first, second: float(first.count))
    extractor = Inception2015(inception_graph(tmp_path, False)[0])
    pixels = RNG.integers(0, 256, (4, 8, 8, 1)).astype("uint8")
    options = {"images": 4, "reference_split": "noise", "averaged_weights": True, "splits": 2}
    scores = score_images([pixels], extractor, FeatureStatistics(), **options)
    assert list(scores.values) == ["FID", "IS", "IS deviation"] and scores.values["FID"] == 4.0


def test_wrong_files_of_inception(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"classify_image_graph_def\.pb of inception-2015-12-05.*'none.pb', which"
    ):
        Inception2015(tmp_path / "none.pb")
    path = tmp_path / "wrong.pb"
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"8 bytes that are no graph.*KerasExtractor"):
        Inception2015(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0 nodes without ExpandDims, pool_3, softmax/logits/MatMul"):
        Inception2015(path)
    with pytest.raises(
        ValueError, match=r"nodes ExpandDims, pool_3 of 2048.* nodes without softmax/logits/MatMul\. Pass"
    ):
        Inception2015(inception_graph(tmp_path, True, without="softmax/logits/MatMul")[0])
    with pytest.raises(ValueError, match=r"pool_3 of shape \(None, 1, 1, 16\) and a last matrix of shape \(16, 1008\)"):
        Inception2015(inception_graph(tmp_path, True, size=16)[0])


def test_inception_without_tensorflow(tmp_path, monkeypatch):
    (tmp_path / "graph.pb").touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(
        ImportError, match=r"by TensorFlow\. Received: it is not installed .*pip install tensorflow\. A K"
    ):
        Inception2015(tmp_path / "graph.pb")
