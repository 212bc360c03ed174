"""From data to a served answer in three minutes: a network without activation functions on Fashion-MNIST.

    python examples/demo.py

Trains a polynomial network (blocks of order 2, no activation function), the same network made linear (order 1, the
paper's baseline of Sec. 4.2) and the same network with ReLU on 5,500 images that come with the package; compares them
on 1,000 others; exports the polynomial one as a SavedModel and as TFLite and asks both, in fresh processes, for an
answer. Expected: about 0.85 without activations, 0.75 linear, 0.87 with ReLU. Run again, it reuses what is there.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.analysis import degree
from pinets_tf.data import images
from pinets_tf.models import resnet

FLAGS = flags.FLAGS
script.define_workdir("demo_output", "Folder for everything that the demo writes.")
flags.DEFINE_integer("epochs", 8, "Epochs of each of the three networks.", lower_bound=1)
flags.DEFINE_integer("width", 12, "Channels of the first stage.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of initial values and order.", lower_bound=0)

BATCH_SIZE = 50
NETWORKS = {
    "polynomial": {"order": 2, "activation": None},
    "linear": {"order": 1, "activation": None},
    "ReLU": {"order": 1, "activation": "relu"},
}
EXPORT = Path(__file__).resolve().parent.parent / "export"


def build(data, order, activation):
    """Makes one of the three networks, which takes raw pixels."""
    mean, variance = data.mean_and_variance()
    return resnet(
        data.x_train.shape[1:],
        data.classes,
        stage_blocks=(1, 1, 1),
        width=FLAGS.width,
        order=order,
        activation=activation,
        preprocessing=keras.layers.Normalization(mean=mean, variance=variance),
    )


def train(name, data, folder):
    """Trains a network, or loads it if that was done before, and returns it with its row of the table."""
    config = {"network": name, "epochs": FLAGS.epochs, "width": FLAGS.width, "seed": FLAGS.seed}
    with training.exit_on_bad_input():
        workdir = training.open_workdir(folder / name, config)
    training.set_up("none", seed=FLAGS.seed)
    network = build(data, **NETWORKS[name])
    model = training.ReplicaModel(network)
    steps = images.steps_per_epoch(data, BATCH_SIZE)
    rates = keras.optimizers.schedules.CosineDecay(0.05, FLAGS.epochs * steps)
    model.compile(
        training.CoupledSGD(rates, l2=5e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    checkpoints = training.Checkpoints(workdir, steps)
    first = checkpoints.restore(model)
    print(f"\n{name}: {'reusing ' + str(workdir) if first == FLAGS.epochs else f'training {FLAGS.epochs} epochs'}")
    model.fit(
        images.training_batches(data, BATCH_SIZE, epochs=FLAGS.epochs, first_epoch=first, seed=FLAGS.seed),
        validation_data=images.test_batches(data, BATCH_SIZE),
        initial_epoch=first,
        epochs=FLAGS.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 0,
        callbacks=[training.Progress(FLAGS.epochs, steps, BATCH_SIZE), checkpoints],
    )
    if first < FLAGS.epochs or not (workdir / "model.keras").exists():
        network.save(workdir / "model.keras")
    polynomial_degree = str(degree(network) or "none")
    _, accuracy = model.evaluate(images.test_batches(data, BATCH_SIZE), verbose=0)
    speed = float(checkpoints.history[-1]["images_per_second"])
    return network, [name, f"{network.count_params():,}", polynomial_degree, f"{accuracy:.3f}", f"{speed:,.0f}"]


def draw_predictions(network, data, picture):
    """Draws test images with the class that the network names, in red where it is wrong."""
    from matplotlib.figure import Figure

    chosen = np.random.default_rng(0).choice(len(data.x_test), 24, replace=False)
    answers = network.predict(data.x_test[chosen].astype("float32"), verbose=0).argmax(-1)
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    for axes, index, answer in zip(figure.subplots(4, 6).flat, chosen, answers):
        right = answer == data.y_test[index]
        title = data.class_names[answer] + ("" if right else f"\n(is {data.class_names[data.y_test[index]]})")
        axes.imshow(data.x_test[index, ..., 0], cmap="gray")
        axes.set_title(title, fontsize=9, color="black" if right else "red")
        axes.axis("off")
    figure.savefig(picture, dpi=110)


def run(name, *arguments):
    """Runs a script of `export/` in a process of its own and returns what it prints."""
    command, environment = [sys.executable, EXPORT / name, *arguments], {**os.environ, "PYTHONIOENCODING": "utf-8"}
    options = {"encoding": "utf-8", "errors": "replace", "env": environment}
    done = subprocess.run(command, capture_output=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"export/{name} failed:\n{done.stderr}")
    return done.stdout.strip()


def versions(folder):
    """Returns the folders of the exported versions of a network, the last one at the end."""
    return sorted(folder.glob("[0-9]*"), key=lambda version: int(version.name))


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --epochs=2. Received: {argv[1]!r}.")
    folder = Path(FLAGS.workdir)
    data = images.load(images.SAMPLE)
    print(f"Fashion-MNIST sample: {len(data.x_train):,} training images, {len(data.x_test):,} test images")
    trained = {name: train(name, data, folder) for name in NETWORKS}
    print("\nOn the test images:")
    training.print_table(
        [["network", "parameters", "degree", "accuracy", "training images/s"], *(row for _, row in trained.values())]
    )
    draw_predictions(trained["polynomial"][0], data, folder / "predictions.png")
    training.draw_curves({name: folder / name / "history.csv" for name in NETWORKS}, folder / "curves.png")

    print("\nExporting the polynomial network, then asking each export in a fresh process without pinets_tf:")
    keras_file = folder / "polynomial" / "model.keras"
    tflite = {"float32": folder / "polynomial-float32.tflite", "dynamic_int8": folder / "polynomial.tflite"}
    served = folder / "served" / "polynomial"
    progress = keras.utils.Progbar(4, verbose=int(sys.stdout.isatty()), unit_name="process")
    progress.update(0)
    if not versions(served) or versions(served)[-1].stat().st_mtime < keras_file.stat().st_mtime:
        run("saved_model.py", keras_file, "--output", served.parent, "--name", served.name)
        for file in tflite.values():
            file.unlink(missing_ok=True)
    for precision, file in tflite.items():
        progress.add(1)
        if not file.exists():
            run("tflite.py", versions(served)[-1], "--output", file, "--precision", precision)
    progress.add(1)
    np.save(folder / "inputs.npy", data.x_test.astype("float32"))
    checks = run("verify.py", keras_file, versions(served)[-1], *tflite.values(), "--inputs", folder / "inputs.npy")
    progress.add(1)
    for check in map(json.loads, checks.splitlines()):
        logits = np.array(check["first_outputs"])
        probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        answer = f"{data.class_names[logits.argmax()]} ({probability.max():.0%})"
        found = f"largest difference to Keras {check['largest_difference']:.1e} in the class scores"
        if check["judged_by"] == "agreement":
            found = f"in eight bits, the answer of Keras for {check['same_answer']:.1%} of the images"
        print(f"  {check['export']}: {found}")
        print(f"    first test image, labelled {data.class_names[data.y_test[0]]}: the answer is {answer}")
    print(f"\nPictures: {folder / 'predictions.png'}, {folder / 'curves.png'}")
    print("Next: python examples/cifar_linear.py --help, or an answer over REST and gRPC: export/serving/README.md")


if __name__ == "__main__":
    script.start()
    app.run(main)
