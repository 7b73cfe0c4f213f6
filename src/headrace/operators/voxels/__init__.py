"""Voxels: a box cut into equal cells, kept in blocks where there is something."""
