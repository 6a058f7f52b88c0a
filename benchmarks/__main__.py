"""``python -m benchmarks [--quick] [AREA …]``: run all benchmarks one after another, each in a process of its own.

With ``--quick``, where nothing is measured, they share this process and its imports.
"""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
import traceback
from pathlib import Path


def run(script: str, quick: bool) -> bool:
    """Whether it ended well."""
    if not quick:
        return subprocess.run([sys.executable, "-m", script], check=False).returncode == 0
    words, sys.argv = sys.argv, [script, "--quick"]
    try:
        runpy.run_module(script, run_name="__main__")
    except SystemExit as stop:
        return not stop.code
    except Exception:  # the others still run, and the exit code tells
        traceback.print_exc()
        return False
    finally:
        sys.argv = words
    return True


def main(words: list[str]) -> int:
    areas = [script.stem.removeprefix("bench_") for script in sorted(Path(__file__).parent.glob("bench_*.py"))]
    parser = argparse.ArgumentParser("python -m benchmarks", description="Run benchmarks one after another.")
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"{', '.join(areas)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one small run each: nothing is measured")
    options = parser.parse_args(words)
    if unknown := set(options.areas) - set(areas):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = []
    for area in options.areas or areas:
        print(f"\n== {area}", flush=True)
        if not run(f"benchmarks.bench_{area}", options.quick):
            failed.append(area)
    if failed:
        print(f"\nmissed a goal or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
