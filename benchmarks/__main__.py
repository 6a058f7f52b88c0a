"""``python -m benchmarks [--quick] [AREA …]``: run all benchmarks one after another, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    quick = "--quick" in words
    wanted = [word for word in words if not word.startswith("-")]
    failed = []
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        area = script.stem.removeprefix("bench_")
        if wanted and area not in wanted:
            continue
        print(f"\n== {area}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script.stem}", *(["--quick"] if quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(area)
    if failed:
        print(f"\nmissed a goal or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
