"""SavedModels in the TensorFlow library, in processes that have no Python of TensorFlow."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from export.serving import c_api
from tests.commands import ROOT, run

SCRIPT = "export/serving/c_api.py"
# Runs all signatures in one process, as loading the library takes a second.
PROGRAM = """
import runpy, sys
import numpy as np
script, folder, inputs, outputs = sys.argv[1:]
module = runpy.run_path(script)
model = module["SavedModel"](folder)
given = np.load(inputs, allow_pickle=True)
answers = {}
for signature in model.signatures:
    own = {name: given[f"{signature}/{name}"] for name in model.signatures[signature].inputs}
    for name, array in model.run(signature, own).items():
        answers[f"{signature}/{name}"] = array
np.savez(outputs, **answers)
import numpy.random
assert not {"tensorflow", "keras", "pinets_tf"} & sys.modules.keys()
"""


def test_all_signatures(saved_model, files, tmp_path):
    random = np.random.default_rng(0)
    contents = [(files / name).read_bytes() for name in ("cat.jpg", "dog.png")]
    inputs = {
        "serving_default/images": np.load(files / "images.npy").astype("float32"),
        "encoded_images/image_bytes": np.array(contents, object),
        "encoded_audio/wav_bytes": np.array([(files / "yes.wav").read_bytes()], object),
        "generate/latents": random.uniform(-1, 1, (7, 2)).astype("float32"),
        "repeat/words": np.array([b"\xff\0a\0", b"", b"long" * 100], object),
        "repeat/times": np.array([2, 3, 1], "int32"),
        "compiled/latents": random.uniform(-1, 1, (1, 2)).astype("float32"),
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    command = [ROOT / SCRIPT, saved_model, tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "outputs.npz", allow_pickle=True)
    loaded = tf.saved_model.load(str(saved_model))
    for signature, function in loaded.signatures.items():
        own = {key.split("/")[1]: tf.constant(value) for key, value in inputs.items() if key.startswith(signature)}
        for name, expected in function(**own).items():
            answer, expected = answers[f"{signature}/{name}"], expected.numpy()
            assert answer.dtype == expected.dtype and answer.shape == expected.shape
            if answer.dtype == object:
                assert answer.tolist() == expected.tolist()
            else:
                np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


def test_signatures_are_listed(saved_model):
    lines = [line.split() for line in run(SCRIPT, saved_model, forked=False).stdout.splitlines()]
    assert ["input", "image_bytes:", "string", "[-1]"] in lines
    assert ["output", "images:", "uint8", "[-1,", "1,", "2,", "1]"] in lines


def test_what_must_be_compiled_fails_without_xla(saved_model, files, tmp_path):
    for signature, ends in (("generate", 0), ("compiled", 1)):
        options = ["--signature", signature, "--input", f"latents={files / 'latents.npy'}", "--no_xla"]
        done = run(SCRIPT, saved_model, *options, "--output", tmp_path / f"{signature}.npz", check=False, forked=False)
        assert done.returncode == ends, done.stderr
    assert "XLA compilation disabled" in done.stderr and "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["generate.npz"]
    assert np.load(tmp_path / "generate.npz")["images"].ravel().tolist() == [127, 255, 0, 153]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--input", "images=latents.npy"], "code 3: Shape of tensor"),
        (["--signature", "repeat", "--input", "words=cat.jpg"], "Received: words. Pass: times, words."),
        (["--signature", "none", "--input", "a=b"], "Received: none. Pass one of: compiled"),
    ],
    ids=["shape", "missing", "signature"],
)
def test_errors(saved_model, files, arguments, words):
    done = run(SCRIPT, saved_model, *arguments, cwd=files, check=False, forked=False)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_inputs_that_are_none(tmp_path):
    signature = c_api.Signature({"images": c_api.Tensor("images:0", 1, (-1, 4))}, {})
    (tmp_path / "bad.npy").write_bytes(b"bad")
    for pairs, words in (
        (["image=images.npy"], "is given as NAME=FILE. Received: image=images.npy. Names are: images."),
        (["images=cat.jpg"], "is one .npy file. Received: cat.jpg for images. Write the whole batch"),
        ([f"images={tmp_path / 'bad.npy'}"], "bad.npy, which cannot be read"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            c_api.read_inputs(signature, pairs)
    with pytest.raises(ValueError, match=r"Received: images of float64. Pass uint8\."):
        c_api.as_type("images", np.zeros(3), np.uint8)


def test_without_tensorflow(monkeypatch):
    monkeypatch.setattr(c_api.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="Install it with: pip install tensorflow"):
        c_api.load_library()


def test_a_folder_that_is_none(tmp_path):
    done = run(SCRIPT, tmp_path, check=False, forked=False)
    assert done.returncode == 1
    assert done.stderr.startswith("c_api.py: A SavedModel is a folder with saved_model.pb. Received: ")
