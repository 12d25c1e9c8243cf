"""`import refimpl` and its packages: nothing heavy, nothing compiled."""

import subprocess
import sys

PACKAGES = ("images", "data", "nn", "losses", "training", "compression", "ann", "metrics", "serving")


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_refimpl_loads_no_other_library():
    loaded = run("import sys, refimpl; print([m for m in ('numba', 'scipy', 'PIL', 'numpy') if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_importing_every_package_compiles_nothing():
    code = f"""
import importlib
import numba.core.event as event
recorder = event.RecordingListener()
event.register("numba:compile", recorder)
for name in {PACKAGES + ("microkernel",)}:
    importlib.import_module("refimpl." + name)
print(len(recorder.buffer))
"""
    assert run(code).strip() == "0"


def test_packages_are_attributes():
    assert run("import refimpl; print(refimpl.metrics.__name__)").strip() == "refimpl.metrics"
