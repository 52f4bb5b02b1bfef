#!/usr/bin/env bash
# Installs other projects' clients and servers into .venv-counterparts, for tests of what goes over their wires. They are never
# imported beside ours: tests start them as programs of their own. Running it again is cheap.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

FOLDER=.venv-counterparts
# Without their own dependencies: openpi's want NumPy 1, and vla-eval brings a script of our script's name.
PACKAGES="openpi-client==0.1.2 openpi-server==0.1.0 vla-eval==0.8.0 json-numpy==2.1.1 msgpack-numpy==0.4.8
    anyio>=4,<5 idna typing_extensions msgpack>=1.0.5,<2 websockets>=15,<18 pyzmq>=26,<28"

if [ "$(cat "$FOLDER/.installed" 2>/dev/null)" = "$PACKAGES" ]; then
    say "counterparts: $FOLDER is up to date"
    exit 0
fi
rm -rf "$FOLDER"
mkdir "$FOLDER"
say "counterparts: openpi and PyPI's vla-eval, for tests of wires"
# shellcheck disable=SC2086
quietly "$FOLDER/setup.log" "installing the counterparts" pip_in .venv install --target "$FOLDER" --no-deps $PACKAGES
echo "$PACKAGES" >"$FOLDER/.installed"
