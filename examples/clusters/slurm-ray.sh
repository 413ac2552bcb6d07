#!/usr/bin/env bash
# Pairs on several nodes of a SLURM cluster by one command: Ray gives waves to a worker on each GPU.
#
#     sbatch --nodes=4 slurm-ray.sh --model gpt2-xl --input sentences.txt --output raw
#
# Options behind the script go to `dino-st generate`; --output is on a file system that all nodes share. Submitted again, it
# goes on with the waves that are missing.
#SBATCH --job-name=dino-st-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=dino-st-ray-%j.log
set -euo pipefail
export RAY_USAGE_STATS_ENABLED=0
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes%%$'\n'*}:${RAY_PORT:-6379}"
# Starts Ray on every node, runs the command on the first one, and ends Ray when that ends.
exec srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    ray symmetric-run --address "$head" --min-nodes "$SLURM_NNODES" --num-cpus "$SLURM_CPUS_PER_TASK" \
    -- dino-st generate "$@" --engine ray --ray-address "$head"
