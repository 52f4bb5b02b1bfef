#!/usr/bin/env bash
# Writes requirements.lock: every package that setup installs, with its hashes, for Python 3.11 and 3.12 on any platform.
# torch and CUDA are left out: which build is right depends on the machine (scripts/environment.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v uv >/dev/null; then
    make_venv "$work/venv"
    quietly "$work/log" "installing uv" pip_in "$work/venv" install uv
    PATH="$work/venv/bin:$PATH"
fi
say "resolving motion-vla[$EXTRAS] with $TORCH"
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --upgrade \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}
echo "$TORCH" >"$work/torch.txt"
compile $(printf -- "--extra %s " ${EXTRAS//,/ }) --constraint "$work/torch.txt" pyproject.toml >"$work/all.txt"
printf '%s\n' $ALONE >"$work/alone.in"
compile --no-deps "$work/alone.in" >"$work/alone.txt"
{
    echo "# Written by \`make lock\`. Installed by \`make setup\` with --no-deps, after $TORCH, which is not in here."
    awk '/^[a-z0-9]/ { keep = !/^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } keep' "$work/all.txt"
    cat "$work/alone.txt"
} >requirements.lock
say "requirements.lock lists $(grep -c '^[a-z0-9].*==' requirements.lock) packages; run make test before committing it"
