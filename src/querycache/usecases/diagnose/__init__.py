"""Diagnose: every check of the guide, in its order; each finding with evidence and a remedy."""

from querycache.usecases.diagnose.diagnose import (
    Checked,
    Diagnose,
    Diagnosis,
    Look,
    Progress,
    unheard,
)
from querycache.usecases.diagnose.figures import Thresholds, Vitals
from querycache.usecases.diagnose.names import KNOWN, Known
from querycache.usecases.diagnose.vitals import quick

__all__ = [
    "KNOWN",
    "Checked",
    "Diagnose",
    "Diagnosis",
    "Known",
    "Look",
    "Progress",
    "Thresholds",
    "Vitals",
    "quick",
    "unheard",
]
