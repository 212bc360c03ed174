"""TFLite in all precisions, by the scripts."""

import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.export import convert, export_saved_model
from pinets_tf.export.runtime import NotRunError, agreement, answers, interpreter
from pinets_tf.layers import CCP
from tests.commands import ROOT, call


@pytest.fixture(scope="module")
def heavy_tails(tmp_path_factory):
    """A SavedModel of order 6, and a file of inputs of different norms."""
    folder = tmp_path_factory.mktemp("variants")
    keras.utils.set_random_seed(0)
    version = export_saved_model(keras.Sequential([keras.Input((16,)), CCP(4, order=6, rank=64)]), folder, "model")
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1200, 16)) * np.exp(0.2 * random.normal(size=(1200, 1)))
    np.save(folder / "inputs.npy", inputs.astype("float32"))
    return version, folder / "inputs.npy"


def test_precisions(heavy_tails):
    version, file = heavy_tails
    exact, half, dynamic = (convert(version, precision) for precision in ("float32", "float16", "dynamic_int8"))
    assert len(dynamic) < len(half) < 0.65 * len(exact)
    expected, *others = (answers(content, np.load(file)) for content in (exact, half, dynamic))
    assert agreement(expected, others[0]) > 0.995 and agreement(expected, others[1]) > 0.95
    with pytest.raises(ValueError, match=r"`precision` must be one of 'float32'.* Received: precision='int4'"):
        convert(version, "int4")


def test_several_signatures(tmp_path):
    network = keras.Sequential([keras.Input((4,)), CCP(3, order=2, rank=256)])
    archive = keras.export.ExportArchive()
    archive.track(network)
    specs = [tf.TensorSpec((None, 4), name="z")]
    archive.add_endpoint("scores", lambda z: {"scores": network(z)}, specs)
    archive.add_endpoint("probabilities", lambda z: {"probabilities": tf.nn.softmax(network(z))}, specs)
    archive.write_out(tmp_path / "model", verbose=False)
    content = convert(tmp_path / "model", signatures=["scores", "probabilities"])
    loaded, z = interpreter(content), np.ones((5, 4), "float32")
    scores, probabilities = (loaded.get_signature_runner(name)(z=z)[name] for name in ("scores", "probabilities"))
    np.testing.assert_allclose(probabilities, tf.nn.softmax(scores), rtol=1e-5)
    assert len(content) < 1.5 * len(convert(tmp_path / "model", signatures=["scores"]))
    with pytest.raises(
        ValueError,
        match=r"signatures of the model\. Received: 'lite', .*Pass some of 'prob.*', 'scores', 'serving_default'",
    ):
        convert(tmp_path / "model", signatures=["lite"])


def test_eight_bits_that_answer_otherwise_are_not_written(heavy_tails, tmp_path):
    version, file = heavy_tails
    options = ["export/tflite.py", version, "--precision", "int8", "--output", tmp_path / "new" / "model.tflite"]
    done = call(*options, "--inputs", file)
    assert "operators in eight bits" in done.stderr and (tmp_path / "new" / "model.tflite").exists()
    options[-1] = tmp_path / "other.tflite"
    done = call(*options, "--inputs", file, "--integer_only", check=False)
    assert done.returncode == 1 and "Received: 17 of 17 operators in eight bits" in done.stderr
    assert "Nothing was written; leave out --integer_only, pass --precision=dynamic_int8" in done.stderr
    assert "Traceback" not in done.stderr and not options[-1].exists()


def test_table_of_variants(heavy_tails, tmp_path):
    version, file = heavy_tails
    labels = answers(convert(version), np.load(file)).argmax(-1)
    np.save(tmp_path / "labels.npy", labels)
    options = ["export/variants.py", version, "--inputs", file, "--labels", tmp_path / "labels.npy"]
    lines = call(*options, "--output", tmp_path / "tflite").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:5]] == [
        "variant",
        "float32",
        "float16",
        "dynamic_int8",
        "int8, integers only",
    ]
    table = {line.split("  ")[0]: line.split()[-4:] for line in lines[1:6]}
    # Equal to float32 and right are the same here.
    assert table["float32"][:2] == ["1.000", "1.000"] and table["int8"][0] == table["int8"][1] >= "0.990"
    assert all(float(time) > 0 for row in table.values() for time in row[2:])
    written = {path.name for path in (tmp_path / "tflite").iterdir()}
    assert written == {"float32.tflite", "float16.tflite", "dynamic_int8.tflite", "int8.tflite"}
    np.save(tmp_path / "labels.npy", labels[1:])
    done = call(*options, check=False)
    assert done.returncode == 1 and "Received: shape (1199,) for 1200 inputs" in done.stderr


def test_a_table_without_eight_bits_that_do_not_run(heavy_tails, tmp_path, monkeypatch, capsys):
    version, file = heavy_tails
    main = runpy.run_path(str(ROOT / "export" / "variants.py"))["main"]

    def fails(*_, **__):
        raise NotRunError("It does not run.")

    monkeypatch.setitem(main.__globals__, "quantize_int8", fails)
    main([str(version), "--inputs", str(file), "--output", str(tmp_path / "tflite")])
    lines = capsys.readouterr().out.splitlines()
    names = ["variant", "float32", "float16", "dynamic_int8", "int8: It does not run."]
    assert [line.split("  ")[0] for line in lines] == names
    written = {path.name for path in (tmp_path / "tflite").iterdir()}
    assert written == {"float32.tflite", "float16.tflite", "dynamic_int8.tflite"}
