"""What the scripts' command lines share: one-line errors, early ones where possible, and progress bars."""

import argparse
import contextlib
import sys
import tempfile
import time


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line on stderr and exit status 2; its help shows the description as is."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text that a terminal can show

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(str(message).split())}\n")

    def at_least(self, args, **least):
        """End with an error if one of these arguments was given and is less."""
        for name, bound in least.items():
            value = getattr(args, name)
            if value is not None and value < bound:
                self.error(f"{'-' if len(name) == 1 else '--'}{name}: expected at least {bound}, got {value}")

    def a_time(self, args, name="minutes"):
        """End with an error if this argument was given and is no time that a training could take."""
        value = getattr(args, name)
        if value is not None and not 0 < value < 1e6:  # so written that nan is none
            self.error(f"--{name}: expected a time above 0, got {value}")


@contextlib.contextmanager
def one_line_errors(parser):
    """Bad input found while running ends like a bad argument: one line, exit status 2, no traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        parser.error(error)
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: interrupted\n")


def check_writable(parser, name, path):
    """End with an error now, and not after the work, if the file `path` of argument `name` cannot be written then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        parser.error(f"{name}: {path} cannot be written ({error.strerror})")


class Stages:
    """Times the stages of a script, each with a progress bar."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def stage(self, name, unit="it"):
        """Yields progress(done, total, note=None), which moves the bar of this stage."""
        from tqdm import tqdm  # here, as the benchmarks parse arguments and draw no bars

        bar = tqdm(desc=f"{name:<28}", unit=unit, file=sys.stdout, mininterval=0.2, dynamic_ncols=True)

        def progress(done, total, note=None):
            bar.total = total
            bar.update(done - bar.n)
            if note:
                bar.set_postfix_str(note, refresh=False)

        start = time.perf_counter()
        try:
            yield progress
        finally:
            self.seconds[name] = time.perf_counter() - start
            if bar.total is None:
                bar.total = bar.n = 1
            bar.close()
