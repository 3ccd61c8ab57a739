#!/usr/bin/env bash
# install.sh: what `throng-bench peers` measures beside Throng, as far as this machine can get it.
#
# It installs Debian's nats-server, mosquitto, redis-server and nodejs (as root), and the packages of the
# programs beside this file, in their own folders. Services that Debian starts are stopped again: the
# bench starts its own. What cannot be had is said, and skipped by the bench.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
    wanted=()
    for package in nats-server mosquitto redis-server nodejs npm; do
        case $package in
            nodejs) program=node ;;
            *) program=$package ;;
        esac
        command -v "$program" >/dev/null || wanted+=("$package")
    done
    if ((${#wanted[@]})); then
        echo "apt-get install ${wanted[*]}"
        apt-get update -qq && apt-get install -y -qq "${wanted[@]}"
        for package in "${wanted[@]}"; do
            command -v service >/dev/null && service "$package" stop >/dev/null 2>&1
            command -v systemctl >/dev/null && systemctl disable --now "$package" >/dev/null 2>&1
        done
    fi
else
    echo "not root, or no apt-get: install nats-server, mosquitto, redis-server and Node.js 20 yourself"
fi

echo "npm ci in node-ws"
(cd node-ws && npm ci --no-audit --no-fund) || echo "node-ws and node-ws-redis will be skipped"
echo "npm install in uwebsockets (from GitHub: uWebSockets.js is not on npm)"
(cd uwebsockets && npm install --no-audit --no-fund --no-package-lock) || echo "uwebsockets.js will be skipped"
echo "tokio-tungstenite is built by make build"
