#!/usr/bin/env bash
# Trains under Slurm, one process per node, and goes on in a new job when time is up.
#
#   sbatch --nodes=4 --time=24:00:00 launch/tpu/slurm.sh \
#     --config=configs/pit.py:small --workdir=/mnt/runs/pit
#
# Submitted from this project's folder, in an environment in which `python` has it installed; both
# and the workdir lie where all nodes see them; the workdir may also be gs://my-bucket/pit.
#SBATCH --job-name=pit_jax
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
set -uo pipefail

# Five minutes before the end the processes get SIGTERM, save, and exit with 143.
srun --kill-on-bad-exit=0 python launch/train.py "$@"
code=$?
if ((code == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
