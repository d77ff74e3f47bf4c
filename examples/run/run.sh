#!/bin/bash
# `make run`: a box from start to end on real material, a clone of this repository. Boots it, lets it build and run some of
# the project's own tests, lets root inside delete everything it can reach, and looks at what the host still has.
# Everything happens in a temporary folder, which is removed at the end; only the images stay, so the next run is quick.
set -euo pipefail
nixbox=$(realpath "${1:?usage: examples/run/run.sh path/to/nixbox}")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export XDG_STATE_HOME
tmp=$(mktemp -d /tmp/nixbox-run.XXXXXX)
XDG_STATE_HOME=$tmp/state

bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
began=$SECONDS
say() { printf '\n%s%s%s %s(%d s)%s\n' "$bold" "$*" "$plain" "$dim" $((SECONDS - began)) "$plain"; }
note() { printf '  %s\n' "$*"; }
# Shows a nixbox command as one would type it, and runs it; its output is indented.
box() {
    local shown='' arg
    for arg in "$@"; do case $arg in *[\ \;\&\|]*) shown+=" '$arg'" ;; *) shown+=" $arg" ;; esac; done
    printf '  %s$ nixbox%s%s\n' "$dim" "$shown" "$plain"
    (cd "$tmp" && "$nixbox" "$@") 2>&1 </dev/null | sed -u 's/^/  /'
    return "${PIPESTATUS[0]}"
}
finish() {
    status=$?
    trap - EXIT
    (cd "$tmp" && "$nixbox" -q down >/dev/null 2>&1) || true
    rm -rf "$tmp"
    [ "$status" = 0 ] || echo "make run failed with exit status $status" >&2
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

say "1. A project: a clone of this repository"
printf '[safe]\n\tdirectory = *\n' >"$tmp/gitconfig"
GIT_CONFIG_GLOBAL=$tmp/gitconfig git clone -q --no-hardlinks "$root" "$tmp/project"
cp "$here/nixbox.yaml" "$tmp/"
mkdir "$tmp/keepsakes" && echo "the only copy" >"$tmp/keepsakes/letter.txt"
cp -a "$tmp/project" "$tmp/before"
note "$tmp/project   ($(find "$tmp/project" -type f | wc -l) files, will be mounted for writing)"
note "$tmp/keepsakes (read-only)"
note "the config:"
grep -vE '^ *#' "$tmp/nixbox.yaml" | sed 's/ *#.*//; s/^/      /'

say "2. A machine of its own (the first time, images are built: some minutes)"
box up -v
box run 'echo "user $(id -un), uid $(id -u), on $(hostname), Linux $(uname -r), $(nproc) CPUs"'
box run 'echo "network devices: $(ls /sys/class/net | tr "\n" " ")- files of the host: $(ls -d ~/*/ | tr "\n" " ")"'

say "3. Real work inside: the project's own unit tests, compiled and run"
box run 'sh ~/project/examples/run/work.sh'

say "4. What is denied"
box run 'curl -sS -m 5 https://example.org' && { note "this should have failed"; exit 1; }
box run 'sudo rm -f ~/keepsakes/letter.txt' && { note "this should have failed"; exit 1; }
box run 'sudo mount -o remount,rw ~/keepsakes; sudo touch ~/keepsakes/new' && { note "this should have failed"; exit 1; }

say "5. Root inside deletes everything but the clone"
box run 'sudo rm -rf --no-preserve-root --one-file-system / 2>/dev/null; echo "left of /usr/bin: $(echo /usr/bin/*)"' || true
box run -- /bin/ls / && { note "this should have failed"; exit 1; }

say "6. The host"
note "programs in /usr/bin:       $(find /usr/bin | wc -l)"
note "keepsakes/letter.txt:       $(cat "$tmp/keepsakes/letter.txt")"
# Compared with a copy from before. (Never run git in a folder that a guest could write to: its config may name programs.)
note "changed in the clone:"
diff -rq "$tmp/before" "$tmp/project" 2>&1 | sed "s|$tmp/||g; s/^/      /" || true
note "owner of what was made:     $(stat -c '%U (the person who ran it: %u)' "$tmp/project/from-the-box/test_wire.log")"

say "7. The next boot is as new"
box down
box run 'echo "programs in /usr/bin: $(ls /usr/bin | wc -l)"'

say "8. The record"
box events
box down
say "Done. Now your own project: cd there, nixbox init, nixbox up, nixbox run \"…\""
