"""Photographs: ResNet50 and Prodpoly-ResNet50, Sec. 5.2 of the paper, Table 4 and Fig. 10, and ResNet18 besides.

    python examples/imagenet.py --dataset imagenet2012 --workdir runs/imagenet
    python examples/imagenet.py --dataset sample --workdir runs/imagenet_sample
    python examples/imagenet.py --dataset FOLDER --workdir runs/imagenet --predict cat.jpeg

`--dataset` is a folder train/CLASS/*.jpeg and val/CLASS/*.jpeg, a folder CLASS/*.jpeg, of which a tenth is for
validation, a folder of TFRecords, a name of TensorFlow Datasets, or `sample`, generated pictures. The defaults are the
paper's recipe, for a batch of 1024 on several GPUs. Trains the networks of --networks one after the other and prints
Table 4 with ours beside it (the paper: top-1 errors of 23.570 and 22.875 percent); `errors.png` is Fig. 10. The same
command goes on where it stopped; `--eval_only` tests what was
saved. `--networks resnet18_linear,pinet18,pinet18_1x1` are the networks without activations of the authors' release
(18.35, 63.67 and 65.31 percent of right answers), with its recipe `--epochs 100 --recipe_epochs 100 --batch_size 256
--milestones 30,60,90 --warm_up_epochs 0 --decay_normalization`. What this package reached is in BUILD_NOTES.md.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import itertools
import time
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.data import drawn_shapes, imagenet
from pinets_tf.models import resnet

# As Goyal et al. do, whose warm-up the paper takes, and the release of the authors: each block starts at the identity.
RELU = {"activation": "relu", "order": 1, "zero_residual": True}
RESNET_50 = {**RELU, "block": "bottleneck", "stage_blocks": (3, 4, 6, 3)}
RESNET_18 = {**RELU, "block": "basic", "stage_blocks": (2, 2, 2, 2)}
PINET_18 = {**RESNET_18, "order": 2, "gate": False}
NETWORKS = {
    "resnet50": RESNET_50,
    "prodpoly50": {**RESNET_50, "pooled_rank": 2.5},
    "prodpoly50_tanh": {**RESNET_50, "order": 2, "normalize": "tanh"},
    "resnet18": RESNET_18,
    "pinet18_relu": PINET_18,
    "pinet18_relu_1x1": {**PINET_18, "product_convolution": True},
    "resnet18_linear": {**RESNET_18, "activation": None},
    "pinet18": {**PINET_18, "activation": None},
    "pinet18_1x1": {**PINET_18, "activation": None, "product_convolution": True},
}
# Errors in percent, images/s and megabytes: Table 4, and the release of the authors for the networks of 18 layers.
PAPER = {
    "resnet50": (23.570, 6.838, "8,500", "50.26"),
    "prodpoly50": (22.875, 6.358, "7,500", "68.81"),
    "resnet18": (30.10, 10.57),
    "pinet18_relu": (29.65, 10.57),
    "pinet18_relu_1x1": (28.36, 9.77),
    "resnet18_linear": (81.65, 63.28),
    "pinet18": (36.33, 15.66),
    "pinet18_1x1": (34.69, 14.17),
}
SAMPLE = "sample"
# Of the training images of ImageNet, in grey levels.
MEAN, STANDARD_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

FLAGS = flags.FLAGS
training.define_run_flags(precision="mixed_float16")
script.define_path("dataset", SAMPLE, "sample, a folder of photographs or TFRecords, or a TensorFlow Datasets name.")
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_list("networks", ["resnet50", "prodpoly50"], f"What to train, of {', '.join(NETWORKS)}.")
flags.register_validator("networks", set(NETWORKS).issuperset, f"lists some of {', '.join(NETWORKS)}")
flags.DEFINE_integer("width", 64, "Channels of the first stage; 64 in ResNet50.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Height and width of the crops; the paper: single crops of 224.", lower_bound=32)
flags.DEFINE_integer("resize", 256, "Short side of a validation image before its crop.", lower_bound=32)
flags.DEFINE_float("crop_area", 0.08, "Least share of an image that a training crop shows.", 0.01, 1)
# Sec. 5.2: 0.4 for 1024 images, 0.1 for 256. Goyal et al., whose warm-up the paper takes, let nothing of the batch
# normalisations decay.
training.define_recipe_flags(
    epochs=90,
    batch_size=1024,
    learning_rate=0.1,
    learning_rate_batch=256,
    weight_decay=1e-4,
    decay_normalization=False,
    milestones=(30, 60, 80),
    warm_up_epochs=5,
)


def build(name, classes):
    """Makes one of the networks, which takes raw pixels."""
    variance = tuple(deviation**2 for deviation in STANDARD_DEVIATION)
    return resnet(
        (FLAGS.size, FLAGS.size, 3),
        classes,
        stem="7x7-max",
        width=FLAGS.width,
        preprocessing=keras.layers.Normalization(mean=MEAN, variance=variance),
        name=name,
        **NETWORKS[name],
    )


def load():
    """Finds the photographs of the flags, and says what they are."""
    folder = FLAGS.dataset
    if folder == SAMPLE:
        # Each worker has its own, since they may have no disk in common.
        host = training.hosts()[0]
        folder = Path(FLAGS.workdir) / f"sample{f'-{host}' if host else ''}"
        drawn_shapes.write_sample(folder)
    photographs = imagenet.load(folder, FLAGS.data_dir)
    sizes = f"{photographs.train_size:,} training and {photographs.validation_size:,} validation images"
    script.introduce(f"{FLAGS.dataset}: {sizes}, {photographs.classes} classes", photographs)
    return photographs


def lessons(photographs):
    """Says what the networks learn from and are tested on."""
    options = {"size": FLAGS.size, "area": (FLAGS.crop_area, 1.0), "epochs": FLAGS.epochs, "seed": FLAGS.seed}
    share = training.host_share()
    test = imagenet.validation_batches(photographs, FLAGS.batch_size, size=FLAGS.size, resize=FLAGS.resize)
    return training.Lessons(
        lambda epoch: imagenet.training_batches(
            photographs, FLAGS.batch_size, first_epoch=epoch, share=share, **options
        ),
        lambda: imagenet.steps_per_epoch(photographs, FLAGS.batch_size),
        FLAGS.batch_size,
        validation=imagenet.validation_batches(
            photographs, FLAGS.batch_size, size=FLAGS.size, resize=FLAGS.resize, share=share
        ),
        test=test,
        class_names=photographs.class_names,
        divided=True,
        fingerprint=photographs.fingerprint,
    )


def inference_speed(workdir, batch_size=64, calls=10):
    """Returns the images/s of the saved network on one device."""
    network, _ = training.load_classifier(workdir)
    images = tf.random.uniform((batch_size, FLAGS.size, FLAGS.size, 3), maxval=255)
    run = tf.function(lambda batch: network(batch, training=False))
    run(images).numpy()
    started = time.perf_counter()
    for _ in range(calls):
        scores = run(images)
    scores.numpy()
    return calls * batch_size / (time.perf_counter() - started)


def print_table_4(workdirs):
    """Prints Table 4 of the paper with our numbers of these runs beside it."""
    rows = [["network", "top-1 error", "top-5", "images/s", "MB, float16", "paper: top-1", "top-5", "images/s", "MB"]]
    for name, workdir in workdirs.items():
        (result,) = training.results(workdir)
        errors = [f"{100 * (1 - result[key]):.2f}" if key in result else "" for key in ("accuracy", "top_5")]
        size = f"{2 * result['parameters'] / 1e6:.2f}"
        theirs = [str(number) for number in PAPER.get(name, ())]
        rows.append([name, *errors, f"{inference_speed(workdir):,.0f}", size, *theirs, *[""] * (4 - len(theirs))])
    print("\nTable 4, ours and the paper's (ImageNet, 224 pixels, width 64):")
    training.print_table(rows)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --epochs=60. Received: {argv[1]!r}.")
    training.join_workers()
    workdirs = {name: Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}" for name in FLAGS.networks}
    with training.exit_on_bad_input():
        for workdir in workdirs.values() if FLAGS.predict else ():
            training.print_answers(
                workdir,
                FLAGS.predict,
                lambda file, shape: imagenet.read_image(file, size=shape[0], resize=round(shape[0] * 256 / 224)),
            )
        if FLAGS.predict:
            return
        photographs = load()
    if FLAGS.dataset == SAMPLE:
        training.reduce_for_sample(
            size=64,
            resize=72,
            crop_area=0.6,
            width=8,
            batch_size=16,
            learning_rate=0.32,
            milestones=["70", "85"],
            epochs=10,
            xla="off",
            precision="float32",
        )
    for name, workdir in workdirs.items():
        training.run_classifier(
            workdir,
            lambda: lessons(photographs),
            lambda material, name=name: build(name, photographs.classes),
            title=f"{FLAGS.dataset}: {name}",
            remedy="Pass a lower --learning_rate, a longer --warm_up_epochs or --precision=mixed_bfloat16.",
            facts={"network": name, "seed": FLAGS.seed},
        )
    if not training.is_chief():
        return
    if photographs.skipped:
        print(f"skipped: {len(photographs.skipped):,} files that could not be decoded")
        for file, reason in itertools.islice(photographs.skipped.items(), 10):
            print(f"  {file}: {reason}")
    print_table_4(workdirs)
    histories = {name: workdir / "history.csv" for name, workdir in workdirs.items()}
    columns = ("accuracy", "top_5") if photographs.classes > 5 else ("accuracy",)
    training.draw_curves(histories, Path(FLAGS.workdir) / "errors.png", columns, title=FLAGS.dataset, errors=True)


if __name__ == "__main__":
    script.start()
    app.run(main)
