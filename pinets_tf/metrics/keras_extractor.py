"""Features of images from any Keras model."""

import re

import keras
import numpy as np

from pinets_tf.metrics.pixels import checked_images


class KerasExtractor:
    """Features, and class logits where there are any, of uint8 images by a Keras model.

    Scores of such a network compare models with each other and are not the published ones, so they carry the suffix in
    their names: `KerasExtractor(model, "-VGG16", ...)` gives FID-VGG16.

    Args:
        model: a Keras model that takes float32 images (n, height, width, 3) in [0, 255], and scales them itself, as the
            layer `Rescaling` does. It returns features (n, d), or features and logits (n, classes).
        suffix: what follows the name of each score: a hyphen, then letters, digits, dots and hyphens.
        features: the name of a layer whose output is the features, where the model returns the logits alone.
        size: `(height, width)` that images are resized to before the model: bilinear, with antialiasing, edges not
            kept in proportion. With `None` the model gets them as they are.
        network: what the statement says of the network; by default the name of the model.
        resize: what the statement says of the resizing; needed where `size` is `None`, `"none"` where there is none.
        probabilities: whether the model returns probabilities where logits are meant, as with a softmax at its end.

    Calling:
        With uint8 images (n, height, width, 3), or (n, height, width, 1), which are tiled to three channels. Returns
        features, float32 (n, d), and logits, float32 (n, classes), or `None` where the model has none, as NumPy arrays.

    Raises:
        ValueError: if the suffix is empty or has other characters, if the resizing is not stated, if the outputs of the
            model are no features and logits, or if images are not uint8 or of another shape.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.metrics import KerasExtractor
    >>> layers = [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    >>> extractor = KerasExtractor(keras.Sequential(layers), "-colour", resize="none", network="mean colour")
    >>> features, logits = extractor(np.full((2, 8, 8, 1), 51, "uint8"))
    >>> print(features.round(3), logits)
    [[0.2 0.2 0.2]
     [0.2 0.2 0.2]] None
    """

    def __init__(self, model, suffix, *, features=None, size=None, network=None, resize=None, probabilities=False):
        if not isinstance(suffix, str) or not re.fullmatch(r"-[A-Za-z0-9][A-Za-z0-9.-]*", suffix):
            raise ValueError(
                "FID, IS and KID without a suffix are scores of the 2015 Inception graph alone; another network has a "
                f"suffix of a hyphen and letters, digits, dots or hyphens. Received: suffix={suffix!r}. "
                "Pass one that names the network, such as '-VGG16'."
            )
        if size is None and not resize:
            raise ValueError(
                "The resizing belongs to the score, so it is stated. Received: neither `size` nor `resize`. "
                "Pass size=(height, width), or say in `resize` what the model does, or 'none'."
            )
        outputs = list(model.outputs) if features is None else [model.get_layer(features).output, *model.outputs]
        if len(outputs) > 2 or any(len(output.shape) != 2 for output in outputs):
            raise ValueError(
                "A model returns features (n, d), or features and logits (n, classes). "
                f"Received: outputs of shape {', '.join(str(output.shape) for output in outputs)}. "
                "Pool the features, and name their layer in `features` where the model does not return them."
            )
        self.suffix = suffix
        self.network = network or model.name
        self.resize = resize or f"to {size[0]}x{size[1]}, bilinear with antialiasing"
        self.probabilities = probabilities
        images = x = keras.Input((None, None, 3), dtype="float32")
        if size is not None:
            x = keras.layers.Resizing(*size, interpolation="bilinear", antialias=True, dtype="float32")(x)
        self._model = keras.Model(images, keras.Model(model.inputs, outputs)(x))
        self._model.trainable = False
        self._largest = 0

    def __call__(self, images):
        images = checked_images(images)
        count = len(images)
        # A last, smaller batch is filled up, since another shape would be traced and compiled again.
        self._largest = max(self._largest, count)
        images = np.concatenate([images, np.zeros((self._largest - count, *images.shape[1:]), "uint8")])
        outputs = self._model.predict_on_batch(images.astype("float32"))
        features, *rest = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        logits = np.asarray(rest[0], "float32")[:count] if rest else None
        if self.probabilities and logits is not None:
            with np.errstate(divide="ignore"):
                logits = np.log(logits)
        return np.asarray(features, "float32")[:count], logits
