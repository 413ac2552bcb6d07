"""Pairs on the GPUs of Hugging Face Jobs: a job for each shard, whose rows go to a private repository of the hub.

    python hf-jobs.py OWNER/sentences sentences.txt OWNER/my-pairs --shards 4 --flavor a10g-small

The sentences are a file of a data set on the hub; the script says how to join what the jobs will have written. What a
job has written is lost unless it comes to its end, so take shards enough.
"""

from __future__ import annotations

import argparse
import shlex

from huggingface_hub import get_token, run_job

IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"


def command(given: argparse.Namespace, shard: int) -> str:
    """What one job runs."""
    generate = [
        *("dino-st", "generate", "--model", given.model, "--input", f"input/{given.file}"),
        *("--batch-size", str(given.batch_size), "--shard", f"{shard}/{given.shards}"),
        *("--output", "raw", "--push-to-hub", f"{given.output}-{shard}-of-{given.shards}", "--private"),
    ]
    fetch = ["hf", "download", given.sentences, given.file, "--repo-type", "dataset", "--local-dir", "input"]
    return " && ".join(("pip install --quiet dino-st", shlex.join(fetch), shlex.join(generate)))


def main(arguments: list[str] | None = None) -> None:
    """Starts the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", help="data set of the hub, OWNER/NAME")
    parser.add_argument("file", help="its file with a sentence a line")
    parser.add_argument("output", help="OWNER/NAME; each shard gets a repository whose name begins so")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--model", default="gpt2-xl")
    parser.add_argument("--batch-size", type=int, default=768, help="decides what a wave is")
    parser.add_argument("--flavor", default="a10g-small", help="hardware; see `hf jobs hardware`")
    parser.add_argument("--timeout", default="12h")
    given = parser.parse_args(arguments)
    for shard in range(1, given.shards + 1):
        job = run_job(
            image=IMAGE,
            command=["bash", "-c", command(given, shard)],
            flavor=given.flavor,
            timeout=given.timeout,
            secrets={"HF_TOKEN": get_token()},
        )
        print(f"shard {shard} of {given.shards}: {job.url}")
    parts = [f"{given.output}-{shard}-of-{given.shards}" for shard in range(1, given.shards + 1)]
    print("When all have ended:")
    for number, part in enumerate(parts, start=1):
        print(f"  hf download {part} --repo-type dataset --local-dir part-{number}")
    print(f"  dino-st merge {' '.join(f'part-{number}' for number in range(1, len(parts) + 1))} --output raw")


if __name__ == "__main__":
    main()
