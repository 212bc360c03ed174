"""Which samples are held out, where a data set does not say so: what a hash of their names says, on every machine."""

import hashlib


def hundredth(name):
    """Returns an integer from 0 to 99 that a name alone decides."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) % 100


def held_out(paths):
    """Returns which files of a class are not trained with: a tenth, by their names without folders.

    One of several is held out in any case, and one is trained with.

    Args:
        paths: the files, with `/` between folders.
    """
    places = {path: hundredth(path.rpartition("/")[2]) for path in paths}
    ordered = sorted(paths, key=lambda path: (places[path], path))
    tenth = sum(place < 10 for place in places.values())
    return set(ordered[: min(max(tenth, 1), len(paths) - 1)])
