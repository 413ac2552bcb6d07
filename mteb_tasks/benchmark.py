"""The seven STS tasks of the papers as one mteb benchmark."""

from __future__ import annotations

from mteb.benchmarks.benchmark import Benchmark

from mteb_tasks import citations
from mteb_tasks.tasks import STS_TASKS

BENCHMARK_NAME = "DinoSTS(eng, v1)"


def make_benchmark() -> Benchmark:
    """Makes the benchmark with fresh task instances, which read DINO_ST_STS_DIR, the datasets cache or the hub.

    Returns:
        STS12 to STS16, STS Benchmark and SICK-R as the DINO and SynCSE papers score them.
    """
    return Benchmark(
        name=BENCHMARK_NAME,
        tasks=[task() for task in STS_TASKS],
        description="The seven English STS tasks that papers on unsupervised sentence embeddings report, scored as "
        "they score them: Spearman correlation over all pairs of a year, the full STS Benchmark test set, and the "
        "4,927 test pairs of SICK.",
        reference="https://arxiv.org/abs/2104.07540",
        citation=citations.DINO,
    )
