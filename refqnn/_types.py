"""The array aliases of every signature."""

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.integer[Any]]
Bool = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
