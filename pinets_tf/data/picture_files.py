"""What is in the file of a picture, whatever its name ends in: which pixels, which side is up, or what is wrong.

A picture is turned as the orientation in its EXIF data says, and what is transparent in it lies on white.
"""

import re
import struct

import numpy as np
import tensorflow as tf

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
_READ = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"))
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


def read_picture(contents):
    """Returns a picture and an empty string, or `None` and what is wrong with it.

    Args:
        contents: the bytes of a file.

    Returns:
        A uint8 array (height, width, 3), turned and on white, and a string. Of several pictures in a file it is the
        first.
    """
    defect = defect_of(contents)
    if defect:
        return None, defect
    decoded = _gif_on_white(contents) if contents.startswith(b"GIF8") else contents
    try:
        with tf.device("CPU"):
            picture = on_white(decoded).numpy()
            key = _transparent_colour(contents)
            if key is not None:
                picture = np.where((picture == key).all(-1, keepdims=True), np.uint8(255), picture)
            return turned(picture, orientation_of(contents)).numpy(), ""
    except (tf.errors.OpError, UnicodeDecodeError):  # TensorFlow cites the bytes of a very short file.
        return None, damage_of(contents)


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
    picture = tf.io.decode_image(contents, channels=0, expand_animations=False)
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
        contents: the bytes of a JPEG, PNG or WebP file, or at least those before the pixels.
    """
    try:
        for exif in _exif(contents):
            order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
            (place,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, place)
            for entry in range(place + 2, place + 2 + 12 * count, 12):
                tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
                if tag == 0x112:
                    (value,) = struct.unpack_from(order + {3: "H", 4: "I"}[kind], exif, entry + 8)
                    return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1


def _exif(contents):
    if contents.startswith(b"\xff\xd8"):
        for marker, first, end in _segments(contents):
            if marker != 0xFE and not 0xE0 <= marker <= 0xEF:
                return
            if marker == 0xE1 and contents.startswith(b"Exif\0\0", first):
                yield contents[first + 6 : end]
    elif contents.startswith(b"\x89PNG") or contents[8:12] == b"WEBP":
        for kind, first, end in _chunks(contents):
            if kind in (b"eXIf", b"EXIF"):
                yield contents[first:end].removeprefix(b"Exif\0\0")


def _segments(contents):
    """Yields the marker of each segment of a JPEG, where it begins, and where it ends, up to the end of the picture."""
    place = 2
    while found := _MARKER.search(contents, place):
        marker, place = contents[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        length = int.from_bytes(contents[place : place + 2], "big")
        yield marker, place + 2, place + length
        place += max(length, 2)


def _chunks(contents):
    """Yields the kind of each chunk of a PNG or WebP, where it begins, and where it ends."""
    is_png = contents.startswith(b"\x89PNG")
    place = 8 if is_png else 12
    while place + 8 <= len(contents):
        first, second = contents[place : place + 4], contents[place + 4 : place + 8]
        kind, length = (second, first) if is_png else (first, second)
        end = place + 8 + int.from_bytes(length, "big" if is_png else "little")
        yield kind, place + 8, end
        if kind == b"IEND":
            return
        # A PNG has a checksum of four bytes there, and a WebP begins each chunk at an even place.
        place = end + (4 if is_png else end % 2)


def _transparent_colour(contents):
    """Returns the one colour of a PNG without a palette that is transparent, or `None`."""
    if not contents.startswith(b"\x89PNG") or len(contents) < 26:
        return None
    bits, kind = contents[24:26]
    if kind not in (0, 2) or bits > 8:
        return None
    for name, first, end in _chunks(contents):
        if name == b"tRNS" and end - first == 2 + 2 * kind:
            colour = np.frombuffer(contents[first:end], ">u2").astype(int)
            return (colour % 2**bits) * 255 // (2**bits - 1)
    return None


def _gif_on_white(contents):
    """Returns a GIF with white pixels in the place of the transparent ones of its first frame."""
    try:
        place, control = 13 + _size_of_colours(contents[10]), None
        while contents[place] == ord("!"):
            if contents[place + 1] == 0xF9 and contents[place + 3] % 2:
                control = place
            place += 2
            while contents[place]:
                place += 1 + contents[place]
            place += 1
        if contents[place] == ord(",") and control is not None:
            flags = contents[place + 9]
            colours, first = (flags, place + 10) if flags >= 128 else (contents[10], 13)
            changed = bytearray(contents)
            changed[control + 3] &= 0xFE
            own = 3 * contents[control + 6]
            if own < _size_of_colours(colours):
                changed[first + own : first + own + 3] = b"\xff\xff\xff"
            return bytes(changed)
    except IndexError:
        pass  # The decoder refuses it.
    return contents


def defect_of(contents):
    """Returns why the contents of a file should not be decoded, as far as its headers tell, or an empty string.

    A header that is cut off is left to the decoder, which refuses it.
    """
    if not contents:
        return "an empty file"
    try:
        pixels = _promised_pixels(contents)
        defect = _defect_of_bmp(contents) if contents.startswith(b"BM") else ""
    except (struct.error, tf.errors.OpError):
        return ""
    if pixels is None:
        other = next((words for mark, words in _NOT_READ if re.match(mark, contents[:64], re.DOTALL)), None)
        return f"{other}, which is not read" if other else "no picture of a known kind"
    if not pixels:
        return f"a {_kind(contents)} of no pixels"
    if pixels > MOST_PIXELS:
        return f"{pixels:,} pixels, more than {MOST_PIXELS:,}"
    scans = 0
    if contents.startswith(b"\xff\xd8"):
        scans = sum(marker == 0xDA for marker, _, _ in _segments(contents))
    return defect or (f"{scans:,} scans, more than {MOST_SCANS}" if scans > MOST_SCANS else "")


def damage_of(contents):
    """Returns what is wrong with the contents of a file that could not be decoded."""
    defect = defect_of(contents)
    if defect:
        return defect
    kind = _kind(contents)
    if kind == "JPEG" and b"\xff\xd9" not in contents[-64:]:
        return f"a JPEG without an end, {len(contents):,} bytes"
    return f"a {kind} that is damaged or of a rare kind, {len(contents):,} bytes"


def _kind(contents):
    return next((kind for mark, kind in _READ if contents.startswith(mark)), "WebP")


def _promised_pixels(contents):
    """Returns how many pixels the decoder would make, all frames of a GIF together, or `None` for another file."""
    if contents.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", contents, 16)
    elif contents.startswith(b"\xff\xd8\xff"):
        height, width, _ = tf.image.extract_jpeg_shape(contents).numpy().tolist()
    elif contents.startswith(b"GIF8"):
        return _promised_by_gif(contents)
    elif contents.startswith(b"BM"):
        width, height = map(abs, struct.unpack_from("<ii", contents, 18))
    elif contents[8:16] == b"WEBPVP8X":
        width, height = (1 + int.from_bytes(contents[place : place + 3], "little") for place in (24, 27))
    elif contents[8:16] == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", contents, 21)
        width, height = 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    elif contents[8:16] == b"WEBPVP8 ":
        width, height = (size % 2**14 for size in struct.unpack_from("<HH", contents, 26))
    else:
        return None
    return height * width


def _promised_by_gif(contents):
    width, height, flags = struct.unpack_from("<HHB", contents, 6)
    pixels, place = width * height, 13 + _size_of_colours(flags)
    try:
        while contents[place] in b"!,":
            if contents[place : place + 1] == b",":
                width, height, flags = struct.unpack_from("<HHB", contents, place + 5)
                pixels += width * height
                place += 8 + _size_of_colours(flags)
            place += 2
            while contents[place]:
                place += 1 + contents[place]
            place += 1
    except (IndexError, struct.error):
        pass  # The decoder takes the frames that are there.
    return pixels


def _size_of_colours(flags):
    """Returns how many bytes a table of colours has, from the flags before it."""
    return 3 * 2 ** (1 + flags % 8) if flags >= 128 else 0


def _defect_of_bmp(contents):
    """Returns why TensorFlow 2.21, which reads pixels without a palette and nothing else, would read a BMP wrongly."""
    pixels, header, _, _, _, bits, compression = struct.unpack_from("<IIiiHHI", contents, 10)
    if header < 40 or compression not in (0, 3):
        return "a compressed or old BMP, which is not read"
    if bits not in (8, 24, 32):
        return f"a BMP of {bits} bits a pixel, which is not read"
    colours = np.frombuffer(contents[14 + header : pixels], "u1") if bits == 8 else np.zeros(0, "u1")
    colours = colours[: len(colours) // 4 * 4].reshape(-1, 4)[:, :3]
    grey = (colours == np.arange(len(colours))[:, None]).all()
    return "" if grey else "a BMP with a palette of colours, which is not read"
