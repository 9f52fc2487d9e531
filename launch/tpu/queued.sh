#!/usr/bin/env bash
# Waits for a TPU slice of spot machines, trains on it, and asks for another when it is taken away.
#
#   TPU=my-slice ZONE=us-east5-b TYPE=v6e-16 RUNTIME=v2-alpha-tpuv6e \
#     launch/tpu/queued.sh --config=configs/pit.py:small --workdir=gs://my-bucket/pit
#
# The machines that come in their place are empty: all that the run goes on from lies in the bucket.
# Ends when the run does, and gives the slice back. A run that fails ATTEMPTS times (3) on a slice
# that stays is given up; the slice is left for a look at it.
set -euo pipefail
: "${TPU:?name of the slice}" "${ZONE:?zone}" "${TYPE:?accelerator type}" "${RUNTIME:?TPU software}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
left="${ATTEMPTS:-3}"

queued() {
  local verb="$1"
  shift
  gcloud compute tpus queued-resources "$verb" "$TPU" --zone="$ZONE" "$@"
}

while true; do
  state="$(queued describe --format='value(state.state)' 2>/dev/null || true)"
  case "$state" in
    "")
      queued create --node-id="$TPU" --accelerator-type="$TYPE" --runtime-version="$RUNTIME" --spot
      left="${ATTEMPTS:-3}"
      ;;
    ACTIVE)
      if "$here/vm.sh" "$@"; then
        queued delete --force --quiet
        exit 0
      fi
      sleep "${PAUSE:-60}" # the state may lag behind the loss of a machine
      state="$(queued describe --format='value(state.state)' 2>/dev/null || true)"
      if [[ "$state" == ACTIVE ]]; then
        left=$((left - 1))
        if ((left == 0)); then
          echo "error: the run failed on a slice that is still there; see the messages above" >&2
          exit 1
        fi
      fi
      ;;
    SUSPENDED | FAILED)
      queued delete --force --quiet
      ;;
    *)
      sleep "${PAUSE:-60}"
      ;;
  esac
done
