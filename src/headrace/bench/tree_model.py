"""Boosted trees made by chance, as files of treelite and ONNX, and their answer in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.bench.onnx_file import field, model_file, node, tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trees:
    """A sum of complete binary trees. A row goes right where its feature is not below a threshold.

    Attributes:
        width: Features of a row.
        feature: Feature that each inner node looks at, (trees, inner nodes), breadth first.
        threshold: What it is compared with, exact in single precision.
        leaf: Values of the leaves, (trees, leaves), exact in single precision.
    """

    width: int
    feature: Ints
    threshold: Floats
    leaf: Floats

    @classmethod
    def random(cls, trees: int, depth: int, width: int, seed: int = 1) -> Trees:
        """Return trees with thresholds from the middle of a normal distribution."""
        chance = np.random.default_rng(seed)
        inner, leaves = 2**depth - 1, 2**depth
        return cls(
            width,
            chance.integers(0, width, (trees, inner)),
            chance.normal(0.0, 0.7, (trees, inner)).astype(np.float32).astype(np.float64),
            chance.normal(0.0, 0.1, (trees, leaves)).astype(np.float32).astype(np.float64),
        )

    def predict(self, rows: Floats) -> Floats:
        """Return the sum over all trees for each of (n, width) rows."""
        total = np.zeros(len(rows))
        for feature, threshold, leaf in zip(self.feature, self.threshold, self.leaf, strict=True):
            at = np.zeros(len(rows), dtype=np.int64)
            while at[0] < feature.size:
                right = rows[np.arange(len(rows)), feature[at]] >= threshold[at]
                at = 2 * at + 1 + right
            total += leaf[at - feature.size]
        return total

    def write_treelite(self, path: Path) -> Path:
        """Write them with treelite's model builder; needs the extra `models`."""
        from treelite.model_builder import (
            Metadata,
            ModelBuilder,
            PostProcessorFunc,
            TreeAnnotation,
        )

        count = len(self.feature)
        # Its short methods have no annotations.
        builder: Any = ModelBuilder(
            threshold_type="float64",
            leaf_output_type="float64",
            metadata=Metadata(
                num_feature=self.width,
                task_type="kRegressor",
                average_tree_output=False,
                num_target=1,
                num_class=[1],
                leaf_vector_shape=(1, 1),
            ),
            tree_annotation=TreeAnnotation(
                num_tree=count, target_id=[0] * count, class_id=[0] * count
            ),
            postprocessor=PostProcessorFunc(name="identity"),
            base_scores=[0.0],
        )
        for feature, threshold, leaf in zip(self.feature, self.threshold, self.leaf, strict=True):
            builder.start_tree()
            for at in range(feature.size + leaf.size):
                builder.start_node(at)
                if at < feature.size:
                    builder.numerical_test(
                        feature_id=int(feature[at]),
                        threshold=float(threshold[at]),
                        default_left=True,
                        opname="<",
                        left_child_key=2 * at + 1,
                        right_child_key=2 * at + 2,
                    )
                else:
                    builder.leaf(float(leaf[at - feature.size]))
                builder.end_node()
            builder.end_tree()
        builder.commit().serialize(str(path))
        return path

    def write_onnx(self, path: Path) -> Path:
        """Write them as one TreeEnsembleRegressor of ai.onnx.ml, in single precision."""
        trees, inner = self.feature.shape
        leaves = self.leaf.shape[1]
        nodes = inner + leaves
        number = np.tile(np.arange(nodes), trees)
        is_inner = number < inner
        pad = np.zeros((trees, leaves))
        trees_node = node(
            "TreeEnsembleRegressor",
            ["rows"],
            ["prediction"],
            "ai.onnx.ml",
            nodes_treeids=np.repeat(np.arange(trees), nodes),
            nodes_nodeids=number,
            nodes_featureids=np.hstack([self.feature, pad.astype(np.int64)]).ravel(),
            nodes_values=np.hstack([self.threshold, pad]).ravel(),
            nodes_modes=[b"BRANCH_LT" if one else b"LEAF" for one in is_inner],
            nodes_truenodeids=np.where(is_inner, 2 * number + 1, 0),
            nodes_falsenodeids=np.where(is_inner, 2 * number + 2, 0),
            nodes_missing_value_tracks_true=is_inner.astype(np.int64),
            target_treeids=np.repeat(np.arange(trees), leaves),
            target_nodeids=np.tile(np.arange(inner, nodes), trees),
            target_ids=np.zeros(trees * leaves, dtype=np.int64),
            target_weights=self.leaf.ravel(),
            n_targets=1,
        )
        graph = field(1, trees_node) + field(2, "trees")
        graph += field(11, tensor("rows", self.width)) + field(12, tensor("prediction", 1))
        path.write_bytes(model_file(graph))
        return path
