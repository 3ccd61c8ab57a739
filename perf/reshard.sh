#!/usr/bin/env bash
# reshard.sh OUT: the same history whatever the number of shards, after SIGTERM and after SIGKILL.
#
# It never changes what is stored between two dumps, and never skips a channel: all history goes
# through REST and is compared byte for byte.
#
# Invariants: exit status 0 only when every dump was the same and the generator found every
# promise kept, also where the number of shards changed with SIGKILL under load.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: reshard.sh OUT}
CLIENTS=${CLIENTS:-200} CHANNELS=${CHANNELS:-60} SUBSCRIPTIONS=${SUBSCRIPTIONS:-3} RATE=${RATE:-1000}
CORPUS=${CORPUS:-}
OTHER_SHARDS=(1 3 2)

mkdir -p "$out"
: >"$out/server.log"
data=$(mktemp -d)
trap 'leave_nothing; rm -rf "$data"' EXIT
"$SERVER" admin seed-users --data "$data" --count "$CLIENTS" --out "$data/tokens" >/dev/null

serve() { start_server "$out" serve --config "$perf/bench.toml" --data "$data" --shards "$1"; }

# load NAME SECONDS: begins to offer load in the background.
load() {
    : >"$out/$1.progress.txt"
    "$BENCH" chat --target "http://$address" --tokens "$data/tokens" ${CORPUS:+--corpus "$CORPUS"} \
        --clients "$CLIENTS" --channels "$CHANNELS" --subscriptions "$SUBSCRIPTIONS" --rate "$RATE" \
        --duration "$2s" --drain-idle 60s --history-channels "$CHANNELS" \
        --json "$out/$1.json" >"$out/$1.txt" 2>"$out/$1.progress.txt" &
    bench_pid=$!
}

# judged NAME: waits for the load; its promises must have been kept.
judged() {
    wait "$bench_pid" || { cat "$out/$1.txt" >&2; fail "$1: the generator ended with $?"; }
    bench_pid=
}

# dump NAME: all history into a file; says how much it is and its digest.
dump() {
    python3 "$perf/history.py" --target "http://$address" --tokens "$data/tokens" >"$data/$1.jsonl"
    echo "$1: $(wc -l <"$data/$1.jsonl") messages, sha256 $(sha256sum <"$data/$1.jsonl" | cut -d' ' -f1)" |
        tee -a "$out/dumps.txt"
}

# same_with_other_shards NAME HOW: ends the server by HOW, once per number of shards, and compares.
same_with_other_shards() {
    dump "$1"
    for shards in "${OTHER_SHARDS[@]}"; do
        "$2"
        serve "$shards"
        dump "$1-shards-$shards"
        cmp "$data/$1.jsonl" "$data/$1-shards-$shards.jsonl" || exit 1
    done
}

: >"$out/dumps.txt"
serve 2
load orderly 15
judged orderly
same_with_other_shards sigterm stop_server

load killed 30
until grep -q '^answered: ' "$out/killed.progress.txt"; do
    kill -0 "$bench_pid" 2>/dev/null || fail "no load; see $out/killed.progress.txt"
    sleep 0.1
done
for shards in "${OTHER_SHARDS[@]}"; do
    sleep 3
    kill -0 "$bench_pid" 2>/dev/null || fail "the load was over before the last kill"
    kill_server
    serve "$shards"
    echo "killed under load, back with $shards shards" | tee -a "$out/dumps.txt"
done
judged killed
same_with_other_shards sigkill kill_server
stop_server
