"""SavedModels: signatures, versions, what lies beside them, and what is refused."""

import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf import export
from pinets_tf.data import imagenet, images, speech
from pinets_tf.export import export_saved_model, saved_model, signatures
from pinets_tf.layers import CCP
from pinets_tf.models import linear_generator, mel_front_end, resnet
from tests.commands import call

LABELS = ["cat", "dog", "fish", "bird"]
INVALID = tf.errors.InvalidArgumentError


def classifier(size=8, **options):
    return resnet((size, size, 3), 4, stage_blocks=(1,), width=2, **options)


def small(units=3):
    return keras.Sequential([keras.Input((4,)), CCP(units, order=2, rank=5)], name="small")


def picture(size=12, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 6, 3), "uint8")
    return tf.io.encode_jpeg(pixels).numpy()


def numpy(outputs):
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A run with a trained network, and what the script made of it."""
    folder = tmp_path_factory.mktemp("served")
    workdir = folder / "run"
    workdir.mkdir()
    network = classifier(
        normalize="batch", preprocessing=keras.layers.Normalization(mean=[128.0] * 3, variance=[5e3] * 3)
    )
    network.save(workdir / "model.keras")
    (workdir / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (workdir / "result.json").write_text('{"accuracy": 0.9, "workdir": "/home/me"}')
    (workdir / "config.json").write_text('{"dataset": "/data/animals.npz", "commit": "abc123", "epochs": 3}')
    samples = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 3))
    np.save(folder / "samples.npy", samples)
    options = ["--output", folder / "out", "--name", "animals", "--warm_up", folder / "samples.npy"]
    done = call("export/saved_model.py", workdir / "model.keras", *options, "--licence", "CC BY 4.0")
    assert done.stdout.strip() == str(folder / "out" / "animals" / "1")
    return network, Path(done.stdout.strip()), samples


def test_a_classifier_answers_with_scores_and_names(served):
    network, version, samples = served
    loaded = tf.saved_model.load(version)
    answer = numpy(loaded.signatures["serving_default"](images=tf.constant(samples, tf.float32)))
    expected = network(samples).numpy()
    np.testing.assert_allclose(answer["logits"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(expected), rtol=1e-4, atol=1e-5)
    assert [name.decode() for name in answer["classes"]] == [LABELS[best] for best in expected.argmax(-1)]
    assert list(numpy(loaded.signatures["lite"](images=tf.constant(samples, tf.float32)))) == ["logits"]
    names = ["encoded_images", "lite", "serving_default"]
    assert export.signature_names(version) == names


def test_files_of_pictures_are_read_as_for_predict(served, tmp_path):
    network, version, _ = served
    encoded = tf.saved_model.load(version).signatures["encoded_images"]
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), "uint8")
    files = {"picture.jpg": picture(), "picture.png": tf.io.encode_png(pixels).numpy()}
    for name, contents in files.items():
        (tmp_path / name).write_bytes(contents)
    answer = encoded(image_bytes=tf.constant(list(files.values())))["logits"]
    read = tf.stack([images.read_image(tmp_path / name, (8, 8, 3)) for name in files])
    np.testing.assert_allclose(answer, network(read), rtol=1e-4, atol=1e-5)
    for contents in (b"", b"\xff\xd8", picture()[:100], b"no picture"):
        with pytest.raises(INVALID, match=r"empty|Unknown image|Invalid JPEG"):
            encoded(image_bytes=tf.constant([picture(), contents]))
    # Sizes of photographs: the central square, and grey pictures of that size as small ones.
    large = classifier(64)
    (tmp_path / "large.jpg").write_bytes(picture(90))
    answer = signatures(large)["encoded_images"].function(tf.constant([picture(90)]))["logits"]
    read = imagenet.read_image(tmp_path / "large.jpg", size=64, resize=73)
    np.testing.assert_allclose(answer, large(read[None]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 64])
def test_what_is_transparent_is_laid_on_white(size):
    random = np.random.default_rng(0)
    # In blocks, which resizing keeps apart, and of a size that needs no resizing where photographs do.
    picture = np.kron(random.integers(0, 256, (8, 8, 4), "uint8"), np.ones((size // 8, size // 8, 1), "uint8"))
    picture[..., 3] = np.kron(random.choice([0, 128, 255], (8, 8)), np.ones((size // 8, size // 8)))
    share = picture[..., 3:] / 255
    seen = np.round(share * picture[..., :3] + (1 - share) * 255).astype("uint8")
    encoded = signatures(classifier(size))["encoded_images"].function
    answer, expected = (encoded(tf.constant([tf.io.encode_png(each).numpy()]))["logits"] for each in (picture, seen))
    np.testing.assert_allclose(answer, expected, atol=0.02 * np.abs(expected).max())


def test_files_of_sounds_are_read_as_for_predict(tmp_path):
    front = mel_front_end(clip_seconds=0.125, mels=8, frames=8, fft_length=256)
    network = resnet((2000,), 4, stage_blocks=(1,), width=2, preprocessing=front)
    offered = signatures(network, labels=LABELS)
    assert offered["serving_default"].inputs[0].name == "waveforms"
    clips = [np.random.default_rng(n).uniform(-1, 1, (n, 1)).astype("float32") for n in (500, 2000, 3001)]
    files = [tf.audio.encode_wav(clip, 16_000).numpy() for clip in clips]
    answer = numpy(offered["encoded_audio"].function(tf.constant(files)))
    padded = [np.pad(clips[0][:, 0], (0, 1500)), clips[1][:, 0], clips[2][500:2500, 0]]
    np.testing.assert_allclose(answer["logits"], network(np.stack(padded)), rtol=1e-3, atol=1e-3)
    assert answer["classes"].shape == (3,)
    # One second, as the trainers read it.
    (tmp_path / "clip.wav").write_bytes(files[2])
    np.testing.assert_array_equal(speech.decode_clip(tf.constant(files[2])), speech.read_clip(tmp_path / "clip.wav"))
    other_rate = tf.audio.encode_wav(clips[1], 8000).numpy()
    for contents, words in [
        (b"", "A clip is a WAV file"),
        (b"\xff" * 60, "A clip is a WAV file"),
        (files[0][:200], "one that is truncated"),
        (other_rate, r"16,000 samples a second.*\n?.*8000"),
        (tf.audio.encode_wav(np.zeros((0, 1), "float32"), 16_000).numpy(), "A clip has sound"),
    ]:
        with pytest.raises(INVALID, match=words):
            offered["encoded_audio"].function(tf.constant([files[0], contents]))


def test_the_graph_itself_refuses_other_shapes(served):
    loaded = tf.saved_model.load(served[1])
    signature = loaded.signatures["serving_default"]
    # Without Python's look at the shape, as a server calls it.
    ask = tf.function(lambda x: signature(images=x)["logits"], input_signature=[tf.TensorSpec(None)])
    assert ask(tf.zeros((2, 8, 8, 3))).shape == (2, 4)
    with pytest.raises(INVALID, match=r"Shape of tensor .* \[2,16,16,3\] is not compatible"):
        ask(tf.zeros((2, 16, 16, 3)))
    with pytest.raises(INVALID, match=r"A request has at least one sample. Received: a batch of none"):
        ask(tf.zeros((0, 8, 8, 3)))
    with pytest.raises(INVALID, match=r"A request has finite numbers. Received: a tensor with some that are not"):
        ask(tf.fill((2, 8, 8, 3), np.nan))


def test_what_lies_beside_the_graph(served):
    _, version, samples = served
    extra = version / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8").split() == LABELS
    card = (extra / "model_card.md").read_text(encoding="utf-8")
    for words in (
        "# animals",
        "images: classification, 4 classes",
        "| Polynomial degree | 2 |",
        "| Data | animals.npz |",
        "| Commit of the code | abc123 |",
        "| Licence | CC BY 4.0 |",
        "| accuracy | 0.9 |",
        "| epochs | 3 |",
        "Pixels are taken as they are stored: an orientation in EXIF data turns nothing",
        "| encoded_images | image_bytes: string (any) | logits: float32 (any, 4), probabilities: float32 (any, 4), ",
        tf.__version__,
    ):
        assert words in card
    assert "/home/me" not in card and "/data" not in card
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    loaded, asked = tf.saved_model.load(version), []
    for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests")).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        loaded.signatures[request.model_spec.signature_name](**{name: tf.constant(x) for name, x in inputs.items()})
        asked.append((request.model_spec.name, request.model_spec.signature_name))
        assert all(len(value) == 1 for value in inputs.values())
    assert {signature for _, signature in asked} == {"serving_default", "encoded_images", "lite"}
    assert {name for name, _ in asked} == {"animals"} and len(asked) == 3 + len(samples)


def test_a_card_names_the_layer_that_is_no_polynomial():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.ReLU(name="bent")(inputs))
    card = export.model_card(model, "bent", "tensors", signatures(model))
    assert "none (no polynomial because of the layer bent) |" in card
    assert "| Licence | not stated |" in card and "## Training" not in card


def test_names_of_other_models():
    def named(model, **options):
        signature = signatures(model, **options)["serving_default"]
        return [spec.name for spec in signature.inputs], list(signature.outputs)

    assert named(linear_generator(latent=6, width=0.02)) == (["latents"], ["images"])
    vertices, pixels = keras.Input((5, 3)), keras.Input((8, 8, 1))
    assert named(keras.Model(vertices, keras.layers.Dense(3)(vertices))) == (["vertices"], ["vertices"])
    score = keras.layers.Dense(1)(keras.layers.Flatten()(pixels))
    assert named(keras.Model(pixels, score)) == (["images"], ["outputs"])
    assert set(signatures(keras.Model(pixels, score))) == {"serving_default", "lite"}
    softmax = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(pixels))
    assert named(keras.Model(pixels, softmax)) == (["images"], ["probabilities"])
    assert named(small())[1] == ["outputs"]
    a, b = keras.Input((2,), name="a.1"), keras.Input((3,), name="b")
    two = keras.Model([b, a], {"y": keras.layers.Dense(2)(a), "x": keras.layers.Dense(1)(b)})
    with pytest.warns(UserWarning, match="'a.1', called 'a_1'"):
        assert named(two) == (["b", "a_1"], ["x", "y"])
    outputs = signatures(two)["serving_default"].function(tf.ones((4, 3)), tf.ones((4, 2)))
    assert outputs["x"].shape == (4, 1) and outputs["y"].shape == (4, 2)
    assert named(classifier(), task="tensors") == (["images"], ["outputs"])


def test_half_precision_is_served_as_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    network = keras.Sequential([keras.Input((4,)), CCP(3, order=2, rank=5), keras.layers.Dense(2, dtype="float16")])
    with pytest.warns(UserWarning, match="computes in half precision. It is exported in float32"):
        version = export_saved_model(network, tmp_path, "half")
    (answer,) = tf.saved_model.load(version).signatures["serving_default"](tf.ones((2, 4))).values()
    assert answer.dtype == tf.float32 and {layer.compute_dtype for layer in network.layers} == {"float16"}
    np.testing.assert_allclose(answer, network(np.ones((2, 4))), rtol=1e-2, atol=1e-2)


def test_versions(tmp_path):
    base = tmp_path / "served" / "7"  # A name may be a number.
    assert export_saved_model(small(), tmp_path / "served", "7") == base / "1"
    (base / "004").mkdir()
    assert export_saved_model(small(), tmp_path / "served", "7") == base / "5"
    (base / "1" / "assets.extra" / "stale").touch()
    before = (base / "1" / "saved_model.pb").read_bytes()
    for version in (1, 4):
        with pytest.raises(ValueError, match=rf"written once. Received: version {version}, .* with --replace"):
            export_saved_model(small(), tmp_path / "served", "7", version=version)
    assert export_saved_model(small(5), tmp_path / "served", "7", version=1, replace=True) == base / "1"
    assert not (base / "1" / "assets.extra" / "stale").exists()
    assert (base / "1" / "saved_model.pb").read_bytes() != before
    assert export_saved_model(small(), tmp_path / "served", "7", version=4, replace=True) == base / "4"
    assert sorted(path.name for path in base.iterdir()) == ["1", "4", "5"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/tmp/x", "a\\b"])
def test_names_that_leave_the_folder(name, tmp_path):
    with pytest.raises(ValueError, match=r"plain name of a folder. Received: .* Pass a name without slashes"):
        export_saved_model(small(), tmp_path / "served", name)
    assert not list(tmp_path.iterdir())


def other(model):
    changed = keras.models.clone_model(model)
    changed.set_weights([weight * 1.01 for weight in model.get_weights()])
    return changed


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    version = export_saved_model(small(), tmp_path / "kept", "small")
    before = sorted(tmp_path.rglob("*"))

    def interrupted(*arguments, **options):
        assert list((tmp_path / "new" / "below" / "small").glob("partial-*/saved_model.pb"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(saved_model, "model_card", interrupted)
        export_saved_model(small(), tmp_path / "new" / "below", "small")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"returns what the Keras model .* at batch 1"):
        patch.setattr(saved_model, "fold_normalization", other)
        export_saved_model(small(), tmp_path / "kept", "small", version=1, replace=True)
    rename = saved_model.os.rename

    def full(source, target):
        if Path(source).name.startswith("partial"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(saved_model.os, "rename", full)
        export_saved_model(small(), tmp_path / "kept", "small", version=1, replace=True)
    assert sorted(tmp_path.rglob("*")) == before and (version / "saved_model.pb").exists()


class Compiled(keras.layers.Layer):
    def call(self, x):
        return tf.function(lambda values: 2 * values, jit_compile=True)(x)


class Python(keras.layers.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda values: values, [x], tf.float32), x.shape)

    def compute_output_shape(self, shape):
        return shape


class Fixed(keras.layers.Layer):
    def call(self, x):
        return tf.reshape(x, (3, 4))

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize(
    "layer, words",
    [
        (Compiled, "compiled with XLA. Received: .* Remove jit_compile=True"),
        (Python, "none of Python. Received: PyFunc. Write the layer"),
        (Fixed, r"answers batches of any size. Received: .* fails for \w+ \(1, 4\) .*reshape.* Give its"),
    ],
)
def test_graphs_that_are_not_served(layer, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        export_saved_model(keras.Sequential([keras.Input((4,)), layer()]), tmp_path / "served", "model")
    assert not list(tmp_path.iterdir())


def test_operations_of_other_packages_are_not_served(tmp_path):
    definition = saved_model.saved_model_pb2.SavedModel()
    graph = definition.meta_graphs.add().graph_def
    graph.node.add(name="sound", op="IO>AudioDecode")
    graph.library.function.add().node_def.add(name="own", op="MyOwnOperation")
    (tmp_path / "saved_model.pb").write_bytes(definition.SerializeToString())
    with pytest.raises(ValueError, match=r"none of other packages .* Received: IO>AudioDecode, MyOwnOperation. Write"):
        saved_model._refuse_what_is_not_served(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match=r"A SavedModel is a folder with saved_model.pb. Received: .* Pass the folder"):
        export.signature_names(tmp_path)


def test_outputs_that_are_not_finite_are_warned_of(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.log(inputs))
    with pytest.warns(UserWarning, match="returns outputs that are not finite for inputs that are"):
        assert export_saved_model(model, tmp_path, "log").exists()


def test_without_the_package_for_requests_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.warns(UserWarning, match=r"No warm-up requests were written: .* pip install 'pinets_tf\[serving\]'"):
        version = export_saved_model(small(), tmp_path, "small")
    assert [path.name for path in (version / "assets.extra").iterdir()] == ["model_card.md"]


def test_files_that_are_not_loaded(tmp_path, monkeypatch):
    def saved(name, layer):
        keras.Sequential([keras.Input((4,)), layer]).save(tmp_path / name)
        return tmp_path / name

    @keras.saving.register_keras_serializable(package="elsewhere")
    class Elsewhere(keras.layers.Layer):
        pass

    files = [saved("lambda.keras", keras.layers.Lambda(lambda x: x)), saved("elsewhere.keras", Elsewhere())]
    monkeypatch.delitem(keras.saving.get_custom_objects(), "elsewhere>Elsewhere")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    for file, words in zip((*files, tmp_path / "empty.keras"), ("`Lambda` layer", "class 'Elsewhere'", "no item")):
        with pytest.raises(ValueError, match=rf"Received: .*{file.name}, which cannot be loaded \(.*{words}.* Replace"):
            export.load_model(file)
    (tmp_path / "half.keras").write_bytes(files[0].read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"half.keras, which cannot be loaded: its 1,000 bytes are truncated"):
        export.load_model(tmp_path / "half.keras")
    for name in ("none.keras", "model.h5"):
        with pytest.raises(ValueError, match=f"A model is a .keras file. Received: .*{name}. Pass the model.keras"):
            export.load_model(tmp_path / name)


@pytest.mark.parametrize(
    "make, options, words",
    [
        (classifier, {"labels": LABELS[:3]}, "Received: 3 labels for 4 scores. Pass as many"),
        (small, {"labels": LABELS}, "Received: 4 labels for no scores. Leave out the labels"),
        (small, {"task": "images"}, r"of a model of images .* Received: small from \(None, 4\) .* Pass one of tensors"),
        (small, {"task": "cats"}, "A task is auto or one of .* Received: 'cats'. Leave it out"),
        (small, {"version": 0}, "A version is a positive integer. Received: 0. Pass"),
        (small, {"replace": True}, "replaced by its number. Received: replace without a version. Pass"),
        (small, {"warm_up": np.ones((2, 5))}, r"samples of finite .* Received: an array of shape \(2, 5\) .* Pass"),
        (small, {"warm_up": np.ones((999, 4))}, r"1 to 998 samples .* Received: an array of shape \(999, 4\)"),
        (small, {"warm_up": np.full((1, 4), np.nan)}, "samples of finite numbers"),
        (lambda: keras.layers.Dense(2), {}, "built functional or sequential .* Received: <Dense .* make keras.Model"),
        (
            lambda: keras.Sequential([keras.Input(batch_shape=(4, 2)), keras.layers.Dense(1)]),
            {},
            r"batches of any size. Received: an input of shape \(4, 2\) .* Build the model with keras.Input",
        ),
    ],
)
def test_errors(make, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        export_saved_model(make(), tmp_path / "served", "model", **options)
    assert not list(tmp_path.iterdir())


def test_errors_of_files(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfd")
    for name in ("none", "bytes"):
        with pytest.raises(ValueError, match=rf"Labels are a text file .* Received: .*{name} \(.* Pass the labels.txt"):
            export.read_labels(tmp_path / name)
        with pytest.raises(ValueError, match=rf"array in an .npy file. Received: .*{name} \(.* Write one with numpy"):
            export.read_inputs(tmp_path / name)
    np.savez(tmp_path / "two.npz", x=np.ones(2))
    with pytest.raises(ValueError, match=r"Received: .*two.npz, an .npz. Use numpy.save"):
        export.read_inputs(tmp_path / "two.npz")


def test_the_script_says_what_is_wrong(tmp_path):
    small().save(tmp_path / "model.keras")
    options = ["--output", tmp_path / "served", "--name", "../up"]
    done = call("export/saved_model.py", tmp_path / "model.keras", *options, check=False)
    assert done.returncode == 1 and "plain name of a folder. Received: '../up'" in done.stderr
    assert "Traceback" not in done.stderr and [path.name for path in tmp_path.iterdir()] == ["model.keras"]
