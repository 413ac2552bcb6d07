#!/usr/bin/env bash
# Pairs on a SLURM cluster without Ray: one array job, a GPU for each shard, and a merge behind it. On the login node:
#
#     SHARDS=8 MODEL=gpt2-xl INPUT=sentences.txt OUTPUT=raw ./slurm.sh --decay-constant 100
#
# Options behind the script go to `dino-st generate`. OUTPUT is on a file system that all nodes share. Submitted again, each
# shard goes on behind its last finished wave; so does a task that SLURM starts anew (--requeue).
#SBATCH --job-name=dino-st
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=dino-st-%A-%a.log
set -euo pipefail
export SHARDS="${SHARDS:-4}" MODEL="${MODEL:-gpt2-xl}" INPUT="${INPUT:-sentences.txt}" OUTPUT="${OUTPUT:-raw}"
export BATCH_SIZE="${BATCH_SIZE:-768}" # a number, since it decides what a wave is, the same for all shards

if [[ "${1:-}" == merge ]]; then # behind the array
    parts=()
    for ((i = 1; i <= SHARDS; i++)); do parts+=("$OUTPUT-parts/$i"); done
    exec dino-st merge "${parts[@]}" --output "$OUTPUT"
elif [[ -n "${SLURM_ARRAY_TASK_ID:-}" ]]; then # a task of the array
    exec dino-st generate --model "$MODEL" --input "$INPUT" --batch-size "$BATCH_SIZE" \
        --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --output "$OUTPUT-parts/$SLURM_ARRAY_TASK_ID" "$@"
fi
job=$(sbatch --parsable --array="1-$SHARDS" "$0" "$@")
sbatch --dependency="afterok:${job%%;*}" --gpus=0 --time=02:00:00 "$0" merge
