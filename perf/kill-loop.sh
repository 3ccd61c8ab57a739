#!/usr/bin/env bash
# kill-loop.sh OUT: kills a server under load with SIGKILL, again and again, and lets the load
# generator judge: no acknowledged message missing, none twice, history as the clients saw it.
#
# It never judges by itself, and never ends the load early: clients reconnect, resume and resend.
#
# Invariants: before every kill messages were stored since the last one, else the run does not
# count (exit status 2); otherwise the exit status is the generator's.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: kill-loop.sh OUT}
KILLS=${KILLS:-20} SHARDS=${SHARDS:-2} CLIENTS=${CLIENTS:-300} CHANNELS=${CHANNELS:-40}
SUBSCRIPTIONS=${SUBSCRIPTIONS:-3} RATE=${RATE:-1500} DURATION_S=${DURATION_S:-130} SEED=${SEED:-1}
CORPUS=${CORPUS:-}

mkdir -p "$out"
: >"$out/server.log"
data=$(mktemp -d)
trap 'leave_nothing; rm -rf "$data"' EXIT
"$SERVER" admin seed-users --data "$data" --count "$CLIENTS" --out "$data/tokens" >/dev/null
serve=(serve --config "$perf/bench.toml" --data "$data" --shards "$SHARDS")

start_server "$out" "${serve[@]}"
: >"$out/progress.txt"
"$BENCH" chat --target "http://$address" --tokens "$data/tokens" ${CORPUS:+--corpus "$CORPUS"} \
    --clients "$CLIENTS" --channels "$CHANNELS" --subscriptions "$SUBSCRIPTIONS" --rate "$RATE" \
    --duration "${DURATION_S}s" --seed "$SEED" --drain-idle 60s --history-channels "$CHANNELS" \
    --json "$out/report.json" >"$out/report.txt" 2>"$out/progress.txt" &
bench_pid=$!
until grep -q '^answered: ' "$out/progress.txt"; do
    kill -0 "$bench_pid" 2>/dev/null || fail "no load; see $out/progress.txt"
    sleep 0.1
done

# stored: how many messages the server found when it last started.
stored() {
    sed -nE 's/.*messages recovered.* records=([0-9]+).*/\1/p' "$out/server.log" | tail -n 1
}

RANDOM=$SEED
: >"$out/kills.txt"
before=$(stored)
began=$(date +%s%N)
for ((kills = 1; kills <= KILLS; kills++)); do
    # Clients that found nobody come back within 1.6 s; a kill before that would test nothing.
    sleep "$((2 + RANDOM % 3)).$((100 + RANDOM % 900))"
    kill_server
    killed=$(date +%s%N)
    kill -0 "$bench_pid" 2>/dev/null || fail "the load was over before kill $kills"
    start_server "$out" "${serve[@]}"
    now=$(stored)
    echo "kill $kills at $(((killed - began) / 1000000)) ms: $now messages recovered," \
        "$((now - before)) of them new; listening after $((($(date +%s%N) - killed) / 1000000)) ms" |
        tee -a "$out/kills.txt"
    ((now > before)) || fail "nothing was stored before kill $kills"
    before=$now
done
(($(date +%s%N) - began < DURATION_S * 1000000000)) || fail "the load may have been over: raise DURATION_S"

status=0
wait "$bench_pid" || status=$?
bench_pid=
cat "$out/report.txt"
stop_server
exit "$status"
