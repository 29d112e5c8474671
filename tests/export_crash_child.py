"""The exporter's process, killed with -9 by itself where NEVE_TEST_KILL_AT says (`place:times`)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from lakehouse.export_process import main_loop
from schemas.settings import Settings


def main() -> None:
    """Run as the real process does."""
    place, _, times = os.environ.get("NEVE_TEST_KILL_AT", "nowhere:1").rpartition(":")
    left = int(times)

    def checkpoint(at: str) -> None:
        nonlocal left
        if at == place:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.exit(asyncio.run(main_loop(Settings(), checkpoint)))


if __name__ == "__main__":
    main()
