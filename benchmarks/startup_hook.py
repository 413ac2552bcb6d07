"""Measures what the start-up hook adds to a start of Python that has nothing to do with mteb.

Two bare virtual environments, one with the hook and one without, start in turn. Their starts differ by far less than
they scatter, so the time of the hook alone, inside one process, is measured as well.

    python benchmarks/startup_hook.py [--runs 50]
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
HOOK = REPOSITORY / "mteb_tasks" / "autoload" / "dino_st_mteb.pth"

ALONE = """
import site, sys, time
times = []
for _ in range(1000):
    start = time.perf_counter_ns()
    site.addpackage({folder!r}, {name!r}, set())
    times.append(time.perf_counter_ns() - start)
print(times[0] / 1e6, sorted(times)[500] / 1e6)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="starts of each environment (default: 50)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.runs), indent=2))


def measure(folder: Path, runs: int) -> dict[str, Any]:
    without, with_hook = make_environment(folder / "without"), make_environment(folder / "with")
    site_packages = next((folder / "with").glob("[Ll]ib/**/site-packages"))
    shutil.copy(HOOK, site_packages)
    (site_packages / "dino_st_path.pth").write_text(f"{REPOSITORY}\n")
    path_only = next((folder / "without").glob("[Ll]ib/**/site-packages"))
    (path_only / "dino_st_path.pth").write_text(f"{REPOSITORY}\n")
    start(without), start(with_hook)  # fill the caches
    times: dict[Path, list[float]] = {without: [], with_hook: []}
    for run in range(runs):
        for python in (without, with_hook) if run % 2 else (with_hook, without):
            times[python].append(start(python))
    first, median = hook_alone(with_hook, site_packages)
    medians = {python: statistics.median(values) for python, values in times.items()}
    return {
        "python": platform.python_version(),
        "runs": runs,
        "start_without_ms": round(medians[without], 3),
        "start_with_ms": round(medians[with_hook], 3),
        "difference_of_medians_ms": round(medians[with_hook] - medians[without], 3),
        "scatter_ms": round(statistics.stdev(times[without]), 3),
        "hook_alone_first_ms": round(first, 4),
        "hook_alone_median_ms": round(median, 4),
    }


def make_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=False)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def start(python: Path) -> float:
    """Milliseconds of a start that does nothing."""
    begin = time.perf_counter()
    done = subprocess.run([python, "-c", "pass"], check=True, capture_output=True)
    milliseconds = 1000 * (time.perf_counter() - begin)
    if done.stdout or done.stderr:
        raise SystemExit(f"the hook printed something: {done.stdout + done.stderr!r}")
    return milliseconds


def hook_alone(python: Path, site_packages: Path) -> tuple[float, float]:
    """Milliseconds that reading and running the hook's file takes: the first time, and the median of a thousand."""
    program = ALONE.format(folder=str(site_packages), name=HOOK.name)
    output = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout
    first, median = map(float, output.split())
    return first, median


if __name__ == "__main__":
    main()
