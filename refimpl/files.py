"""Writing files so that an interrupted write loses nothing."""

import contextlib
import glob
import os
import time
import uuid
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path):
    """A binary file object for writing; `path` holds either all of it or what it held before.

    The bytes go to a temporary name in the same folder, are flushed to the disk, and take the place of `path` by a
    rename, which file systems do in one step. If the body raises, the temporary file is removed; one that a killed
    process has left is removed by a later write to `path`, a day after.

        with atomic_write("index.npz") as file:
            np.savez(file, **arrays)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{32 * '?'}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 86400:  # younger ones may be another process's
                left.unlink()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
