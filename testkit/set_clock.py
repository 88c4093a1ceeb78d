"""``python -m testkit.set_clock``: the exporter with a wall clock that may be set; flags are the exporter's.

``CLOCK_FILE`` names a file with the seconds that its clock is ahead. It may be written while that runs.
"""

from __future__ import annotations

import os
import time
from typing import Final

CLOCK_FILE: Final = "CLOCK_FILE"


def main() -> None:
    real, file = time.time, os.open(os.environ[CLOCK_FILE], os.O_RDONLY)
    time.time = lambda: real() + float(os.pread(file, 32, 0) or 0)
    from exporter.__main__ import entry  # whatever takes the function by its name takes this one

    entry()


if __name__ == "__main__":
    main()
