"""Image classification without activation functions: Sec. 4.2 of the paper, Fig. 8.

    python examples/cifar_linear.py --dataset cifar10 --order 2 --workdir runs/order2
    python examples/cifar_linear.py --dataset cifar10 --order 1 --workdir runs/linear
    python examples/cifar_linear.py --dataset cifar10 --order 1 --activation relu --workdir runs/relu

Expected at full size (width 64, 120 epochs), from the paper and its poster: 0.391 for order 1, 0.945 for ReLU, 0.907
for a polynomial network without activations. What this package reached, and how long it took, is in BUILD_NOTES.md.
The same command on the same workdir goes on where it stopped. `--dataset sample` needs no download.
"""

import json
import sys
import time

import keras
from absl import app, flags

from pinets_tf import training
from pinets_tf.data import images
from pinets_tf.models import resnet

# The recipe is that of the journal version and of the first author's later code; the paper itself gives none.
FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "sample", "sample, a TensorFlow Datasets name such as cifar10, or the path of an .npz.")
flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets; its own default if not given.")
flags.DEFINE_string("workdir", None, "Folder for everything that the run writes.", required=True)
flags.DEFINE_integer("order", 2, "Order of each residual block; the paper: 2 to 5 (Fig. 8), 1 is a plain residual net.")
flags.DEFINE_enum("activation", "none", ["none", "relu"], "Activation function of the residual network.")
flags.DEFINE_list("stage_blocks", ["2", "2", "2", "2"], "Blocks of each stage; the paper: 1,1,1,1 and 2,2,2,2.")
flags.DEFINE_integer("width", 64, "Channels of the first stage; 64 in ResNet18.", lower_bound=1)
flags.DEFINE_string("normalize", "batch", "Normalisation of the products: batch, layer, instance, tanh or none.")
flags.DEFINE_bool("gate", True, "Learned scalars on the products that start at zero; the paper mentions none.")
flags.DEFINE_integer("epochs", 120, "Epochs.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images in a step, over all replicas.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.1, "Learning rate at the start.", lower_bound=0)
flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.", lower_bound=0)
flags.DEFINE_float("weight_decay", 5e-4, "L2 weight decay, on every trainable variable.", lower_bound=0)
flags.DEFINE_list("milestones", ["40", "60", "80", "100"], "Epochs, of 120, where the rate falls.")
flags.DEFINE_float("decay_factor", 0.1, "What the learning rate is multiplied with at each milestone.", lower_bound=0)
flags.DEFINE_integer(
    "crop_padding", 4, "Random crop: pixels by which a training image is shifted at most.", lower_bound=0
)
flags.DEFINE_bool("flip", True, "Whether half of the training images are mirrored left to right.")
flags.DEFINE_enum("precision", "float32", ["float32", "mixed_float16", "mixed_bfloat16"], "Keras dtype policy.")
flags.DEFINE_enum("strategy", "auto", ["auto", "none", "mirrored"], "Replicas: auto is mirrored with several GPUs.")
flags.DEFINE_enum("xla", "auto", ["auto", "on", "off"], "XLA for each replica; auto measures both.")
flags.DEFINE_integer("seed", 0, "Seed of initial values, order and augmentation.", lower_bound=0)


def numbers(name, kind):
    """Returns the value of a flag that lists numbers."""
    try:
        return tuple(kind(value) for value in FLAGS[name].value)
    except ValueError as error:
        raise ValueError(
            f"--{name} lists numbers with commas between them. Received: --{name}={','.join(FLAGS[name].value)}. "
            f"Pass for example --{name}={','.join(FLAGS[name].default)}."
        ) from error


def build(data):
    """Makes the network of the flags, which takes raw pixels."""
    mean, variance = data.mean_and_variance()
    return resnet(
        data.x_train.shape[1:],
        data.classes,
        stage_blocks=numbers("stage_blocks", int),
        order=FLAGS.order,
        activation=None if FLAGS.activation == "none" else FLAGS.activation,
        width=FLAGS.width,
        normalize=None if FLAGS.normalize == "none" else FLAGS.normalize,
        gate=FLAGS.gate,
        preprocessing=keras.layers.Normalization(mean=mean, variance=variance),
    )


def learning_rate(steps):
    """Returns the step schedule, with the milestones of 120 epochs scaled to the epochs of this run."""
    milestones = [round(epoch * FLAGS.epochs / 120) * steps for epoch in sorted(numbers("milestones", float))]
    rates = [FLAGS.learning_rate * FLAGS.decay_factor**fallen for fallen in range(len(milestones) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(milestones, rates)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --order=2. Received: {argv[1]!r}.")
    config = {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])}
    strategy = training.set_up(FLAGS.strategy, FLAGS.precision, FLAGS.seed)
    with training.exit_on_bad_input(), strategy.scope():
        data = images.load(FLAGS.dataset, FLAGS.data_dir)
        steps = images.steps_per_epoch(data, FLAGS.batch_size)
        network = build(data)
        rate = learning_rate(steps)
        workdir = training.open_workdir(FLAGS.workdir, config, may_differ=("workdir", "data_dir", "strategy", "xla"))
    print(
        f"{FLAGS.dataset}: {len(data.x_train):,} training and {len(data.x_test):,} test images, {data.classes} classes"
    )

    with strategy.scope():
        model = training.ReplicaModel(network)
        model.compile(
            training.CoupledSGD(rate, momentum=FLAGS.momentum, l2=FLAGS.weight_decay),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        checkpoints = training.Checkpoints(workdir, steps)
        first_epoch = checkpoints.restore(model)
    print(f"order {FLAGS.order}, activation {FLAGS.activation}: {network.count_params():,} parameters")
    print(training.describe(strategy, FLAGS.precision))

    options = {"crop_padding": FLAGS.crop_padding, "flip": FLAGS.flip, "seed": FLAGS.seed}
    batches = images.training_batches(data, FLAGS.batch_size, epochs=FLAGS.epochs, first_epoch=first_epoch, **options)
    if first_epoch < FLAGS.epochs:
        share = FLAGS.batch_size // strategy.num_replicas_in_sync
        print(model.resolve_xla(FLAGS.xla, [part[:share] for part in next(iter(batches))]))
    if first_epoch:
        print(f"going on after epoch {first_epoch} of {FLAGS.epochs}")
    started = time.perf_counter()
    with training.exit_on_divergence("Pass --gate, --normalize=batch, a lower --learning_rate or --order."):
        model.fit(
            batches,
            validation_data=images.test_batches(data, FLAGS.batch_size),
            initial_epoch=first_epoch,
            epochs=FLAGS.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 0,
            callbacks=[
                training.Progress(FLAGS.epochs, steps, FLAGS.batch_size),
                checkpoints,
                keras.callbacks.TerminateOnNaN(raise_error=True),
                keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
            ],
        )
    network.save(workdir / "model.keras")
    title = f"{FLAGS.dataset}: order {FLAGS.order}, activation {FLAGS.activation}"
    training.draw_curves({title: checkpoints.history_file}, workdir / "curves.png")
    loss, accuracy = model.evaluate(images.test_batches(data, FLAGS.batch_size), verbose=0)
    result = {
        "accuracy": round(accuracy, 4),
        "loss": round(loss, 4),
        "order": FLAGS.order,
        "activation": FLAGS.activation,
        "parameters": network.count_params(),
        "images_per_second": round(float(checkpoints.history[-1]["images_per_second"]), 1),
        "epochs": FLAGS.epochs,
        "seconds": round(time.perf_counter() - started, 1),
        "workdir": str(workdir),
    }
    training.write_atomically(workdir / "result.json", json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
