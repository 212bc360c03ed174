"""The tests of the errors that docstrings of `pinets_tf.mesh` document."""

from tests.documented_errors.provoking import Case

TESTED: dict[str, dict[str, list[str | Case]]] = {
    "mesh.decimation.decimate": {
        "ValueError": [
            "tests/mesh/test_decimation.py::test_bad_template",
            "tests/mesh/test_decimation.py::test_bad_factor",
            "tests/mesh/test_decimation.py::test_too_many_parts",
        ],
    },
    "mesh.deformed_spheres.deformed_spheres": {
        "ImportError": ["tests/mesh/test_deformed_spheres.py::test_missing_extra"],
    },
    "mesh.files.read_shapes": {
        "FileNotFoundError": ["tests/mesh/test_files.py::test_what_is_not_there"],
        "ImportError": ["tests/mesh/test_files.py::test_missing_extra"],
        "ValueError": [
            "tests/mesh/test_files.py::test_what_is_not_there",
            "tests/mesh/test_files.py::test_files_that_are_no_mesh",
            "tests/mesh/test_files.py::test_files_of_different_topologies",
            "tests/mesh/test_files.py::test_bad_arrays",
        ],
    },
    "mesh.files.read_mesh": {
        "FileNotFoundError": ["tests/mesh/test_files.py::test_what_is_not_there"],
        "ImportError": ["tests/mesh/test_files.py::test_missing_extra"],
        "ValueError": [
            "tests/mesh/test_files.py::test_truncated_files",
            "tests/mesh/test_formats.py::test_damage_is_named",
            "tests/mesh/test_files.py::test_bad_coordinates_and_indices",
        ],
    },
    "mesh.hierarchy.hierarchy": {
        "ValueError": ["tests/mesh/test_hierarchy.py::test_bad_template", "tests/mesh/test_hierarchy.py::test_errors"],
    },
    "mesh.spirals.spirals": {"ValueError": ["tests/mesh/test_spirals.py::test_errors"]},
    "mesh.topology.clean_faces": {"ValueError": ["tests/mesh/test_topology.py::test_errors"]},
}
