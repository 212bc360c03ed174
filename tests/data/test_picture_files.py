"""Pictures of every kind: every reader reads the same of them, turned and on white, or says what is wrong with them."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pinets_tf.data import imagenet, images, pictures
from pinets_tf.data.epochs import Share
from pinets_tf.data.picture_files import MOST_PIXELS, MOST_SCANS, defect_of, on_white, orientation_of, read_picture
from tests.properties.readers import SEEDS, example, record

SIDE = 16


def pixels(height=SIDE, width=SIDE, channels=3):
    """Blocks of colours, so that JPEG keeps them, of which no two are the same, as sides tell."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height // 8, width // 8, channels)).astype("uint8").repeat(8, 0).repeat(8, 1)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def png(width, height, bits, rows, transparent=b"", interlaced=0):
    """Returns a grey PNG of a kind that Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chunks = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, interlaced))
    chunks += chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def oriented(kind, orientation, order=">", height=24, width=32):
    exif = Image.Exif()
    exif.endian = order
    exif[0x112] = orientation
    exif[0x10F] = "A camera"
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    return encoded(pixels(height, width), kind, exif=exif, **options)


def upright(contents):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB"))


# What each reader makes of one file: a float array (SIDE, SIDE, 3) of the square, and what it says in place of that.


def by_read_image(folder, name):
    return images.read_image(folder / name, (SIDE, SIDE, 3)).numpy()


def by_read_photograph(folder, name):
    return imagenet.read_image(folder / name, size=SIDE, resize=SIDE)


def by_folder_of_pictures(folder, name):
    return pictures.load(folder, SIDE).train[0]


def by_folder_of_classes(folder, name):
    return images.load(class_folder(folder, name)).x_train[0]


def by_training_batches(folder, name):
    data = imagenet.load(class_folder(folder, name))
    return batch_of(imagenet.training_batches(data, 1, size=SIDE, epochs=1, **WHOLE), data)


def by_validation_batches(folder, name):
    data = imagenet.load(class_folder(folder, name))
    return batch_of(imagenet.validation_batches(data, 1, size=SIDE, resize=SIDE), data)


def by_records(folder, name):
    place = folder / "records"
    place.mkdir()
    for split in ("train", "validation"):
        (place / f"{split}-00000-of-00001").write_bytes(record(example((folder / name).read_bytes(), 0)))
    data = imagenet.load(place)
    return batch_of(imagenet.validation_batches(data, 1, size=SIDE, resize=SIDE), data)


WHOLE = {"area": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": False}
READERS = (
    by_read_image,
    by_read_photograph,
    by_folder_of_pictures,
    by_folder_of_classes,
    by_training_batches,
    by_validation_batches,
    by_records,
)


def class_folder(folder, name):
    for split in ("train", "val"):
        (folder / "classes" / split / "one").mkdir(parents=True)
        (folder / "classes" / split / "one" / name).write_bytes((folder / name).read_bytes())
    return folder / "classes"


def batch_of(batches, data):
    """Returns the one image of batches, or raises what is said of it."""
    try:
        found = [x[0].numpy() for x, _ in batches]
    except tf.errors.InvalidArgumentError:
        found = []
    if found:
        return found[0]
    (words,) = data.skipped.values()
    raise ValueError(words)


def read(reader, folder, contents, name="a.png"):
    (folder / name).write_bytes(contents)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return np.asarray(reader(folder, name), float)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", "<>")
def test_all_orientations(kind, order):
    for orientation in range(1, 9):
        contents = oriented(kind, orientation, order)
        assert orientation_of(contents) == orientation
        picture, defect = read_picture(contents)
        assert not defect and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, upright(contents))


def test_every_pipeline_turns(tmp_path):
    """Squares and windows are those of the picture that is looked at."""
    whole = {}
    for split in ("train", "val"):
        (tmp_path / split / "one").mkdir(parents=True)
        for number in range(12):
            contents = oriented(("JPEG", "PNG")[number // 8], number % 8 + 1, height=64, width=48)
            path = tmp_path / split / "one" / f"{number:02}.jpg"
            path.write_bytes(contents)
            whole[path] = upright(contents).astype(float)
    data = imagenet.load(tmp_path)
    items = data.training.shuffled(3, tf.constant(0, tf.int64), Share(12)).take(12)
    order = [Path(data.training.name(int(index))) for (index, _), *_ in items.as_numpy_iterator()]
    area = (0.1, 0.4)  # Of larger windows JPEG decodes half of the pixels.
    windows = imagenet.random_windows([whole[path].shape[:2] for path in order], 0, seed=3, area=area)
    batches = imagenet.training_batches(data, 12, size=20, epochs=1, flip=False, seed=3, area=area)
    for path, found, (top, left, height, width) in zip(order, next(iter(batches))[0], windows):
        expected = tf.image.resize(whole[path][top : top + height, left : left + width], (20, 20))
        np.testing.assert_allclose(found, expected, atol=6)
    batches = imagenet.validation_batches(data, 12, size=24, resize=30)
    for path, found in zip(sorted(path for path in whole if "val" in path.parts), next(iter(batches))[0]):
        side = round(48 * 24 / 30)
        top, left = ((length - side) // 2 for length in whole[path].shape[:2])
        expected = tf.image.resize(whole[path][top : top + side, left : left + side], (24, 24))
        np.testing.assert_allclose(found, expected, atol=6)
        np.testing.assert_array_equal(found, imagenet.read_image(path, size=24, resize=30))
        expected = tf.image.resize(whole[path], (20, 20), antialias=True)
        np.testing.assert_allclose(images.read_image(path, (20, 20, 3)), expected, atol=3)
        # Decoded at a half, so that each half of the square has the colour that it should have, about.
        found = imagenet.read_image(path, size=16, resize=16)
        expected = whole[path][(len(whole[path]) - 48) // 2 :, (whole[path].shape[1] - 48) // 2 :][:48, :48]
        for half, all_of_half in ((found[:8], expected[:24]), (found[:, :8], expected[:, :24])):
            np.testing.assert_allclose(half.mean((0, 1)), all_of_half.mean((0, 1)), atol=25)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\xff\xd8",
        oriented("JPEG", 6)[:40],
        # A directory that points behind the file, one of no entries, another value, and another type.
        *(
            oriented("JPEG", 6).replace(old, new)
            for old, new in (
                (b"\x00\x00\x00\x08\x00\x02", b"\xff\xff\xff\xff\x00\x02"),
                (b"\x00\x00\x00\x08\x00\x02", b"\x00\x00\x00\x08\x00\x00"),
                (b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06", b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x09"),
                (b"\x01\x12\x00\x03", b"\x01\x12\x00\x07"),
                (b"Exif\0\0MM", b"Exif\0\0XX"),
            )
        ),
        b"\xff\xd8" + b"\xff\xe1\x00\x00" * 50_000,
        b"RIFF\0\0\0\0WEBP" + b"EXIF\0\0\0\0" * 50_000,
        b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffeXIf",
    ],
)
def test_damaged_exif_data_turn_nothing(contents):
    assert orientation_of(contents) == 1


def transparent():
    """Returns pictures of which the right half is transparent, and what is seen of them."""
    colour = np.full((SIDE, SIDE, 4), (200, 10, 20, 255), "uint8")
    colour[:, SIDE // 2 :, 3] = 0
    whole = Image.fromarray(colour)
    halves = np.full((SIDE, SIDE), 0, "uint8")
    halves[:, SIDE // 2 :] = 3
    palette = Image.fromarray(halves, "P")
    palette.putpalette([200, 10, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    seen = np.full((SIDE, SIDE, 3), (200, 10, 20), "uint8")
    seen[:, SIDE // 2 :] = 255
    grey = np.where(seen == 255, 255, 68)
    rgb, luma = whole.convert("RGB"), whole.convert("L")
    keyed = np.asarray(rgb).copy()
    keyed[:, SIDE // 2 :] = (1, 2, 3)
    keyed_grey = np.asarray(luma).copy()
    keyed_grey[:, SIDE // 2 :] = 7
    yield "png-colour", encoded(whole, "PNG"), seen
    yield "png-grey", encoded(whole.convert("LA"), "PNG"), grey
    yield "png-palette", encoded(palette, "PNG", transparency=b"\xff\xff\xff\x00"), seen
    yield "png-palette-of-8-bits", encoded(palette, "PNG", transparency=b"\xff\xff\xff\x00", bits=8), seen
    yield "png-one-colour", encoded(Image.fromarray(keyed), "PNG", transparency=(1, 2, 3)), seen
    yield "png-one-grey", encoded(Image.fromarray(keyed_grey), "PNG", transparency=7), grey
    yield "gif", encoded(palette, "GIF", transparency=3), seen
    yield "gif-film", encoded(palette, "GIF", transparency=3, save_all=True, append_images=[palette] * 2), seen
    yield "webp", encoded(whole, "WEBP", lossless=True), seen


TRANSPARENT = {name: (contents, seen) for name, contents, seen in transparent()}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_lies_on_white(name):
    contents, seen = TRANSPARENT[name]
    picture, defect = read_picture(contents)
    assert not defect
    np.testing.assert_allclose(picture.astype(int), seen, atol=1)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_lays_on_white(reader, tmp_path):
    for number, name in enumerate(("png-palette", "gif")):
        (tmp_path / str(number)).mkdir()
        contents, seen = TRANSPARENT[name]
        np.testing.assert_allclose(read(reader, tmp_path / str(number), contents), seen, atol=1)


def test_half_transparent_pixels_are_mixed_with_white():
    half = np.full((8, 8, 4), (200, 0, 100, 51), "uint8")
    picture, _ = read_picture(encoded(half, "PNG"))
    np.testing.assert_array_equal(picture[0, 0], [244, 204, 224])
    grey = images.decode_image(encoded(half, "PNG"), (4, 4, 1)).numpy()
    assert grey.shape == (4, 4, 1) and grey[0, 0, 0] == pytest.approx(0.299 * 244 + 0.587 * 204 + 0.114 * 224, abs=0.1)


def in_runs(picture):
    """Returns a BMP whose rows are compressed, which Pillow does not write."""
    head = encoded(picture, "BMP")
    (start,) = struct.unpack_from("<I", head, 10)
    rows = (b"".join(bytes([8, row[0], 8, row[8]]) + b"\0\0" for row in np.asarray(picture)[::-1])) + b"\0\1"
    return head[:30] + struct.pack("<II", 1, len(rows)) + head[38:start] + rows


def valid():
    """Returns valid pictures that are rare, with what is seen of them."""
    plain = pixels()
    image = Image.fromarray(plain)
    jpeg = encoded(image, "JPEG", quality=100, subsampling=0)
    deep = np.full((SIDE, SIDE), 0x9C40, "uint16")
    low = Image.fromarray((plain[..., 0] > 127).astype("uint8") * 255).convert("1")
    grey = Image.fromarray(plain[..., 0])
    # Film behind a picture of a telephone, in which chance makes more marks of scans than a picture has.
    yield "jpeg-trailer", jpeg + b"\xff\xda" * (MOST_SCANS + 1) + b"SEFT", image
    yield "jpeg-preview", jpeg + jpeg, image
    yield "jpeg-zeros", jpeg + bytes(70), image
    yield "jpeg-cmyk", encoded(image.convert("CMYK"), "JPEG", quality=100), image
    yield "jpeg-progressive", encoded(image, "JPEG", quality=100, subsampling=0, progressive=True), image
    yield "jpeg-grey", encoded(grey, "JPEG", quality=100), grey
    yield "jpeg-restarts", encoded(image, "JPEG", quality=100, subsampling=0, restart_marker_blocks=1), image
    yield "png-trailer", encoded(image, "PNG") + b"more", image
    yield "png-16", encoded(Image.fromarray(deep), "PNG"), Image.fromarray(np.full((SIDE, SIDE), 156, "uint8"))
    yield "png-1", encoded(low, "PNG"), low
    yield "png-palette", encoded(image.quantize(4), "PNG"), image.quantize(4)
    yield "png-grey", encoded(grey, "PNG"), grey
    yield "bmp-24", encoded(image, "BMP"), image
    yield "bmp-grey", encoded(grey, "BMP"), grey
    yield "bmp-32", encoded(image.convert("RGBA"), "BMP"), image
    yield "bmp-palette", encoded(image.quantize(4), "BMP"), image.quantize(4)
    yield "bmp-1", encoded(low, "BMP"), low
    yield "bmp-runs", in_runs(image.quantize(4)), image.quantize(4)
    yield "gif", encoded(image.quantize(16), "GIF"), image.quantize(16)
    yield "webp", encoded(image, "WEBP", lossless=True), image


VALID = {name: (contents, np.asarray(seen.convert("RGB"))) for name, contents, seen in valid()}


@pytest.mark.parametrize("name", VALID)
def test_valid_pictures_are_read_whatever_they_are_called(name, tmp_path):
    contents, seen = VALID[name]
    for reader in (by_read_image, by_read_photograph):
        np.testing.assert_allclose(read(reader, tmp_path, contents, "a.jpg"), seen, atol=12)


@pytest.mark.parametrize("name", sorted(set(VALID) - {"bmp-palette", "bmp-1", "bmp-runs"}))
def test_a_served_model_sees_the_same_pixels(name):
    contents, _ = VALID[name]
    np.testing.assert_array_equal(on_white(tf.constant(contents)), read_picture(contents)[0])


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_rare_pictures(reader, tmp_path):
    for name in ("jpeg-trailer", "webp"):
        (tmp_path / name).mkdir()
        contents, seen = VALID[name]
        np.testing.assert_allclose(read(reader, tmp_path / name, contents, "a.jpg"), seen, atol=12)


def test_interlaced_pictures():
    # With Adam7 passes, which few programs write any more.
    np.testing.assert_array_equal(read_picture(png(1, 1, 8, b"\0\x63", interlaced=1))[0], np.full((1, 1, 3), 99))


@pytest.mark.parametrize(
    "bits, row, key, seen",
    [
        (1, b"\xaa", 0, [255] * 8),
        (1, b"\xaa", 1, [255, 0] * 4),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x07\xf3", 7, [0, 255, 255, 51]),
        # As stored, since of 16 bits the higher 8 are read.
        (16, b"\x12\x34\xff\xff", 0x1234, [0x12, 255]),
    ],
)
def test_a_transparent_grey_of_other_than_8_bits(bits, row, key, seen):
    picture, defect = read_picture(png(len(seen), 1, bits, b"\0" + row, struct.pack(">H", key)))
    assert not defect
    np.testing.assert_array_equal(picture, np.repeat(seen, 3).reshape(1, -1, 3))


JPEG, PNG = VALID["jpeg-zeros"][0][:-70], VALID["png-grey"][0]
DAMAGED = {
    "empty": (b"", "an empty file"),
    "cut": (JPEG[: len(JPEG) // 2], r"a JPEG without an end, [\d,]+ bytes"),
    "jpeg": (JPEG[:100] + bytes(200) + JPEG[300:], r"a JPEG that is damaged or of a rare kind, [\d,]+ bytes"),
    "png": (PNG[:60], "a PNG that is damaged or of a rare kind, 60 bytes"),
    "png-zero": (png(0, 1, 8, b""), "a PNG that is damaged or of a rare kind"),
    "bmp": (VALID["bmp-palette"][0][:-1], "a BMP that is damaged"),
    "webp": (VALID["webp"][0][:40], "a WebP that is damaged"),
    "gif": (VALID["gif"][0][:30], "a GIF that is damaged"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC picture, which is not read"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(99), "an AVIF picture, which is not read"),
    "tiff": (encoded(pixels(), "TIFF"), "a TIFF or a raw picture of a camera, which is not read"),
    "jxl": (b"\xff\x0a" + bytes(99), "a JPEG XL picture, which is not read"),
    "apple": (b"\0\5\x16\7" + bytes(99), "what macOS keeps beside a file, which is not read"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a text, such as SVG or HTML, which is not read"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS in the place of the file"),
    "text": (b"404: Not Found", "no picture of a known kind"),
    "byte": (b"\xff", "no picture of a known kind"),
}
# What belongs to TensorFlow, NumPy or Keras.
INTERNALS = re.compile(
    r"function_node|\[Op:|__wrapped__|node \{|tensorflow|numpy|keras|Errno|UTF-8|Traceback|0x[0-9a-f]{6}", re.I
)


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("reader", [by_read_image, by_read_photograph, by_folder_of_pictures, by_folder_of_classes])
def test_damaged_pictures_are_told_in_words(reader, name, tmp_path):
    contents, words = DAMAGED[name]
    with pytest.raises(ValueError, match=words) as caught:
        read(reader, tmp_path, contents, "a.jpg")
    assert "Received: " in str(caught.value) and not INTERNALS.search(str(caught.value))


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("source", ["folder", "records"])
def test_pipelines_name_each_damaged_picture(source, cache, tmp_path):
    good = VALID["png-grey"][0]
    # What has no picture at all is refused at once by the first record of a file, here the good one.
    files = {f"{number:02}.jpg": contents for number, (contents, _) in enumerate(DAMAGED.values())}
    if source == "folder":
        for split in ("train", "val"):
            (tmp_path / split / "one").mkdir(parents=True)
            for name, contents in {"good.png": good, **files}.items():
                (tmp_path / split / "one" / name).write_bytes(contents)
    else:
        for split in ("train", "validation"):
            content = b"".join(record(example(contents, 0)) for contents in (good, *files.values()))
            (tmp_path / f"{split}-00000-of-00001").write_bytes(content)
    data = imagenet.load(tmp_path)
    batches = imagenet.validation_batches(data, 1, size=SIDE, resize=SIDE, cache=cache)
    assert sum(len(y) for _, y in batches) == 1
    named = [words for name, words in data.skipped.items() if "images before" not in name]
    # Of more than sixteen in a row the first are only counted.
    assert len(named) == 16 and len(data.skipped) == 17
    for found in named:
        assert any(re.match(words, found) for _, words in DAMAGED.values()) and not INTERNALS.search(found)


def promising(kind, side):
    """Returns a small file whose header promises a square of that side."""
    if kind == "PNG":
        return png(side, side, 8, b"")
    contents = VALID[{"JPEG": "jpeg-zeros", "BMP": "bmp-24", "GIF": "gif", "WebP": "webp"}[kind]][0]
    place, size = {
        "JPEG": (contents.find(b"\xff\xc0") + 5, struct.pack(">HH", side, side)),
        "BMP": (18, struct.pack("<II", side, side)),
        "GIF": (6, struct.pack("<HH", side, side)),
        "WebP": (21, struct.pack("<I", side - 1 | (side - 1) << 14)),
    }[kind]
    return contents[:place] + size + contents[place + len(size) :]


# More than are read, more than Pillow warns of, and more than it refuses.
@pytest.mark.parametrize("side", [8193, 10_000, 16_000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WebP"])
@pytest.mark.filterwarnings("error")
def test_headers_promise_no_more_than_is_decoded(kind, side):
    contents = promising(kind, side)
    assert read_picture(contents) == (None, f"more than {MOST_PIXELS:,} pixels") == (None, defect_of(contents))


def test_a_picture_of_as_many_pixels_as_are_decoded():
    assert defect_of(promising("PNG", 8192)) == "" == defect_of(SEEDS["picture"][1][1])


def test_scans_are_few():
    contents = VALID["jpeg-progressive"][0]
    last = contents[contents.rindex(b"\xff\xda") : -2]
    scans = contents.count(b"\xff\xda")
    assert not read_picture(contents[:-2] + last * (MOST_SCANS - scans) + b"\xff\xd9")[1]
    contents = contents[:-2] + last * (MOST_SCANS - scans + 1) + b"\xff\xd9"
    assert read_picture(contents) == (None, f"more than {MOST_SCANS} scans") == (None, defect_of(contents))


def test_orientation_before_much_else(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    options = {"quality": 100, "subsampling": 0, "exif": exif, "icc_profile": bytes(200_000)}
    contents = encoded(pixels(), "JPEG", **options)
    np.testing.assert_allclose(read(by_validation_batches, tmp_path, contents, "a.jpg"), upright(contents), atol=3)


@pytest.mark.parametrize("name", ["png-colour", "png-one-colour", "gif"])
def test_pictures_with_alpha_for_a_network_of_four_channels(name, tmp_path):
    contents, seen = TRANSPARENT[name]
    (tmp_path / "a.png").write_bytes(contents)
    found = images.read_image(tmp_path / "a.png", (SIDE, SIDE, 4)).numpy()
    np.testing.assert_array_equal(found[..., 3], np.where(seen[..., 1] == 255, 0, 255))
    np.testing.assert_array_equal(found[:, : SIDE // 2, :3], seen[:, : SIDE // 2])


def test_other_channels(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(ValueError, match=r"1, 3 or 4 channels: .* Received: shape=\(8, 8, 2\)\. Pass an array"):
        images.read_image(tmp_path / "a.png", (8, 8, 2))


def test_pictures_without_colour_for_a_network_of_one_channel(tmp_path):
    for name in ("gif", "bmp-24", "jpeg-cmyk", "webp"):
        contents, seen = VALID[name]
        (tmp_path / "a.png").write_bytes(contents)
        grey = images.read_image(tmp_path / "a.png", (SIDE, SIDE, 1)).numpy()
        np.testing.assert_allclose(grey, seen @ images.GREY, atol=12)
