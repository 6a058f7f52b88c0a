"""``python -m benchmarks [--quick] [AREA …]``: run all benchmarks one after another, each in a process of its own.

With ``--quick``, where nothing is measured, they share this process and its imports.
"""

from __future__ import annotations

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
    quick = "--quick" in words
    wanted = [word for word in words if not word.startswith("-")]
    failed = []
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        area = script.stem.removeprefix("bench_")
        if wanted and area not in wanted:
            continue
        print(f"\n== {area}", flush=True)
        if not run(f"benchmarks.{script.stem}", quick):
            failed.append(area)
    if failed:
        print(f"\nmissed a goal or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
