"""TFLite models for accelerators of edge devices: a batch of one, and integers as inputs and outputs."""

import json
import runpy

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pinets_tf.export import PRECISIONS, convert, export_saved_model, quantize_int8
from pinets_tf.export.runtime import agreement, answers, has_fixed_batch, interpreter
from tests.commands import ROOT, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network with a product and a reshape, which computes shapes where the batch is open, and inputs."""
    folder = tmp_path_factory.mktemp("integers")
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same")(images) * keras.layers.Conv2D(4, 1)(images)
    model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    model.save(folder / "model.keras")
    export_saved_model(model, folder, "model")
    np.save(folder / "inputs.npy", np.random.default_rng(0).uniform(-1, 1, (160, 6, 6, 2)).astype("float32"))
    return folder


@pytest.fixture(scope="module")
def tflite():
    return runpy.run_path(str(ROOT / "export" / "tflite.py"))["main"]


def details(content):
    loaded = interpreter(content)
    return [*loaded.get_input_details(), *loaded.get_output_details()], loaded.get_tensor_details()


def test_integers_alone_and_fixed_shapes(folder, tflite, tmp_path, capsys):
    file, options = tmp_path / "edge.tflite", ["--precision", "int8", "--inputs", str(folder / "inputs.npy")]
    tflite([str(folder / "model" / "1"), "--output", str(file), *options, "--integer_io", "--agreement", ".95"])
    assert "int8 inputs and outputs, a batch of one: the same answer on" in capsys.readouterr().err
    content, inputs = file.read_bytes(), np.load(folder / "inputs.npy")
    ends, tensors = details(content)
    assert [end["dtype"] for end in ends] == [np.int8, np.int8]
    assert all((tensor["shape_signature"] == tensor["shape"]).all() for tensor in tensors)
    assert {tensor["dtype"] for tensor in tensors} <= {np.int8, np.int32}
    # As a device runs it: no shape is changed, and numbers are rounded by scale and zero point.
    loaded = Interpreter(model_content=content)
    loaded.allocate_tensors()
    received = []
    for one in inputs[1::2]:
        scale, zero_point = ends[0]["quantization"]
        loaded.set_tensor(ends[0]["index"], np.round(one / scale + zero_point).clip(-128, 127).astype("int8")[None])
        loaded.invoke()
        scale, zero_point = ends[1]["quantization"]
        received.append((loaded.get_tensor(ends[1]["index"])[0].astype(int) - zero_point) * scale)
    expected = answers(convert(folder / "model" / "1"), inputs[1::2])
    assert agreement(expected, np.array(received)) >= 0.95
    np.testing.assert_allclose(answers(content, inputs[1::2]), received, atol=ends[1]["quantization"][0])
    done = run(
        *("export/verify.py", folder / "model.keras", file),
        *("--inputs", folder / "inputs.npy", "--agreement", ".95"),
    )
    assert json.loads(done.stdout)["passed"]


def test_integers_inside_alone_are_said_to_be_that(folder, tflite, tmp_path, capsys):
    file, options = tmp_path / "model.tflite", ["--precision", "int8", "--inputs", str(folder / "inputs.npy")]
    tflite([str(folder / "model" / "1"), "--output", str(file), *options, "--integer_only", "--agreement", ".9"])
    assert "float32 inputs and outputs, batches of any size: the same" in capsys.readouterr().err
    ends, _ = details(file.read_bytes())
    assert {end["dtype"] for end in ends} == {np.float32} and ends[0]["shape_signature"][0] == -1


@pytest.mark.parametrize(
    "precision", [PRECISIONS[0], *(pytest.param(p, marks=pytest.mark.long) for p in PRECISIONS[1:])]
)
def test_a_fixed_batch_in_other_precisions(folder, tflite, precision, tmp_path):
    file, inputs = tmp_path / "model.tflite", np.load(folder / "inputs.npy")[:3]
    tflite([str(folder / "model" / "1"), "--output", str(file), "--precision", precision, "--fixed_batch"])
    content = file.read_bytes()
    assert has_fixed_batch(interpreter(content))
    assert all((tensor["shape_signature"] == tensor["shape"]).all() for tensor in details(content)[1])
    as_before = convert(folder / "model" / "1", precision)
    assert interpreter(content).get_signature_list() == interpreter(as_before).get_signature_list()
    expected = answers(as_before, inputs)
    np.testing.assert_allclose(answers(content, inputs), expected, rtol=0.05, atol=0.05 * np.abs(expected).max())


def test_errors(folder, tflite, tmp_path):
    with pytest.raises(SystemExit, match=r"Received: --integer_io with --precision=float16\. Pass --precision=int8"):
        tflite([str(folder / "model" / "1"), "--output", str(tmp_path / "m"), "--precision", "float16", "--integer_io"])
    content, inputs = convert(folder / "model" / "1", fixed_batch=True), np.load(folder / "inputs.npy")[:8]
    with pytest.raises(ValueError, match=r"integers throughout\. Received: .* Pass float_operators=False"):
        quantize_int8(content, inputs, inputs, integer_io=True)
    vectors = keras.Input((6,))
    model = keras.Model(vectors, keras.ops.log(1 + keras.ops.square(keras.layers.Dense(4)(vectors))))
    version = export_saved_model(model, tmp_path, "model")
    inputs = np.random.default_rng(0).normal(size=(8, 6))
    with pytest.raises(ValueError, match=r"exist in eight bits\. Received: \d+ tensors that stay float32, such as "):
        quantize_int8(convert(version), inputs, inputs, float_operators=False, integer_io=True)
    assert not (tmp_path / "m").exists()
