#!/usr/bin/env bash
# Builds .venv with exactly the packages of requirements.lock, and this project editable. Running it again is cheap, and mends
# what an interrupted run has left.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

if command -v flock >/dev/null; then
    exec 9<Makefile
    flock -n 9 || { say "environment: another setup is at work in this folder, waiting for it" && flock 9; }
fi

DONE=.venv/.installed
STARTED=.venv/.installing
# What .venv was built from, and where: its scripts and the editable install hold absolute paths.
place() { (cd .venv 2>/dev/null && pwd -P) || true; }
sources() { cat requirements.lock pyproject.toml scripts/setup.sh scripts/environment.sh | cksum; }
works() { .venv/bin/python -m pip --version >/dev/null 2>&1; }

if [ -e "$DONE" ] && [ "$(cat "$DONE")" = "$(sources) $(place)" ] && works; then
    say "environment: .venv is up to date"
    exit 0
fi

if [ ! -e .venv ]; then
    make_venv .venv
elif [ -e "$STARTED" ] || ! works; then
    say "environment: the last setup was cut off, or its Python is gone: building .venv anew"
    make_venv .venv
elif [ -e "$DONE" ] && [ "$(cut -d ' ' -f 3- "$DONE")" != "$(place)" ]; then
    say "environment: this folder was moved or copied: building .venv anew"
    make_venv .venv
fi

# A failure of pip leaves no package half installed, a kill may: only then this mark stays.
touch "$STARTED"
trap 'rm -f "$STARTED"' EXIT
trap 'trap - EXIT; exit 130' INT TERM HUP

version=$(.venv/bin/python -c 'import importlib.metadata as m; print(m.version("torch").split("+")[0])' 2>/dev/null || true)
[ "torch==$version" = "$TORCH" ] || install_torch .venv "$TORCH"
# bddl is published as source only. It is built with the lock's setuptools, not with the newest of the day.
awk '/^[a-z0-9]/ { keep = /^setuptools==/ } keep' requirements.lock >.venv/build.lock
install .venv "setuptools" --require-hashes --no-deps -r .venv/build.lock
install .venv "what requirements.lock lists (about 2 minutes the first time)" \
    --require-hashes --no-deps --no-build-isolation -r requirements.lock
install .venv "motion-vla, editable" --no-deps --no-build-isolation -e .
rm -f .venv/.installed* .venv/setup.log .venv/build.lock
echo "$(sources) $(place)" >"$DONE"
