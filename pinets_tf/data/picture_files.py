"""What is in the file of a picture, whatever its name ends in: which pixels, which side is up, or what is wrong.

A picture is turned as the orientation in its EXIF data says, and what is transparent in it lies on white.
"""

import io
import math
import re

import numpy as np
import tensorflow as tf
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

# In lower case.
ENDINGS = (".jpeg", ".jpg", ".jfif", ".png", ".bmp", ".gif", ".webp")
KINDS = "a JPEG, PNG, GIF, BMP or WebP file"
# No picture of more pixels is decoded, which takes three bytes for each and more where it is resized.
MOST_PIXELS = 2**26
# A progressive JPEG has ten scans; each goes over all pixels, and takes a few bytes.
MOST_SCANS = 100
# Whether a picture of each EXIF orientation, of which there is no 0, is stored with rows and columns exchanged, and
# then with the last row and the last column first.
_EXCHANGED = (0, 0, 0, 0, 0, 1, 1, 1, 1)
_UPSIDE_DOWN = (0, 0, 0, 1, 1, 0, 0, 1, 1)
_MIRRORED = (0, 0, 1, 1, 0, 0, 1, 1, 0)
# Not `Image.open`, which warns of many pixels before they can be counted.
_READ = (
    (rb"\xff\xd8\xff", "JPEG", JpegImageFile),
    (rb"\x89PNG", "PNG", PngImageFile),
    (rb"GIF8", "GIF", GifImageFile),
    (rb"BM", "BMP", BmpImageFile),
    (rb"RIFF....WEBP", "WebP", WebPImageFile),
)
_NOT_READ = (
    (rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "a HEIC picture"),
    (rb"....ftypavi[fs]", "an AVIF picture"),
    (rb"....ftyp", "a film"),
    (rb"II\*\0|MM\0\*", "a TIFF or a raw picture of a camera"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (rb"8BPS", "a Photoshop file"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"%PDF", "a PDF"),
    (rb"PK\x03\x04", "a ZIP file"),
    (rb"\x1f\x8b", "a GZIP file"),
    (rb"\x93NUMPY", "an array of NumPy"),
    (rb"\x00\x05\x16[\x00\x07]", "what macOS keeps beside a file"),
    (rb"version https://git-lfs", "a pointer of Git LFS in the place of the file"),
    (rb"\s*<", "a text, such as SVG or HTML"),
)
# A marker of a JPEG that has a length, or its end; those of restarts have none.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


def read_picture(contents, mode="RGB"):
    """Returns a picture and an empty string, or `None` and what is wrong with it.

    Args:
        contents: the bytes of a file.
        mode: `"RGB"`, or `"RGBA"` for a picture that is not laid on white.

    Returns:
        A uint8 array (height, width, 3 or 4), turned, and a string. Of several pictures in a file it is the first.
    """
    defect = defect_of(contents)
    if defect:
        return None, defect
    try:
        picture, _ = _opened(contents)
        picture.load()
        pixels = np.asarray(_converted(picture, contents[24] if picture.format == "PNG" else 8, mode))
        with tf.device("CPU"):
            return turned(pixels, _orientation(picture)).numpy(), ""
    except Exception:  # Of many classes, those of Pillow's readers of formats.
        return None, damage_of(contents)


def _converted(picture, bits, mode):
    """Returns a picture of so many bits in each value in another mode, on white where that has no alpha."""
    key = picture.info.get("transparency")
    if bits == 16:  # What is left of a value is too little to find one colour by.
        picture.info.pop("transparency", None)
    elif picture.mode == "L" and key is not None and key < 2**bits:  # Pillow 13 scales the pixels alone.
        picture.info["transparency"] = key * 255 // (2**bits - 1)
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture) >> 8).astype("uint8")).convert(mode)
    if picture.format == "BMP":  # Its alpha is mostly of no meaning.
        picture = picture.convert("RGB")
    elif picture.has_transparency_data and mode == "RGB":
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def on_white(contents):
    """Returns the pixels of the bytes of a picture, not turned, also in a graph.

    The transparent pixels of a GIF, and of a PNG in which one colour is transparent, are not on white, but as they are
    stored.

    Args:
        contents: a string tensor, the bytes of a JPEG, PNG, GIF, BMP or WebP file.

    Returns:
        A uint8 tensor (height, width, 3).
    """
    # Not channels=3, with which WebP fails and others lose what is transparent, nor 4, with which JPEG fails, and PNG
    # of TensorFlow 2.21 makes opaque pixels of less than 8 bits transparent.
    picture = tf.cond(
        tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff",
        # To the same pixels as Pillow.
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(contents, channels=0, expand_animations=False),
    )
    picture = tf.ensure_shape(picture, (None, None, None))
    channels = tf.shape(picture)[2]
    opaque = picture[..., : channels - 1 + channels % 2]

    def blended():
        colour, alpha = tf.cast(opaque, tf.int32), tf.cast(picture[..., -1:], tf.int32)
        return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)

    # The fourth channel of a BMP is mostly of no meaning.
    is_opaque = (channels % 2 == 1) | (tf.strings.substr(contents, 0, 2) == "BM")
    picture = tf.cond(is_opaque, lambda: opaque, blended)
    return tf.ensure_shape(tf.broadcast_to(picture, tf.concat([tf.shape(picture)[:2], [3]], 0)), (None, None, 3))


def turned(picture, orientation):
    """Returns a picture (height, width, channels) as it is looked at, also in a graph, for an EXIF orientation."""
    exchanged, *reverse = (tf.gather(table, orientation) for table in (_EXCHANGED, _UPSIDE_DOWN, _MIRRORED))
    picture = tf.cond(exchanged == 1, lambda: tf.transpose(picture, [1, 0, 2]), lambda: tf.identity(picture))
    # Much faster than a slice whose strides are tensors.
    return tf.reverse(picture, tf.boolean_mask([0, 1], tf.stack(reverse) == 1))


def stored_window(window, shape, orientation):
    """Returns where the window of a picture that is looked at is in the stored one.

    Args:
        window: a function from height and width of the turned picture to the y, x, height and width of the window.
        shape: height and width of the stored picture.
        orientation: its EXIF orientation.
    """
    exchanged, *reverse = (tf.gather(table, orientation) for table in (_EXCHANGED, _UPSIDE_DOWN, _MIRRORED))
    shape = tf.cond(exchanged == 1, lambda: shape[::-1], lambda: tf.identity(shape))
    place, sides = tf.split(window(shape), 2)
    place = tf.where(tf.stack(reverse) == 1, shape - place - sides, place)
    both = tf.stack([place, sides])
    return tf.reshape(tf.cond(exchanged == 1, lambda: both[:, ::-1], lambda: both), [4])


def orientation_of(contents):
    """Returns the EXIF orientation of a picture, 1 to 8, and 1 where the file has none.

    Args:
        contents: the bytes of a JPEG, PNG or WebP file.
    """
    picture, defect = _opened(contents)
    return 1 if defect else _orientation(picture)


def _orientation(picture):
    try:
        orientation = picture.getexif().get(0x112)
    except Exception:  # Of many classes, for damaged data.
        return 1
    return orientation if orientation in range(1, 9) else 1


def defect_of(contents):
    """Returns why the contents of a file are not decoded, as far as its headers tell, or an empty string."""
    _, defect = _opened(contents)
    if not defect and contents.startswith(b"\xff\xd8") and _scans(contents) > MOST_SCANS:
        return f"more than {MOST_SCANS} scans"
    return defect


def damage_of(contents):
    """Returns what is wrong with the contents of a picture that could not be decoded."""
    kind, _ = _kind(contents)
    if kind == "JPEG" and b"\xff\xd9" not in contents[-64:]:
        return f"a JPEG without an end, {len(contents):,} bytes"
    return f"a {kind} that is damaged or of a rare kind, {len(contents):,} bytes"


def _kind(contents):
    return next(((kind, plugin) for mark, kind, plugin in _READ if re.match(mark, contents, re.DOTALL)), ("", None))


def _opened(contents):
    """Returns a picture that is not decoded yet and an empty string, or `None` and what is wrong with it."""
    _, plugin = _kind(contents)
    if not plugin:
        other = next((words for mark, words in _NOT_READ if re.match(mark, contents, re.DOTALL)), "")
        unknown = "no picture of a known kind" if contents else "an empty file"
        return None, f"{other}, which is not read" if other else unknown
    try:
        picture = plugin(io.BytesIO(contents))
        is_large = math.prod(picture.size) > MOST_PIXELS
    except Image.DecompressionBombError:
        is_large = True
    except Exception:  # Of many classes, those of Pillow's readers of formats.
        return None, damage_of(contents)
    return (None, f"more than {MOST_PIXELS:,} pixels") if is_large else (picture, "")


def _scans(contents):
    """Returns how many scans a JPEG has up to its end, of which Pillow decodes any number."""
    scans, place = 0, 2
    while (found := _MARKER.search(contents, place)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"
        place = found.end() + max(int.from_bytes(contents[found.end() : found.end() + 2], "big"), 2)
    return scans
