#!/usr/bin/env bash
# flame.sh OUT [PATH...]: flame graphs of the server's main paths, one SVG each, user space and kernel:
# echo, fanout, messages, history, connect; all of them when none is named.
#
# For each path a server runs alone on core 1 under its load, and perf samples its process for SAMPLED_S. It
# needs perf, and inferno: `cargo install --locked inferno --version 0.12.8`.
#
# It measures nothing: a server that is sampled is slower.
#
# Invariants: what was sampled is the server alone; a path whose load could not be run leaves no graph.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: flame.sh OUT [PATH...]}
shift
paths=("$@")
(($# > 0)) || paths=(echo fanout messages history connect)
SAMPLED_S=${SAMPLED_S:-8}
FREQUENCY=${FREQUENCY:-199}

command -v perf >/dev/null || fail "perf is needed (Debian: linux-perf)"
for tool in inferno-collapse-perf inferno-flamegraph; do
    command -v "$tool" >/dev/null || fail "$tool is needed: cargo install --locked inferno --version 0.12.8"
done
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'leave_nothing; rm -rf "$scratch"' EXIT

# flame NAME TITLE COMMAND [OPTION...]: samples the running server while `throng-bench COMMAND` loads it.
flame() {
    local name=$1 title=$2
    shift 2
    "$BENCH" "$@" >"$scratch/$name.txt" 2>&1 &
    bench_pid=$!
    sleep 4 # connections and warm-up
    perf record -q -e cpu-clock -F "$FREQUENCY" -g --call-graph dwarf,8192 -p "$server_pid" -o "$scratch/perf.data" \
        -- sleep "$SAMPLED_S" || fail "perf cannot sample here"
    wait "$bench_pid" || fail "$name: the load ended with $?: $(tail -1 "$scratch/$name.txt")"
    bench_pid=
    perf script -i "$scratch/perf.data" 2>/dev/null | inferno-collapse-perf >"$scratch/$name.folded"
    inferno-flamegraph --title "$title" <"$scratch/$name.folded" >"$out/$name.svg"
    echo "$out/$name.svg: $(awk '{ n += $NF } END { printf "%.1f", n / 1e9 }' "$scratch/$name.folded") s of processor time"
}

# serve ACCOUNTS: a new server of one shard on core 1.
serve() {
    local accounts=$1
    rm -rf "$scratch/data" && mkdir "$scratch/data"
    "$SERVER" admin seed-users --data "$scratch/data" --count "$accounts" --everyone lobby --circles 4 \
        --out "$scratch/tokens" >/dev/null
    address=127.0.0.1:0
    start_server "$scratch" serve --config "$perf/bench.toml" --data "$scratch/data" --shards 1
    taskset -acp 1 "$server_pid" >/dev/null
    target=(--target "http://$address" --tokens "$scratch/tokens")
}

path_echo() {
    address=127.0.0.1:0
    start_server "$scratch" echo --shards 1
    taskset -acp 1 "$server_pid" >/dev/null
    flame echo "echo: 1,000 connections, 64 B" \
        echo --target "http://$address" --connections 1000 --size 64 --duration "$((SAMPLED_S + 5))s" --no-raw --core 0
}

path_fanout() {
    serve 1008
    flame fanout "fan-out: 1,000 subscribers, 500 messages/s, synced" \
        fanout "${target[@]}" --subscribers 1000 --rate 500 --duration "$((SAMPLED_S + 5))s" --core 0
}

path_messages() {
    serve 24
    flame messages "messages: 10,000/s to four subscribers, synced" \
        fanout "${target[@]}" --subscribers 4 --rate 10000 --duration "$((SAMPLED_S + 5))s" --core 0
}

path_history() {
    serve 64
    flame history "history: 300 pages/s over REST" \
        history "${target[@]}" --fill 20000 --rate 300 --duration "$((SAMPLED_S + 6))s" --core 0
}

path_connect() {
    serve 2000
    flame connect "connect: 2,000 sessions come with one subscription and leave, again and again" \
        connect "${target[@]}" --connections 2000 --subscriptions 1 --duration "$((SAMPLED_S + 6))s" --core 0
}

for path in "${paths[@]}"; do
    declare -F "path_$path" >/dev/null || fail "there is no path $path; there are echo, fanout, messages, history, connect"
    "path_$path"
    stop_server
done
