"""Spoken words of one second (Speech Commands): a folder or a name in, `tf.data` batches of waveforms out."""

import dataclasses
import functools
import os
import struct
import unicodedata
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from pinets_tf.data.epochs import full_batches, shuffled
from pinets_tf.data.fingerprints import fingerprint
from pinets_tf.data.splits import hundredth
from pinets_tf.files import expanded, find, shown, subfolders, text_of

SPEECH_COMMANDS = "speech_commands"
NOISE_FOLDER = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SAMPLE_RATE_HZ = 16_000
SAMPLES = SAMPLE_RATE_HZ  # A clip is one second.
WANTED = f"a 16-bit PCM WAV file of {SAMPLE_RATE_HZ:,} samples a second"
# What a WAV file may hold, by the number in its header, and other files that take its name.
FORMATS = {1: "PCM", 2: "ADPCM", 3: "float", 6: "A-law", 7: "mu-law", 17: "ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}
EXTENSIBLE = 0xFFFE  # The number stands further behind.
OTHER_FILES = {
    b"RIFX": "a WAV file of big-endian numbers (RIFX)",
    b"RF64": "a WAV file of more than 4 GB (RF64)",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"FORM": "an AIFF file",
}
# Programs that write to a pipe give sizes from here on, or 0: the sound goes on to the end of the file.
UNKNOWN = 2**31 - 4096
THREADS = 32  # On network disks, a header is a round trip.
MOST_CHUNKS = 100  # Before the sound, and with it.
RIFF, WAVE, FMT, DATA = (int.from_bytes(mark, "little") for mark in (b"RIFF", b"WAVE", b"fmt ", b"data"))


@dataclasses.dataclass(frozen=True)
class Split:
    """Clips, either paths of WAV files or int16 samples of shape (n, 16000), and an int32 label for each."""

    clips: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class SpeechClips:
    """Labelled clips in three splits, noise to mix into those of training, and the files that were left out.

    `skipped` are WAV files that are no clips. `notes` are lines that whoever trains should read first, such as one that
    counts and names the other files that were not read.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    class_names: tuple[str, ...]
    noise: tuple[np.ndarray, ...] = ()  # Recordings of at least a second, float32 in [-1, 1].
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)  # Path in the folder, and why.
    notes: tuple[str, ...] = ()
    folder: Path | None = None  # Where the files are.

    @functools.cached_property
    def fingerprint(self):
        """A short string that differs where names or sizes of the files, samples, labels, words or noise do."""
        return fingerprint(self.class_names, *self.noise, *self._facts())

    def _facts(self):
        for split in (self.train, self.validation, self.test):
            yield split.labels
            if self.folder is None:
                yield split.clips
            else:
                yield [path.removeprefix(f"{self.folder}{os.sep}") for path in split.clips.tolist()]
                with ThreadPoolExecutor(THREADS) as threads:
                    yield list(threads.map(os.path.getsize, split.clips))


def load(dataset, data_dir=None):
    """Finds spoken words in a folder, or loads Speech Commands from TensorFlow Datasets.

    A folder holds WORD/*.wav; each of its folders is a class, except `_background_noise_` and hidden ones, and
    `pinets_tf.files` says which files count. Clips stay on the disk and are read as they are needed, but the header of
    every file is read here. A file that could not be decoded later (damaged, truncated, not 16-bit PCM), or that has
    another sample rate than 16,000 Hz, is left out and named in `skipped`.

    The clips named in `validation_list.txt` and `testing_list.txt` are these splits, as they are listed, one
    WORD/NAME.wav in each line; all others are for training. If a list is missing, a tenth of the speakers makes its
    split instead, chosen by a hash of the name, so that they stay the same when others are added. The speaker is the
    part of the file name before `_nohash_`; a file without it is its own speaker. A speaker in the other list is never
    chosen, and one without whom a class had no clip for training is given back to it.

    Args:
        dataset: the path of a folder, or `"speech_commands"`, which is TensorFlow Datasets' set of twelve classes,
            of which the middle second of each clip is decoded into memory once (32 kB, and as much again in
            `training_batches`; a folder takes none).
        data_dir: the folder of TensorFlow Datasets, or `None` for its default.

    Returns:
        A `SpeechClips`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ImportError: if TensorFlow Datasets is needed and not installed.
        ValueError: if the folder has no classes, a list names clips that do not exist or are in the other list, a
            class has no usable training clip, a split is empty, or TensorFlow Datasets fails.
    """
    return _load_tfds(data_dir) if dataset == SPEECH_COMMANDS else _load_folder(expanded(dataset))


def training_batches(
    clips,
    batch_size,
    *,
    epochs,
    first_epoch=0,
    time_shift_ms=100,
    noise_probability=0.8,
    noise_volume=0.1,
    seed=0,
):
    """Returns shuffled, shifted, noisy batches for epochs `first_epoch` to `epochs`, as one `tf.data.Dataset`.

    Order, shift and noise of each clip depend on `seed` and its place in the run alone, so a run that starts at a later
    epoch sees what an uninterrupted one sees. Every epoch draws a new order; the clips after the last full batch of
    an epoch are left out of that epoch. Short clips are padded with silence at the end, of long ones a random second is
    taken. The mean of several channels is taken.

    Args:
        clips: a `SpeechClips`.
        batch_size: clips in a batch.
        epochs: the number of the last epoch.
        first_epoch: how many epochs to leave out at the start.
        time_shift_ms: each clip is moved earlier or later by up to so many milliseconds, with silence coming in.
        noise_probability: the share of clips into which a random second of `clips.noise` is mixed, if there is any.
        noise_volume: the noise is multiplied with a random number between 0 and this.
        seed: an integer.

    Returns:
        A dataset of pairs of float32 waveforms in [-1, 1] of shape (batch_size, 16000) and int32 labels,
        `steps_per_epoch` batches an epoch.

    Raises:
        ValueError: if there are fewer training clips than `batch_size`, or if shift, probability or volume is negative
            or too large.
    """
    for name, value, most, remedy in (
        ("time_shift_ms", time_shift_ms, 1000, "Pass milliseconds, such as 100."),
        ("noise_probability", noise_probability, 1, "Pass a share of the clips, such as 0.8."),
        ("noise_volume", noise_volume, 1, "Pass a factor, such as 0.1."),
    ):
        if not 0 <= value <= most:
            raise ValueError(f"`{name}` must lie between 0 and {most}. Received: {name}={value}. {remedy}")
    an_epoch = steps_per_epoch(clips, batch_size) * batch_size
    read = _reader(clips.train)
    shift = round(time_shift_ms * SAMPLE_RATE_HZ / 1000)
    # Without noise, a second of silence lets the graph be the same.
    recordings = clips.noise or (np.zeros(SAMPLES, "float32"),)
    lengths = tf.constant([len(recording) for recording in recordings], tf.int64)
    noise, starts = tf.constant(np.concatenate(recordings)), tf.cumsum(lengths, exclusive=True)

    def draw(key, maximum):
        return tf.random.stateless_uniform((), key, maxval=maximum, dtype=tf.int64)

    def clip(number):
        epoch, position = number // an_epoch, number % an_epoch
        position = shuffled(position, seed, epoch, len(clips.train))
        keys = tf.unstack(tf.random.split(tf.stack([seed, number]), 6))
        waveform, label = read(position)
        waveform = waveform[draw(keys[0], tf.maximum(tf.size(waveform, tf.int64) - SAMPLES, 0) + 1) :]
        waveform = tf.pad(_second(waveform), [[shift, shift]])
        first = draw(keys[1], 2 * shift + 1)
        waveform = waveform[first : first + SAMPLES]
        recording = draw(keys[2], len(recordings))
        first = starts[recording] + draw(keys[3], lengths[recording] - SAMPLES + 1)
        volume = tf.random.stateless_uniform((), keys[4], maxval=noise_volume)
        volume = tf.where(tf.random.stateless_uniform((), keys[5]) < noise_probability, volume, 0)
        waveform = tf.clip_by_value(waveform + volume * noise[first : first + SAMPLES], -1, 1)
        return tf.ensure_shape(waveform, (SAMPLES,)), label

    dataset = tf.data.Dataset.range(first_epoch * an_epoch, epochs * an_epoch)
    dataset = dataset.map(clip, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(clips, batch_size):
    """Returns how many full batches an epoch of `training_batches` has."""
    return full_batches(len(clips.train), batch_size, "clips")


def validation_batches(clips, batch_size):
    """Returns all validation clips in their order, float32 waveforms (batch, 16000) in [-1, 1] and int32 labels."""
    return _in_order(clips.validation, batch_size)


def test_batches(clips, batch_size):
    """Returns all test clips in their order, float32 waveforms (batch, 16000) in [-1, 1] and int32 labels."""
    return _in_order(clips.test, batch_size)


def read_clip(path):
    """Returns one file as a float32 waveform of shape (16000,) in [-1, 1], padded at the end or cut to the middle.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no 16-bit PCM WAV file of 16,000 samples a second, or damaged.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"A clip is {WANTED} that exists. Received: {path.name!r}, which is not in "
            f"{shown(path.resolve().parent)}. Pass the path of a .wav file."
        )
    defect = _defect(path)
    if defect:
        raise ValueError(
            f"A clip is {WANTED}. Received: {shown(path)}, which {defect}. "
            "Convert it with an audio program, or copy it again."
        )
    return decode_clip(tf.io.read_file(os.fsencode(path))).numpy()


def decode_clip(contents, *, samples=SAMPLES, sample_rate_hz=SAMPLE_RATE_HZ):
    """Returns what `read_clip` makes of the contents of a file, also in a graph.

    Args:
        contents: a string tensor, the bytes of a 16-bit PCM WAV file.
        samples: the length of the clip that is made.
        sample_rate_hz: the sample rate that the file must have; else the operation fails as with a damaged file, with
            a `tf.errors.InvalidArgumentError`.

    Returns:
        A float32 tensor of shape `(samples,)` in [-1, 1].
    """
    waveform = _waveform(contents, sample_rate_hz)
    return tf.ensure_shape(_middle(waveform, samples), (samples,))


def _load_folder(folder):
    if not folder.is_dir():
        raise FileNotFoundError(
            f"A dataset is a folder of WORD/*.wav that exists, or {SPEECH_COMMANDS!r}. Received: {folder.name!r}, "
            f"which is not a folder in {shown(folder.resolve().parent)}. Pass its path with --dataset."
        )
    words = [name for name in subfolders(folder) if name != NOISE_FOLDER]
    found = find(folder, (".wav",))
    names = [name for name in found.names if _word(name) in words and "/" in name]
    noises = [name for name in found.names if _word(name) == NOISE_FOLDER]
    others = {
        **found.left_out,
        "other files": tuple(name for name in found.left_out.get("other files", ()) if name not in LISTS.values()),
        "in no folder of a word": tuple(name for name in found.names if "/" not in name),
    }
    left_out = dataclasses.replace(found, left_out={reason: those for reason, those in others.items() if those})
    # Where all lie deeper, the words are other folders.
    if all(name.count("/") > 1 for name in names):
        raise ValueError(
            "A dataset is a folder with a folder of .wav files for each word. "
            f"Received: {shown(folder)} with {len(words)} folders and no .wav file in them. "
            f"Pass the folder that holds yes/, no/ and the others.{' ' * bool(left_out.description)}"
            f"{left_out.description}"
        )
    listed = _listed(folder, set(names))
    with ThreadPoolExecutor(THREADS) as threads:
        defects = list(threads.map(lambda name: _defect(folder / name), names + noises))
    skipped = {name: defect for name, defect in zip(names + noises, defects) if defect}
    noise = []
    for name in noises:
        if name not in skipped:
            recording = _decoded(os.fsencode(folder / name)).numpy()
            if len(recording) < SAMPLES:
                skipped[name] = f"is noise of less than a second ({len(recording):,} samples)"
            else:
                noise.append(recording)
    splits = _splits([name for name in names if name not in skipped], listed)
    _check_splits(folder, words, names, splits, skipped)

    def part(split):
        chosen = [name for name in splits if splits[name] == split]
        labels = np.array([words.index(_word(name)) for name in chosen], "int32")
        return Split(np.array([str(folder / name) for name in chosen]), labels)

    train, validation, test = map(part, ("train", "validation", "test"))
    return SpeechClips(
        train,
        validation,
        test,
        classes=len(words),
        class_names=tuple(map(shown, words)),
        noise=tuple(noise),
        skipped={shown(name): defect for name, defect in skipped.items()},
        notes=(left_out.description,) if left_out.description else (),
        folder=folder,
    )


def _check_splits(folder, words, names, splits, skipped):
    """Raises a `ValueError` if a class cannot be learned, or if a split is empty."""
    trained = {_word(name) for name, split in splits.items() if split == "train"}
    for word in words:
        if word not in trained:
            own = [name for name in names if _word(name) == word]
            out = [f"{shown(name)} {skipped[name]}" for name in own if name in skipped]
            raise ValueError(
                "Every class needs at least one usable clip for training. "
                f"Received: {word!r} in {shown(folder)} with {len(own)} .wav files, {len(out)} of them left out"
                f"{f' (such as: {out[0]})' if out else ''} and {len(own) - len(out)} in the lists. "
                f"Add clips ({WANTED} each), shorten the lists, or remove the folder."
            )
    for split, file in LISTS.items():
        if split not in splits.values():
            raise ValueError(
                "Validation and test need at least one clip each. "
                f"Received: {shown(folder)} with {len(splits)} usable clips, none of them for {split}. "
                f"Name some in {file}, or add speakers."
            )


def _listed(folder, names):
    """Returns the clips that each list names, for the lists that exist."""
    # One name may be written in several ways.
    known = {unicodedata.normalize("NFC", text_of(os.fsencode(name))): name for name in names}
    listed = {}
    for split, file in LISTS.items():
        if (folder / file).is_file():
            lines = filter(None, map(str.strip, text_of((folder / file).read_bytes()).splitlines()))
            paths = {PurePosixPath(line.replace("\\", "/")).as_posix() for line in lines}
            members = {unicodedata.normalize("NFC", path) for path in paths}
            missing = sorted(members - known.keys())
            if missing:
                raise ValueError(
                    "A list names clips of its folder, as WORD/NAME.wav. "
                    f"Received: {shown(folder / file)} with {len(missing)} of {len(members)} that it does not have, "
                    f"such as {missing[0]!r}. Copy the missing clips, or remove their lines."
                )
            listed[split] = {known[name] for name in members}
    twice = sorted(set.intersection(*listed.values())) if len(listed) == 2 else []
    if twice:
        raise ValueError(
            f"A clip is in one split. Received: {shown(folder)} with {len(twice)} clips in "
            f"{' and '.join(LISTS.values())}, such as {twice[0]!r}. Remove them from one."
        )
    return listed


def _splits(names, listed):
    """Returns the split of each clip, as `load` describes it."""
    splits = {name: split for split, members in listed.items() for name in members}
    free = [name for name in names if name not in splits]
    known = {_speaker(name) for name in splits}
    # Of a hundred speakers the first ten, or the second, for each list that is missing.
    places = {split: i for i, split in enumerate(LISTS) if split not in listed}
    made: dict[str, str] = {}
    for speaker in {_speaker(name) for name in free} - known:
        place = hundredth(speaker) // 10
        made.update((speaker, split) for split in places if places[split] == place)
    for word in sorted({_word(name) for name in free}):
        speakers = {_speaker(name) for name in free if _word(name) == word}
        if speakers <= made.keys():
            del made[min(speakers)]
    return {name: splits.get(name) or made.get(_speaker(name), "train") for name in names}


def _word(name):
    return name.partition("/")[0]


def _speaker(name):
    before, mark, _ = name.rpartition("/")[2].partition("_nohash_")
    return before if mark else name


def _defect(path):
    """Returns why a file is no clip, or `None`; what it lets through, `_waveform` reads."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"WAVE":
                other = next((words for mark, words in OTHER_FILES.items() if head.startswith(mark)), None)
                return f"is {other}" if other else f"is no WAV file or is truncated ({size:,} bytes)"
            mark, place, form = b"", 12, b""
            for _ in range(MOST_CHUNKS):
                file.seek(place)
                chunk = file.read(8)
                if len(chunk) < 8:
                    return f"has no sound or is truncated ({size:,} bytes)"
                mark, length = struct.unpack("<4sI", chunk)
                place += 8
                if mark == b"data":
                    break
                if mark == b"fmt ":
                    form = file.read(min(length, 26))
                place += length + length % 2
            else:
                return f"has no sound in its first {MOST_CHUNKS} parts"
            if len(form) < 16:
                return "does not say before its sound of which format it is"
            kind, channels, rate, rate_bytes, frame, bits = struct.unpack("<HHIIHH", form[:16])
            if kind == EXTENSIBLE and len(form) == 26:
                (kind,) = struct.unpack("<H", form[24:])
            if (kind, bits) != (1, 16):
                return f"is {bits}-bit {FORMATS.get(kind, f'sound of the format {kind}')} instead of 16-bit PCM"
            if channels < 1 or frame != 2 * channels or rate_bytes != rate * frame:
                return "has a header that contradicts itself"
            if rate != SAMPLE_RATE_HZ:
                return f"has {rate:,} samples a second instead of {SAMPLE_RATE_HZ:,}"
            riff, there = int.from_bytes(head[4:8], "little"), size - place
            if length >= UNKNOWN or (length == 0 and (riff >= UNKNOWN or riff + 8 <= place)):
                length = there - there % frame
            if length > there:
                return f"is truncated: {there:,} of {length:,} bytes of sound"
            if not length:
                return "has no sound"
            return None if length % frame == 0 else "ends within a sample"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _decoded(path):
    """Returns the waveform of a file whose header was checked, of any length."""
    return _waveform(tf.io.read_file(path), SAMPLE_RATE_HZ)


def _waveform(contents, sample_rate_hz):
    """Returns the mean of the channels of the bytes of a WAV file, of any length; what it refuses, `_defect` says why.

    In the place of `tf.audio.decode_wav`, which in TensorFlow 2.21 does not step over the byte behind a chunk of odd
    size, and reads neither other chunks before the format nor WAVE_FORMAT_EXTENSIBLE.
    """
    with tf.device("CPU"):
        octets = tf.io.decode_raw(contents, tf.uint8)
        size = tf.size(octets, tf.int64)
        # Headers that are cut are read all the same.
        padded = tf.pad(octets, [[0, 64]])

        def numbers(place, count, kind):
            found = tf.reshape(padded[place : place + count * kind.size], (count, kind.size))
            return tf.unstack(tf.cast(tf.bitcast(found, kind), tf.int64))

        def go_on(place, form, mark, length):
            return (mark != DATA) & (place + 8 <= size)

        def next_chunk(place, form, mark, length):
            form = tf.where(mark == FMT, place, form)
            place += 8 + length + length % 2
            return place, form, *numbers(tf.minimum(place, size), 2, tf.uint32)

        first, riff, second = numbers(0, 3, tf.uint32)
        start = (tf.constant(12, tf.int64), tf.constant(-1, tf.int64), *numbers(12, 2, tf.uint32))
        place, form, mark, length = tf.while_loop(go_on, next_chunk, start, maximum_iterations=MOST_CHUNKS - 1)
        place += 8
        at = tf.maximum(form, 0)
        (form_length,) = numbers(at + 4, 1, tf.uint32)
        kind, channels, low, high, low_bytes, high_bytes, frame, bits, *_, extended = numbers(at + 8, 13, tf.uint16)
        kind = tf.where((kind == EXTENSIBLE) & (form_length >= 26), extended, kind)
        rate, there = low + 2**16 * high, size - place
        agrees = (channels >= 1) & (frame == 2 * channels) & (low_bytes + 2**16 * high_bytes == rate * frame)
        frame = tf.maximum(frame, 1)
        unknown = (length >= UNKNOWN) | ((length == 0) & ((riff >= UNKNOWN) | (riff + 8 <= place)))
        length = tf.where(unknown, there - there % frame, length)
        reason = tf.constant("")
        for holds, words in reversed(
            [
                ((first == RIFF) & (second == WAVE), "A clip is a WAV file. Received one of another kind"),
                ((mark == DATA) & (there >= 0), "A clip has sound. Received a WAV file without any"),
                ((form >= 0) & (form_length >= 16), "A clip says of which format it is. Received one that does not"),
                ((kind == 1) & (bits == 16), "A clip is 16-bit PCM. Received other sound"),
                (agrees, "A clip is described by its header. Received one that contradicts itself"),
                (rate == sample_rate_hz, f"A clip has {sample_rate_hz:,} samples a second. Received another rate"),
                (length <= there, "A clip is complete. Received one that is truncated"),
                (length > 0, "A clip has sound. Received a WAV file without any"),
                (length % frame == 0, "A clip ends with a sample. Received one that ends within one"),
            ]
        ):
            reason = tf.where(holds, reason, f"{words}. Convert it with an audio program, or copy it again.")
        facts = "Its bytes, format, bits, channels, samples a second:"
        with _required(reason == "", [reason, facts, size, kind, bits, channels, rate]):
            sound = tf.reshape(octets[place : place + length], tf.stack([-1, channels, 2]))
        return tf.reduce_mean(tf.cast(tf.bitcast(sound, tf.int16), tf.float32) / 32768, axis=1)


def _required(condition, words):
    """Returns a scope whose operations are not run, but fail with `words`, unless `condition` holds."""
    checked = tf.debugging.Assert(condition, words)
    return tf.control_dependencies([] if checked is None else [checked])


def _second(waveform, samples=SAMPLES):
    """Returns the first second, or so many samples, padded with silence at the end."""
    waveform = waveform[:samples]
    return tf.pad(waveform, [[0, samples - tf.size(waveform)]])


def _middle(waveform, samples=SAMPLES):
    return _second(waveform[tf.maximum(tf.size(waveform) - samples, 0) // 2 :], samples)


def _reader(split):
    """Returns the function from a position to a waveform of any length and its label, for use in a pipeline."""
    labels = tf.constant(split.labels, tf.int32)
    if split.clips.ndim == 1:
        paths = tf.constant([os.fsencode(path) for path in split.clips])
        return lambda position: (_decoded(paths[position]), labels[position])
    samples = tf.constant(split.clips)
    # As tf.audio.decode_wav scales them.
    return lambda position: (tf.cast(samples[position], tf.float32) / 32768, labels[position])


def _in_order(split, batch_size):
    read = _reader(split)

    def clip(position):
        waveform, label = read(position)
        return tf.ensure_shape(_middle(waveform), (SAMPLES,)), label

    dataset = tf.data.Dataset.range(len(split)).map(clip, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _load_tfds(data_dir):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"The dataset {SPEECH_COMMANDS!r} is read with TensorFlow Datasets. Received: it is not installed. "
            "Install it with: pip install 'pinets_tf[data]'. A folder of WORD/*.wav needs nothing."
        ) from error
    builder = tfds.builder(SPEECH_COMMANDS, data_dir=data_dir and expanded(data_dir))

    def middle(samples, label):
        return _middle(tf.cast(samples, tf.int16)), tf.cast(label, tf.int32)

    parts: list[Split] = []
    try:
        builder.download_and_prepare()
        for split in ("train", "validation", "test"):
            dataset = builder.as_dataset(split=split, as_supervised=True).map(middle, tf.data.AUTOTUNE).batch(1024)
            parts.append(Split(*map(np.concatenate, zip(*tfds.as_numpy(dataset)))))
    except Exception as error:  # Of many classes, those of TensorFlow Datasets, of the network and of the disk.
        raise ValueError(
            "A dataset of TensorFlow Datasets is downloaded, prepared and read, in splits train, validation and test. "
            f"Received: {SPEECH_COMMANDS!r} in {builder.data_dir}, where it failed ({type(error).__name__}: {error}). "
            "Check the network and the space on the disk, pass another --data_dir, or a folder of WORD/*.wav instead."
        ) from error
    names = tuple(builder.info.features["label"].names)
    train, validation, test = parts
    return SpeechClips(train, validation, test, len(names), names)


# Resonances of the vowels in hertz, means of men (Peterson and Barney, 1952), and their widths.
FORMANTS_HZ = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
BANDWIDTHS_HZ = np.array([80.0, 110.0, 160.0])
LOUDNESS = np.array([1.0, 0.6, 0.3])
WORDS = ("ai", "au", "eo", "ia", "ie", "ei", "oe", "ua")
SPEAKERS = 40


def write_sample(folder):
    """Writes a small generated data set in the layout of Speech Commands, and returns its path.

    There are 8 words of two vowels, each also in the other order, so that the mean spectrum does not tell them apart.
    40 speakers say each once; they differ in pitch, length of the vocal tract and speed, and noise is around them.
    A clip is a train of glottal pulses through three resonances that move from the first vowel to the second.
    The files are always the same, free of anyone's rights, and 10 MB.
    """
    folder = expanded(folder)
    rng = np.random.default_rng(0)
    for word in WORDS:
        (folder / word).mkdir(parents=True, exist_ok=True)
    for _ in range(SPEAKERS):
        name = rng.bytes(4).hex()
        pitch_hz = rng.uniform(90, 250)
        tract = rng.uniform(0.9, 1.1) + (pitch_hz - 170) / 1000  # High voices mostly come from short vocal tracts.
        seconds = rng.uniform(0.35, 0.65)
        for word in WORDS:
            clip = _spoken(rng, word, pitch_hz, tract, seconds * rng.uniform(0.9, 1.1))
            _write_wav(folder / word / f"{name}_nohash_0.wav", clip)
    (folder / NOISE_FOLDER).mkdir(exist_ok=True)
    _write_wav(folder / NOISE_FOLDER / "generated.wav", 0.3 * _noise(rng, 10 * SAMPLE_RATE_HZ))
    return folder


def _spoken(rng, word, pitch_hz, tract, seconds):
    count = round(seconds * SAMPLE_RATE_HZ)
    time = np.linspace(0, 1, count)
    pitch = pitch_hz * rng.uniform(0.9, 1.1) * (1 + rng.uniform(-0.2, 0.2) * (time - 0.5))
    phase = np.cumsum(pitch / SAMPLE_RATE_HZ)
    pulses = np.flatnonzero(np.diff(np.floor(phase)))
    vowels = np.array([FORMANTS_HZ[vowel] for vowel in word]) * rng.normal(1, 0.04, (2, 3))
    vowels += rng.uniform(0, 0.3) * (np.array([500, 1500, 2500]) - vowels)  # Spoken carelessly, they are alike.
    second = 1 / (1 + np.exp((rng.uniform(0.4, 0.6) - time[pulses, None]) / rng.uniform(0.03, 0.1)))
    formants_hz = tract * (vowels[0] + second * (vowels[1] - vowels[0]))
    after = np.arange(400) / SAMPLE_RATE_HZ
    decay = np.exp(-np.pi * BANDWIDTHS_HZ * after[:, None])
    responses = np.sin(2 * np.pi * formants_hz[:, None] * after[:, None]) * decay
    strength = np.sin(np.pi * time[pulses]) ** 0.5 * rng.uniform(0.8, 1.2, len(pulses))
    voice = np.zeros(count + 400)
    np.add.at(voice, pulses[:, None] + np.arange(400), strength[:, None] * (responses @ LOUDNESS))
    clip = np.zeros(SAMPLES - rng.integers(0, 1600))  # Real clips, too, are often shorter than a second.
    voice = voice[: len(clip)]
    start = rng.integers(0, len(clip) - len(voice) + 1)
    clip[start : start + len(voice)] = rng.uniform(0.1, 0.6) * voice / np.abs(voice).max()
    return clip + np.std(voice) * 10 ** rng.uniform(-2.2, -1.0) * _noise(rng, len(clip))


def _noise(rng, count):
    """Returns noise whose spectrum falls with a random slope, between white and pink, of standard deviation 1."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** -rng.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, count)
    return noise / noise.std()


def _write_wav(path, waveform):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
