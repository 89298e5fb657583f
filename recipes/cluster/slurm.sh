#!/bin/bash
# A run on four machines of four GPUs: sbatch recipes/cluster/slurm.sh train.toml
# In train.toml: shards = 16, and paths that all machines see. Submitted again, it goes on where it was.
#SBATCH --job-name=koan
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Two minutes before its time is over: it finishes the step, writes a checkpoint and ends.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
config=${1:?usage: sbatch slurm.sh FILE.toml}

run_dir=$(sed -n 's/^run_dir *= *"\(.*\)"/\1/p' "$config")
resume=()
[ ! -e "$run_dir/config.toml" ] || resume=(--resume)

# A task that fails ends the others.
srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" koan rl "$config" "${resume[@]}"
