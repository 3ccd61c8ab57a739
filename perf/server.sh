# One server on loopback, started and ended by the scripts beside this file, which source it.
#
# It never touches a process that it did not start, and never listens beyond loopback.
#
# Invariants: one server at a time, `server_pid`; after its first start the address stays the
# same, so that clients find it again; whoever sources this file leaves no server behind.

perf=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVER=${SERVER:-$perf/../target/release/throng}
BENCH=${BENCH:-$perf/../target/release/throng-bench}
START_S_MAX=${START_S_MAX:-30}

server_pid=
bench_pid=
address=127.0.0.1:0

# fail TEXT: says what went wrong and ends with 2, "the run could not be made".
fail() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# start_server OUT COMMAND [OPTION...]: `throng COMMAND` at `address`; returns once it listens.
# Its log is added to OUT/server.log.
start_server() {
    local out=$1 deadline=$((SECONDS + START_S_MAX))
    shift
    : >"$out/listening"
    "$SERVER" "$@" --listen "$address" >"$out/listening" 2>>"$out/server.log" &
    server_pid=$!
    until grep -q '^listening on ' "$out/listening"; do
        kill -0 "$server_pid" 2>/dev/null || fail "the server ended at once; see $out/server.log"
        ((SECONDS < deadline)) || fail "the server does not listen after $START_S_MAX s"
        sleep 0.02
    done
    address=$(sed -n 's|^listening on http://||p' "$out/listening")
    rm "$out/listening"
}

# kill_server: as a power cut looks to the process.
kill_server() {
    kill -KILL "$server_pid"
    wait "$server_pid" 2>/dev/null || true
    server_pid=
}

# stop_server: SIGTERM, and its exit status must be 0.
stop_server() {
    kill -TERM "$server_pid"
    wait "$server_pid" || fail "SIGTERM: the server ended with $?"
    server_pid=
}

# leave_nothing: for `trap leave_nothing EXIT`.
leave_nothing() {
    [[ -z $bench_pid ]] || kill -TERM "$bench_pid" 2>/dev/null || true
    [[ -z $server_pid ]] || kill -KILL "$server_pid" 2>/dev/null || true
}
