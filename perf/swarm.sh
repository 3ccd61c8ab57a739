#!/usr/bin/env bash
# swarm.sh OUT COMMAND [OPTION...]: one server with SESSIONS accounts, and `throng-bench COMMAND`
# against it (idle, fanout, echo, storm, soak), which measures the server's process from outside.
#
# It never tunes the server beyond what SETTINGS (THRONG_* variables) says: the configuration lifts
# limits only, everything is synced unless SETTINGS says otherwise.
#
# CORE pins the server to one core, for SHARDS=1. `storm` without --drop gets its restart: SIGTERM, and the
# same server again at the same address.
#
# Invariants: the data directory is new and removed at the end; the exit status is the generator's.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: swarm.sh OUT COMMAND [OPTION...]}
command=${2:?usage: swarm.sh OUT COMMAND [OPTION...]}
shift 2
SHARDS=${SHARDS:-2} SESSIONS=${SESSIONS:-15000} NAME=${NAME:-$command}
SETTINGS=${SETTINGS:-} # e.g. "THRONG_SOCKETS__MODE=dense THRONG_HEARTBEAT_S=60"

mkdir -p "$out"
: >"$out/server.log"
data=$(mktemp -d)
trap 'leave_nothing; rm -rf "$data"' EXIT
for setting in $SETTINGS; do export "${setting?}"; done
if [[ $command == echo ]]; then
    start_server "$out" echo --shards "$SHARDS"
    target=(--target "http://$address")
else
    "$SERVER" admin seed-users --data "$data" --count "$SESSIONS" --everyone lobby --circles 4 --out "$data/tokens" >/dev/null
    serve=(serve --config "$perf/bench.toml" --data "$data" --shards "$SHARDS")
    start_server "$out" "${serve[@]}"
    target=(--target "http://$address" --tokens "$data/tokens")
fi
[[ -z ${CORE:-} ]] || taskset -acp "$CORE" "$server_pid" >/dev/null
status=0
"$BENCH" "$command" "${target[@]}" --pid "$server_pid" \
    --json "$out/$NAME.json" "$@" >"$out/$NAME.txt" 2>"$out/$NAME-progress.txt" &
bench_pid=$!
if [[ $command == storm && " $* " != *' --drop '* ]]; then
    until grep -q 'restart the server now' "$out/$NAME-progress.txt"; do
        kill -0 "$bench_pid" 2>/dev/null || break
        sleep 0.1
    done
    stop_server
    start_server "$out" "${serve[@]}"
fi
wait "$bench_pid" || status=$?
bench_pid=
cat "$out/$NAME.txt"
grep -E '^Vm(HWM|RSS)' "/proc/$server_pid/status" >>"$out/$NAME.txt"
stop_server
exit "$status"
