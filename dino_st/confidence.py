"""How sure a counted share is."""

from __future__ import annotations

import math
from statistics import NormalDist

from dino_st.errors import ConfigurationError


def wilson_interval(successes: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), which stays within 0 and 1 and holds for few trials, too.

    Example:
        >>> low, high = wilson_interval(86, 100)
        >>> round(low, 2), round(high, 2)
        (0.78, 0.91)

    Args:
        successes: How often it happened, from 0 to `total`.
        total: How often it could have happened.
        level: Probability with which such intervals hold the true share, above 0 and below 1.

    Returns:
        The lower and upper end; 0 and 1 where nothing was counted.

    Raises:
        ConfigurationError: The counts contradict each other or the level is out of range.
    """
    if not 0 <= successes <= total:
        raise ConfigurationError(f"{successes} of {total} is no share; expected a count from 0 to the total")
    if not 0 < level < 1:
        raise ConfigurationError(f"level = {level}: expected above 0 and below 1")
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    centre = share + z * z / (2 * total)
    scale = 1 + z * z / total
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    return low, 1.0 if successes == total else min(1.0, (centre + spread) / scale)


def percent(successes: int, total: int) -> str:
    """A share with its 95 % interval for people, such as `86 % (78 to 91)`.

    Args:
        successes: How often it happened.
        total: How often it could have happened.

    Returns:
        The words; a dash where nothing was counted.
    """
    if not total:
        return "–"
    low, high = wilson_interval(successes, total)
    return f"{100 * successes / total:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
