"""What a process of the launcher's tests does; light, as every process imports it anew."""

import os
import signal
import sys
import time
from pathlib import Path


def act(argv: list[str]) -> int:
    """The word of this rank: an exit code, `terminate` (has the launcher terminated), or a file to write much later."""
    word = argv[int(os.environ["RANK"])]
    if word.isdigit():
        return int(word)
    if word == "terminate":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as training leaves
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(30)
    if word != "terminate":
        Path(word).write_text("nobody ended this process")
    return 0
