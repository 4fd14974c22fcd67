"""What flows between stages: frozen, typed records; sizes are (height, width), shares in [0, 1]."""

from calco.records.data import (
    SUBSETS,
    Assignment,
    Audit,
    FileMask,
    ImageSpec,
    MaskCode,
    MaskSource,
    ObjectMasks,
    RleDialect,
    RleMask,
    Sample,
    SampleFacts,
    SampleIndex,
    Split,
    Subset,
    Twins,
)
from calco.records.scores import (
    Counts,
    ImageScore,
    Postprocess,
    Prediction,
    Scores,
    SubsetSummary,
)
from calco.records.tables import (
    html_table,
)
from calco.records.training import (
    Epoch,
    FitResult,
    NetworkPlan,
    Plan,
)

__all__ = [
    "SUBSETS",
    "Assignment",
    "Audit",
    "Counts",
    "Epoch",
    "FileMask",
    "FitResult",
    "ImageScore",
    "ImageSpec",
    "MaskCode",
    "MaskSource",
    "NetworkPlan",
    "ObjectMasks",
    "Plan",
    "Postprocess",
    "Prediction",
    "RleDialect",
    "RleMask",
    "Sample",
    "SampleFacts",
    "SampleIndex",
    "Scores",
    "Split",
    "Subset",
    "SubsetSummary",
    "Twins",
    "html_table",
]
