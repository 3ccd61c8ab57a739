#!/usr/bin/env bash
# Counts the instructions of the hot paths and compares them with gate.json; MICRO.md says how to
# read it. `gate.sh --update` makes what is counted now the baseline.
#
# It measures no time, so it may run beside anything.
#
# Invariants: exit status 0: nothing grew by more than 2 %; 1: something did; 2: no verdict.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v valgrind >/dev/null || {
    echo "gate.sh: valgrind is needed: apt-get install valgrind" >&2
    exit 2
}
# The whole workspace is named so that dependencies have the features that the tests have too.
exec "${CARGO:-cargo}" bench --quiet --locked --workspace --bench instructions -- --gate "$@"
