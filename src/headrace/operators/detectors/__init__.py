"""The detectors of `stream.detect(...)`: `hr.detector.ensemble()` and so on."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

from headrace.operators.detectors.adwin import Adwin
from headrace.operators.detectors.bocpd import Bocpd
from headrace.operators.detectors.cusum import Cusum
from headrace.operators.detectors.ddm import Ddm
from headrace.operators.detectors.detector import Detector, dump_detector, read_detector
from headrace.operators.detectors.ensemble import Ensemble
from headrace.operators.detectors.ewma import Ewma
from headrace.operators.detectors.half_space_trees import HalfSpaceTrees
from headrace.operators.detectors.mad import Mad
from headrace.operators.detectors.page_hinkley import PageHinkley
from headrace.operators.detectors.seasonal import Seasonal
from headrace.operators.detectors.spectral_residual import SpectralResidual
from headrace.operators.detectors.zscore import ZScore

ensemble = Ensemble
zscore = ZScore
mad = Mad
ewma = Ewma
seasonal = Seasonal
cusum = Cusum
page_hinkley = PageHinkley
adwin = Adwin
ddm = Ddm
bocpd = Bocpd
spectral_residual = SpectralResidual
half_space_trees = HalfSpaceTrees

DETECTORS: Final[dict[str, type[Detector]]] = {
    one.kind: one
    for one in (
        *(Adwin, Bocpd, Cusum, Ddm, Ensemble, Ewma, HalfSpaceTrees, Mad, PageHinkley),
        *(Seasonal, SpectralResidual, ZScore),
    )
}

__all__ = [
    "adwin",
    "bocpd",
    "cusum",
    "ddm",
    "ensemble",
    "ewma",
    "half_space_trees",
    "mad",
    "page_hinkley",
    "seasonal",
    "spectral_residual",
    "zscore",
]


def _read(value: Any) -> Any:
    return read_detector(value, DETECTORS)


DetectorField = Annotated[
    Detector, BeforeValidator(_read), PlainSerializer(dump_detector, return_type=dict[str, Any])
]
"""A detector; what was serialised is read again."""
