import os
import subprocess
import sys
import time

import pytest

from refimpl.files import atomic_write


def test_the_file_appears_whole(tmp_path):
    path = tmp_path / "folder" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"ne")
        raise error
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_killed_write_keeps_the_old_file_and_what_it_left_is_removed_later(tmp_path):
    path = tmp_path / "a[1].bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys; from refimpl.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n    file.write(b'ne'); file.flush(); os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 1
    (left,) = set(tmp_path.iterdir()) - {path}
    with atomic_write(path) as file:
        file.write(b"new")
    assert left.exists()  # it could be another process's, at work
    os.utime(left, (time.time() - 90000,) * 2)
    with atomic_write(path) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"newer" and list(tmp_path.iterdir()) == [path]
