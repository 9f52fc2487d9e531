#!/usr/bin/env bash
# Makes the environment in which a host trains: jax[tpu] and this project, with what gs:// needs.
#
#   launch/tpu/environment.sh .venv
#
# The first of python3.12, python3.11 and python3 that is 3.11 or later and can make environments is
# taken. Where the image has none, as older TPU images with Python 3.10, uv brings Python 3.12.
set -euo pipefail
venv="${1:?folder of the environment}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

fits() {
  "$1" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_environment() {
  local python
  for python in python3.12 python3.11 python3; do
    if fits "$python"; then
      "$python" -m venv --clear "$venv"
      return
    fi
  done
  python3 -m pip install -q --upgrade --target="$venv.uv" uv
  "$venv.uv/bin/uv" venv -q --clear --seed --python=3.12 "$venv"
}

if ! fits "$venv/bin/python"; then
  make_environment
fi
"$venv/bin/python" -m pip install -q 'jax[tpu]' -e "${root}[gcs]"
