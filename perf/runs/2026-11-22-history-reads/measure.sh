#!/usr/bin/env bash
# measure.sh: what a page of today's messages costs the device, while `throng-bench history` reads 1,000 a second.
set -euo pipefail
server=${SERVER:-target/release/throng} bench=${BENCH:-target/release/throng-bench}
folder=$(mktemp -d -p .)
trap 'kill "$pid" 2>/dev/null; wait "$pid"; rm -rf "$folder"' EXIT
mkdir "$folder/data"
"$server" admin seed-users --everyone lobby --circles 4 --count 64 --data "$folder/data" --out "$folder/tokens" >&2
"$server" serve --listen 127.0.0.1:18080 --config perf/bench.toml --data "$folder/data" >"$folder/out" 2>"$folder/err" &
pid=$!
until grep -q listening "$folder/out"; do sleep 0.1; done
"$bench" history --target http://127.0.0.1:18080 --tokens "$folder/tokens" --pid "$pid" --fill 20000 --rate 1000 --duration 14s \
    --json "$folder/report.json" 2>"$folder/progress" >/dev/null &
reading=$!
until grep -q "pages: " "$folder/progress"; do sleep 0.1; done
device=$(lsblk -no pkname,kname "$(df --output=source "$folder" | tail -1)" | awk '{print $NF}')
count() {
    awk '/^read_bytes/ {print $2}' "/proc/$pid/io"
    awk -v device="$device" '$3 == device {print $4}' /proc/diskstats
    awk '/ctxt_switches/ {sum += $2} END {print sum}' /proc/"$pid"/task/*/status
}
mapfile -t before < <(count)
sleep 8
mapfile -t after < <(count)
wait "$reading"
names=("bytes read" "reads of the device" "context switches")
for at in 0 1 2; do
    echo "${names[at]} a page: $(((after[at] - before[at]) / 80)) / 100"
done
jq -c '{pages, pages_per_s, wrong_pages, server_cpu_us_per_page, p50: .page_latency_us.p50, p99: .page_latency_us.p99}' "$folder/report.json"
