"""The example trains, writes what it promises, resumes, and says what is wrong with bad input."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import pinets_tf  # noqa: F401  registers the layers of the saved model
from tests.commands import call, run

TINY = ["--width=4", "--stage_blocks=1,1", "--batch_size=8", "--epochs=2", "--xla=off"]


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (8, 8, 8, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "set.npz", **arrays, y_train=np.arange(8) % 3, y_test=np.arange(8) % 3)
    return tmp_path / "set.npz"


def test_two_steps_and_the_same_command_again(dataset, tmp_path):
    command = ["examples/cifar_linear.py", f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}", *TINY]
    first = run(*command)
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["order"] == 2 and 0 <= result["accuracy"] <= 1 and np.isfinite(result["loss"])
    assert "images/s" in first.stdout and "left" in first.stdout and "XLA off (as asked)" in first.stdout
    files = {path.name for path in (tmp_path / "run").iterdir()}
    expected = {"model.keras", "labels.txt", "config.json", "history.csv", "curves.png", "result.json", "tensorboard"}
    assert files == expected | {"checkpoint.npz", "report.txt", "confusion.png", "lock"}
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in tmp_path.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert network(np.zeros((1, 8, 8, 3), "float32")).shape == (1, 3)
    again = call(*command)
    assert "finished: 2 epochs" in again.stdout
    assert json.loads(again.stdout.splitlines()[-1])["accuracy"] == result["accuracy"]
    tested = call("examples/cifar_linear.py", f"--data={dataset}", f"--workdir={tmp_path / 'run'}", "--eval_only")
    evaluated = json.loads(tested.stdout.splitlines()[-1])
    assert [evaluated[key] for key in ("accuracy", "loss", "order")] == [
        result[key] for key in ("accuracy", "loss", "order")
    ]
    picture = tmp_path / "picture.png"
    picture.write_bytes(tf.io.encode_png(np.full((20, 30, 3), 90, "uint8")).numpy())
    answers = call("examples/cifar_linear.py", f"--workdir={tmp_path / 'run'}", f"--predict={picture}").stdout
    assert answers.splitlines()[0] == f"{picture}, by {tmp_path / 'run'}:"
    assert sorted(line.split()[1] for line in answers.splitlines()[1:]) == ["0", "1", "2"]
    other = call(*command, "--order=3", check=False)
    assert other.returncode != 0 and "order: 2 there, 3 now" in other.stderr


@pytest.mark.long
def test_deterministic_runs_are_the_same(dataset, tmp_path):
    command = ["examples/cifar_linear.py", f"--dataset={dataset}", *TINY[:-1], "--deterministic"]
    for name in ("one", "other"):
        assert "XLA off (as asked)" in run(*command, f"--workdir={tmp_path / name}").stdout
    one, other = (keras.models.load_model(tmp_path / name / "model.keras").get_weights() for name in ("one", "other"))
    for value, expected in zip(one, other):
        np.testing.assert_array_equal(value, expected)
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert config["versions"]["tensorflow"] == tf.__version__ and config["replicas"] == len(config["devices"]) == 1


@pytest.mark.long
def test_mixed_precision_with_xla(dataset, tmp_path):
    options = [*TINY[:-1], "--xla=on", "--precision=mixed_float16", "--order=3", "--activation=relu"]
    options += ["--product_convolution", "--factor_convolution=every", "--initializer=r_polynets"]
    options += ["--label_smoothing=0.1", "--nodecay_normalization", "--warm_up_epochs=20"]
    done = call("examples/cifar_linear.py", f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}", *options)
    assert "XLA on (as asked)" in done.stdout and "mixed_float16" in done.stdout


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dataset=none.npz"], "none.npz"),
        (["--dataset=sample", "--batch_size=6000"], "batch_size=6000 for 5500 training images"),
        (["--dataset=sample", "--order=0"], "`order` must be a positive integer"),
        (["--workdir=/proc/none/run"], "cannot be written to"),
        (["--stage_blocks=1;1"], "Received: --stage_blocks=1;1. Pass for example --stage_blocks=2,2,2,2."),
        (["--epochs=0"], "flag --epochs=0"),
        (["--dataset=sample", "--warm_up_epochs=60"], "The learning rate falls after the warm-up"),
        (["--dataset=sample", "--eval_only"], "A trained network is a folder with model.keras and labels.txt"),
        (["extra"], "Settings are flags"),
    ],
)
def test_bad_input(options, words, tmp_path):
    done = call("examples/cifar_linear.py", f"--workdir={tmp_path / 'run'}", *TINY, *options, check=False)
    assert done.returncode != 0 and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # The right command does not find the folder taken by the wrong one.
    assert not (tmp_path / "run").exists()


def test_divergence_ends_with_a_message(dataset, tmp_path):
    options = [*TINY, "--learning_rate=1e30", "--nogate", "--normalize=none"]
    done = call("examples/cifar_linear.py", f"--dataset={dataset}", f"--workdir={tmp_path}", *options, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ends when its loss or its gradient is not finite. Received: that of step" in done.stderr
    assert "Pass --gate, --normalize=batch, a lower --learning_rate" in done.stderr


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


# What is done to a finished run, and what the same command says then, or `None` if it ends as before.
DAMAGE = {
    "checkpoint": (lambda run: cut(run / "checkpoint.npz", 500), "checkpoint.npz, which cannot be loaded"),
    "configuration": (lambda run: cut(run / "config.json", 20), "config.json, which is none"),
    "array": (lambda run: (run / "config.json").write_text("[]"), "config.json, which is none (it holds a list)"),
    "history": (lambda run: cut(run / "history.csv", -20), "history.csv, which cannot be read"),
    "rollbacks": (lambda run: (run / "rollbacks.json").write_text(""), "rollbacks.json, which is none"),
    "no history": (lambda run: (run / "history.csv").unlink(), None),
    "result": (lambda run: (run / "result.json").write_text(""), None),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    # Where neither the console has the letters of the classes, nor UTF-8 those of the folder.
    folder = tmp_path_factory.mktemp("finished") / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size, classes in (("set", 8, 3), ("large", 9, 3), ("more", 8, 6)):
        arrays = {part: rng.integers(0, 256, (12, size, size, 3)).astype("uint8") for part in ("x_train", "x_test")}
        names = {"class_names": ["猫", "é", "b", "c", "d", "e"][:classes]}
        np.savez(
            folder / f"{name}.npz", **arrays, y_train=np.arange(12) % classes, y_test=np.arange(12) % classes, **names
        )
    command = ["examples/cifar_linear.py", f"--dataset={folder / 'set.npz'}", f"--workdir={folder / 'run'}", *TINY]
    done = run(*command, encoding="ascii")
    assert "\\u732b" in done.stdout and "caf\\udce9/set.npz" in done.stdout
    return folder


def test_names_that_a_console_lacks(finished):
    folder = finished / "run"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "猫\né\nb\n"
    assert "猫" in (folder / "report.txt").read_text(encoding="utf-8")
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["workdir"] == str(folder)
    assert list((folder / "tensorboard").rglob("events.*"))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_told_in_words(finished, tmp_path, kind):
    damage, words = DAMAGE[kind]
    shutil.copytree(finished / "run", tmp_path / "run")
    damage(tmp_path / "run")
    command = ["examples/cifar_linear.py", f"--dataset={finished / 'set.npz'}", f"--workdir={tmp_path / 'run'}", *TINY]
    done = call(*command, check=False)
    assert "Traceback" not in done.stderr
    if words is None:
        assert done.returncode == 0, done.stderr
        result = json.loads((finished / "run" / "result.json").read_text())
        again = json.loads((tmp_path / "run" / "result.json").read_text())
        assert again["accuracy"] == result["accuracy"] and again["order"] == result["order"]
    else:
        assert done.returncode == 1 and "error: " in done.stderr and words in done.stderr


def test_a_test_says_what_was_trained(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    command = ["examples/cifar_linear.py", f"--workdir={tmp_path / 'run'}", "--eval_only"]
    done = call(*command, f"--dataset={finished / 'set.npz'}", "--order=1", "--activation=relu")
    assert json.loads(done.stdout.splitlines()[-1])["order"] == 2
    for name, words in (("large", "images of shape (9, 9, 3) for a network of (8, 8, 3)"), ("more", "6 classes for a")):
        done = call(*command, f"--dataset={finished / f'{name}.npz'}", check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "error: A network is tested on what it was trained for. Received: " + words in done.stderr
