#!/usr/bin/env bash
# beyond_ram.sh MODEL LIMIT [loam bench infer's options] — a model in a control group whose memory is smaller than its file: tokens a second, and the
# rate at which the file is read beside what the disk gives by itself (dd, O_DIRECT, nothing cached). LIMIT as 700M. Needs the right to make a control group (version 1 or 2).
#
#   LOAM: the program (build/loam). CGROUP (/sys/fs/cgroup): where the groups are; a version 2 hierarchy needs the memory controller there, and no processes of
#   its own in it unless it is the system's root: else `systemd-run --scope -p MemoryMax=LIMIT -p MemorySwapMax=0 loam bench infer --load map …` does the same.
set -eu
model=$1 limit=$2; shift 2
bytes=$(numfmt --from=iec "$limit") root=${CGROUP:-/sys/fs/cgroup}
if [ -f "$root/cgroup.controllers" ]; then
    grep -qw memory "$root/cgroup.controllers" || { echo "$root has no memory controller: $(cat "$root/cgroup.controllers")" >&2; exit 1; }
    grep -qw memory "$root/cgroup.subtree_control" || echo +memory >"$root/cgroup.subtree_control"
    group=$root/loam-beyond-ram-$$ max=memory.max peak=memory.peak extra=memory.swap.max none=0
else
    group=$root/memory/loam-beyond-ram-$$ max=memory.limit_in_bytes peak=memory.max_usage_in_bytes extra=memory.memsw.limit_in_bytes none=$bytes
fi
mkdir "$group"
trap 'rmdir "$group"' EXIT
echo "$bytes" >"$group/$max"
if [ -f "$group/$extra" ]; then echo "$none" >"$group/$extra" 2>/dev/null || true; fi           # no swap to hide in
rate() { dd if="$model" of=/dev/null bs=4M iflag=direct 2>&1 | awk '/copied/ { sub(/.*copied, /, ""); print }'; }
echo "file $(stat -c %s "$model") bytes, limit $bytes; the disk by itself before: $(rate)"
bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "${LOAM:-build/loam}" bench infer --model "$model" --load map --prompt 64 --gen 12 --chunk 256 --repeat 1 --kv bf16 "$@" && rc=0 || rc=$?
echo "most memory the group held: $(cat "$group/$peak" 2>/dev/null || echo "not told before Linux 5.19"); the disk by itself after: $(rate)"
exit "$rc"
