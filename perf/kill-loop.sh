#!/usr/bin/env bash
# kill-loop.sh OUT: kills a server under load with SIGKILL, again and again, and lets the load
# generator judge: no acknowledged message missing, none twice, history as the clients saw it.
#
# It never judges by itself, and never ends the load early: clients reconnect, resume and resend.
#
# Invariants: every kill falls into the load, else the run does not count (exit status 2);
# otherwise the exit status is the generator's.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: kill-loop.sh OUT}
KILLS=${KILLS:-20} SHARDS=${SHARDS:-2} CLIENTS=${CLIENTS:-300} CHANNELS=${CHANNELS:-40}
SUBSCRIPTIONS=${SUBSCRIPTIONS:-3} RATE=${RATE:-1500} DURATION_S=${DURATION_S:-100} SEED=${SEED:-1}
CORPUS=${CORPUS:-}

mkdir -p "$out"
data=$(mktemp -d)
trap 'leave_nothing; rm -rf "$data"' EXIT
"$SERVER" admin seed-users --data "$data" --count "$CLIENTS" --out "$data/tokens" >/dev/null
serve=(serve --config "$perf/bench.toml" --data "$data" --shards "$SHARDS")

start_server "$out" "${serve[@]}"
"$BENCH" chat --target "http://$address" --tokens "$data/tokens" ${CORPUS:+--corpus "$CORPUS"} \
    --clients "$CLIENTS" --channels "$CHANNELS" --subscriptions "$SUBSCRIPTIONS" --rate "$RATE" \
    --duration "${DURATION_S}s" --seed "$SEED" --drain-idle 60s --history-channels "$CHANNELS" \
    --json "$out/report.json" >"$out/report.txt" 2>"$out/progress.txt" &
bench_pid=$!
until grep -q '^answered: ' "$out/progress.txt"; do
    kill -0 "$bench_pid" 2>/dev/null || fail "no load; see $out/progress.txt"
    sleep 0.1
done

RANDOM=$SEED
: >"$out/kills.txt"
began=$(date +%s%N)
for ((kills = 1; kills <= KILLS; kills++)); do
    sleep "$((RANDOM % 3)).$((100 + RANDOM % 900))"
    kill_server
    killed=$(date +%s%N)
    kill -0 "$bench_pid" 2>/dev/null || fail "the load was over before kill $kills"
    start_server "$out" "${serve[@]}"
    echo "kill $kills at $(((killed - began) / 1000000)) ms," \
        "listening again after $((($(date +%s%N) - killed) / 1000000)) ms" | tee -a "$out/kills.txt"
done
(($(date +%s%N) - began < DURATION_S * 1000000000)) || fail "the load may have been over: raise DURATION_S"

status=0
wait "$bench_pid" || status=$?
bench_pid=
cat "$out/report.txt"
stop_server
exit "$status"
