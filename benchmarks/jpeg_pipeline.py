"""Images per second of the ImageNet training pipeline against decoding alone.

    python benchmarks/jpeg_pipeline.py
    python benchmarks/jpeg_pipeline.py --images imagenet/train

The baseline is `tf.image.decode_and_crop_jpeg` and nothing else: the same files, the same windows, the same decoding at
a half or a quarter where the window is that much larger than 224, as many parallel calls as `tf.data` finds best for
either. Of each crop it keeps one number. The pipeline also draws order and windows, looks at the bytes, mirrors,
resizes to 224x224 and makes float32 batches. `decode and resize` is the baseline with `tf.image.resize` behind it,
batched: what no pipeline of TensorFlow operations can leave out.

Without --images it draws JPEGs of 500x375 pixels and about 110 kB, the mean of ImageNet: noise that falls with
frequency as that of photographs does. A folder of images is read from all files below it that end in jpeg or jpg.

Every timing runs through all images once, the clock starting at the first batch, since a training waits for it once.
Beside the wall time there is the processor time, which other processes on the machine disturb less; where the cores are
the limit both have the same ratio.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from timing import Claim, Ratio, machine, print_table

from pinets_tf.data import imagenet
from pinets_tf.data.encoded_images import Files

SIZE = 224
CLAIM = Claim(">=", 0.90)
DRAWN = 24


def draw(folder, count):
    """Writes `count` JPEGs of 500x375 below `folder`, of `DRAWN` different drawings."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500))
    frequency[0, 0] = np.inf
    drawings = []
    for _ in range(DRAWN):
        spectra = random.normal(size=(4, *frequency.shape)) + 1j * random.normal(size=(4, *frequency.shape))
        waves = np.fft.irfft2(spectra / frequency**1.2, s=(375, 500))
        light, *colours = waves / waves.std((1, 2), keepdims=True)
        pixels = 128 + 45 * light[..., None] + 15 * np.stack(colours, -1) + random.normal(0, 6, (375, 500, 1))
        drawings.append(tf.io.encode_jpeg(np.clip(pixels, 0, 255).astype("uint8"), quality=92).numpy())
    for number in range(count):
        (folder / f"{number:05}.jpeg").write_bytes(drawings[number % DRAWN])


def photographs(paths):
    # Split and classes do not matter here.
    source = Files(np.zeros(len(paths), int), paths=[str(path) for path in paths])
    return imagenet.Photographs(("any",), source, source)


def decoding(data, cache, resize, batch):
    """Returns the baseline as a dataset: the crops of epoch 0, in the order of the pipeline."""
    source = data.training.in_memory() if cache else data.training
    order = [item[0] for item, *_ in source.shuffled(0, tf.constant(0, tf.int64)).take(source.size).as_numpy_iterator()]
    order = tf.constant(order)
    shapes = np.array([tf.image.extract_jpeg_shape(data.training.contents(item))[:2].numpy() for item in order])
    windows = imagenet.random_windows(shapes, 0)
    ratios = 2 ** np.select([windows[:, 2:].min(1) >= side * SIZE for side in (8, 4, 2)], (3, 2, 1), 0)
    levels, windows = tf.constant(np.log2(ratios).astype("int32")), tf.constant(windows // ratios[:, None], tf.int32)

    def decode(n):
        contents = source.read((tf.gather(order, n), 0))[0]

        def scaled(ratio):
            return tf.raw_ops.DecodeAndCropJpeg(
                contents=contents, crop_window=tf.gather(windows, n), channels=3, ratio=ratio
            )

        if (ratios == 1).all():
            image = scaled(1)
        else:
            image = tf.switch_case(levels[n], [lambda ratio=2**level: scaled(ratio) for level in range(4)])
        return tf.ensure_shape(tf.image.resize(image, (SIZE, SIZE)), (SIZE, SIZE, 3)) if resize else image[0, 0, 0]

    dataset = tf.data.Dataset.range(source.size).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch).prefetch(tf.data.AUTOTUNE)


def seconds(dataset):
    """Returns wall time and processor time of a run through `dataset`, for each batch after the first."""
    batches = iter(dataset)
    next(batches)
    started = time.perf_counter(), time.process_time()
    count = sum(1 for _ in batches)
    return (time.perf_counter() - started[0]) / count, (time.process_time() - started[1]) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs")
    parser.add_argument("--count", type=int, default=1024, help="how many images at most")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=15, help="timings of each dataset")
    parser.add_argument("--quick", action="store_true", help="two rounds of 256 images: a smoke test, no measurement")
    arguments = parser.parse_args()
    rounds, count = (2, 256) if arguments.quick else (arguments.rounds, arguments.count)
    if arguments.images and not arguments.images.is_dir():
        parser.error(f"--images takes a folder that exists. Received: {arguments.images}.")

    with tempfile.TemporaryDirectory() as folder:
        if arguments.images is None:
            draw(Path(folder), count)
        paths = sorted(
            path
            for path in (arguments.images or Path(folder)).rglob("*")
            if path.suffix.lower() in (".jpeg", ".jpg") and path.is_file()
        )
        if len(paths) < 2 * arguments.batch:
            parser.error(
                f"At least two batches of {arguments.batch} JPEGs are timed. Received: {len(paths)}. "
                "Pass another --images or a smaller --batch."
            )
        # Whole batches, from all over the folder.
        count = min(count, len(paths)) // arguments.batch * arguments.batch
        data = photographs([paths[n] for n in np.linspace(0, len(paths) - 1, count).astype(int)])
        kilobytes = data.training.bytes() / count / 1000
        datasets = {}
        for where, cache in (("memory", True), ("files", False)):
            datasets["decode", where] = decoding(data, cache, False, arguments.batch)
            datasets["decode and resize", where] = decoding(data, cache, True, arguments.batch)
            datasets["pipeline", where] = imagenet.training_batches(data, arguments.batch, epochs=1, cache=cache)
        for dataset in datasets.values():
            seconds(dataset)
        taken = {key: [] for key in datasets}
        for _ in range(rounds):
            for key, dataset in datasets.items():
                taken[key].append(seconds(dataset))
    rows = []
    for kind, clock in enumerate(("wall time", "processor time")):
        for where in ("memory", "files"):
            for against in ("decode", "decode and resize"):
                pairs = zip(taken[against, where], taken["pipeline", where])
                what = f"pipeline / {against}, from {where}, {clock}"
                rows.append((what, Ratio.of([theirs[kind] / ours[kind] for theirs, ours in pairs]), CLAIM))
    print("images/s, the pipeline over the baseline")
    note = f"{count} images of {kilobytes:.0f} kB to {SIZE}x{SIZE}, batch {arguments.batch}, {rounds} rounds"
    print_table(rows, f"{machine()}; {note}")
    for (name, where), times in taken.items():
        wall, processor = (statistics.median(column) for column in zip(*times))
        rate, microseconds = arguments.batch / wall, processor / arguments.batch * 1e6
        print(f"{name}, from {where}: {rate:,.0f} images/s, {microseconds:.0f} us of processor each")


if __name__ == "__main__":
    main()
