"""The same clips and weights through transformers' own way and through this package's: time, memory, arithmetic."""

from hf_ser.benchmark.results import PLOT, RESULTS, save, table
from hf_ser.benchmark.run import benchmark
from hf_ser.benchmark.scale_results import SCALE_RESULTS, measure_scales, save_scales, scale_table
from hf_ser.benchmark.settings import Settings, default_settings
from hf_ser.benchmark.shapes import SHAPES
from hf_ser.benchmark.variants import METHODS, VARIANTS

__all__ = [
    "METHODS",
    "PLOT",
    "RESULTS",
    "SCALE_RESULTS",
    "SHAPES",
    "VARIANTS",
    "Settings",
    "benchmark",
    "default_settings",
    "measure_scales",
    "save",
    "save_scales",
    "scale_table",
    "table",
]
