#!/usr/bin/env bash
# Installs the system libraries that draw images without a GPU (and, with --browser, the one that tests the report).
# As root or with password-less sudo it calls apt; otherwise it says what to install.
set -euo pipefail
say() { printf '\033[1m== %s\033[0m\n' "$*"; }

has() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q "ok installed"; }
mesa_is_recent() { # SAPIEN needs a lavapipe that Debian 12's Mesa 22.3 does not have
    has mesa-vulkan-drivers && dpkg --compare-versions "$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers)" ge 23.1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "system libraries: not a Debian or Ubuntu system. Needed: OSMesa (libOSMesa), a Vulkan loader and Mesa's lavapipe >= 23.1"
    exit 0
fi

wanted=()
for package in libosmesa6 libvulkan1 libegl1 libgl1; do has "$package" || wanted+=("$package"); done
if [ "${1:-}" = "--browser" ]; then
    for package in chromium chromium-driver; do has "$package" || wanted+=("$package"); done
fi
backports=""
if ! mesa_is_recent; then
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then backports=bookworm-backports; else wanted+=(mesa-vulkan-drivers); fi
fi
if [ ${#wanted[@]} -eq 0 ] && [ -z "$backports" ]; then
    say "system libraries: all there"
    exit 0
fi

by_hand() { # WHY: say what to run, and let the setup go on, since the toy suite, training and analysis need none of these
    say "system libraries: $1. Please run:"
    [ -z "$backports" ] || echo "  echo 'deb http://deb.debian.org/debian $backports main' | sudo tee /etc/apt/sources.list.d/$backports.list"
    echo "  sudo apt-get update && sudo apt-get install -y ${wanted[*]}"
    [ -z "$backports" ] || echo "  sudo apt-get install -y -t $backports mesa-vulkan-drivers"
    exit 0
}

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || by_hand "not root, and no sudo without a password"
    as_root="sudo"
fi
export DEBIAN_FRONTEND=noninteractive
if [ -n "$backports" ] && ! grep -rqs "$backports" /etc/apt/sources.list /etc/apt/sources.list.d; then
    say "system libraries: adding the package source $backports (for mesa-vulkan-drivers)"
    echo "deb http://deb.debian.org/debian $backports main" | $as_root tee "/etc/apt/sources.list.d/$backports.list" >/dev/null
fi
say "system libraries: ${wanted[*]}${backports:+ mesa-vulkan-drivers from $backports}"
apt() { $as_root apt-get -qq -o Acquire::Retries=1 "$@" >/dev/null || by_hand "apt-get did not succeed (its words are above)"; }
apt update
[ ${#wanted[@]} -eq 0 ] || apt install -y --no-install-recommends "${wanted[@]}"
[ -z "$backports" ] || apt install -y --no-install-recommends -t "$backports" mesa-vulkan-drivers
