"""Encoded images in files, in TFRecords or in memory, as items that can be decoded, named and shuffled."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from pinets_tf.data.epochs import Share, shuffled
from pinets_tf.files import shown

# Records that are shuffled at once, and files that are read in turn.
BLOCK, OPEN_FILES = 2048, 16
# A chunk of numbers is made at once.
CHUNK = 64
# More than an epoch has images, and a file has records.
EPOCH = FILE = 1 << 32
# Unreadable images in a row that can be named.
REMEMBERED = 16


class Files:
    """Images with a number each, in files or in memory, in any order.

    A source yields the items of a `Share` with their number among them in the order of an epoch and the keys of the
    `REMEMBERED` items before, the last first. `read` makes encoded bytes and a label of an item, `name` and `item` the
    name, and bytes and label, of a key.
    """

    unreadable = "a file that cannot be opened"

    def __init__(self, labels, paths=None, encoded: Any = None, name: Callable[[int], str] | None = None):
        self.labels: Any = tf.constant(labels, tf.int32)
        self.encoded = encoded
        # Strings of TensorFlow, which take a quarter of the memory of Python's.
        self.paths: Any = None if paths is None else tf.constant([os.fsencode(path) for path in paths])
        self.name = name or self._path
        self.size = len(labels)

    def _path(self, key):
        return shown(os.fsdecode(self.paths[key].numpy()))

    def bytes(self) -> int:
        return 0 if self.paths is None else sum(map(os.path.getsize, self.paths.numpy()))

    def facts(self):
        """Yields what tells this from other images: labels, and names without the folder of all, and sizes."""
        yield self.labels.numpy()
        if self.paths is not None:
            paths = self.paths.numpy().tolist()
            above = len(os.path.commonpath(paths))
            yield [(path[above:], os.path.getsize(path)) for path in paths]

    def in_memory(self):
        if self.encoded is not None:
            return self
        files = tf.data.Dataset.from_tensor_slices(self.paths)
        contents = files.map(tf.io.read_file, num_parallel_calls=tf.data.AUTOTUNE).batch(self.size)
        return Files(self.labels, encoded=contents.get_single_element(), name=self.name)

    def shuffled(self, seed, epoch, share):
        def order(number):
            flat = shuffled(tf.reshape(share.place(number) % self.size, [-1]), seed, epoch, self.size)
            return tf.reshape(flat, tf.shape(number))

        return self._chunks(share.count(2 * self.size), order)

    def in_order(self, share):
        count = share.count(self.size)
        return self._chunks(count, lambda number: tf.minimum(share.place(number), self.size - 1)).take(count)

    def _chunks(self, count, order):
        def chunk(start):
            number = start + tf.range(CHUNK, dtype=tf.int64)
            before = tf.maximum(number[:, None] - tf.range(1, REMEMBERED + 1, dtype=tf.int64), 0)
            item = order(number)
            return (item, tf.gather(self.labels, item)), number, order(before)

        chunks = tf.data.Dataset.range(0, count, CHUNK)
        return chunks.map(chunk, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    def end(self, share):
        count = share.count(self.size)
        last = share.place(tf.range(count - 1, count - 1 - REMEMBERED, -1, dtype=tf.int64))
        return tf.constant([count], tf.int64), last[None]

    def read(self, item):
        index, label = item
        if self.encoded is None:
            return tf.io.read_file(tf.gather(self.paths, index)), label
        return tf.gather(self.encoded, index), label

    def contents(self, key):
        return self.item(key)[0]

    def item(self, key):
        """Returns the bytes and the label of an image."""
        return self.read((key, 0))[0].numpy(), int(self.labels[key])


class Records:
    """Images in TFRecords, as `Files`. `parse` makes encoded bytes and a label of a record."""

    unreadable = "a record that is damaged, or has features of other types"

    def __init__(self, files, counts, parse):
        self.files, self.counts, self.parse = tuple(files), tuple(counts), parse
        self.paths = tf.constant([os.fsencode(file) for file in files])
        self.size = sum(counts)

    def bytes(self):
        return sum(map(os.path.getsize, self.files))

    def facts(self):
        """Yields what tells this from other images: the names of the files, their sizes and numbers of records."""
        yield [(os.path.basename(file), os.path.getsize(file)) for file in self.files], self.counts

    def in_memory(self):
        def read(item, number, recent):
            return *self.read(item), recent[0]

        everything = Share(1)
        end = self.end(everything)[1][0, :1]
        records = self.in_order(everything).map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(self.size)
        encoded, labels, before = records.get_single_element()
        keys = tf.concat([before[1:], end], 0)
        return Files(labels, encoded=encoded, name=lambda number: self.name(int(keys[number])))

    def shuffled(self, seed, epoch, share):
        count = len(self.files)
        files = shuffled(tf.range(count, dtype=tf.int64), seed, epoch, count)
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            self._file, OPEN_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

        # Not `Dataset.shuffle`, which takes no tensor as seed and mixes in TensorFlow's global one.
        def mix(number, block):
            seeds = tf.stack([tf.cast(seed, tf.int64), epoch * EPOCH + number])
            order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(block[1])), seeds)
            return tf.nest.map_structure(lambda values: tf.gather(values, order), block)

        blocks = records.batch(BLOCK).enumerate().map(mix).prefetch(1)
        return self._numbered(blocks.unbatch().repeat(2), share)

    def in_order(self, share):
        return self._numbered(tf.data.Dataset.range(len(self.files)).flat_map(self._file), share)

    def _file(self, file):
        keys = tf.data.Dataset.range(file * FILE, (file + 1) * FILE)
        return tf.data.Dataset.zip(tf.data.TFRecordDataset(self.paths[file]), keys)

    def _numbered(self, records, share):
        if share.hosts > 1:
            records = records.enumerate().filter(lambda place, _: share.holds(place)).map(lambda _, record: record)

        def remember(recent, numbered):
            number, (record, key) = numbered
            return tf.concat([key[None], recent[:-1]], 0), (record, number, recent)

        return records.enumerate().scan(tf.zeros(REMEMBERED, tf.int64), remember)

    def end(self, share):
        keys = [file * FILE + record for file, count in enumerate(self.counts) for record in range(count)]
        count = share.count(self.size)
        last = [keys[share.place(number)] for number in range(count - 1, max(count - 1 - REMEMBERED, -1), -1)]
        return tf.constant([count], tf.int64), tf.constant([last], tf.int64)

    def read(self, item):
        return self.parse(item)

    def name(self, key):
        return f"{shown(self.files[key // FILE])}, record {key % FILE}"

    def contents(self, key):
        return self.item(key)[0]

    def item(self, key):
        """Returns the bytes and the label of an image."""
        record = tf.data.TFRecordDataset(self.paths[key // FILE]).skip(key % FILE).take(1)
        contents, label = self.parse(record.get_single_element())
        return contents.numpy(), int(label)


def cached(source, cache):
    if cache not in ("auto", True, False):
        raise ValueError(f"`cache` must be 'auto', True or False. Received: cache={cache!r}. Pass one of them.")
    if cache == "auto":
        cache = source.bytes() <= _memory_bytes() / 4
    return source.in_memory() if cache else source


def _memory_bytes():
    """Returns the memory of the machine, or of the container if that is less."""
    if not hasattr(os, "sysconf"):  # Windows.
        return 0
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else ""
    return min(size, int(text)) if text.isdigit() else size
