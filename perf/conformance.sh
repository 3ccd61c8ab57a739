#!/usr/bin/env bash
# conformance.sh OUT: RFC 6455 and 7692 conformance of `throng echo`: Autobahn's suite, and what
# framing.py adds to it.
#
# UNIMPLEMENTED is what the suite calls an offer of compression that the server declines. That is no
# failure in 13.3 and 13.5, which offer a window below 15 bits and nothing else, and one everywhere
# else: a server that has lost its compression would decline all of section 12.
#
# It never counts NON-STRICT as a pass. WSTEST names the suite's program; README.md says where
# it comes from.
#
# Invariants: everything runs three times, with the client's bytes as they come, in pieces of 997
# and byte by byte; exit status 0 only when all of it holds.
set -euo pipefail
source "$(dirname "$0")/server.sh"

out=${1:?usage: conformance.sh OUT}
WSTEST=${WSTEST:-wstest}
SHARDS=${SHARDS:-1}

mkdir -p "$out"
: >"$out/server.log"
scratch=$(mktemp -d)
relay_pid=
trap 'leave_nothing; [[ -z $relay_pid ]] || kill "$relay_pid"; rm -rf "$scratch"' EXIT
start_server "$out" echo --shards "$SHARDS"
failed=0

# suite NAME ADDRESS EXCLUDED: writes the index and the table, adds to `failed`.
suite() {
    local name=$1 to=$2 excluded=$3
    cat >"$scratch/spec.json" <<SPEC
{"outdir": "$scratch/$name", "servers": [{"agent": "throng", "url": "ws://$to"}],
 "cases": ["*"], "exclude-cases": [$excluded], "exclude-agent-cases": {}}
SPEC
    "$WSTEST" -m fuzzingclient -s "$scratch/spec.json" >"$scratch/$name.log" 2>&1 ||
        fail "the suite ended with $?: $(tail -1 "$scratch/$name.log")"
    # Behaviour, behaviour at the close, and the close code, by case.
    jq -cS '.throng | map_values([.behavior, .behaviorClose, .remoteCloseCode])' \
        "$scratch/$name/index.json" >"$out/autobahn-$name.json"
    local bad='to_entries | map(select(
        (.key | test("^13\\.[35]\\.")) as $narrow
        | .value[:2] | all(IN("OK", "INFORMATIONAL") or ($narrow and . == "UNIMPLEMENTED")) | not
    ) | .key) | .[]'
    local wrong
    wrong=$(jq -r "$bad" "$out/autobahn-$name.json")
    [[ -z $wrong ]] || echo "$name: not passed:" $wrong | tee -a "$out/summary.txt"
    failed=$((failed + $(wc -w <<<"$wrong")))
    if [[ $excluded != *'"12.*"'* ]] && ! jq -e '."12.1.1"[0] == "OK"' "$out/autobahn-$name.json" >/dev/null; then
        echo "$name: 12.1.1 is not OK: nothing is compressed" | tee -a "$out/summary.txt"
        failed=$((failed + 1))
    fi
    jq -r --arg name "$name" 'to_entries | group_by(.value[0])[] | "\($name): \(.[0].value[0]) \(length)"' \
        "$out/autobahn-$name.json" | tee -a "$out/summary.txt"
}

# framing NAME PIECES
framing() {
    "$perf/framing.py" --target "$address" --pieces "$2" >"$out/framing-$1.txt" || failed=$((failed + 1))
    echo "framing, $1: OK $(grep -c ': OK$' "$out/framing-$1.txt")," \
        "FAIL $(grep -c ': FAIL' "$out/framing-$1.txt" || true)," \
        "left out $(grep -c ': left out$' "$out/framing-$1.txt" || true)" | tee -a "$out/summary.txt"
}

# in_pieces BYTES EXCLUDED
in_pieces() {
    "$perf/chop.py" --to "$address" --bytes "$1" >"$scratch/relay" 2>"$scratch/relay.log" &
    relay_pid=$!
    until grep -q '^listening on ' "$scratch/relay"; do
        kill -0 "$relay_pid" 2>/dev/null || fail "no relay: $(tail -1 "$scratch/relay.log")"
        sleep 0.05
    done
    suite "pieces-$1" "$(sed -n 's/^listening on //p' "$scratch/relay")" "$2"
    kill "$relay_pid"
    wait "$relay_pid" 2>/dev/null || true
    relay_pid=
    framing "pieces-$1" "$1"
}

: >"$out/summary.txt"
suite whole "$address" ''
framing whole 0
in_pieces 997 ''
# Sections 9, 12 and 13 send megabytes a case: byte by byte that is no test of another thing, only of
# patience.
in_pieces 1 '"12.*", "13.*", "9.*"'
stop_server
((failed == 0)) || { echo "$failed failed" >&2; exit 1; }
