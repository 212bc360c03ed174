"""Speech Commands: which clip is in which split, what a batch holds, and what bad files say."""

import os
import struct
import wave

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pinets_tf.data import speech


def wav(samples=16_000, rate=16_000, channels=1, value=None, seed=0):
    """Returns the bytes of a WAV file of noise, or of one value."""
    rng = np.random.default_rng(seed)
    sound = rng.integers(-20_000, 20_000, samples * channels) if value is None else np.full(samples * channels, value)
    return riff(sound.astype("<i2").tobytes(), rate=rate, channels=channels)


def riff(sound, *, kind=1, channels=1, rate=16_000, bits=16, frame=None, extra=b"", between=b"", after=b"", size=None):
    frame = channels * bits // 8 if frame is None else frame
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + between
    chunks += b"data" + struct.pack("<I", len(sound) if size is None else size) + sound + after
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def folder(tmp_path, files=None, *, words=("no", "yes"), speakers=40, clips=1):
    """Writes a small set, and further files with their contents."""
    for word in words:
        for speaker in range(speakers):
            for clip in range(clips):
                put(tmp_path / word / f"s{speaker}_nohash_{clip}.wav", wav(200, seed=speaker))
    for name, content in (files or {}).items():
        put(tmp_path / name, content.encode() if isinstance(content, str) else content)
    return tmp_path


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names(split):
    """Returns the clips of a split as WORD/NAME.wav."""
    return ["/".join(path.split(os.sep)[-2:]) for path in split.clips]


def speakers(split):
    return {name.split("/")[1].split("_nohash_")[0] for name in names(split)}


def collected(dataset):
    return [np.concatenate(parts) for parts in zip(*((x.numpy(), y.numpy()) for x, y in dataset))]


def in_memory(waveforms, noise=(), **splits):
    """Returns clips whose label is their number, from int16 arrays of a second."""
    waveforms = np.asarray(waveforms, "int16")
    split = speech.Split(waveforms, np.arange(len(waveforms), dtype="int32"))
    return speech.SpeechClips(split, split, split, len(waveforms), (), tuple(noise))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return speech.write_sample(tmp_path_factory.mktemp("speech") / "sample")


def test_split_by_speaker(tmp_path):
    clips = speech.load(folder(tmp_path, speakers=200, clips=2))
    splits = [clips.train, clips.validation, clips.test]
    assert clips.classes == 2 and clips.class_names == ("no", "yes") and not clips.skipped and not clips.noise
    assert sorted(name for split in splits for name in names(split)) == sorted(
        f"{word}/s{speaker}_nohash_{clip}.wav" for word in ("no", "yes") for speaker in range(200) for clip in range(2)
    )
    train, validation, test = map(speakers, splits)
    assert not train & validation and not train & test and not validation & test
    assert 10 <= len(validation) <= 30 and 10 <= len(test) <= 30
    for split in splits:
        assert [clips.class_names[label] for label in split.labels] == [name.split("/")[0] for name in names(split)]


def test_speakers_stay_in_their_split_when_others_come(tmp_path):
    few = speech.load(folder(tmp_path, speakers=40))
    many = speech.load(folder(tmp_path, speakers=80))
    for split in ("train", "validation", "test"):
        assert set(names(getattr(few, split))) < set(names(getattr(many, split)))


def test_a_file_without_speaker_is_its_own(tmp_path):
    for clip in range(100):
        put(tmp_path / "no" / f"{clip}.wav", wav(20))
        put(tmp_path / "yes" / f"{clip}.wav", wav(20))
    clips = speech.load(tmp_path)
    assert 5 <= len(clips.validation) <= 35 and 5 <= len(clips.test) <= 35
    word_free = [{name.split("/")[1] for name in names(clips.test) if name.startswith(word)} for word in ("no", "yes")]
    assert word_free[0] != word_free[1]


def test_both_lists(tmp_path):
    lists = {
        "validation_list.txt": "no/s0_nohash_0.wav\n\nyes/s1_nohash_0.wav \n",
        "testing_list.txt": "\ufeffyes/s0_nohash_0.wav\r\n",
    }
    clips = speech.load(folder(tmp_path, lists, speakers=4))
    assert names(clips.validation) == ["no/s0_nohash_0.wav", "yes/s1_nohash_0.wav"]
    assert names(clips.test) == ["yes/s0_nohash_0.wav"]
    assert len(clips.train) == 5


@pytest.mark.parametrize("listed, made", [("validation", "test"), ("test", "validation")])
def test_one_list(tmp_path, listed, made):
    # Of every listed speaker one clip is not on the list.
    on_list = [f"no/s{speaker}_nohash_0.wav" for speaker in range(60)]
    file = {"validation": "validation_list.txt", "test": "testing_list.txt"}[listed]
    clips = speech.load(folder(tmp_path, {file: "\n".join(on_list)}, speakers=120, clips=2))
    assert sorted(names(getattr(clips, listed))) == sorted(on_list)
    chosen, train = speakers(getattr(clips, made)), speakers(clips.train)
    assert 2 <= len(chosen) <= 15 and chosen <= {f"s{speaker}" for speaker in range(60, 120)}
    assert not chosen & train and {f"s{speaker}" for speaker in range(60)} <= train


def test_the_last_speaker_of_a_class_is_for_training(tmp_path):
    first = speech.load(folder(tmp_path, speakers=60))
    away = sorted(speakers(first.validation) | speakers(first.test))
    for speaker in away[:2]:
        put(tmp_path / "rare" / f"{speaker}_nohash_0.wav", wav(20))
    clips = speech.load(tmp_path)
    assert clips.class_names == ("no", "rare", "yes") and names(clips.train).count(f"rare/{away[0]}_nohash_0.wav") == 1
    assert not speakers(clips.train) & (speakers(clips.validation) | speakers(clips.test))
    assert speakers(clips.train) == speakers(first.train) | {away[0]}


def test_an_epoch_has_every_clip_once_and_a_new_order():
    clips = in_memory(np.arange(20)[:, None] * np.ones(16_000))
    labels = [y.numpy() for _, y in speech.training_batches(clips, 5, epochs=2)]
    epochs = [np.concatenate(labels[:4]), np.concatenate(labels[4:])]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_no_epoch_is_nearly_sorted():
    clips = in_memory(np.arange(256)[:, None] * np.ones(16_000))
    for epoch in (0, 12, 268):
        _, y = collected(speech.training_batches(clips, 256, epochs=epoch + 1, first_epoch=epoch))
        assert abs(np.corrcoef(y, np.arange(256))[0, 1]) < 0.25


def test_labels_go_with_their_clips():
    clips = in_memory(1000 * np.arange(1, 21)[:, None] * np.ones(16_000))
    for x, y in speech.training_batches(clips, 7, epochs=2):
        assert x.shape == (7, 16_000) and x.dtype == tf.float32 and y.dtype == tf.int32
        np.testing.assert_array_equal(x.numpy().max(1), 1000 * (y.numpy() + 1) / 32768)


def test_a_later_start_sees_what_an_uninterrupted_run_sees(sample):
    clips, options = speech.load(sample), {"epochs": 3, "seed": 5}
    whole = list(speech.training_batches(clips, 100, **options))
    late = list(speech.training_batches(clips, 100, first_epoch=2, **options))
    assert len(whole) == 6 and len(late) == 2
    for (x, y), (x_late, y_late) in zip(whole[4:], late):
        np.testing.assert_array_equal(x, x_late)
        np.testing.assert_array_equal(y, y_late)


def test_seeds_differ(sample):
    clips = speech.load(sample)
    (x, y), (x_other, y_other) = (
        next(iter(speech.training_batches(clips, 256, epochs=1, seed=seed))) for seed in (0, 1)
    )
    assert not np.array_equal(y, y_other) and not np.array_equal(np.sort(x[:, 0]), np.sort(x_other[:, 0]))


def test_shift():
    ramp = np.arange(1, 16_001)
    clips = in_memory(np.tile(ramp, (50, 1)))
    x, _ = collected(speech.training_batches(clips, 50, epochs=6, time_shift_ms=5))
    shifts = []
    for row in np.round(x * 32768).astype(int):
        middle = row[8000] - ramp[8000]  # Positive: the clip came earlier.
        shifts.append(middle)
        padded = np.pad(ramp, 80)
        np.testing.assert_array_equal(row, padded[80 + middle : 80 + middle + 16_000])
    assert min(shifts) == -80 and max(shifts) == 80 and abs(np.mean(shifts)) < 10
    still, _ = collected(speech.training_batches(clips, 50, epochs=1, time_shift_ms=0))
    np.testing.assert_array_equal(still[0], ramp / 32768)
    gone, _ = collected(speech.training_batches(clips, 50, epochs=1, time_shift_ms=1000))
    assert gone.shape == (50, 16_000)


def test_noise():
    recordings = [np.full(16_000, 0.5, "float32"), np.linspace(0.6, 0.7, 20_000, dtype="float32")]
    clips = in_memory(np.zeros((100, 16_000)), recordings)
    x, _ = collected(speech.training_batches(clips, 100, epochs=5, noise_probability=0.6, noise_volume=0.4))
    loud = x[x.any(1)]
    assert 0.52 < len(loud) / len(x) < 0.68
    flat = loud[np.ptp(loud, 1) == 0]
    assert 0.35 < len(flat) / len(loud) < 0.65
    volumes = flat[:, 0] / 0.5
    assert 0 < volumes.min() < 0.03 and 0.37 < volumes.max() <= 0.4
    # Where a second of the other recording starts: its first sample beside the slope.
    rising = loud[np.ptp(loud, 1) > 0]
    slopes = (rising[:, -1] - rising[:, 0]) / 15_999
    starts = rising[:, 0] / slopes - 0.6 * 19_999 / 0.1
    assert -30 < starts.min() < 400 and 3600 < starts.max() < 4030
    for settings in ({"noise_probability": 0.0}, {"noise_volume": 0}):
        silent, _ = collected(speech.training_batches(clips, 100, epochs=1, **settings))
        assert not silent.any()
    always, _ = collected(speech.training_batches(clips, 100, epochs=1, noise_probability=1))
    assert always.any(1).all()


def test_noise_is_clipped():
    clips = in_memory(np.full((20, 16_000), 32_767), [np.ones(16_000, "float32")])
    x, _ = collected(speech.training_batches(clips, 20, epochs=1, time_shift_ms=0, noise_probability=1.0))
    assert (x == 1).all()


def test_length_and_channels(tmp_path):
    stereo = np.stack([np.arange(16_000), np.arange(16_000) + 100], 1).astype("<i2").tobytes()
    ramp = np.arange(24_000).astype("<i2").tobytes()
    files = {
        "a/short.wav": wav(5, value=7),
        "b/long.wav": riff(ramp),
        "a/stereo.wav": riff(stereo, channels=2),
        "validation_list.txt": "a/short.wav\nb/long.wav\na/stereo.wav\n",
        "testing_list.txt": "b/s0_nohash_0.wav",
    }
    clips = speech.load(folder(tmp_path, files, words=("a", "b"), speakers=2))
    (x, y), order = collected(speech.validation_batches(clips, 2)), names(clips.validation)
    assert order == ["a/short.wav", "a/stereo.wav", "b/long.wav"] and list(y) == [0, 0, 1]
    x = np.round(x * 32768, 3)
    np.testing.assert_array_equal(x[0], np.pad(np.full(5, 7), (0, 15_995)))
    np.testing.assert_array_equal(x[1], np.arange(16_000) + 50)
    np.testing.assert_array_equal(x[2], np.arange(4000, 20_000))
    for name, row in zip(order, x):
        clip = speech.read_clip(tmp_path / name)
        assert clip.shape == (16_000,) and clip.dtype == np.float32
        np.testing.assert_array_equal(np.round(clip * 32768, 3), row)


def test_training_takes_a_random_second_of_long_clips(tmp_path):
    ramp = riff(np.arange(20_000).astype("<i2").tobytes())
    for clip in range(60):
        put(tmp_path / "a" / f"{clip}.wav", ramp)
    clips = speech.load(tmp_path)
    x, _ = collected(speech.training_batches(clips, 40, epochs=4, time_shift_ms=0))
    starts = np.round(x[:, 0] * 32768).astype(int)
    assert 0 <= starts.min() < 300 and 3700 < starts.max() <= 4000
    np.testing.assert_array_equal(np.round(x * 32768) - starts[:, None], np.tile(np.arange(16_000), (len(x), 1)))


def test_batches_in_order_are_complete(sample):
    clips = speech.load(sample)
    for batches, split in ((speech.validation_batches, clips.validation), (speech.test_batches, clips.test)):
        x, y = collected(batches(clips, 7))
        np.testing.assert_array_equal(y, split.labels)
        np.testing.assert_array_equal(x[-1], speech.read_clip(split.clips[-1]))
        assert x.shape == (len(split), 16_000) and x.dtype == np.float32 and y.dtype == np.int32


def test_background_noise(tmp_path):
    files = {
        "_background_noise_/hum.wav": wav(30_000, value=3),
        "_background_noise_/click.wav": wav(100),
        "_background_noise_/torn.wav": wav(20_000)[:9000],
    }
    clips = speech.load(folder(tmp_path, files))
    assert clips.class_names == ("no", "yes") and [len(recording) for recording in clips.noise] == [30_000]
    np.testing.assert_array_equal(clips.noise[0], np.float32(3 / 32768))
    assert clips.skipped == {
        "_background_noise_/click.wav": "is noise of less than a second (100 samples)",
        "_background_noise_/torn.wav": "is truncated: 8,956 of 40,000 bytes of sound",
    }


SOUND = np.arange(-50, 50, dtype="<i2").tobytes()


def chunk(mark, content=b""):
    return mark + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def of_sizes(content, riff, data):
    """Returns the bytes of a WAV file with the sizes that a program writes where it does not know them yet."""
    place = content.index(b"data") + 4
    content = content[:place] + struct.pack("<I", data) + content[place + 4 :]
    return content[:4] + struct.pack("<I", riff) + content[8:]


def before(content, *chunks):
    """Returns the bytes of a WAV file with other chunks before its format."""
    return content[:12] + b"".join(chunks) + content[12:]


EXTENSIBLE = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
INFO = b"INFOISFT\x05\0\0\0Lavf\0"
GOOD_FILES = {
    "plain": riff(SOUND),
    "odd": riff(SOUND, between=chunk(b"LIST", INFO)),
    "first": before(riff(SOUND), chunk(b"JUNK", bytes(28)), chunk(b"bext", bytes(603))),
    "behind": riff(SOUND, after=chunk(b"LIST", INFO) + chunk(b"id3 ", b"ID3\3")),
    "fact": riff(SOUND, extra=b"\0\0", between=chunk(b"fact", struct.pack("<I", 100))),
    "extensible": riff(SOUND, kind=0xFFFE, extra=EXTENSIBLE),
    "tail": riff(SOUND, after=b"xyz"),
    "pipe_of_ffmpeg": of_sizes(riff(SOUND, between=chunk(b"LIST", INFO)), 2**32 - 1, 2**32 - 1),
    "pipe_of_sox": of_sizes(riff(SOUND), 0x7FFFF024, 0x7FFFF000),
    "pipe_of_arecord": of_sizes(riff(SOUND), 2**31 + 36, 2**31),
    "pipe_of_python": of_sizes(riff(SOUND), 36, 0),
    "unfinished": of_sizes(riff(SOUND), 0, 0),
    "unfinished_sample": of_sizes(riff(SOUND + b"x"), 0, 0),
    "upper_case": riff(SOUND),
}


def test_every_way_to_write_a_clip(tmp_path):
    expected = np.pad(np.arange(-50, 50), (0, 15_900)) / np.float32(32768)
    files = {f"no/{name}.{'WAV' if name == 'upper_case' else 'wav'}": GOOD_FILES[name] for name in GOOD_FILES}
    clips = speech.load(folder(tmp_path, {**files, "validation_list.txt": "\n".join(files)}))
    assert not clips.skipped and names(clips.validation) == sorted(files)
    for x in collected(speech.validation_batches(clips, 5))[0]:
        np.testing.assert_array_equal(x, expected)
    decode = tf.function(speech.decode_clip, input_signature=[tf.TensorSpec((), tf.string)])
    for name, content in files.items():
        np.testing.assert_array_equal(speech.read_clip(tmp_path / name), expected)
        np.testing.assert_array_equal(decode(content), expected)


# What each file is refused with, and what a graph says of its bytes.
CONTRADICTS = ("has a header that contradicts itself", "Received one that contradicts itself")
NO_SOUND = "Received a WAV file without any"
BAD_FILES = {
    "empty": (b"", "is no WAV file or is truncated (0 bytes)", "one of another kind"),
    "text": (b"not found " * 20, "is no WAV file or is truncated (200 bytes)", "one of another kind"),
    "avi": (b"RIFF" + bytes(4) + b"AVI " + bytes(50), "is no WAV file or is truncated (62 bytes)", "of another kind"),
    "rifx": (b"RIFX" + wav()[4:], "is a WAV file of big-endian numbers (RIFX)", "of another kind"),
    "rf64": (b"RF64" + wav()[4:], "is a WAV file of more than 4 GB (RF64)", "of another kind"),
    "flac": (b"fLaC" + bytes(99), "is a FLAC file", "of another kind"),
    "mp3": (b"ID3\4" + bytes(99), "is an MP3 file", "of another kind"),
    "ogg": (b"OggS" + bytes(99), "is an Ogg file", "of another kind"),
    "aiff": (b"FORM" + bytes(99), "is an AIFF file", "of another kind"),
    "cut_header": (wav()[:30], "has no sound or is truncated (30 bytes)", NO_SOUND),
    "cut_chunk": (wav()[:40], "has no sound or is truncated (40 bytes)", NO_SOUND),
    "cut_sound": (wav()[:-1], "is truncated: 31,999 of 32,000 bytes of sound", "Received one that is truncated"),
    "without_sound": (wav(0), "has no sound", NO_SOUND),
    "without_data": (wav()[:36], "has no sound or is truncated (36 bytes)", NO_SOUND),
    "unfinished": (of_sizes(wav(0), 0, 0), "has no sound", NO_SOUND),
    "huge_chunk": (riff(SOUND, between=b"LIST" + b"\xff" * 4), "has no sound or is truncated (252 bytes)", NO_SOUND),
    "many_chunks": (riff(SOUND, between=chunk(b"JUNK") * 99), "has no sound in its first 100 parts", NO_SOUND),
    "empty_data": (riff(b"", after=chunk(b"LIST", INFO)), "has no sound", NO_SOUND),
    "half_sample": (riff(b"\0" * 101), "ends within a sample", "Received one that ends within one"),
    "without_format": (
        b"RIFF\0\0\0\0WAVE" + chunk(b"data", SOUND),
        "does not say before its sound of which format it is",
        "A clip says of which format it is. Received one that does not",
    ),
    "bits_8": (riff(b"\0" * 100, bits=8), "is 8-bit PCM instead of 16-bit PCM", "other sound"),
    "bits_24": (riff(b"\0" * 99, bits=24), "is 24-bit PCM instead of 16-bit PCM", "other sound"),
    "bits_32": (riff(b"\0" * 100, bits=32), "is 32-bit PCM instead of 16-bit PCM", "other sound"),
    "float": (riff(b"\0" * 100, kind=3, bits=32), "is 32-bit float instead of 16-bit PCM", "other sound"),
    "a_law": (riff(b"\0" * 100, kind=6, bits=8), "is 8-bit A-law instead of 16-bit PCM", "other sound"),
    "mu_law": (riff(b"\0" * 100, kind=7, bits=8), "is 8-bit mu-law instead of 16-bit PCM", "other sound"),
    "adpcm": (riff(b"\0" * 100, kind=17, bits=4), "is 4-bit ADPCM instead of 16-bit PCM", "other sound"),
    "unknown": (riff(SOUND, kind=999), "is 16-bit sound of the format 999 instead of 16-bit PCM", "other sound"),
    "extended": (
        riff(b"\0" * 100, kind=0xFFFE, bits=32, extra=EXTENSIBLE.replace(b"\1\0\0", b"\3\0\0", 1)),
        "is 32-bit float instead of 16-bit PCM",
        "other sound",
    ),
    "frame": (riff(b"\0" * 100, frame=3), *CONTRADICTS),
    "no_channels": (riff(b"\0" * 100, channels=0), *CONTRADICTS),
    "rate": (wav(100, rate=44_100), "has 44,100 samples a second instead of 16,000", "Received another rate"),
}


def test_bad_files_are_named_and_left_out(tmp_path):
    bad = {f"no/{name}.wav": content for name, (content, *_) in BAD_FILES.items()}
    clips = speech.load(folder(tmp_path, {**bad, "validation_list.txt": "no/rate.wav\nyes/s0_nohash_0.wav"}))
    assert clips.skipped == {f"no/{name}.wav": reason for name, (_, reason, _) in BAD_FILES.items()}
    found = [name for split in (clips.train, clips.validation, clips.test) for name in names(split)]
    assert len(found) == 80 and not set(found) & clips.skipped.keys()
    assert names(clips.validation) == ["yes/s0_nohash_0.wav"]
    decode = tf.function(speech.decode_clip, input_signature=[tf.TensorSpec((), tf.string)])
    for name, (content, reason, words) in BAD_FILES.items():
        with pytest.raises(tf.errors.InvalidArgumentError) as refused:
            decode(content)
        assert words in str(refused.value) and "or copy it again" in str(refused.value)
        with pytest.raises(ValueError) as caught:
            speech.read_clip(tmp_path / "no" / f"{name}.wav")
        for words in (
            "A clip is a 16-bit PCM WAV file of 16,000 samples",
            f"{name}.wav, which {reason}.",
            "Convert it",
        ):
            assert words in str(caught.value)


def test_unreadable_file(tmp_path, monkeypatch):
    folder(tmp_path)
    opened = open

    def refuse(path, *arguments):
        if str(path).endswith("s0_nohash_0.wav"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(speech, "open", refuse, raising=False)
    denied = "cannot be read (Permission denied)"
    assert speech.load(tmp_path).skipped == {"no/s0_nohash_0.wav": denied, "yes/s0_nohash_0.wav": denied}


def test_what_is_accepted_can_be_decoded(tmp_path):
    """Damages files at random; those whose header passes, and no others, are decoded in the middle of an epoch."""
    decode = tf.function(speech.decode_clip, input_signature=[tf.TensorSpec((), tf.string)])
    rng = np.random.default_rng(0)
    kinds = [
        wav(50),
        wav(30, channels=2),
        riff(b"\1" * 60, extra=b"\0\0", between=chunk(b"LIST", b"abc"), after=b"note\2\0\0\0ab"),
        before(riff(SOUND, kind=0xFFFE, extra=EXTENSIBLE), chunk(b"JUNK", bytes(4))),
    ]
    damaged = {}
    for number in range(1000):
        content = bytearray(kinds[rng.integers(len(kinds))])
        for _ in range(rng.integers(0, 3)):
            content[rng.integers(0, 64)] = rng.choice([0, 1, 2, 16, 18, 0x7F, 0x80, 0xFF])
        if rng.random() < 0.3:
            content = content[: rng.integers(0, len(content) + 1)]
        if rng.random() < 0.2:
            content += rng.bytes(rng.integers(0, 12))
        damaged[f"no/{number}.wav"] = bytes(content)
    skipped = speech.load(folder(tmp_path, damaged)).skipped
    assert 100 < len(skipped) < 800
    for name, content in damaged.items():
        if name in skipped:
            with pytest.raises(tf.errors.InvalidArgumentError):
                decode(content)
        else:
            waveform = decode(content)
            assert waveform.shape == (16_000,) and np.abs(waveform).max() <= 1


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder of WORD/\*.wav that exists, or 'speech_commands'.*'none'"):
        speech.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"A clip is .*'none.wav', which is not in .*Pass the path of a .wav"):
        speech.read_clip(tmp_path / "none.wav")


@pytest.mark.parametrize(
    "files, words",
    [
        (
            {"validation_list.txt": "no/s0_nohash_0.wav\nno/gone.wav\nmaybe/gone.wav"},
            ("names clips of its folder", "validation_list.txt with 2 of 3", "such as 'maybe/gone.wav'", "Copy the"),
        ),
        (
            {"validation_list.txt": "no/s0_nohash_0.wav", "testing_list.txt": "no/s0_nohash_0.wav\nno/s1_nohash_0.wav"},
            ("in one split", "with 1 clips in validation_list.txt and testing_list.txt", "Remove them from one"),
        ),
        (
            {"maybe/a.wav": wav(10)[:20], "maybe/b.wav": wav(10, rate=8000)},
            (
                "at least one usable clip",
                "'maybe' in",
                "2 .wav files, 2 of them left out (such as: maybe/a.wav has no sound or is",
            ),
        ),
        (
            {"maybe/a.wav": wav(10), "testing_list.txt": "maybe/a.wav"},
            ("at least one usable", "1 .wav files, 0 of them left out and 1 in the lists", "or remove the folder"),
        ),
        (
            {"testing_list.txt": ""},
            ("at least one clip each", "none of them for test", "Name some in testing_list.txt"),
        ),
    ],
)
def test_bad_sets(tmp_path, files, words):
    with pytest.raises(ValueError) as caught:
        speech.load(folder(tmp_path, files))
    for word in words:
        assert word in str(caught.value)


def test_too_few_speakers(tmp_path):
    with pytest.raises(ValueError, match=r"Validation and test need.*2 usable clips, none of them for validation"):
        speech.load(folder(tmp_path, speakers=1))


def test_no_classes(tmp_path):
    put(tmp_path / ".hidden" / "a.wav", wav(10))
    put(tmp_path / "_background_noise_" / "a.wav", wav(10))
    put(tmp_path / "a.wav", wav(10))
    (tmp_path / "yes").mkdir()
    with pytest.raises(ValueError, match=r"a folder of .wav files for each word.*1 folders and no .wav.*holds yes/"):
        speech.load(tmp_path)
    # A folder around the data set.
    put(tmp_path / "train" / "yes" / "a.wav", wav(10))
    put(tmp_path / "train" / "no" / "a.wav", wav(10))
    with pytest.raises(ValueError, match=r"a folder of .wav files for each word.*2 folders and no .wav.*holds yes/"):
        speech.load(tmp_path)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"time_shift_ms": -1}, ("`time_shift_ms` must lie between 0 and 1000", "time_shift_ms=-1", "such as 100")),
        ({"time_shift_ms": 1001}, ("between 0 and 1000", "time_shift_ms=1001", "Pass milliseconds")),
        ({"noise_probability": 1.5}, ("between 0 and 1", "noise_probability=1.5", "Pass a share of the clips")),
        ({"noise_volume": -0.1}, ("between 0 and 1", "noise_volume=-0.1", "Pass a factor")),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError) as caught:
        speech.training_batches(in_memory(np.zeros((2, 16_000))), 2, epochs=1, **settings)
    for word in words:
        assert word in str(caught.value)


def test_too_few_clips_for_a_batch():
    clips = in_memory(np.zeros((20, 16_000)))
    assert speech.steps_per_epoch(clips, 6) == 3
    with pytest.raises(ValueError, match=r"one full batch.*batch_size=21 for 20 training clips.*smaller batch"):
        speech.training_batches(clips, 21, epochs=1)


def test_sample(sample, tmp_path):
    clips = speech.load(sample)
    assert clips.classes == 8 and not clips.skipped and len(clips.noise) == 1
    assert {word[::-1] for word in clips.class_names} == set(clips.class_names)
    for split, least in ((clips.train, 28), (clips.validation, 3), (clips.test, 3)):
        assert np.bincount(split.labels).min() >= least and np.ptp(np.bincount(split.labels)) == 0
    assert len(clips.train) + len(clips.validation) + len(clips.test) == 320
    again = speech.write_sample(tmp_path)
    for path in sample.rglob("*.wav"):
        assert path.read_bytes() == (again / path.relative_to(sample)).read_bytes()
    with wave.open(str(clips.train.clips[0])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)


def test_words_of_the_sample_need_the_order_of_their_vowels(sample):
    """The nearest mean of the training clips finds the vowels without their order, and the word only with it."""
    clips = speech.load(sample)

    def spectra(x):
        """Log spectra of the 16 frames around the middle of the sound, (clips, 16, 16)."""
        power = np.abs(np.fft.rfft(x.reshape(-1, 50, 320) * np.hanning(320)))[..., :80].reshape(-1, 50, 16, 5).mean(-1)
        loudness = power.sum(-1)
        middle = (loudness @ np.arange(50) / loudness.sum(1)).astype(int).clip(8, 42)
        return np.stack([np.log(clip[at - 8 : at + 8] + 1e-2) for clip, at in zip(power, middle)])

    plain = {"epochs": 1, "time_shift_ms": 0, "noise_probability": 0}
    x, y = collected(speech.training_batches(clips, len(clips.train), **plain))
    held_out = zip(*(collected(batches(clips, 64)) for batches in (speech.validation_batches, speech.test_batches)))
    x_new, y_new = map(np.concatenate, held_out)
    pairs = np.array([sorted(clips.class_names).index(min(word, word[::-1])) for word in clips.class_names])

    def found(features):
        known, new = features(spectra(x)), features(spectra(x_new))
        means = np.stack([known[y == label].mean(0) for label in range(8)])
        return np.square(new[:, None] - means).sum(-1).argmin(1)

    ordered, unordered = found(lambda s: s.reshape(len(s), -1)), found(lambda s: s.mean(1))
    word, pair = np.mean(unordered == y_new), np.mean(pairs[unordered] == pairs[y_new])
    assert word + 0.15 < np.mean(ordered == y_new) < 0.98
    assert pair > 0.4 and abs(word - pair / 2) < 0.15


def test_tensorflow_datasets():
    with tfds.testing.mock_data(num_examples=5):
        clips = speech.load("speech_commands")
    assert clips.classes == 12 and clips.class_names[:2] == ("down", "go") and not clips.noise
    for split in (clips.train, clips.validation, clips.test):
        assert split.clips.shape == (5, 16_000) and split.clips.dtype == np.int16 and split.clips.any()
    x, y = collected(speech.test_batches(clips, 2))
    np.testing.assert_array_equal(x, clips.test.clips / np.float32(32768))
    np.testing.assert_array_equal(y, clips.test.labels)
    assert next(iter(speech.training_batches(clips, 5, epochs=1)))[0].shape == (5, 16_000)


def test_failed_download(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    with pytest.raises(ValueError, match=r"is downloaded.*'speech_commands' in .*no route to host.*Check the network"):
        speech.load("speech_commands", tmp_path)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"'speech_commands'.*not installed.*pip install 'pinets_tf\[data\]'"):
        speech.load("speech_commands")
