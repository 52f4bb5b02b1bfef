#!/bin/sh
# Loads a dataset that we wrote with Hugging Face's own `lerobot` library, in an environment of its own (Python 3.12, about
# 3 GB), and compares every number and image with what our reader gives.
#
#   scripts/check_lerobot.sh                 a small dataset made for the purpose
#   scripts/check_lerobot.sh DIRECTORY       any LeRobotDataset v3.0 directory with image columns
#
# PYTHON312 names a Python 3.12 (default: python3.12), LEROBOT_VENV the environment (default: /tmp/lerobot-venv).
set -eu
cd "$(dirname "$0")/.."
venv=${LEROBOT_VENV:-/tmp/lerobot-venv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$venv/bin/python" -c "import lerobot" 2>/dev/null; then
    echo "installing lerobot into $venv"
    "${PYTHON312:-python3.12}" -m venv "$venv"
    "$venv/bin/pip" install --quiet "lerobot[dataset]==0.6.1"
fi
dataset=${1:-$work/dataset}
.venv/bin/python scripts/check_lerobot.py expect "$dataset" "$work/expected.npz"
HF_HUB_OFFLINE=1 HF_HOME="$work/hub" "$venv/bin/python" scripts/check_lerobot.py load "$dataset" "$work/expected.npz"
