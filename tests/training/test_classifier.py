"""What the classifiers' trainers share: the schedule, the recipe, training, testing and answers."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf import training
from pinets_tf.models import resnet
from pinets_tf.training import fitting


def value(x):
    return float(keras.ops.convert_to_numpy(x))


def test_schedule_rises_and_falls():
    schedule = training.StepSchedule(0.4, [30, 60], 0.1, warm_up_steps=5, warm_up_from=0.1)
    rates = [value(schedule(step)) for step in range(70)]
    np.testing.assert_allclose(rates[:6], np.linspace(0.1, 0.4, 6), rtol=1e-6)
    for step, rate in ((29, 0.4), (30, 0.04), (59, 0.04), (60, 0.004), (69, 0.004)):
        assert rates[step] == pytest.approx(rate, rel=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [value(again(step)) for step in (3, 31)] == [rates[3], rates[31]]
    assert value(training.StepSchedule(0.3)(7)) == pytest.approx(0.3)


def test_schedule_refuses_milestones_in_the_warm_up():
    with pytest.raises(ValueError, match=r"falls after the warm-up\. Received: warm_up_steps=5, milestones=\[3, 9\]"):
        training.StepSchedule(0.1, [3, 9], warm_up_steps=5)


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_variables_without_weight_decay(strategy):
    distribution = training.set_up(strategy)
    with distribution.scope():
        network = resnet((8, 8, 1), 3, stage_blocks=(1,), width=4)
        optimizer = training.CoupledSGD(0.1, l2=0.5)
        exempt = training.normalization_variables(network)
        optimizer.exclude_from_weight_decay(var_list=exempt)
        optimizer.build(network.trainable_variables)
    # Stem, two in the branch, and the one on the product with its gate.
    assert len(exempt) == 2 * 4 + 1 and {v.path.rsplit("/", 1)[1] for v in exempt} == {"gamma", "beta", "gate"}
    before = [keras.ops.convert_to_numpy(variable) for variable in network.trainable_variables]

    def step():
        optimizer.apply_gradients([(tf.zeros_like(v.value), v) for v in network.trainable_variables])

    distribution.run(step)
    kept = {id(variable) for variable in exempt}
    for variable, old in zip(network.trainable_variables, before):
        expected = old if id(variable) in kept else 0.95 * old
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-6)


def test_label_smoothing_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype("float32"), np.array([0, 1, 2, 3, 1, 1])
    shifted = np.log(np.exp(logits).sum(-1, keepdims=True))
    log_p = logits - shifted
    expected = -(0.9 * log_p[np.arange(6), labels] + 0.1 * log_p.mean(-1))
    smoothed = keras.ops.convert_to_numpy(training.crossentropy(0.1)(labels, keras.ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(smoothed, expected, rtol=1e-5)
    plain = value(training.crossentropy(0.0)(labels, logits))
    assert plain == pytest.approx(-log_p[np.arange(6), labels].mean(), rel=1e-5)


@pytest.fixture
def lessons():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 8, 8, 1)).astype("float32"), np.arange(32) % 7
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    return training.Lessons(
        lambda epoch: batches.repeat(3 - epoch),
        lambda: 4,
        8,
        validation=batches,
        test=batches,
        class_names=tuple("abcdefg"),
        unit="things",
    )


def network():
    return resnet((8, 8, 1), 7, stage_blocks=(1,), width=4)


def test_trains_tests_and_answers(lessons, tmp_path, capsys):
    trained = network()
    options = {"epochs": 3, "xla": "off", "label_smoothing": 0.1, "title": "three epochs", "remedy": ""}
    result = training.fit_classifier(trained, training.CoupledSGD(0.05), lessons, tmp_path, **options)
    assert {"accuracy", "top_5", "loss", "parameters", "things_per_second", "epochs", "seconds"} == result.keys()
    files = {"model.keras", "labels.txt", "history.csv", "curves.png", "report.txt", "confusion.png"}
    assert files <= {path.name for path in tmp_path.iterdir()}

    again, names = training.load_classifier(tmp_path)
    assert names == lessons.class_names
    tested = training.evaluate_classifier(again, lessons, tmp_path)
    assert tested == {key: result[key] for key in tested}
    x, y = (np.concatenate(part) for part in zip(*lessons.test.as_numpy_iterator()))
    scores = keras.ops.convert_to_numpy(again(x))
    assert result["accuracy"] == round(float((scores.argmax(-1) == y).mean()), 4)
    top_5 = keras.metrics.SparseTopKCategoricalAccuracy(5)
    top_5.update_state(y, scores)
    assert result["top_5"] == pytest.approx(value(top_5.result()), abs=1e-4)

    capsys.readouterr()
    training.print_answers(tmp_path, ["first"], lambda file, shape: x[0].reshape(shape), count=3)
    lines = capsys.readouterr().out.splitlines()
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(again(x[:1])))[0]
    best = np.argsort(-probabilities)[:3]
    assert lines[0] == f"first, by {tmp_path}:"
    assert lines[1:] == [f"  {probabilities[i]:.3f}  {names[i]}" for i in best]


def test_scores_that_are_not_numbers(lessons, tmp_path, capsys):
    class Overflow(keras.layers.Layer):
        def call(self, x):
            right = keras.ops.one_hot(keras.ops.arange(8) % 7, 7)
            return keras.ops.where(keras.ops.arange(8)[:, None] == 3, np.nan, right)

    first_batch = dataclasses.replace(lessons, test=lessons.test.take(1))
    images = keras.Input((8, 8, 1))
    result = training.evaluate_classifier(keras.Model(images, Overflow()(images)), first_batch, tmp_path)
    assert result["accuracy"] == 7 / 8 and np.isnan(result["loss"])
    assert "scores that are not numbers: in 1 samples" in capsys.readouterr().out
    written = fitting.finish(tmp_path, result)
    assert json.loads(capsys.readouterr().out) == written and written["loss"] is None


def test_results_of_all_runs_below_a_folder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name / "seed-0").mkdir(parents=True)
        (tmp_path / name / "seed-0" / "result.json").write_text(json.dumps({"network": name}))
    assert training.results(tmp_path) == [{"network": "a"}, {"network": "b"}]
    assert training.results(tmp_path / "none") == []


def test_errors_of_a_saved_network(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder with model\.keras and labels\.txt\. Received: .* Train first"):
        training.load_classifier(tmp_path)
    (tmp_path / "labels.txt").write_text("a\n")
    (tmp_path / "model.keras").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"is a model\.keras that loads\. Received: .*copy the file again"):
        training.load_classifier(tmp_path)


def test_table_is_aligned(capsys):
    training.print_table([["name", "n"], ["a", 10], ["longer", 2]])
    assert capsys.readouterr().out == "  name     n\n  a       10\n  longer   2\n"
