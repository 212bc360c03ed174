"""A run that is given more epochs or steps goes on; one that is given fewer than it has done is refused in words."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.flags import FLAGS

from pinets_tf import training
from pinets_tf.training import autoencoder, workdir

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 6)).astype("float32"), np.arange(8) % 3
PAIRS = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
SHAPES = RNG.normal(size=(8, 6, 3)).astype("float32")
VERTICES = tf.data.Dataset.from_tensor_slices((SHAPES, SHAPES)).batch(4)
IMAGES = tf.data.Dataset.from_tensor_slices(RNG.uniform(-1, 1, (8, 2, 2, 1)).astype("float32")).batch(4)


def classifies(folder):
    lessons = training.Lessons(lambda epoch: PAIRS.repeat(), lambda: 2, 4, PAIRS, PAIRS, ("a", "b", "c"))

    def build(lessons):
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])

    return training.run_classifier(folder, lambda: lessons, build, title="tiny", remedy="", facts={})


def reconstructs(folder):
    lessons = training.ShapeLessons(
        lambda epoch: VERTICES.repeat(),
        lambda: 2,
        4,
        VERTICES,
        VERTICES,
        vertices=SHAPES,
        test_vertices=SHAPES,
        test_names=tuple("abcdefgh"),
        faces=np.array([[0, 1, 2]]),
        deviation=np.ones((6, 3)),
    )

    def build(lessons):
        layers = [keras.Input((6, 3)), keras.layers.Flatten(), keras.layers.Dense(18), keras.layers.Reshape((6, 3))]
        return keras.Sequential(layers)

    return training.run_autoencoder(folder, lambda: lessons, build, None, title="tiny", remedy="", facts={})


def generates(folder):
    lessons = training.GanLessons(lambda step: IMAGES.repeat().skip(step), lambda: FLAGS.steps)

    def build(lessons):
        latents, images = keras.Input((3,)), keras.Input((2, 2, 1))
        generator = keras.Model(latents, keras.layers.Reshape((2, 2, 1))(keras.layers.Dense(4)(latents)))
        return generator, keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(images)))

    return training.run_gan(folder, lambda: lessons, build, draw=lambda images, picture: images[0], title="tiny")


SGD = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 1e-3, "milestones": ()}
ADAM = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 1e-3, "decay_factor": 1.0}
GAN = {"steps": 2, "batch_size": 4, "log_every": 1, "decay": False}
# What each trainer is called with, the flags of a rate that stays, by what its length is counted, and its network.
TRAINERS = {
    "classifier": (classifies, lambda: training.define_recipe_flags(**SGD), "epoch", "model.keras"),
    "autoencoder": (reconstructs, lambda: training.define_adam_flags(**ADAM), "epoch", "model.keras"),
    "gan": (generates, lambda: training.define_gan_flags(**GAN), "step", "generator.keras"),
}


@pytest.fixture
def trains(monkeypatch, request, tmp_path):
    """Returns a function that trains in a folder with flags, as a script that has them."""
    train, define, _, _ = TRAINERS[request.param]
    before = set(FLAGS)
    monkeypatch.setattr("sys.argv", [__name__])
    monkeypatch.setattr(autoencoder, "evaluate_autoencoder", lambda *arguments, **options: {"vertex_error_mm": 0.0})
    training.define_run_flags()
    define()

    def run(folder, *arguments):
        FLAGS.unparse_flags()
        FLAGS([__name__, f"--workdir={tmp_path / folder}", "--xla=off", *arguments])
        return train(tmp_path / folder)

    yield run
    for name in set(FLAGS) - before:
        delattr(FLAGS, name)


@pytest.mark.parametrize("trains, kind", [(kind, kind) for kind in TRAINERS], indirect=["trains"], ids=[*TRAINERS])
def test_more_equals_as_many_at_once(trains, kind, tmp_path, capsys):
    _, _, unit, file = TRAINERS[kind]
    trains("whole", f"--{unit}s=2")
    first = trains("run", f"--{unit}s=1")
    capsys.readouterr()
    result = trains("run", f"--{unit}s=2")
    shown = capsys.readouterr().out
    assert f"--{unit}s was 1 and is 2 now: history and result are those of the whole run" in shown
    assert f"the learning rate is from here on that of a run with --{unit}s=2 from its beginning" in shown
    assert f"going on after {unit} 1 of 2" in shown
    assert result[f"{unit}s"] == 2 and result["seconds"] >= first["seconds"]
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8")) == result
    with open(tmp_path / "run" / "history.csv", encoding="utf-8") as lines:
        assert [row[unit] for row in csv.DictReader(lines)] == ["1", "2"]
    weights, expected = (keras.models.load_model(tmp_path / name / file).get_weights() for name in ("run", "whole"))
    for weight, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(weight, other)
    with pytest.raises(SystemExit, match=rf"error: A run is given as many .* --{unit}s=1 for .* done 2\. Pass --"):
        trains("run", f"--{unit}s=1")
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config[f"{unit}s"] == 2


@pytest.mark.parametrize("before, now, refused", [("a", "b", True), ("a", "a", False), (None, "b", False)])
def test_other_data_in_the_same_place_are_told(tmp_path, before, now, refused):
    training.open_workdir(tmp_path, {"dataset": "set"} | ({"fingerprint": before} if before else {}))
    config = {"dataset": "set", "fingerprint": now}
    if not refused:
        assert training.open_workdir(tmp_path, config) == tmp_path
        return
    with pytest.raises(
        ValueError, match=r"same data from its beginning to its end\. Received: .*\(fingerprint a there"
    ):
        training.open_workdir(tmp_path, config)
    assert workdir.read_json(tmp_path / "config.json")["fingerprint"] == "a"
