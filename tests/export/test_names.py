"""Names in exports: the same for each build of a model, whatever was built before in the process."""

import re
import runpy
import warnings

import keras
import numpy as np
import pytest

from pinets_tf import export
from pinets_tf.export import export_saved_model, signatures
from pinets_tf.export.saved_model import _interface
from pinets_tf.export.signatures import positional_names
from pinets_tf.layers import CCP, NCP
from pinets_tf.models import linear_generator, mel_front_end, resnet
from tests.commands import ROOT

LABELS = ["cat", "dog", "fish"]
AUTOMATIC = re.compile(rb"(keras_tensor|input_layer)|(dense|ncp|ccp|sequential|functional|re_lu|lstm)_[3-9]\d*")


def two_tensors():
    z, sequence = keras.Input((6,)), keras.Input((4, 3))
    h = NCP(8, 2, rank=4)(z) * keras.layers.Dense(8)(keras.layers.GlobalAveragePooling1D()(sequence))
    inner = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(5), keras.layers.ReLU()])
    return keras.Model([z, sequence], [keras.layers.Dense(2)(inner(h)), h + 1])


def classifier():
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x * keras.layers.Conv2D(4, 3)(pixels))
    return keras.Model(pixels, keras.layers.Dense(3)(keras.layers.ReLU()(x)))


def files_of(make, folder, precisions):
    """Builds and exports a model, and returns the contents of its files, those of the SavedModel as its interface."""
    keras.utils.set_random_seed(0)
    model = make()
    workdir = folder / "run"
    workdir.mkdir(parents=True)
    if export.class_count(model):
        (workdir / "labels.txt").write_text("\n".join(LABELS))
    version = export_saved_model(model, folder, "model", workdir=workdir)
    script = runpy.run_path(str(ROOT / "export" / "tflite.py"))["main"]
    for name, options in precisions.items():
        script([str(version), "--output", str(folder / f"{name}.tflite"), *options])
    (folder / "model.onnx").write_bytes(export.to_onnx(version))
    export.to_openvino(version, folder / "model.xml")
    # Graph and weights of a SavedModel have names of variables and functions inside, which no client sees.
    kept = [path for path in folder.rglob("*") if path.is_file() and not {"variables", "run"} & set(path.parts)]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.suffix != ".pb"}
    return {**files, "interface": repr(sorted(_interface(version).items())).encode()}


@pytest.mark.parametrize("make", [two_tensors, pytest.param(classifier, marks=pytest.mark.long)])
def test_files_of_two_builds_are_equal(make, tmp_path):
    precisions = {"float32": ["--precision", "float32"]}
    if make is classifier:
        np.save(tmp_path / "inputs.npy", np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)))
        int8 = ["--precision", "int8", "--inputs", str(tmp_path / "inputs.npy"), "--agreement", ".1"]
        precisions = {"dynamic": [], "half": ["--precision", "float16"], "integers": [*int8, "--integer_io"]}
    first = files_of(make, tmp_path / "first", precisions)
    assert {"model/1/assets.extra/model_card.md", "model.onnx", "model.xml", "model.bin"} < first.keys()
    assert {f"{name}.tflite" for name in precisions} < first.keys()
    assert make is two_tensors or "model/1/assets.extra/labels.txt" in first
    second = files_of(make, tmp_path / "second", precisions)
    assert [name for name in first if first[name] != second.get(name)] == [] and first.keys() == second.keys()
    assert {name: found for name, content in second.items() if (found := AUTOMATIC.search(content))} == {}


def named(model, **options):
    signature = signatures(model, **options)["serving_default"]
    return [spec.name for spec in signature.inputs], list(signature.outputs)


def vectors(count, **names):
    inputs = [keras.Input((2,), name=names.get(f"input_{place}")) for place in range(1, count + 1)]
    return inputs, keras.layers.Concatenate()(inputs) if count > 1 else inputs[0]


def one(**names):
    inputs, x = vectors(1, **names)
    return keras.Model(inputs, CCP(3, order=2, rank=4)(x))


def several():
    inputs, x = vectors(3, input_2="state")
    return keras.Model(inputs, [keras.layers.Dense(1)(x), keras.layers.Dense(2, name="scores")(x), x + 1])


def part():
    inputs, x = vectors(1)
    h = keras.layers.Dense(3)(x)
    keras.Model(inputs, h)
    return keras.Model(h, [keras.layers.Dense(2)(h), h * 2])


def states():
    sequence = keras.Input((5, 2))
    return keras.Model(sequence, keras.layers.LSTM(3, return_state=True)(sequence))


def dictionaries():
    inputs, x = vectors(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras would have the tensors called as the keys.
        return keras.Model(dict(zip("ba", inputs)), {"y": x + 1, "x": keras.layers.Dense(2)(x)})


def vertices():
    mesh = keras.Input((5, 3))
    return keras.Model(mesh, keras.layers.Dense(3)(mesh))


MODELS = {
    "one": (one, ["inputs"], ["outputs"]),
    "one, named": (lambda: one(input_1="z"), ["z"], ["outputs"]),
    "sequential": (lambda: keras.Sequential([keras.Input((4,)), CCP(3, order=2, rank=4)]), ["inputs"], ["outputs"]),
    "several": (several, ["input_1", "state", "input_3"], ["output_1", "scores", "output_3"]),
    "twelve": (
        lambda: keras.Model(*vectors(12)),
        [f"input_{place}" for place in range(1, 13)],
        ["outputs"],
    ),
    "part of a model": (part, ["inputs"], ["output_1", "output_2"]),
    "states": (states, ["inputs"], ["output_1", "output_2", "output_3"]),
    "dictionaries": (dictionaries, ["a", "b"], ["x", "y"]),
    "images": (classifier, ["images"], ["logits", "probabilities"]),
    "latents": (lambda: linear_generator(latent=6, width=0.02), ["latents"], ["images"]),
    "vertices": (vertices, ["vertices"], ["vertices"]),
    "waveforms": (
        lambda: resnet(
            (2000,),
            4,
            stage_blocks=(1,),
            width=2,
            preprocessing=mel_front_end(clip_seconds=0.125, mels=8, frames=8, fft_length=256),
        ),
        ["waveforms"],
        ["logits", "probabilities"],
    ),
}


@pytest.mark.parametrize("make, inputs, outputs", MODELS.values(), ids=MODELS)
def test_names_by_user_task_and_position(make, inputs, outputs):
    for _ in range(2):  # Keras counts on.
        assert named(make()) == (inputs, outputs)


def test_a_loaded_model_has_the_names_of_its_own(tmp_path):
    model = several()
    model.save(tmp_path / "model.keras")
    assert named(export.load_model(tmp_path / "model.keras")) == named(model)


def test_names_that_are_changed_are_told(tmp_path):
    z, w = keras.Input((2,), name="a b"), keras.Input((2,), name="a_b")
    with pytest.warns(
        UserWarning, match=r"each once, .*\. Received: 'a b', called 'a_b'; 'a_b', called 'a_b_1'\. Name"
    ):
        inputs, _ = named(keras.Model([z, w], z + w))
    assert inputs == ["a_b", "a_b_1"]
    with pytest.warns(UserWarning, match=r"Names of outputs .* Received: 'größe', called 'gr__e'\. Name layers"):
        assert named(keras.Model(w, {"größe": w + 1, "y": w * w}))[1] == ["gr__e", "y"]
    z, w = keras.Input((2,), name="1st"), keras.Input((2,), name="class")
    with pytest.warns(
        UserWarning, match=r"Python\. Received: '1st', called 'input_1st'; 'class', called 'input_class'"
    ):
        version = export_saved_model(keras.Model([z, w], {"2nd": z + w, "lambda": z * w}), tmp_path, "model")
    assert {name for _, name in _interface(version)} == {
        "input input_1st",
        "input input_class",
        "output 2nd",
        "output lambda",
    }
    # A name that another input has by its position.
    z, w = keras.Input((2,), name="input_2"), keras.Input((2,))
    assert named(keras.Model([z, w], z + w))[0] == ["input_2", "input_2_1"]


def test_another_interface_of_the_next_version_is_warned_of(tmp_path):
    def small(inputs=4, outputs=3, **options):
        return keras.Sequential([keras.Input((inputs,), **options), CCP(outputs, order=2, rank=5)])

    def warned(model, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            export_saved_model(model, tmp_path, "model", **options)
        return [str(one.message) for one in caught if "A new version has" in str(one.message)]

    assert warned(small(), version=4) == [] == warned(small())
    (words,) = warned(small(outputs=5, name="z"))
    assert f"Received: version 5 of {tmp_path / 'model'} with others (" in words
    for change in (
        "input inputs of lite, float32 (None, 4) before and now none; ",
        "input z of serving_default, none before and now float32 (None, 4); ",
        "output outputs of lite, float32 (None, 3) before and now float32 (None, 5); ",
    ):
        assert change in words
    assert words.endswith("Export under another name, or change the clients with the version.")
    # A version is compared with the one that it replaces, or else with the one before it in number.
    assert warned(small(), version=5, replace=True) == [] and warned(small(7), version=1) == []


def test_layers_inside_of_others_are_named_by_position():
    for _ in range(2):
        inner = keras.layers.Bidirectional(keras.layers.LSTM(3))
        model = keras.Sequential(
            [keras.Input((5, 2)), inner, keras.layers.Dense(2), keras.layers.Dense(2, name="own_7")]
        )
        names = set(positional_names(model).values())
        assert {"bidirectional", "forward_lstm", "backward_lstm", "dense", "sequential"} <= names
        assert "own_7" not in positional_names(model)
