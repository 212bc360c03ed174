"""From a waveform to the log-mel picture that a network for images takes (Sec. 5.2), inside the saved model."""

import math

import keras
from keras import ops

from pinets_tf.layers import LogMelSpectrogram
from pinets_tf.layers.checks import positive_integer


def mel_front_end(
    sample_rate_hz=16_000,
    clip_seconds=1.0,
    mels=32,
    frames=32,
    *,
    fft_length=1024,
    lowest_hz=20.0,
    highest_hz=None,
    mean=None,
    variance=None,
    name=None,
):
    """Returns the model that turns waveforms into log-mel pictures, to be put before a network for images (Sec. 5.2).

    A picture is 10 log10(max(M |STFT(waveform)|^2, 1e-6)) decibels, with a Hann window of `fft_length` samples and
    with M the triangles of the mel scale m(f) = 2595 log10(1 + f / 700 Hz), which are straight in hertz and have
    height 1. That is `librosa.feature.melspectrogram` with htk=True, norm=None and pad_mode="reflect". The first
    frame is centred on the first sample, the following ones every samples // (frames - 1) samples. With `mean` and
    `variance` the picture is (decibels - mean) / sqrt(variance).

    Args:
        sample_rate_hz: samples a second.
        clip_seconds: length of a clip.
        mels: number of mel bands, the width of the picture.
        frames: number of frames, the height of the picture.
        fft_length: samples in a window, a power of two.
        lowest_hz: the lower edge of the lowest band.
        highest_hz: the upper edge of the highest band; `None` is half the sample rate.
        mean: mean of the decibels, a number or one for each band, from `mel_mean_and_variance` over the training
            clips. `None` leaves decibels.
        variance: their variance, in the same form.
        name: name of the model.

    Returns:
        A `keras.Sequential` without weights from waveforms in [-1, 1] `(batch, samples)` to `(batch, frames, mels, 1)`.
        It computes in float32 under every precision policy, since power spectra overflow float16.

    Raises:
        ValueError: if a size is not a positive integer, if a clip has too few samples for `frames`, if `fft_length` is
            no power of two or longer than a clip, if the bands are outside the spectrum or finer than it, or if `mean`
            and `variance` do not fit the bands.

    Example:

    >>> from pinets_tf.models.mel_front_end import mel_front_end
    >>> mel_front_end(mean=-30.0, variance=400.0).output_shape
    (None, 32, 32, 1)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.2, which says that the clips
    become mel-spectrograms of 32x32 and nothing else of them: window, hop, bands, decibels and floor are our choice.
    """
    sample_rate_hz = positive_integer("sample_rate_hz", sample_rate_hz, "Pass samples a second, such as 16000.")
    samples = positive_integer(
        "sample_rate_hz * clip_seconds",
        round(sample_rate_hz * clip_seconds),
        "Pass the length of a clip in seconds, such as clip_seconds=1.0.",
    )
    mels = positive_integer("mels", mels, "Pass the number of bands, such as mels=32.")
    frames = positive_integer("frames", frames, "Pass the number of frames, such as frames=32.")
    hop = samples // max(frames - 1, 1)
    if frames < 2 or hop == 0 or 1 + samples // hop != frames:
        raise ValueError(
            "`frames` must be 2 or more and small beside the samples of a clip, so that frames at equal distances end "
            f"with the clip. Received: frames={frames} for {samples} samples. Pass for example frames=32."
        )
    spectrogram = LogMelSpectrogram(
        mels,
        hop,
        fft_length=fft_length,
        sample_rate_hz=sample_rate_hz,
        lowest_hz=lowest_hz,
        highest_hz=highest_hz,
        dtype="float32",
        name="log_mel",
    )
    if spectrogram.fft_length > samples:
        # Padding by reflection needs half a window.
        raise ValueError(
            "`fft_length` must be no longer than a clip. "
            f"Received: fft_length={fft_length} for {samples} samples. Pass for example fft_length=1024."
        )
    layers = [keras.Input((samples,), dtype="float32", name="waveforms"), spectrogram]
    if mean is not None or variance is not None:
        layers.append(_normalization(mean, variance, mels))
    layers.append(keras.layers.Reshape((frames, mels, 1), dtype="float32", name="picture"))
    return keras.Sequential(layers, name=name)


def mel_mean_and_variance(front_end, batches, per_mel=False):
    """Returns mean and variance of the decibels of waveforms, to build the same front end again with them.

    Args:
        front_end: a `mel_front_end` without mean and variance.
        batches: waveforms, or pairs of waveforms and labels, in batches; a few hundred clips are enough.
        per_mel: whether to return a list with one number for each band, instead of one number for all.

    Returns:
        A pair `(mean, variance)` for the arguments of these names.

    Raises:
        ValueError: if the front end normalises already, or if there is no batch.
    """
    if any(isinstance(layer, keras.layers.Normalization) for layer in front_end.layers):
        raise ValueError(
            "Mean and variance are those of decibels. Received: a front end that normalises them already. "
            "Pass mel_front_end() without mean and variance."
        )
    count, sums, squares = 0, [], []
    for batch in batches:
        waveforms = batch[0] if isinstance(batch, (tuple, list)) else batch
        decibels = ops.convert_to_numpy(front_end(waveforms)).astype("float64")
        decibels = decibels.reshape(-1, decibels.shape[2] if per_mel else 1)
        count += len(decibels)
        sums.append(decibels.sum(0))
        squares.append((decibels**2).sum(0))
    if count == 0:
        raise ValueError("Mean and variance need at least one clip. Received: no batch. Pass training batches.")
    means = (sum(sums) / count).tolist()
    variances = [square - mean**2 for square, mean in zip((sum(squares) / count).tolist(), means)]
    return (means, variances) if per_mel else (means[0], variances[0])


def _normalization(mean, variance, mels):
    numbers = [
        []
        if statistic is None
        else ops.convert_to_numpy(ops.convert_to_tensor(statistic, "float32")).reshape(-1).tolist()
        for statistic in (mean, variance)
    ]
    means, variances = (listed * mels if len(listed) == 1 else listed for listed in numbers)
    if len(means) != mels or len(variances) != mels or not all(0 < number < math.inf for number in variances):
        raise ValueError(
            f"`mean` and `variance` go together, each one number or {mels}, one for each band, variances above 0. "
            f"Received: mean={mean}, variance={variance}. Pass what mel_mean_and_variance returns."
        )
    return keras.layers.Normalization(axis=-1, mean=means, variance=variances, dtype="float32", name="normalize")
