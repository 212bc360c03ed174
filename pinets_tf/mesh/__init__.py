"""Meshes of one topology: shapes from files, spirals, and coarser levels, made once for each template."""

from pinets_tf.mesh.coordinates import tangent_coordinates
from pinets_tf.mesh.decimation import Coarse, decimate
from pinets_tf.mesh.deformed_spheres import deformed_spheres
from pinets_tf.mesh.files import Shapes, read_mesh, read_shapes
from pinets_tf.mesh.hierarchy import Hierarchy, Level, hierarchy
from pinets_tf.mesh.spirals import spirals
from pinets_tf.mesh.topology import clean_faces

__all__ = [
    "Coarse",
    "Hierarchy",
    "Level",
    "Shapes",
    "clean_faces",
    "decimate",
    "deformed_spheres",
    "hierarchy",
    "read_mesh",
    "read_shapes",
    "spirals",
    "tangent_coordinates",
]
