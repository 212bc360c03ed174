"""The tests of the errors that docstrings of `pinets_tf.data` document."""

import numpy as np

from pinets_tf.data import class_folders, epochs, imagenet, images, meshes, pictures
from tests.documented_errors.provoking import Case, arrays, without, written

# The three parts of errors that several functions have.
NO_BATCH = ("at least one full batch", "batch_size=9 for ", "Pass a smaller batch size")


NO_CROP = ("A crop must lie in the resized image", "size=8, resize=4", "Pass a `resize` of at least")


NO_TRIMESH = ("is made or read with trimesh", "it is not installed", "pip install 'pinets_tf[mesh]'")


TESTED: dict[str, dict[str, list[str | Case]]] = {
    "data.class_folders.read": {
        "ValueError": [
            Case(
                lambda path: class_folders.read(path, (".png",), ("val",)),
                "A folder of images has a folder for each class",
                "without any",
                "Put the images of a class into",
            )
        ],
    },
    "data.images.check_axes": {
        "ValueError": [
            Case(
                lambda path: images.check_axes(np.zeros((2, 3, 8, 8)), "x", "a.npz"),
                "Images have their channels last",
                "x of shape (2, 3, 8, 8) in a.npz, whose axis 1 looks like channels",
                "Save np.moveaxis(x, 1, -1)",
            )
        ],
    },
    "data.images.usable": {
        "ValueError": [
            Case(
                lambda path: images.usable(written(path / "a.png").parent, ["a.png"], lambda number, contents: "bad"),
                "At least half of the pictures must be usable",
                "with 1 files, of which 1 are not: a.png (bad)",
                "Copy them again or remove them",
            )
        ],
    },
    "data.epochs.full_batches": {"ValueError": ["tests/data/test_epochs.py::test_full_batches"]},
    "data.epochs.Share": {
        "ValueError": [
            Case(
                lambda path: epochs.Share(6, hosts=2, replicas=2),
                "Each replica takes the same part of a batch",
                "batch_size=6 for 4 replicas",
                "Pass a multiple of 4",
            )
        ],
    },
    "data.imagenet.load": {
        "FileNotFoundError": ["tests/data/test_imagenet.py::test_no_such_folder"],
        "ImportError": ["tests/data/test_imagenet.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_imagenet.py::test_bad_folders",
            "tests/data/test_imagenet.py::test_bad_records",
            "tests/data/test_imagenet.py::test_records_of_other_features",
            "tests/data/test_imagenet.py::test_compressed_records_are_refused_as_such",
            "tests/data/test_imagenet.py::test_failed_download",
        ],
    },
    "data.imagenet.training_batches": {"ValueError": ["tests/data/test_imagenet.py::test_bad_arguments"]},
    "data.imagenet.validation_batches": {"ValueError": ["tests/data/test_imagenet.py::test_bad_arguments"]},
    "data.imagenet.read_image": {
        "FileNotFoundError": ["tests/data/test_imagenet.py::test_read_image_says_what_is_wrong"],
        "ValueError": [
            "tests/data/test_imagenet.py::test_read_image_says_what_is_wrong",
            Case(lambda path: imagenet.read_image(written(path / "a.png"), size=8, resize=4), *NO_CROP),
        ],
    },
    "data.imagenet.decode_image": {
        "ValueError": [Case(lambda path: imagenet.decode_image(b"", size=8, resize=4), *NO_CROP)]
    },
    "data.images.load": {
        "FileNotFoundError": ["tests/data/test_images.py::test_missing_and_truncated_files"],
        "ImportError": ["tests/data/test_images.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_images.py::test_missing_and_truncated_files",
            "tests/data/test_images.py::test_bad_arrays",
            "tests/data/test_images.py::test_folders_that_are_no_classes",
            "tests/data/test_images.py::test_folder_of_several_sizes",
        ],
    },
    "data.images.training_batches": {
        "ValueError": [Case(lambda path: images.training_batches(images.load(arrays(path)), 9, epochs=1), *NO_BATCH)],
    },
    "data.images.read_image": {
        "ValueError": [
            "tests/data/test_images.py::test_errors_of_a_picture",
            "tests/data/test_picture_files.py::test_other_channels",
        ]
    },
    "data.meshes.load": {
        "FileNotFoundError": ["tests/data/test_meshes.py::test_what_is_not_there"],
        "ImportError": [Case(without("trimesh", lambda path: meshes.load(written(path / "a.obj"))), *NO_TRIMESH)],
        "ValueError": [
            "tests/data/test_meshes.py::test_no_hdf5",
            "tests/data/test_meshes.py::test_bad_registrations",
            "tests/data/test_meshes.py::test_a_folder_of_sequences",
            "tests/data/test_meshes.py::test_too_few_shapes",
        ],
    },
    "data.meshes.training_batches": {
        "ValueError": [Case(lambda path: meshes.training_batches(meshes.load(arrays(path)), 9, epochs=1), *NO_BATCH)],
    },
    "data.meshes.read_shape": {
        "FileNotFoundError": [
            Case(
                lambda path: meshes.read_shape(path / "none.obj", 3),
                "Shapes are read from",
                "'none.obj', which is not in",
                "Pass the path",
            ),
        ],
        "ImportError": [
            Case(without("trimesh", lambda path: meshes.read_shape(written(path / "a.obj"), 3)), *NO_TRIMESH)
        ],
        "ValueError": [
            "tests/data/test_meshes.py::test_one_shape_of_a_file",
            Case(
                lambda path: meshes.read_shape(written(path / "a.obj"), 3),
                "A mesh file has vertices and faces",
                "a.obj (7 bytes), which cannot be read",
                "export or copy it again",
            ),
        ],
    },
    "data.pictures.load": {
        "FileNotFoundError": ["tests/data/test_pictures.py::test_missing_and_damaged_files"],
        "ImportError": ["tests/data/test_pictures.py::test_unknown_name_and_missing_extra"],
        "ValueError": [
            "tests/data/test_pictures.py::test_bad_arguments",
            "tests/data/test_pictures.py::test_missing_and_damaged_files",
            "tests/data/test_pictures.py::test_files_of_a_folder_that_cannot_be_used_are_named",
            "tests/data/test_pictures.py::test_bad_arrays",
            "tests/data/test_pictures.py::test_unknown_name_and_missing_extra",
        ],
    },
    "data.pictures.batches_from": {
        "ValueError": [Case(lambda path: pictures.batches_from(pictures.load(arrays(path), 8), 9), *NO_BATCH)],
    },
    "data.pictures.real_batches": {"ValueError": ["tests/data/test_pictures.py::test_too_few_pictures_for_a_batch"]},
    "data.speech.load": {
        "FileNotFoundError": ["tests/data/test_speech.py::test_no_such_folder"],
        "ImportError": ["tests/data/test_speech.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_speech.py::test_no_classes",
            "tests/data/test_speech.py::test_bad_sets",
            "tests/data/test_speech.py::test_failed_download",
        ],
    },
    "data.speech.training_batches": {
        "ValueError": [
            "tests/data/test_speech.py::test_too_few_clips_for_a_batch",
            "tests/data/test_speech.py::test_bad_settings",
        ],
    },
    "data.speech.read_clip": {
        "FileNotFoundError": ["tests/data/test_speech.py::test_no_such_folder"],
        "ValueError": ["tests/data/test_speech.py::test_bad_files_are_named_and_left_out"],
    },
}
