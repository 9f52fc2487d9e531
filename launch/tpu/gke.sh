#!/usr/bin/env bash
# Trains on Google Kubernetes Engine by xpk, which starts the same command on every host of a slice.
#
#   CLUSTER=my-cluster PROJECT=my-project ZONE=us-east5-b TYPE=v6e-16 IMAGE=my-image NAME=pit \
#     launch/tpu/gke.sh --config=configs/pit.py:small --workdir=gs://my-bucket/pit
#
# IMAGE holds this folder as its working directory, installed with jax[tpu] and the extra gcs. The
# workdir lies in a bucket, or on storage that every pod mounts (xpk storage). A pod that is taken
# away gets SIGTERM and up to ten minutes to save; its exit code, 143, is one of those after which
# xpk starts the workload again.
set -euo pipefail
: "${CLUSTER:?}" "${PROJECT:?}" "${ZONE:?}" "${TYPE:?TPU type}" "${IMAGE:?docker image}" "${NAME:?}"

xpk workload create \
  --cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE" \
  --workload="$NAME" --tpu-type="$TYPE" --num-slices=1 --docker-image="$IMAGE" \
  --max-restarts=100 --termination-grace-period-seconds=600 \
  --command="exec python launch/train.py$(printf ' %q' "$@")"
