#!/usr/bin/env bash
# Side by side on this machine: rsync's daemon, two nodes, and what bare QUIC streams carry.
#
#   tests/bench/run.sh                 needs rsync; trees on /dev/shm
#   tests/bench/run.sh PEERBENCH       also runs that copy of peerbench, with Syncthing among the peers
#
# SCRATCH=/some/dir puts the trees elsewhere, ROUNDS=3 repeats, BIN=/some/tidegate takes another build.
# Each line: seconds of wall time, CPU seconds of both ends, resident MiB of each node (largest so far / now).
# Peers take turns within a round. Compare lines of one run only.
set -euo pipefail

cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
bin=$(realpath "${BIN:-$target/release/tidegate}")
scratch=${SCRATCH:-/dev/shm}/tidegate-bench.$$
rounds=${ROUNDS:-2}
nodes=()
trap 'end_nodes; rm -rf "$scratch"' EXIT
mkdir -p "$scratch"

export TIDEGATE_NETWORK_MDNS=false TIDEGATE_INDEX_SETTLE=10ms TIDEGATE_SAFETY_GUARD_DELETES_MAX=1000000

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b - a }'; }
cpu_of() { for pid in "$@"; do cat "/proc/$pid/stat"; done | awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); s += $12 + $13 + $14 + $15 } END { print s / hz }'; }
resident() { for pid in "$@"; do awk -v key="$line" '$1 == key { printf "%s%d", sep, $2 / 1024 }' "/proc/$pid/status"; printf ' '; done; }
row() { printf '%-18s %-26s %8s s  %8s CPU-s  %s\n' "$@"; }

# tree DIRECTORY FILES DIRECTORIES SMALLEST LARGEST
tree() {
    python3 - "$@" <<'PY'
import os, random, sys
top, (files, dirs, smallest, largest) = sys.argv[1], map(int, sys.argv[2:])
source = random.Random(f"{files} {dirs}")
for i in range(files):
    at = f"{top}/{'archive' if i % dirs < dirs // 2 else 'work'}/d{i % dirs:04}"
    os.makedirs(at, exist_ok=True)
    with open(f"{at}/f{i:06}.dat", "wb") as out:
        for left in range(source.randint(smallest, largest), 0, -(1 << 20)):
            out.write(source.randbytes(min(left, 1 << 20)))
PY
}

edit_middle() {
    python3 - "$1" <<'PY'
import os, sys
with open(sys.argv[1], "r+b") as file:
    file.seek(os.path.getsize(sys.argv[1]) // 2)
    file.write(os.urandom(1 << 20))
PY
}

same() { diff -rq --exclude=.tidegate "$scratch/a" "$scratch/b" >/dev/null || { echo "the trees differ" >&2; exit 1; }; }
fresh() { rm -rf "$scratch"/{a,b,ha,hb}; mkdir -p "$scratch"/{b,ha,hb}; cp -a "$scratch/$1" "$scratch/a"; sync; }

rsync_round() { # TREE
    fresh "$1"
    printf 'use chroot = no\n[b]\npath = %s\nread only = no\nuid = %s\ngid = %s\n' "$scratch/b" "$(id -u)" "$(id -g)" >"$scratch/rsyncd.conf"
    rsync --daemon --no-detach --config="$scratch/rsyncd.conf" --port=7439 --address=127.0.0.1 & nodes=($!)
    until rsync rsync://127.0.0.1:7439/ >/dev/null 2>&1; do :; done
    rsync_step "$1" "first sync"
    rsync_step "$1" "nothing changed"
    if [ "$1" = big ]; then edit_middle "$scratch/a/work/d0000/f000000.dat"; rsync_step "$1" "1 MiB edited"; fi
    end_nodes
}

rsync_step() { # TREE STEP
    local began before client
    before=$(cpu_of "${nodes[@]}"); began=$(now)
    client=$({ TIMEFORMAT='%U %S'; time rsync -a --delete "$scratch/a/" rsync://127.0.0.1:7439/b/; } 2>&1)
    local took
    took=$(since "$began")
    row "$1" "rsync: $2" "$took" "$(awk -v d="$(minus "$before" "$(cpu_of "${nodes[@]}")")" '{ printf "%.2f", $1 + $2 + d }' <<<"$client")" ""
    same
}

start_node() { # NAME HOME PORT
    "$bin" --home "$2" serve --name "$1" --listen "127.0.0.1:$3" >"$2.log" 2>&1 & nodes+=($!)
    until "$bin" --home "$2" health >/dev/null 2>&1; do :; done
}

nodes_round() { # TREE
    fresh "$1"
    local a=("$bin" --home "$scratch/ha") b=("$bin" --home "$scratch/hb")
    start_node a "$scratch/ha" 7437
    start_node b "$scratch/hb" 7438
    "${a[@]}" pair --detach | tail -1 | "${b[@]}" pair join --at 127.0.0.1:7437 --code-stdin >/dev/null 2>&1
    local began before
    before=$(cpu_of "${nodes[@]}"); began=$(now)
    "${b[@]}" location add "$scratch/b" --name B --allow a=delete >/dev/null 2>&1
    "${a[@]}" location add "$scratch/a" --name A --allow b=read >/dev/null 2>&1
    until "${a[@]}" conduit create c a:A b:B --schedule 'instant 100ms' >/dev/null 2>&1; do :; done
    settled "$1" "first sync, verified"
    before=$(cpu_of "${nodes[@]}"); began=$(now)
    "${a[@]}" sync c >/dev/null
    settled "$1" "nothing changed"
    if [ "$1" = big ]; then
        before=$(cpu_of "${nodes[@]}"); began=$(now)
        edit_middle "$scratch/a/work/d0000/f000000.dat"
        settled "$1" "1 MiB edited, verified"
    fi
    end_nodes
}

settled() { # TREE STEP; of the caller: a, before, began
    "${a[@]}" conduit wait c >/dev/null 2>&1
    local took used
    took=$(since "$began")
    used=$(minus "$before" "$(cpu_of "${nodes[@]}")")
    row "$1" "tidegate: $2" "$took" "$used" "$(line=VmHWM: resident "${nodes[@]}")/ $(line=VmRSS: resident "${nodes[@]}")MiB (source, target)"
    same
}

end_nodes() {
    for pid in "${nodes[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${nodes[@]}"; do wait "$pid" 2>/dev/null || true; done
    nodes=()
}

[ -x "$bin" ] || cargo build --release
tree "$scratch/small" 20000 400 512 8192
tree "$scratch/tiny" 100000 1000 100 2000
tree "$scratch/big" 1 1 $((1 << 30)) $((1 << 30))
for _ in $(seq "$rounds"); do
    for one in small tiny big; do
        rsync_round "$one"
        nodes_round "$one"
    done
done

echo; echo "What QUIC carries here:"
cargo bench --quiet --package tidegate --bench wire

if [ $# -gt 0 ]; then
    here=$PWD
    cd "$1"
    PATH=$(dirname "$bin"):$PATH python3 run.py --peers rsync-daemon syncthing "$here/tests/bench/peerbench-node.toml" \
        --workloads small one-big tiny-100k --steps noop create-one edit-middle --repeats "$rounds" \
        --scratch "$scratch/peers" --out "$scratch/peers.jsonl"
fi
