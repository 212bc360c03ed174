"""ONNX and OpenVINO: what they answer, what is written, and what is refused."""

import runpy
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf import export
from pinets_tf.export import other_runtimes
from pinets_tf.models import resnet
from tests.commands import ROOT, call

RUN = {"onnx": export.run_onnx, "openvino": export.run_openvino}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "network.keras"
    keras.utils.set_random_seed(0)
    resnet((8, 8, 3), 4, stage_blocks=(1, 1), width=4).save(file)
    return file


@pytest.fixture(scope="module")
def written(model_file):
    """What the script writes and prints."""
    folder = model_file.parent
    others = ["--onnx", folder / "other" / "network.onnx", "--openvino", folder / "other" / "network.xml"]
    np.save(folder / "inputs.npy", np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)))
    options = ["--output", folder / "served", "--warm_up", folder / "inputs.npy", *others]
    return call("export/saved_model.py", model_file, *options).stdout.splitlines()


def served(model, folder):
    return export.export_saved_model(model, folder / "served", "model")


def test_the_script_shows_the_difference(model_file, written):
    folder = model_file.parent
    assert written[0] == str(folder / "served" / "network" / "1")
    for line, file in zip(written[1:], ("network.onnx", "network.xml"), strict=True):
        words, _, difference = line.rpartition(" ")
        assert words == f"{folder / 'other' / file}: largest relative difference to the SavedModel"
        assert float(difference) < 1e-4
    assert sorted(path.name for path in (folder / "other").iterdir()) == ["network.bin", "network.onnx", "network.xml"]


@pytest.mark.parametrize("runtime, suffix", [("onnx", ".onnx"), ("openvino", ".xml")])
def test_they_answer_as_keras_does(model_file, written, runtime, suffix):
    file = model_file.parent / "other" / f"network{suffix}"
    inputs = np.random.default_rng(1).uniform(0, 255, (20, 8, 8, 3)).astype("float32")
    expected = keras.models.load_model(model_file)(inputs).numpy()
    for count in (1, 5, 20):  # Twenty are more than one batch.
        answer = RUN[runtime](file, {"images": inputs[:count]})
        assert list(answer) == ["logits"]
        np.testing.assert_allclose(answer["logits"], expected[:count], atol=1e-4 * np.abs(expected).max())
    for request, words in (
        ({"images": inputs[:, 1:]}, r"images \(20, 7, 8, 3\)"),
        ({}, ""),
        ({"z": inputs}, r"z \(20"),
    ):
        with pytest.raises(
            ValueError, match=rf"by the names of its inputs. Received: {words}.* which failed \(.* Pass"
        ):
            RUN[runtime](file, request)
    with pytest.raises(ValueError, match=r"Received: .*none.* which failed \(.* Pass"):
        RUN[runtime](file.with_name(f"none{suffix}"), {"images": inputs})


class Spectrum(keras.layers.Layer):
    def call(self, x):
        spectrum = tf.signal.rfft(x, [16])
        return tf.abs(spectrum) + 2 * tf.math.real(spectrum) - 3 * tf.math.imag(spectrum)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 9)


def test_spectra_and_names(tmp_path):
    # An output has the name of the input here, which neither format has.
    vertices, signals = keras.Input((5, 3), name="vertices"), keras.Input((16,))
    models = {"vertices_output": keras.layers.Dense(3)(vertices), "outputs": Spectrum()(signals)}
    for name, outputs in models.items():
        model = keras.Model(vertices if name == "vertices_output" else signals, outputs)
        version, request = served(model, tmp_path), export.signatures(model)["lite"].example(3)
        for runtime, file in (("onnx", tmp_path / "m.onnx"), ("openvino", tmp_path / "m.xml")):
            assert export.write_checked(runtime, version, file, [request]) < 1e-5
            assert list(RUN[runtime](file, request)) == [name]


def test_constants_that_a_layer_holds_are_no_inputs(tmp_path):
    layers = [keras.layers.Normalization(mean=[0.5], variance=[4.0]), keras.layers.Conv2D(2, 3)]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    version, request = served(model, tmp_path), export.signatures(model)["lite"].example(3)
    for runtime, file in (("onnx", tmp_path / "m.onnx"), ("openvino", tmp_path / "m.xml")):
        assert export.write_checked(runtime, version, file, [request]) < 1e-5


class Inverse(keras.layers.Layer):
    def call(self, x):
        return tf.linalg.inv(x)


@pytest.mark.parametrize(
    "layer, runtime, file, words",
    [
        (Inverse(), "onnx", "new/m.onnx", "that ONNX has. Received: .*MatrixInverse.* Replace the layer"),
        (
            keras.layers.Lambda(lambda x: tf.math.cumprod(x, 1)),
            "openvino",
            "new/m.xml",
            "that OpenVINO has. Received: .*Cumprod.* Replace the layer",
        ),
        (
            keras.layers.Identity(),
            "openvino",
            "new/m.xml",
            r"cannot be converted \(an output is an input as it is",
        ),
    ],
    ids=["onnx", "openvino", "identity"],
)
def test_models_that_are_not_converted(layer, runtime, file, words, tmp_path, capfd):
    inputs = keras.Input((4, 4))
    keras.Model(inputs, layer(inputs)).export(tmp_path / "model", verbose=False)
    capfd.readouterr()
    with pytest.raises(ValueError, match=words):
        export.write_checked(runtime, tmp_path / "model", tmp_path / file, [])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert "ERROR" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("runtime, suffix", [("onnx", ".onnx"), ("openvino", ".xml")])
def test_what_answers_otherwise_is_not_written(model_file, written, runtime, suffix, tmp_path, monkeypatch):
    version, before = written[0], tmp_path / f"m{suffix}"
    before.write_text("before")

    def off(file, request):
        return {name: value * 1.01 for name, value in RUN[runtime](file, request).items()}

    monkeypatch.setattr(other_runtimes, f"run_{runtime}", off)
    request = {"images": np.ones((2, 8, 8, 3), "float32")}
    with pytest.raises(
        ValueError, match=r"0.001 of the largest output, .* Received: logits of .* differ by .*--warm_up"
    ):
        export.write_checked(runtime, version, before, [request])
    assert before.read_text() == "before" and list(tmp_path.iterdir()) == [before]


def test_missing_packages_are_noticed_first(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    main = runpy.run_path(str(ROOT / "export" / "saved_model.py"))["main"]
    for package, option, file in (("onnxruntime", "--onnx", "m.onnx"), ("openvino", "--openvino", "m.xml")):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setitem(sys.modules, package, None)
            main([str(model_file), "--output", str(tmp_path / "served"), option, str(tmp_path / file)])
        assert f"run with the package {package}. Received: " in end.value.code
        assert f"pip install 'pinets_tf[{option[2:]}]'" in end.value.code
    with pytest.raises(SystemExit) as end:
        main([str(model_file), "--output", str(tmp_path / "served"), "--onnx", str(tmp_path / "m.xml")])
    assert "whose name ends in .onnx. Received: " in end.value.code
    assert not list(tmp_path.iterdir())
