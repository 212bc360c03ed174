"""The comparison of exports with the Keras model: what passes, by which rule, and what is refused."""

import json
import runpy
import warnings

import keras
import numpy as np
import pytest

from pinets_tf import export
from pinets_tf.layers import CCP
from pinets_tf.models import resnet
from tests.commands import ROOT, call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, another one, exports of the first, and inputs."""
    folder = tmp_path_factory.mktemp("verify")
    keras.utils.set_random_seed(0)
    model = resnet((8, 8, 3), 4, stage_blocks=(1, 1), width=4)
    model.save(folder / "model.keras")
    version = export.export_saved_model(model, folder, "served")
    for precision in ("float32", "float16"):
        (folder / f"{precision}.tflite").write_bytes(export.convert(version, precision))
    (folder / "model.onnx").write_bytes(export.to_onnx(version))
    export.to_openvino(version, folder / "model.xml")
    (folder / "bad.tflite").write_bytes(b"nothing")
    model.set_weights([weight[::-1] if weight.ndim else weight for weight in model.get_weights()])
    model.save(folder / "other.keras")
    np.save(folder / "inputs.npy", np.random.default_rng(1).uniform(0, 255, (20, 8, 8, 3)))
    return folder


def test_exports_that_pass(folder):
    exports = [folder / name for name in ("float32.tflite", "float16.tflite", "model.onnx", "model.xml")]
    done = call("export/verify.py", folder / "model.keras", *exports, "--inputs", folder / "inputs.npy")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["export"] for line in lines] == list(map(str, exports))
    assert [line["judged_by"] for line in lines] == ["difference", "agreement", "difference", "difference"]
    assert all(line["passed"] and line["milliseconds_for_one_input"] > 0 and line["same_answer"] == 1 for line in lines)
    assert [line["largest_relative_difference"] < 1e-4 for line in lines] == [True, False, True, True]


def test_exports_of_another_model_fail(folder):
    exports = [folder / name for name in ("bad.tflite", "float16.tflite", "model.onnx", "none.xml")]
    options = ["--inputs", folder / "inputs.npy", "--tolerance", "1e-3"]
    done = call("export/verify.py", folder / "other.keras", *exports, *options, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [json.loads(line)["passed"] for line in done.stdout.splitlines()] == [False, False]
    messages = [line for line in done.stderr.splitlines() if line.startswith("verify.py: ")]
    for message, export_file, words in zip(
        messages,
        exports,
        (
            "which did not run (ValueError: ",
            ", below --agreement=0.99. Export it with more bits, such as --precision=float16.",
            ", above --tolerance=0.001. Export",
            "which did not run (",
        ),
        strict=True,
    ):
        assert f"Received: {export_file}" in message and words in message


def test_half_precision_is_compared_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), CCP(3, order=2, rank=5)])
    model.save(tmp_path / "half.keras")
    with pytest.warns(UserWarning, match="exported in float32"):
        version = export.export_saved_model(model, tmp_path, "half")
    (tmp_path / "half.tflite").write_bytes(export.convert(version))
    np.save(tmp_path / "inputs.npy", np.ones((2, 4), "float16"))
    options = [tmp_path / "half.tflite", "--inputs", tmp_path / "inputs.npy"]
    done = call("export/verify.py", tmp_path / "half.keras", *options)
    assert json.loads(done.stdout)["judged_by"] == "difference" and "half precision" in done.stderr


def test_answers_of_models_that_are_no_classifiers():
    compare = runpy.run_path(str(ROOT / "export" / "verify.py"))["compare"]
    scores = np.array([[1.0], [-2.0]])
    assert compare(scores, scores * 1.05)["same_answer"] == 1
    assert compare(scores, np.array([[1.0], [2.0]])) == {
        "largest_difference": 4.0,
        "largest_relative_difference": 2.0,
        "same_answer": 0.5,
    }
    assert compare(0 * scores, 0 * scores)["largest_relative_difference"] == 0
    # Half a grey level is rounding, and what is brighter than white is white.
    assert compare(np.array([[[0.0]], [[3.0]]]), np.array([[[128]], [[255]]], "uint8"))["largest_difference"] == 0


def test_what_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    main = runpy.run_path(str(ROOT / "export" / "verify.py"))["main"]
    good, inputs = np.ones((2, 4)), keras.Input((4,))
    models = {
        "model": keras.Model(inputs, keras.layers.Dense(2)(inputs)),
        "two": keras.Model(inputs, [keras.layers.Dense(2)(inputs), inputs]),
        "log": keras.Model(inputs, keras.ops.log(inputs)),
        "lambda": keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)),
    }
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    (tmp_path / "half.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:1000])
    for model, array, words in (
        ("none", good, "A model is a .keras file. Received: "),
        ("half", good, "are truncated, or another kind of file. Write"),
        ("lambda", good, "Replace a Lambda by a layer"),
        ("two", good, "has one input and one output. Received: .*two.keras with 1 inputs and 2 outputs. Compare"),
        ("model", None, "an array in an .npy file. Received: "),
        ("model", b"broken", "an array in an .npy file. Received: "),
        ("model", np.ones((2, 5)), r"of shape \(None, 4\). Received: .* of shape \(2, 5\) and type float64. Pass"),
        ("model", np.ones((0, 4)), r"at least one sample .* of shape \(0, 4\)"),
        ("model", np.full((2, 4), "a"), "of numbers .* type <U1"),
        ("model", np.array([[1, 2, 3, np.nan], [1, 2, 3, 1e300]]), "finite .* with 2 of 8 that are not. Leave"),
        ("log", 0 * good, "a Keras model of finite outputs. Received: 8 of 8 that are not. Leave"),
    ):
        file = tmp_path / "inputs.npy"
        file.unlink(missing_ok=True)
        if isinstance(array, bytes):
            file.write_bytes(array)
        elif array is not None:
            np.save(file, array)
        with pytest.raises(SystemExit, match=words):
            main([str(tmp_path / f"{model}.keras"), str(folder / "float32.tflite"), "--inputs", str(file)])
