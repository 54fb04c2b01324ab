"""Published formulas, by numpy's own functions."""

from typing import Any

import numpy as np


def concordance(x: Any, y: Any) -> float:
    """The coefficient of Lin (1989)."""
    x, y = np.asarray(x), np.asarray(y)
    return 2 * float(np.mean((x - x.mean()) * (y - y.mean()))) / float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
