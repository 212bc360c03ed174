"""From waveforms to decibels in mel bands."""

import math

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer

# Mean power of 16-bit rounding in one frequency bin (3e-8 with a Hann window of 1024) times the bins of a wide filter.
# What is quieter is no signal, and digital silence would be an outlier that polynomials amplify.
FLOOR = 1e-6


# keras.layers.MelSpectrogram of Keras 3.15 has triangles that are straight in mel instead of in hertz (0.009 off the
# filters of librosa), and its lower limit is taken from the loudest clip of the batch, so that an answer depends on
# the other clips.
@keras.saving.register_keras_serializable(package="pinets_tf")
class LogMelSpectrogram(keras.layers.Layer):
    """Decibels in bands of the mel scale, over time: what a network for images takes for a sound (Sec. 5.2).

        y = 10 log10(max(M |STFT(z)|^2, 1e-6))

    with a Hann window of `fft_length` samples, the first one centred on the first sample, the ends reflected, and with
    M the triangles of the mel scale m(f) = 2595 log10(1 + f / 700 Hz), which are straight in hertz and have height 1.
    That is `librosa.feature.melspectrogram` with htk=True, norm=None and pad_mode="reflect". It is no polynomial.

    Float16: power spectra overflow it, so everything is computed in float32 and rounded at the end.

    Args:
        mels: the number of bands.
        hop: samples from one window to the next.
        fft_length: samples in a window, a power of two.
        sample_rate_hz: samples a second.
        lowest_hz: the lower edge of the lowest band.
        highest_hz: the upper edge of the highest band; `None` is half the sample rate.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, samples)`, waveforms in [-1, 1], longer than half a window.

    Output shape:
        `(batch, 1 + samples // hop, mels)`, in decibels below a full scale.

    Raises:
        ValueError: if a size is not a positive integer, if `fft_length` is no power of two, if the bands are outside
            the spectrum or finer than it, or if the input has other axes or is no longer than half a window.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import LogMelSpectrogram
    >>> LogMelSpectrogram(mels=32, hop=516)(np.ones((2, 16000), "float32")).shape[1:]
    TensorShape([32, 32])

    Source: Stevens, Volkmann and Newman, 1937, for the scale; O'Shaughnessy, "Speech Communication", 1987, for the
    formula. The floor is ours.
    """

    not_polynomial = ("takes logarithms", "Compute the spectrogram before encryption")

    def __init__(self, mels, hop, *, fft_length=1024, sample_rate_hz=16_000, lowest_hz=20.0, highest_hz=None, **kwargs):
        super().__init__(**kwargs)
        self.mels = positive_integer("mels", mels, "Pass the number of bands, such as mels=32.")
        self.hop = positive_integer("hop", hop, "Pass samples from one window to the next, such as hop=516.")
        self.fft_length = positive_integer("fft_length", fft_length, "Pass the samples of a window, such as 1024.")
        self.sample_rate_hz = positive_integer(
            "sample_rate_hz", sample_rate_hz, "Pass samples a second, such as 16000."
        )
        self.lowest_hz = float(lowest_hz)
        self.highest_hz = self.sample_rate_hz / 2 if highest_hz is None else float(highest_hz)
        if self.fft_length.bit_count() != 1 or self.fft_length < 4:
            # The Fourier transform of TFLite takes nothing else.
            raise ValueError(
                "`fft_length` must be a power of two and at least 4. "
                f"Received: fft_length={fft_length}. Pass for example fft_length=1024."
            )
        if not 0 <= self.lowest_hz < self.highest_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"Bands lie between 0 and half the sample rate, {self.sample_rate_hz / 2:g} Hz, the lowest below the "
                f"highest. Received: lowest_hz={lowest_hz}, highest_hz={highest_hz}. Pass frequencies in hertz."
            )
        width_hz = self.sample_rate_hz / self.fft_length
        edges = self.edges_hz()
        for lower, upper in zip(edges, edges[2:]):
            if math.floor(lower / width_hz) + 1 >= upper / width_hz:
                raise ValueError(
                    f"Each band must hold a frequency of the spectrum, which has one every {width_hz:g} Hz. "
                    f"Received: mels={mels}, fft_length={fft_length}, with a band from {lower:.1f} to {upper:.1f} Hz "
                    "that holds none. Pass fewer mels, a longer fft_length, or a higher lowest_hz."
                )
        self.autocast = False

    def edges_hz(self):
        """Returns the edges of the bands: band i rises from edge i to edge i + 1 and falls to edge i + 2."""
        lowest, highest = (2595 * math.log10(1 + hertz / 700) for hertz in (self.lowest_hz, self.highest_hz))
        steps = self.mels + 1
        return [700 * (10 ** ((lowest + (highest - lowest) * i / steps) / 2595) - 1) for i in range(steps + 1)]

    def filters(self, dtype="float32"):
        """Returns M, the weight of each frequency in each band, of shape `(fft_length // 2 + 1, mels)`."""
        edges = ops.convert_to_tensor(self.edges_hz(), dtype=dtype)
        hertz = ops.arange(self.fft_length // 2 + 1, dtype=dtype) * (self.sample_rate_hz / self.fft_length)
        hertz = ops.expand_dims(hertz, 1)
        lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
        return ops.relu(ops.minimum((hertz - lower) / (centre - lower), (upper - hertz) / (upper - centre)))

    def build(self, input_shape):
        self._check_waveforms(input_shape)

    def _check_waveforms(self, shape):
        if len(shape) != 2 or not all(size is None or isinstance(size, int) for size in shape):
            raise ValueError(
                "Waveforms have two axes, (batch, samples). "
                f"Received: an input of shape {tuple(shape)}. "
                "Take out an axis of one channel, such as with keras.layers.Reshape((16000,)), or mix channels down."
            )
        if shape[1] is not None and shape[1] <= self.fft_length // 2:
            # Their ends are reflected over half a window.
            raise ValueError(
                f"Waveforms must be longer than half a window, {self.fft_length // 2} samples. "
                f"Received: an input of shape {tuple(shape)}. Pad the waveforms, or pass a shorter fft_length."
            )

    def call(self, z):
        self._check_waveforms(z.shape)
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        z = ops.cast(z, wide)
        half = self.fft_length // 2
        # Reflected here, since `center=True` fails on an empty batch (Keras 3.15 on TensorFlow).
        z = ops.concatenate([ops.flip(z[:, 1 : half + 1], -1), z, ops.flip(z[:, -half - 1 : -1], -1)], axis=-1)
        real, imaginary = ops.stft(z, self.fft_length, self.hop, self.fft_length, window="hann", center=False)
        mel = ops.matmul(ops.square(real) + ops.square(imaginary), self.filters(wide))
        decibels = ops.log(ops.maximum(mel, FLOOR)) * (10 / math.log(10))
        return ops.cast(decibels, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        self._check_waveforms(input_shape)
        batch, samples = input_shape
        return (batch, None if samples is None else 1 + samples // self.hop, self.mels)

    def get_config(self):
        return {
            **super().get_config(),
            "mels": self.mels,
            "hop": self.hop,
            "fft_length": self.fft_length,
            "sample_rate_hz": self.sample_rate_hz,
            "lowest_hz": self.lowest_hz,
            "highest_hz": self.highest_hz,
        }
