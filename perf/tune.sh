#!/usr/bin/env bash
# tune.sh show | apply [--interface IF] | undo: the kernel's settings for very many connections.
#
# `show` says what is set, what would be, and why; it changes nothing. `apply` writes down what was
# there and sets the rest, `undo` puts exactly that back. What must be given at boot, and limits of
# the service, are only said: TUNING.md and throng.service have them.
#
# It never lowers a setting, never touches one that is not in its table, and makes nothing
# permanent: a restart of the machine undoes it too.
#
# Invariants: nothing is set before the old value is on disk; `undo` restores in reverse order and
# says what somebody else has changed meanwhile. TUNE_ROOT is a folder that stands for /.
set -euo pipefail

root=${TUNE_ROOT:-}
state=${TUNE_STATE:-$root/var/lib/throng/tune.state}
interface=

# name|value|why; several numbers are raised one by one.
settings() {
    local pages
    pages=$(awk '/^MemTotal:/ { print int($2 / 4) }' "$root/proc/meminfo")
    cat <<TABLE
fs.nr_open|4194304|a process may be allowed so many descriptors: larger tables, so fewer rings
fs.file-max|8388608|sockets of all processes together
net.core.somaxconn|65535|connections that wait for accept(): everybody comes back in one moment
net.ipv4.tcp_max_syn_backlog|65535|handshakes under way, before SYN cookies take over
net.core.netdev_max_backlog|65536|packets that wait for a core; what is beyond is dropped, and sent again after 200 ms
net.ipv4.tcp_mem|$((pages / 8)) $((pages / 4)) $((pages * 3 / 8))|pages of TCP buffers of all connections: a message to everybody needs them at once
TABLE
}

usage() {
    echo "usage: tune.sh show | apply | undo [--interface IF]" >&2
    exit 2
}

fail() {
    echo "tune.sh: $1" >&2
    exit 1
}

file_of() { echo "$root/proc/sys/${1//.//}"; }

# current FILE: the numbers that a file holds, apart by one blank.
current() { tr -s '[:space:]' ' ' <"$1" | sed 's/ $//'; }

# same ONE OTHER: whether two values mean the same; the kernel writes masks with zeros in front and
# commas in between.
same() { [[ $(plain "$1") == "$(plain "$2")" ]]; }
plain() { tr -d ',' <<<"$1" | sed -E 's/(^| )0+([0-9a-f])/\1\2/g'; }

# all_cores: the mask of all cores, in groups of 32.
all_cores() {
    local cores rest mask
    cores=$(grep -c '^processor' "$root/proc/cpuinfo")
    rest=$((cores % 32))
    mask=$(printf '%x' $(((1 << rest) - 1)))
    ((rest > 0)) || mask=
    for ((; cores >= 32; cores -= 32)); do mask="${mask:+$mask,}ffffffff"; done
    echo "$mask"
}

# larger NOW WANTED: number by number the larger one.
larger() {
    local now=($1) wanted=($2) result=()
    for at in "${!wanted[@]}"; do
        local have=${now[$at]:-0}
        result+=("$((have > wanted[at] ? have : wanted[at]))")
    done
    echo "${result[*]}"
}

# each ACTION: calls ACTION with name, file, what is there, what it should be, and why.
each() {
    local name value why file now
    while IFS='|' read -r name value why; do
        file=$(file_of "$name")
        if [[ ! -e $file ]]; then
            echo "  $name: this kernel has none"
            continue
        fi
        now=$(current "$file")
        "$1" "$name" "$file" "$now" "$(larger "$now" "$value")" "$why"
    done < <(settings)
    [[ -z $interface ]] || each_queue "$1"
}

# Receive packet steering: interrupts of a card with fewer queues than cores are shared by all cores.
each_queue() {
    local queue mask
    mask=$(all_cores)
    for queue in "$root/sys/class/net/$interface"/queues/rx-*/rps_cpus; do
        [[ -e $queue ]] || continue
        "$1" "$interface ${queue#"$root"/sys/class/net/"$interface"/queues/}" "$queue" \
            "$(current "$queue")" "$mask" "packets of this queue are handled on all cores"
    done
}

show_one() {
    if same "$3" "$4"; then
        echo "  $1 = $3 (stays)"
    else
        echo "  $1 = $3 -> $4: $5"
    fi
}

apply_one() {
    ! same "$3" "$4" || return 0
    # The old value first, and on disk: a change that nobody remembers cannot be undone.
    printf '%s|%s|%s\n' "$2" "$3" "$4" >>"$state"
    sync "$state"
    if echo "$4" >"$2" 2>/dev/null; then
        echo "  $1: $3 -> $4"
    else
        echo "  $1: refused by the kernel, stays $3"
    fi
}

apply() {
    [[ ! -e $state ]] || fail "already applied ($state): undo first"
    mkdir -p "$(dirname "$state")"
    : >"$state" || fail "$state cannot be written"
    each apply_one
    echo "undo with: $0 undo"
}

undo() {
    [[ -e $state ]] || fail "nothing was applied ($state is not there)"
    local file before set now
    while IFS='|' read -r file before set; do
        if [[ ! -e $file ]]; then
            echo "  $file: has gone; nothing to undo"
            continue
        fi
        now=$(current "$file")
        if same "$now" "$before"; then
            continue
        elif ! same "$now" "$set"; then
            echo "  $file: somebody has made it $now meanwhile; left alone (it was $before)"
        elif echo "$before" >"$file" 2>/dev/null; then
            echo "  $file: $set -> $before"
        else
            fail "$file cannot be written; $state is kept"
        fi
    done < <(tac "$state")
    rm "$state"
}

command=${1:-}
shift || true
while (($# > 0)); do
    case $1 in
    --interface) interface=${2:?--interface needs a name} && shift 2 ;;
    *) usage ;;
    esac
done
[[ -z $interface || -d $root/sys/class/net/$interface ]] || fail "there is no interface $interface"
case $command in
show) each show_one ;;
apply) apply ;;
undo) undo ;;
*) usage ;;
esac
