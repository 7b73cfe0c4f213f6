"""Boosted trees made by chance, as files of treelite and ONNX, and their answer in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FLOAT, _INT, _FLOATS, _INTS, _STRINGS = 1, 2, 6, 7, 8
_OPSET: Final = 18
_ML_OPSET: Final = 3
_MORE: Final = 0x80
"""Set in a byte that another one follows."""


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
            node = np.zeros(len(rows), dtype=np.int64)
            while node[0] < feature.size:
                right = rows[np.arange(len(rows)), feature[node]] >= threshold[node]
                node = 2 * node + 1 + right
            total += leaf[node - feature.size]
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
            for node in range(feature.size + leaf.size):
                builder.start_node(node)
                if node < feature.size:
                    builder.numerical_test(
                        feature_id=int(feature[node]),
                        threshold=float(threshold[node]),
                        default_left=True,
                        opname="<",
                        left_child_key=2 * node + 1,
                        right_child_key=2 * node + 2,
                    )
                else:
                    builder.leaf(float(leaf[node - feature.size]))
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
        node = _field(1, "rows") + _field(2, "prediction") + _field(4, "TreeEnsembleRegressor")
        for name, value in (
            ("nodes_treeids", np.repeat(np.arange(trees), nodes)),
            ("nodes_nodeids", number),
            ("nodes_featureids", np.hstack([self.feature, pad.astype(np.int64)]).ravel()),
            ("nodes_values", np.hstack([self.threshold, pad]).ravel()),
            ("nodes_modes", [b"BRANCH_LT" if one else b"LEAF" for one in is_inner]),
            ("nodes_truenodeids", np.where(is_inner, 2 * number + 1, 0)),
            ("nodes_falsenodeids", np.where(is_inner, 2 * number + 2, 0)),
            ("nodes_missing_value_tracks_true", is_inner.astype(np.int64)),
            ("target_treeids", np.repeat(np.arange(trees), leaves)),
            ("target_nodeids", np.tile(np.arange(inner, nodes), trees)),
            ("target_ids", np.zeros(trees * leaves, dtype=np.int64)),
            ("target_weights", self.leaf.ravel()),
            ("n_targets", 1),
        ):
            node += _field(5, _attribute(name, value))
        node += _field(7, "ai.onnx.ml")
        graph = _field(1, node) + _field(2, "trees")
        graph += _field(11, _matrix("rows", self.width)) + _field(12, _matrix("prediction", 1))
        path.write_bytes(_model(graph))
        return path


def _model(graph: bytes) -> bytes:
    opsets = _field(8, _number(2, _OPSET)) + _field(
        8, _field(1, "ai.onnx.ml") + _number(2, _ML_OPSET)
    )
    return _number(1, 8) + _field(2, "headrace") + _field(7, graph) + opsets


def _attribute(name: str, value: Any) -> bytes:
    """Return an AttributeProto of onnx.proto."""
    head = _field(1, name)
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, _INT)
    if isinstance(value, list):
        return head + b"".join(_field(9, each) for each in value) + _number(20, _STRINGS)
    if value.dtype.kind == "f":
        return head + _field(7, value.astype("<f4").tobytes()) + _number(20, _FLOATS)
    return head + _field(8, b"".join(map(_varint, value.tolist()))) + _number(20, _INTS)


def _matrix(name: str, width: int) -> bytes:
    """Return a ValueInfoProto: single-precision numbers, (any, width)."""
    shape = _field(1, _field(2, "n")) + _field(1, _number(1, width))
    return _field(1, name) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, shape)))


def _field(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while value >= _MORE:
        found.append(value % _MORE | _MORE)
        value //= _MORE
    found.append(value)
    return bytes(found)
