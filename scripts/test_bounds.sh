#!/usr/bin/env bash
# Runs tests with other versions than the lock's that pyproject.toml allows too, in an environment of their own.
#
#   scripts/test_bounds.sh newest [PYTEST ARGUMENTS]    .venv-newest: the newest of today
#   scripts/test_bounds.sh floors [PYTEST ARGUMENTS]    .venv-floors: the oldest of what pyproject.toml names
#
# torch is the newest whose CPU build can be had in both (scripts/environment.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

case "${1:-}" in
newest) resolution=highest ;;
floors) resolution=lowest-direct ;;
*) fail "usage: scripts/test_bounds.sh newest|floors [PYTEST ARGUMENTS]" ;;
esac
venv=.venv-$1
shift

make_venv "$venv"
install_torch "$venv" "$(grep -o '"torch>=[^"]*"' pyproject.toml | tr -d '"')"
if ! command -v uv >/dev/null; then
    quietly "$venv/setup.log" "installing uv" pip_in "$venv" install uv
    PATH="$PWD/$venv/bin:$PATH"
fi
torch=$("$venv/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))')
echo "$torch" >"$venv/torch.txt"
install "$venv" "motion-vla[$EXTRAS], resolution $resolution" --resolution "$resolution" --overrides "$venv/torch.txt" -e ".[$EXTRAS]"
# shellcheck disable=SC2086
install "$venv" "$ALONE" --no-deps $ALONE

say "packages that differ from requirements.lock"
differing=$(diff <(grep -oE '^[a-z0-9.-]+==[^ ]+' requirements.lock | sort) <(pip_in "$venv" freeze --all --exclude-editable | tr 'A-Z_' 'a-z-' | sort) |
    sed -n 's/^>/ /p' | grep -vE ' (pip|uv|torch)==') || true
echo "${differing:-  none}"
say "tests"
"$venv/bin/python" -m pytest "$@"
