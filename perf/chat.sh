#!/usr/bin/env bash
# chat.sh OUT: the seeds' peak beside its generator: 2,000 clients, 12,000 messages/s offered over
# 500 channels with 8 subscribers each on average; and where the CPU went meanwhile.
#
# It never tunes the server: the configuration lifts limits only, everything is synced.
#
# Invariants: CPU is counted between two snapshots within the load, never over set-up or drain;
# the exit status is the generator's.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: chat.sh OUT}
SHARDS=${SHARDS:-2} CLIENTS=${CLIENTS:-2000} CHANNELS=${CHANNELS:-500} SUBSCRIPTIONS=${SUBSCRIPTIONS:-2}
RATE=${RATE:-12000} DURATION_S=${DURATION_S:-60} THREADS=${THREADS:-1} CORPUS=${CORPUS:-}
PROFILE=${PROFILE:-} # set: `perf record` runs through the second half, and costs some of it
EDGE_S=10            # what lies this near to either end of the load is not counted

((DURATION_S > 3 * EDGE_S)) || fail "DURATION_S: more than $((3 * EDGE_S)) s, or there is nothing to count"
mkdir -p "$out"
: >"$out/server.log"
data=$(mktemp -d)
trap 'leave_nothing; rm -rf "$data"' EXIT
"$SERVER" admin seed-users --data "$data" --count "$CLIENTS" --out "$data/tokens" >/dev/null
start_server "$out" serve --config "$perf/bench.toml" --data "$data" --shards "$SHARDS"

: >"$out/progress.txt"
"$BENCH" chat --target "http://$address" --tokens "$data/tokens" ${CORPUS:+--corpus "$CORPUS"} \
    --clients "$CLIENTS" --channels "$CHANNELS" --subscriptions "$SUBSCRIPTIONS" --rate "$RATE" \
    --duration "${DURATION_S}s" --threads "$THREADS" --json "$out/report.json" \
    >"$out/report.txt" 2>"$out/progress.txt" &
bench_pid=$!

# snapshot FILE: ticks (10 ms) of every thread of the two, and of the machine.
snapshot() {
    {
        sed 's/^cpu /machine /; /^machine /!d' /proc/stat
        for pid in "$server_pid" "$bench_pid"; do
            for stat in /proc/"$pid"/task/*/stat; do
                # The name may hold spaces: what follows the last ')' is in fixed places.
                tid=${stat%/stat} tid=${tid##*/}
                name=$(cat "/proc/$pid/task/$tid/comm")
                sed 's/.*) //' "$stat" | awk -v id="$tid" -v name="${name// /_}" '{print "thread", id, name, $12, $13}'
            done
        done
        date +'nanoseconds %s%N'
    } >"$1"
}

until grep -q '^connecting: \([0-9]*\)/\1$' "$out/progress.txt"; do
    kill -0 "$bench_pid" 2>/dev/null || fail "no load; see $out/progress.txt"
    sleep 0.1
done
sleep "$EDGE_S"
snapshot "$data/before"
if [[ $PROFILE ]]; then
    sleep "$((DURATION_S / 2 - EDGE_S))"
    perf record -q -p "$server_pid,$bench_pid" -F 499 -o "$data/perf.data" -- sleep "$((DURATION_S / 2 - EDGE_S))" 2>>"$out/server.log"
else
    sleep "$((DURATION_S - 2 * EDGE_S))"
fi
snapshot "$data/after"
grep -E '^Vm(HWM|RSS)' "/proc/$server_pid/status" >"$out/memory.txt"

# Share of one core, in percent, between the snapshots; threads below 0.5 % are left out.
awk 'function share(ticks) { return 1e9 * ticks / (now - then) }
    /^nanoseconds/ { if (FNR == NR) then = $2; else now = $2; next }
    FNR == NR { for (i = 2; i <= NF; i++) old[$1, /^thread/ ? $2 : 0, i] = $i; next }
    /^machine/ { for (i = 2; i <= 9; i++) used[i] = $i - old["machine", 0, i]; next }
    /^thread/ { user[$2] = $4 - old["thread", $2, 4]; kernel[$2] = $5 - old["thread", $2, 5]; name[$2] = $3 }
    END {
        printf "%-16s %7s %7s\n", "thread", "user %", "kernel %"
        for (id in name) if (share(user[id] + kernel[id]) >= 0.5)
            printf "%-16s %7.1f %7.1f\n", name[id], share(user[id]), share(kernel[id])
        printf "machine: user %.1f, kernel %.1f, soft interrupts %.1f, waiting for the disk %.1f, idle %.1f, stolen %.1f (percent of one core)\n",
            share(used[2] + used[3]), share(used[4]), share(used[7] + used[8]), share(used[6]), share(used[5]), share(used[9])
    }' "$data/before" "$data/after" >"$out/cpu.txt"
if [[ $PROFILE ]]; then
    for by in thread:comm symbol:comm,symbol; do
        perf report -i "$data/perf.data" --sort "${by#*:}" --percent-limit 0.5 --stdio 2>>"$out/server.log" |
            sed -E '/^#/d; /^$/d; s/ +(- +)*$//' >"$out/profile-by-${by%:*}.txt"
    done
fi

status=0
wait "$bench_pid" || status=$?
bench_pid=
cat "$out/report.txt" "$out/cpu.txt" "$out/memory.txt"
stop_server
exit "$status"
