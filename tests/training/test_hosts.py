"""Several processes that train together: equal to one, whole after a loss, and told what is missing."""

import concurrent.futures
import csv
import json
import os
import runpy
import signal
import socket
import sys
import time

import keras
import numpy as np
import pytest

import pinets_tf  # noqa: F401  registers the layers of the saved model
from pinets_tf import launch, training
from pinets_tf.training import cluster
from tests.commands import ROOT
from tests.training import workers

SAMPLES, BATCH, STEPS, EPOCHS = 40, 10, 4, 2


def train(folder, number, normalise=False, stop=(), strategy="auto"):
    """Trains a small polynomial network, and saves the weights that this process ends with."""
    import keras
    import tensorflow as tf

    from pinets_tf.layers import NCP
    from pinets_tf.training.fitting import fit_network
    from pinets_tf.training.runtime import exit_on_lost_worker

    folder.mkdir(parents=True, exist_ok=True)
    strategy = training.set_up(strategy)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(SAMPLES, 5)).astype("float32"), rng.integers(0, 3, SAMPLES).astype("int32")
    weight = (1.0 + y).astype("float32")
    samples = tf.data.Dataset.from_tensor_slices((x, y, weight))
    lessons = training.Lessons(
        lambda epoch: samples.batch(BATCH).repeat(EPOCHS - epoch),
        lambda: STEPS,
        BATCH,
        # The last batch is of one sample.
        validation=samples.take(21).batch(BATCH),
        test=samples.batch(BATCH),
    )
    if number == (stop or (None,))[0]:
        _send_itself(*stop[1:])
    with exit_on_lost_worker(folder), strategy.scope():
        layers = [keras.layers.BatchNormalization(momentum=0.7)] * normalise
        network = keras.Sequential(
            [keras.Input((5,)), *layers, NCP(6, 3, rank=8), keras.layers.Dense(3, kernel_regularizer="l2")]
        )
        fit_network(
            network,
            training.CoupledSGD(0.1, l2=1e-3),
            lessons,
            folder,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            epochs=EPOCHS,
            xla="off",
            columns=["loss"],
            title="tiny",
            remedy="",
        )
        np.savez(folder / f"weights-{number}.npz", *network.get_weights())
        # Found out where workers differ.
        network.weights[0].assign(network.weights[0] + float(number))
        try:
            cluster.check_agreement(network.weights)
            print("agreed")
        except RuntimeError as error:
            print(error, file=sys.stderr)
    training.meet()


def _send_itself(number, step):
    """Sends this process a signal in a step, counted from 0 over all epochs."""
    count = iter(range(100))

    def begin(self, batch, logs=None):
        if next(count) == step:
            os.kill(os.getpid(), number)

    training.Progress.on_train_batch_begin = begin


def run(folder, count, *arguments, expected=0):
    """Trains in `count` processes, and returns what they leave."""
    statuses = workers.wait(workers.start(count, train, folder, *arguments))
    assert statuses == [expected] * count, workers.printed(folder)
    return None if expected else left(folder, count)


def left(folder, count=1):
    """Returns the weights of each process and the rows of the history."""
    weights = []
    for number in range(count):
        with np.load(folder / f"weights-{number}.npz") as stored:
            weights.append([stored[name] for name in stored.files])
    with (folder / "history.csv").open(newline="") as file:
        return weights, list(csv.DictReader(file))


def assert_equal(weights, expected):
    for value, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def assert_same_run(got, expected):
    """Asserts that all workers end with the same bits, and with the weights and the history of another run."""
    for others in got[0][1:]:
        for value, other in zip(others, got[0][0], strict=True):
            np.testing.assert_array_equal(value, other)
    assert_equal(got[0][0], expected[0][0])
    assert len(got[1]) == len(expected[1]) == EPOCHS
    for row, other in zip(got[1], expected[1]):
        for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a process leaves that trains alone."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, 0, strategy="none")
    return left(folder)


def test_workers_equal_one_process(tmp_path, alone):
    # Three workers have 3, 3 and 4 samples of a batch of 10, and two of them none of the last one of validation.
    assert_same_run(run(tmp_path, 3), alone)
    texts = workers.printed(tmp_path)
    assert "epoch 2/2" in texts["out-0"] and "epoch" not in texts["out-1"]
    assert texts["out-1"].startswith("worker 1 of 3 (localhost:")
    assert "agreed" in texts["out-0"]
    assert "All workers end with the same weights. Received: worker 2 with others than worker 0" in texts["err-2"]


@pytest.mark.long
def test_a_signal_to_one_worker_ends_all_and_the_statistics_are_those_of_all(tmp_path):
    run(tmp_path / "run", 2, True, (1, signal.SIGTERM, 1), expected=143)
    assert "the state after step 3 of 4 of epoch 1 is saved" in workers.printed(tmp_path / "run")["out-0"]
    got = run(tmp_path / "run", 2, True)
    # Two replicas of one process see the same halves of each batch.
    train(tmp_path / "replicas", 0, True, strategy="mirrored")
    assert_same_run(got, left(tmp_path / "replicas"))


@pytest.mark.long
def test_a_killed_worker_ends_the_others_and_the_run_goes_on(tmp_path, alone):
    processes = workers.start(2, train, tmp_path / "run", False, (1, signal.SIGKILL, 5))
    assert workers.wait(processes) == [75, -signal.SIGKILL]
    said = workers.printed(tmp_path / "run")["err-0"]
    assert "error: Workers train together until the end. Received: no answer from worker 1" in said
    assert "Start all workers again" in said
    assert_same_run(run(tmp_path / "run", 2), alone)
    assert "going on after epoch 1 of 2" in workers.printed(tmp_path / "run")["out-0"]


def train_as_a_user(folder, number, cpus, name, *flags):
    """Runs a trainer of `examples/` in this process, on so many logical CPUs."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpus)
    script = ROOT / "examples" / f"{name}.py"
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), f"--workdir={folder / 'run'}", *flags]
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.long
@pytest.mark.parametrize("count, cpus, precision", [(1, 2, "float32"), (2, 1, "float32"), (1, 3, "mixed_float16")])
def test_replicas_and_workers_repeat_bit_for_bit(tmp_path, count, cpus, precision):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (70, 8, 8, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "set.npz", **arrays, y_train=np.arange(70) % 3, y_test=np.arange(70) % 3)
    flags = [f"--dataset={tmp_path / 'set.npz'}", "--width=4", "--stage_blocks=1,1", "--batch_size=16", "--epochs=3"]
    flags += ["--deterministic", f"--precision={precision}", "--strategy=auto" if count > 1 else "--strategy=mirrored"]
    outcomes = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        statuses = workers.wait(workers.start(count, train_as_a_user, folder, cpus, "cifar_linear", *flags))
        texts = workers.printed(folder)
        assert statuses == [0] * count, texts
        assert f"repeats bit for bit; another number of replicas than {count * cpus} gives other bits" in texts["out-0"]
        outcomes.append(keras.models.load_model(folder / "run" / "model.keras").get_weights())
    for value, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(value, other)


ADVERSARIES = ["--data=sample", "--steps=2", "--batch_size=4", "--generator_batch_size=4"]
TRAINERS = {
    "cifar_linear": ["--dataset=sample", "--width=2", "--stage_blocks=1,1", "--batch_size=500", "--epochs=1"],
    "imagenet": ["--data=sample", "--width=2", "--size=32", "--resize=36", "--epochs=1", "--networks=pinet18_1x1"],
    "speech_commands": ["--data=sample", "--width=2", "--batch_size=32", "--epochs=1", "--networks=prodpoly"],
    "mesh_autoencoder": ["--dataset=sample", "--widths=4,4", "--latent=3", "--factors=4,2", "--epochs=1"],
    "fashion_mnist_gan": [*ADVERSARIES, "--width=0.03", "--discriminator_width=2", "--log_every=1"],
    "yale_b_gan": [*ADVERSARIES, "--width=0.03", "--discriminator_width=2", "--log_every=1", "--size=32"],
    "sngan_cifar10": [*ADVERSARIES, "--width=4", "--discriminator_width=2", "--networks=prodpoly"],
    "stylegan_mapping": [*ADVERSARIES, "--latent=8", "--base_channels=32", "--max_channels=4", "--size=16"],
}
MORE = {
    "imagenet": ["--batch_size=160", "--precision=float32", "--learning_rate=0.001"],
    "mesh_autoencoder": ["--networks=full_linear", "--batch_size=16"],
    "stylegan_mapping": ["--networks=ncp", "--size_steps=2", "--fade_steps=2", "--mapping_layers=2"],
}


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_on_two_replicas(tmp_path, name):
    flags = [*TRAINERS[name], *MORE.get(name, []), "--strategy=mirrored", "--xla=off"]
    (status,) = workers.wait(workers.start(1, train_as_a_user, tmp_path, 2, name, *flags), seconds=300)
    texts = workers.printed(tmp_path)
    assert status == 0, texts["err-0"][-3000:]
    assert "2 x CPU, MirroredStrategy" in texts["out-0"]
    results = [json.loads(line) for line in texts["out-0"].splitlines() if line.startswith("{")]
    assert results and all(value is not None for value in results[0].values())


def test_a_missing_worker_is_named():
    addresses = [f"localhost:{port}" for port in launch._free_ports(3)]
    words = (
        rf"all its workers can be reached\. Received: no answer from worker 1 \({addresses[1]}\), worker 2 .* within"
    )
    with pytest.raises(TimeoutError, match=words + r" 0.5 s\. Start all of them"):
        cluster.wait_for(addresses, 0, 0.5)


IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", pytest.param("[::1]", marks=IPV6)])
def test_a_worker_reaches_others_and_is_reached(host):
    own, other = launch._free_ports(2)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(cluster.wait_for, [f"{host}:{own}", f"{host}:{other}"], 0, 5)
        deadline = time.monotonic() + 5
        while socket.socket(socket.AF_INET6 if host == "[::1]" else socket.AF_INET).connect_ex((host.strip("[]"), own)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not waiting.done()
        with cluster._listen(other, 1):
            waiting.result(5)


@pytest.mark.parametrize(
    "config, words",
    [
        ("{", r"TF_CONFIG=\{ \("),
        (json.dumps({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}), "tasks of the kinds ps"),
        (json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}), "the task worker 1"),
        (json.dumps({"cluster": {"worker": ["a:1"]}}), r"\('type'\)"),
        (launch.tf_config([8470, 8471], 0), r"\(8470 is no host with a port from 1 to 65535\)"),
        (launch.tf_config(["a:1", "b:99999"], 0), "'b:99999' is no host with"),
        (launch.tf_config(["a:1", "A:01"], 0), "'A:01' is there twice"),
    ],
)
def test_a_wrong_cluster_is_told(config, words, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=rf"TF_CONFIG lists the addresses.*Received: .*{words}.*Pass for example"):
        cluster.workers()


def test_workers_of_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster.workers() == ([], 0) and training.hosts() == (0, 1) and training.is_chief()
    with pytest.raises(
        ValueError, match=r"find each other through TF_CONFIG\. Received: .*0 workers\. Start them with"
    ):
        training.set_up("multi_worker")
    described = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(described))
    assert cluster.workers() == (["a:1", "b:1", "c:1"], 2)


def train_gan(folder, number, strategy="auto", stop=()):
    """Trains two small networks against each other, and saves the weights that this process ends with."""
    import keras
    import tensorflow as tf

    from pinets_tf.training.gan import GanLessons, fit_gan

    folder.mkdir(parents=True, exist_ok=True)
    strategy = training.set_up(strategy)
    real = np.tanh(np.random.default_rng(0).normal(size=(6, 8, 4, 4, 1))).astype("float32")
    if number == (stop or (None,))[0]:
        count, run = iter(range(100)), training.Adversaries.loss_scales

        def scales(self):
            # Asked for at each row of the history.
            if next(count) == stop[2]:
                os.kill(os.getpid(), stop[1])
            return run(self)

        training.Adversaries.loss_scales = scales
    with strategy.scope():
        z = keras.Input((3,))
        x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Dense(16)(z))
        generator = keras.Model(z, keras.layers.Reshape((4, 4, 1))(keras.layers.Activation("tanh")(x)))
        x = keras.Input((4, 4, 1))
        discriminator = keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
        recipe = training.GanRecipe(6, batch_size=4, generator_batch_size=8, discriminator_steps=2)
        optimizers = (keras.optimizers.SGD(0.05, momentum=0.5) for _ in range(2))
        one = training.Adversaries(generator, discriminator, recipe, *optimizers)
        lessons = GanLessons(lambda step: tf.data.Dataset.from_tensor_slices(real).skip(step), lambda: 6)
        intervals = {"log_every": 1, "sample_every": 2, "checkpoint_every": 2, "samples": 4, "xla": "off"}
        fit_gan(one, lessons, folder, draw=draw, **intervals)
        weights = [keras.ops.convert_to_numpy(variable) for part in one.state().values() for variable in part]
        np.savez(folder / f"weights-{number}.npz", *weights)
    training.meet()


def draw(images, path):
    path.write_bytes(images.tobytes())
    return images[0]


@pytest.mark.long
def test_two_workers_train_two_networks(tmp_path):
    assert workers.wait(workers.start(2, train_gan, tmp_path / "run", "auto", (1, signal.SIGTERM, 2))) == [143, 143]
    assert workers.wait(workers.start(2, train_gan, tmp_path / "run")) == [0, 0], workers.printed(tmp_path / "run")
    train_gan(tmp_path / "replicas", 0, "mirrored")
    (first, second), rows = left(tmp_path / "run", 2)
    (expected,), whole = left(tmp_path / "replicas")
    for value, other in zip(second, first, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-7)
    assert_equal(first, expected)
    assert [row["step"] for row in rows] == [row["step"] for row in whole] == list("123456")
    assert (tmp_path / "run" / "generator.keras").exists()


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 3])
def test_the_imagenet_trainer_on_several_workers(tmp_path, count):
    flags = ["--networks=resnet18", "--width=2", "--size=32", "--resize=36", "--epochs=2", "--batch_size=120"]
    script = str(ROOT / "examples" / "imagenet.py")
    command = [launch.sys.executable, script, f"--workdir={tmp_path}", *flags]
    assert launch.run_local(count, command) == 0
    result = json.loads((tmp_path / "resnet18" / "seed-0" / "result.json").read_text())
    assert result["epochs"] == 2 and result["accuracy"] >= 0
    config = json.loads((tmp_path / "resnet18" / "seed-0" / "config.json").read_text())
    assert config["replicas"] == count
