"""Spoken words: ResNet34 and the smaller Prodpoly-ResNet, Sec. 5.2 of the paper, Table 3.

    python examples/speech_commands.py --dataset speech_commands_v0.02 --workdir runs/speech
    python examples/speech_commands.py --dataset sample --workdir runs/speech_sample
    python examples/speech_commands.py --dataset speech_commands_v0.02 --workdir runs/speech --predict yes.wav

`--dataset` is a folder WORD/*.wav of clips of 16 kHz, as Google ships Speech Commands; `speech_commands` of TensorFlow
Datasets; or `sample`, generated sounds. Trains both networks on 32x32 log-mel pictures that the saved model makes of
the waveform itself, and prints Table 3 with ours beside it: the paper has an accuracy of 0.951 for both, with 21.3 and
13.2 million parameters. Another --seed on the same workdir adds to the table. The same command goes on where it
stopped. `--eval_only` tests the saved networks. What this package reached is in BUILD_NOTES.md.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import itertools
import statistics
from pathlib import Path

from absl import app, flags

from pinets_tf import script, training
from pinets_tf.data import speech
from pinets_tf.models import mel_front_end, mel_mean_and_variance, resnet

# Blocks, order and convolutions of the two networks, and what Table 3 says of them: millions of parameters, accuracy.
NETWORKS = {
    "resnet34": {"stage_blocks": (3, 4, 6, 3), "order": 1},
    "prodpoly": {"stage_blocks": (3, 3, 3, 2), "order": 2, "factor_convolution": "identity"},
}
SAMPLE = "sample"
PAPER = {"resnet34": ("21.3", "0.951 ± 0.002"), "prodpoly": ("13.2", "0.951 ± 0.002")}

# The paper gives neither recipe nor augmentation: this is the one of CIFAR-10, with those usual for these clips.
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path("dataset", SAMPLE, "sample, speech_commands (TensorFlow Datasets), or a folder WORD/*.wav.")
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_list("networks", list(NETWORKS), "Which of the two to train: resnet34, prodpoly.")
flags.register_validator("networks", set(NETWORKS).issuperset, f"lists some of {', '.join(NETWORKS)}")
flags.DEFINE_integer("width", 64, "Channels of the first stage; 64 in ResNet34.", lower_bound=1)
flags.DEFINE_bool("gate", True, "Learned scalars on the products that start at zero; the paper mentions none.")
training.define_recipe_flags(
    epochs=120, batch_size=128, learning_rate=0.1, weight_decay=5e-4, milestones=(40, 60, 80, 100)
)
flags.DEFINE_float("time_shift_ms", 100, "Milliseconds by which a training clip is shifted at most.", lower_bound=0)
flags.DEFINE_float("noise_probability", 0.8, "Share of training clips with background noise, if the folder has any.")
flags.DEFINE_float("noise_volume", 0.1, "Largest factor of the background noise.", lower_bound=0)


def build(name, clips, waveforms):
    """Makes one of the networks, from a waveform to logits, with the mean and variance of some training clips."""
    mean, variance = mel_mean_and_variance(mel_front_end(), itertools.islice(waveforms, 10))
    return resnet(
        (speech.SAMPLES,),
        clips.classes,
        activation="relu",
        width=FLAGS.width,
        gate=FLAGS.gate,
        preprocessing=mel_front_end(mean=mean, variance=variance, name="mel_front_end"),
        name=name,
        **NETWORKS[name],
    )


def load():
    """Loads the clips of the flags, and says what they are and which files were left out."""
    folder = FLAGS.dataset
    if folder == SAMPLE:
        folder = Path(FLAGS.workdir) / "sample"
        speech.write_sample(folder)
    clips = speech.load(folder, FLAGS.data_dir)
    sizes = f"{len(clips.train):,} training, {len(clips.validation):,} validation and {len(clips.test):,} test clips"
    script.introduce(f"{FLAGS.dataset}: {sizes}, {clips.classes} words, {len(clips.noise)} recordings of noise", clips)
    if clips.skipped:
        print(f"left out: {len(clips.skipped):,} files")
        for file, reason in itertools.islice(clips.skipped.items(), 10):
            print(f"  {file} {reason}")
    return clips


def lessons(clips):
    """Says what the networks learn from and are tested on."""
    options = {name: FLAGS[name].value for name in ("time_shift_ms", "noise_probability", "noise_volume", "seed")}
    return training.Lessons(
        lambda epoch: speech.training_batches(
            clips, FLAGS.batch_size, epochs=FLAGS.epochs, first_epoch=epoch, **options
        ),
        lambda: speech.steps_per_epoch(clips, FLAGS.batch_size),
        FLAGS.batch_size,
        validation=speech.validation_batches(clips, FLAGS.batch_size),
        test=speech.test_batches(clips, FLAGS.batch_size),
        class_names=clips.class_names,
        unit="clips",
        fingerprint=clips.fingerprint,
    )


def print_table_3(folder):
    """Prints Table 3 of the paper with the mean and the deviation of all finished seeds in the workdir beside it."""
    rows = [["network", "blocks", "parameters, M", "accuracy", "seeds", "paper: parameters, M", "accuracy"]]
    found = training.results(folder)
    for name, options in NETWORKS.items():
        runs = [result for result in found if result["network"] == name]
        if runs:
            accuracies = [result["accuracy"] for result in runs]
            spread = f" ± {statistics.stdev(accuracies):.3f}" if len(runs) > 1 else ""
            parameters, accuracy = f"{runs[0]['parameters'] / 1e6:.3g}", f"{statistics.mean(accuracies):.3f}{spread}"
            rows.append([name, list(options["stage_blocks"]), parameters, accuracy, len(runs), *PAPER[name]])
    print("\nTable 3, ours and the paper's (35 words, width 64):")
    training.print_table(rows)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --epochs=60. Received: {argv[1]!r}.")
    training.join_workers()
    workdirs = {name: Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}" for name in FLAGS.networks}
    with training.exit_on_bad_input():
        for workdir in workdirs.values() if FLAGS.predict else ():
            training.print_answers(workdir, FLAGS.predict, lambda file, shape: speech.read_clip(file))
        if FLAGS.predict:
            return
        clips = load()
    if FLAGS.dataset == SAMPLE:
        training.reduce_for_sample(width=8, epochs=15, batch_size=16, learning_rate=0.02)
    for name, workdir in workdirs.items():
        training.run_classifier(
            workdir,
            lambda: lessons(clips),
            lambda material, name=name: build(name, clips, material.training(0)),
            title=f"{FLAGS.dataset}: {name}",
            remedy="Pass --gate or a lower --learning_rate.",
            facts={"network": name, "seed": FLAGS.seed},
        )
    if not training.is_chief():
        return
    print_table_3(FLAGS.workdir)


if __name__ == "__main__":
    script.start()
    app.run(main)
