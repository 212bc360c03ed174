"""Mel front end: the filters of librosa, one picture a clip, and the same numbers wherever the model goes."""

import contextlib
import io

import keras
import numpy as np
import pytest

from pinets_tf.layers import LogMelSpectrogram
from pinets_tf.models import mel_front_end, mel_mean_and_variance
from tests.conformance.cases import numpy, tensorflow_only


def waveforms(count=4, samples=16_000, seed=0):
    """Tones that glide, in noise of falling loudness, and silence."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    tones = [
        np.sin(2 * np.pi * (first * time + rng.uniform(200, 2000) * time**2)) for first in 100 * 3 ** np.arange(count)
    ]
    loudness = 10.0 ** -np.arange(count)[:, None]
    x = loudness * (0.5 * np.array(tones) + 0.1 * rng.normal(size=(count, samples)))
    x[-1] = 0
    return x.clip(-1, 1).astype("float32")


def mel_filters(sample_rate_hz, fft_length, mels, lowest_hz, highest_hz):
    """The triangles, drawn by interpolation between corners."""
    lowest, highest = (2595 * np.log10(1 + hertz / 700) for hertz in (lowest_hz, highest_hz))
    corners = 700 * (10 ** (np.linspace(lowest, highest, mels + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(fft_length, 1 / sample_rate_hz)
    return np.stack([np.interp(hertz, corners[i : i + 3], [0, 1, 0]) for i in range(mels)], axis=1)


def decibels(x, filters, hop, fft_length, frames):
    """The log-mel spectrogram of one waveform in float64, frame by frame."""
    x = np.pad(x.astype(float), fft_length // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft_length) / fft_length)
    spectra = [np.abs(np.fft.rfft(window * x[i * hop : i * hop + fft_length])) ** 2 for i in range(frames)]
    return 10 * np.log10(np.maximum(np.array(spectra) @ filters, 1e-6))


SETTINGS = [
    {},
    {"mels": 40, "frames": 64, "fft_length": 2048, "lowest_hz": 0.0},
    {"sample_rate_hz": 8000, "clip_seconds": 0.5, "mels": 20, "frames": 17, "fft_length": 512, "highest_hz": 3800.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_filters(settings):
    layer = mel_front_end(**settings).get_layer("log_mel")
    ours = numpy(layer.filters())
    sizes = (layer.sample_rate_hz, layer.fft_length, layer.mels, layer.lowest_hz, layer.highest_hz)
    np.testing.assert_allclose(ours, mel_filters(*sizes), atol=1e-5)
    assert ours.max() <= 1 and (ours.max(0) > 0).all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_pictures(settings):
    front_end = mel_front_end(**settings)
    layer = front_end.get_layer("log_mel")
    samples, (frames, mels) = front_end.input_shape[1], front_end.output_shape[1:3]
    assert (frames, mels) == (settings.get("frames", 32), settings.get("mels", 32))
    x = waveforms(samples=samples)
    pictures = numpy(front_end(x))
    assert pictures.shape == (4, frames, mels, 1)
    filters = mel_filters(layer.sample_rate_hz, layer.fft_length, mels, layer.lowest_hz, layer.highest_hz)
    for waveform, picture in zip(x, pictures):
        twin = decibels(waveform, filters, layer.hop, layer.fft_length, frames)
        np.testing.assert_allclose(picture[..., 0], twin, atol=1e-3)
    assert (pictures[-1] == -60).all() and pictures[0].max() > 20


@pytest.mark.long  # Importing librosa and compiling its parts takes half a minute.
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_librosa(settings):
    import librosa

    front_end = mel_front_end(**settings)
    layer = front_end.get_layer("log_mel")
    filters = {
        "sr": layer.sample_rate_hz,
        "n_fft": layer.fft_length,
        "n_mels": layer.mels,
        "fmin": layer.lowest_hz,
        "fmax": layer.highest_hz,
        "htk": True,
        "norm": None,
    }
    np.testing.assert_allclose(numpy(layer.filters()), librosa.filters.mel(**filters).T, atol=1e-5)
    x = waveforms(samples=front_end.input_shape[1])
    for waveform, picture in zip(x, numpy(front_end(x))):
        spectrogram = librosa.feature.melspectrogram(y=waveform, hop_length=layer.hop, pad_mode="reflect", **filters)
        theirs = librosa.power_to_db(spectrogram, ref=1.0, amin=1e-6, top_db=None).T
        np.testing.assert_allclose(picture[..., 0], theirs, atol=1e-3)


def test_frames_reach_both_ends_of_the_clip():
    x = np.zeros((3, 16_000), "float32")
    x[0, 100], x[1, 8000], x[2, -100] = 1, 1, 1
    loudest = numpy(mel_front_end()(x))[..., 0].max(-1).argmax(1)
    assert loudest[0] == 0 and loudest[1] in (15, 16) and loudest[2] == 31


def test_a_picture_does_not_depend_on_the_other_clips():
    front_end, x = mel_front_end(), waveforms()
    alone = np.concatenate([numpy(front_end(x[i : i + 1])) for i in range(4)])
    np.testing.assert_allclose(numpy(front_end(x)), alone, atol=1e-4)


def test_normalisation():
    plain, batches = mel_front_end(), [(waveforms(seed=seed), np.zeros(4)) for seed in range(3)]
    pictures = np.concatenate([numpy(plain(x)) for x, _ in batches]).astype(float)
    mean, variance = mel_mean_and_variance(plain, batches)
    np.testing.assert_allclose([mean, variance], [pictures.mean(), pictures.var()], rtol=1e-6)
    means, variances = mel_mean_and_variance(plain, [x for x, _ in batches], per_mel=True)
    np.testing.assert_allclose(means, pictures.mean((0, 1, 3)), rtol=1e-6)
    np.testing.assert_allclose(variances, pictures.var((0, 1, 3)), rtol=1e-6)
    for settings in ({"mean": mean, "variance": variance}, {"mean": means, "variance": np.array(variances)}):
        normalised = np.concatenate([numpy(mel_front_end(**settings)(x)) for x, _ in batches])
        axes = (0, 1, 2, 3) if settings["mean"] is mean else (0, 1, 3)
        np.testing.assert_allclose(normalised.mean(axes), 0, atol=1e-4)
        np.testing.assert_allclose(normalised.var(axes), 1, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_float32_under_every_policy(policy):
    x, expected = waveforms(), numpy(mel_front_end(mean=-30.0, variance=400.0)(waveforms()))
    keras.config.set_dtype_policy(policy)
    front_end = mel_front_end(mean=-30.0, variance=400.0)
    whole = keras.Sequential([keras.Input((16_000,), dtype="float32"), front_end])
    for model in (front_end, whole):
        pictures = model(x)
        assert keras.backend.standardize_dtype(pictures.dtype) == "float32"
        np.testing.assert_allclose(numpy(pictures), expected, atol=1e-5)


def test_saved_inside_a_model(tmp_path):
    front_end = mel_front_end(mean=np.linspace(-30, -20, 32), variance=[400.0] * 32)
    assert front_end.count_params() == 0
    model = keras.Sequential([front_end, keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3)])
    x = waveforms()
    expected = numpy(model(x))
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(keras.models.load_model(tmp_path / "model.keras")(x)), expected, rtol=1e-6)
    again = keras.Sequential.from_config(front_end.get_config())
    np.testing.assert_array_equal(numpy(again(x)), numpy(front_end(x)))


@tensorflow_only
def test_xla():
    import tensorflow as tf

    front_end, x = mel_front_end(mean=-30.0, variance=400.0), waveforms()
    compiled = tf.function(front_end, jit_compile=True)
    np.testing.assert_allclose(numpy(compiled(x)), numpy(front_end(x)), atol=1e-3)


@tensorflow_only
def test_saved_model_and_tflite(tmp_path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    front_end = mel_front_end(mean=-30.0, variance=400.0)
    with contextlib.redirect_stdout(io.StringIO()):
        front_end.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved_model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    inputs, outputs = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    for size in (1, 4):
        x = waveforms()[-size:]
        expected = numpy(front_end(x))
        np.testing.assert_allclose(loaded.serve(x).numpy(), expected, atol=1e-4)
        interpreter.resize_tensor_input(inputs, [size, 16_000])
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs, x)
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(outputs), expected, atol=1e-3)


def test_layer_of_any_length():
    layer = LogMelSpectrogram(32, 516)
    assert layer.compute_output_shape((None, None)) == (None, None, 32)
    assert layer.compute_output_shape((2, 5000)) == tuple(layer(waveforms(2, 5000)).shape) == (2, 10, 32)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"sample_rate_hz": 16e3}, ("`sample_rate_hz` must be a positive", "sample_rate_hz=16000.0", "such as 16000")),
        ({"clip_seconds": 0}, ("`sample_rate_hz * clip_seconds` must be", "clip_seconds=0", "clip_seconds=1.0")),
        ({"mels": 0}, ("`mels` must be a positive integer", "mels=0", "mels=32")),
        ({"frames": "32"}, ("`frames` must be a positive integer", "frames='32'", "frames=32")),
        ({"frames": 1}, ("`frames` must be 2 or more", "frames=1 for 16000 samples", "frames=32")),
        ({"frames": 20_000}, ("small beside the samples", "frames=20000 for 16000 samples", "frames=32")),
        ({"frames": 12_000}, ("small beside the samples", "frames=12000 for 16000 samples", "frames=32")),
        ({"fft_length": 0}, ("`fft_length` must be a positive integer", "fft_length=0", "such as 1024")),
        ({"fft_length": 1000}, ("must be a power of two", "fft_length=1000. Pass", "fft_length=1024")),
        ({"fft_length": 16_384}, ("no longer than a clip", "fft_length=16384 for 16000", "fft_length=1024")),
        ({"lowest_hz": -1}, ("between 0 and half the sample rate, 8000 Hz", "lowest_hz=-1", "in hertz")),
        ({"highest_hz": 9000}, ("half the sample rate", "highest_hz=9000", "in hertz")),
        ({"lowest_hz": 500, "highest_hz": 400}, ("lowest below the highest", "lowest_hz=500, highest_hz=400", "hertz")),
        ({"mels": 256}, ("one every 15.625 Hz", "mels=256, fft_length=1024, with a band from", "Pass fewer mels")),
        ({"mean": 0.0}, ("`mean` and `variance` go together", "mean=0.0, variance=None", "mel_mean_and_variance")),
        ({"variance": 1.0}, ("go together", "mean=None, variance=1.0", "mel_mean_and_variance")),
        ({"mean": [0.0] * 31, "variance": 1.0}, ("each one number or 32", "0.0], variance=1.0", "mel_mean")),
        ({"mean": 0.0, "variance": 0.0}, ("variances above 0", "mean=0.0, variance=0.0", "mel_mean_and_variance")),
    ],
)
def test_errors(settings, words):
    with pytest.raises(ValueError) as caught:
        mel_front_end(**settings)
    for word in words:
        assert word in str(caught.value)


def test_errors_of_the_statistics():
    with pytest.raises(ValueError, match=r"those of decibels.*normalises them already.*without mean and variance"):
        mel_mean_and_variance(mel_front_end(mean=0.0, variance=1.0), [waveforms()])
    with pytest.raises(ValueError, match=r"at least one clip.*no batch.*Pass training batches"):
        mel_mean_and_variance(mel_front_end(), [])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mels": 0}, r"`mels` must be a positive integer\. Received: mels=0\. Pass the number of bands"),
        ({"hop": 0.5}, r"`hop` must be a positive integer\. Received: hop=0\.5\. Pass samples"),
        ({"fft_length": 2}, r"a power of two and at least 4\. Received: fft_length=2\. Pass for example"),
        (
            {"lowest_hz": 9000},
            r"half the sample rate, 8000 Hz.* Received: lowest_hz=9000, .* Pass frequencies in hertz",
        ),
        ({"mels": 256}, r"hold a frequency .* Received: mels=256, fft_length=1024, .* Pass fewer mels"),
    ],
)
def test_errors_of_the_layer(settings, words):
    with pytest.raises(ValueError, match=words):
        LogMelSpectrogram(**{"mels": 32, "hop": 516, **settings})
