"""Images as scores take them: uint8, three channels."""

import numpy as np
from keras import ops

CHANNELS = 3


def to_uint8(images):
    """Rounds images in [-1, 1] to grey levels, as they would be written to a file.

        round(127.5 x + 127.5), clipped to [0, 255]

    Args:
        images: an array or a tensor of floating point numbers; -1 is black, 1 is white.

    Returns:
        A NumPy array of the same shape, uint8.

    Raises:
        ValueError: if the images are not of a floating point type, or a number is not finite.

    Example:

    >>> import numpy as np
    >>> to_uint8(np.array([-1.0, 0.5, 1.2]))
    array([  0, 191, 255], dtype=uint8)
    """
    images = ops.convert_to_numpy(images)
    if images.dtype.name == "bfloat16":  # No floating type to NumPy.
        images = images.astype("float32")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            "Images that are rounded are floating point numbers in [-1, 1]. "
            f"Received: images of type {images.dtype}. Score uint8 images as they are; divide others by 127.5, less 1."
        )
    if not np.isfinite(images).all():
        raise ValueError(
            "Images are made of finite numbers. "
            f"Received: {np.count_nonzero(~np.isfinite(images)):,} of {images.size:,} numbers that are not. "
            "The generator has diverged; take an earlier checkpoint."
        )
    return np.clip(np.rint(127.5 * images.astype("float32") + 127.5), 0, 255).astype("uint8")


def checked_images(images):
    """Returns a batch of uint8 images as a NumPy array (n, height, width, 3), grey ones tiled to three channels."""
    if isinstance(images, (tuple, list)):
        raise ValueError(
            "A batch of images is one array. "
            f"Received: a {type(images).__name__} of {len(images)}. "
            "Leave labels out, as in dataset.map(lambda x, y: x)."
        )
    images = ops.convert_to_numpy(images)
    if images.dtype != np.uint8:
        raise ValueError(
            "Images are scored as uint8, as they would be written to a file. "
            f"Received: images of type {images.dtype}. Round them first: to_uint8(images) for images in [-1, 1]."
        )
    if images.ndim != 4 or images.shape[-1] not in (1, CHANNELS):
        raise ValueError(
            "Images are scored in batches of shape (n, height, width, channels) with 1 or 3 channels. "
            f"Received: shape {images.shape}. Add or move the axes."
        )
    return np.repeat(images, CHANNELS, axis=-1) if images.shape[-1] == 1 else images
