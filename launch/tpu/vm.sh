#!/usr/bin/env bash
# Trains on a Cloud TPU slice that is there: the same command on each of its hosts.
#
#   TPU=my-slice ZONE=us-east5-b launch/tpu/vm.sh \
#     --config=configs/pit.py:small --workdir=gs://my-bucket/pit
#
# The workdir lies in a bucket that the machines may read and write, or on a file system that all
# hosts mount under one name (Filestore, for one). The hosts find each other by themselves. The same
# line continues an interrupted run, in a bucket also on new machines.
set -euo pipefail
: "${TPU:?name of the slice}" "${ZONE:?zone of the slice}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

files="$(mktemp -d)"
trap 'rm -rf "$files"' EXIT
tar -C "$root" --exclude=__pycache__ -czf "$files/pit_jax.tar.gz" \
  LICENSE README.md configs launch pit_jax pyproject.toml setup.py
gcloud compute tpus tpu-vm scp "$files/pit_jax.tar.gz" "$TPU:" --zone="$ZONE" --worker=all
on_all_hosts 'mkdir -p pit_jax && tar -C pit_jax -xzf pit_jax.tar.gz &&
  pit_jax/launch/tpu/environment.sh .venv'
# Quoted, since a shell on each host reads it again.
on_all_hosts "cd pit_jax && ../.venv/bin/python launch/train.py$(printf ' %q' "$@")"
