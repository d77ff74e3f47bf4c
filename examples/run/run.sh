#!/bin/bash
# `make run`: a box from start to end on real material, a clone of this repository. Boots it, lets it build and run some of
# the project's own tests, shows what it may reach over the network and what not, lets root inside delete everything it can
# reach, and looks at what the host still has. No network is needed: what the box may reach is a server of this script, and
# what it may not reach is never asked. Anything that is not as it should be ends the run with a message and status 1.
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
filtered=yes
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
wrong() {
    echo "make run: $*" >&2
    exit 1
}
# expect STATUS NIXBOX-ARGUMENTS...: the command has to end with this status and no other.
expect() {
    local status=0 want=$1
    shift
    box "$@" || status=$?
    [ "$status" = "$want" ] || wrong "'nixbox $*' ended with status $status, and $want was expected"
}
# A web server on a free port of the host's loopback, for one file; leaves the port in $port.
serve() {
    mkdir "$tmp/served" && echo "hello from a server on the host" >"$tmp/served/hello"
    mkfifo "$tmp/port"
    # Python is here because Meson needs it.
    python3 - "$tmp/served" >"$tmp/port" 2>/dev/null <<'EOF' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_port, flush=True)
server.serve_forever()
EOF
    server=$!
    read -r -t 20 port <"$tmp/port" || wrong "the sample's web server did not start"
}
no_tun() {
    if [ -e /dev/net/tun ]; then fix='sudo chmod 0666 /dev/net/tun    (what udev sets by default)'; else fix='sudo modprobe tun'; fi
    printf '\n%sThe network is NOT shown: /dev/net/tun is not open to this user, so this box has none.%s\n' "$bold" "$plain"
    printf '  To see it:  %s\n' "$fix"
}
finish() {
    status=$?
    trap - EXIT
    (cd "$tmp" && "$nixbox" -q down >/dev/null 2>&1) || true
    [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
    rm -rf "$tmp"
    [ "$status" = 0 ] || echo "make run failed with exit status $status" >&2
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

say "1. A project: a clone of this repository"
printf '[safe]\n\tdirectory = *\n' >"$tmp/gitconfig"
GIT_CONFIG_GLOBAL=$tmp/gitconfig git clone -q --no-hardlinks "$root" "$tmp/project"
serve
sed "s/\[PORT\]/[$port]/" "$here/nixbox.yaml" >"$tmp/nixbox.yaml"
# Without /dev/net/tun a box can have no network. It is not this script's to open it: it says how, and shows the rest.
if [ ! -r /dev/net/tun ] || [ ! -w /dev/net/tun ]; then
    filtered=no
    sed -i '/^network:/,$d' "$tmp/nixbox.yaml"
    printf 'network:\n  mode: off\n' >>"$tmp/nixbox.yaml"
    no_tun
fi
mkdir "$tmp/keepsakes" && echo "the only copy" >"$tmp/keepsakes/letter.txt"
cp -a "$tmp/project" "$tmp/before"
note "$tmp/project   ($(find "$tmp/project" -type f | wc -l) files, will be mounted for writing)"
note "$tmp/keepsakes (read-only)"
note "the config:"
grep -vE '^ *#' "$tmp/nixbox.yaml" | sed 's/ *#.*//; s/^/      /'

say "2. A machine of its own (the first time, images are built: some minutes)"
# --accept: a rule that reaches the host itself has to be accepted, once, by a person.
box up -v --accept
box run 'echo "user $(id -un), uid $(id -u), on $(hostname), Linux $(uname -r), $(nproc) CPUs"'
box run 'echo "network devices: $(ls /sys/class/net | tr "\n" " ")- files of the host: $(ls -d ~/*/ | tr "\n" " ")"'

say "3. Real work inside: the project's own unit tests, compiled and run"
box run 'sh ~/project/examples/run/work.sh'

say "4. What the box may reach"
if [ "$filtered" = yes ]; then
    url=http://host.nixbox.internal:$port/hello
    expect 0 run "curl -sS --max-time 20 $url"
    expect 6 run 'curl -sS --max-time 20 https://example.org'  # 6: there is no such name
    expect 7 run 'curl -sS --max-time 20 http://192.0.2.1'     # 7: refused at once
    expect 0 why "host.nixbox.internal:$port"
    expect 1 why example.org
    expect 0 deny host.nixbox.internal                         # while it runs
    expect 6 run "curl -sS --max-time 20 $url"
    note "so far denied:"
    denied=$(cd "$tmp" && "$nixbox" events --denied)
    printf '%s\n' "$denied" | sed 's/^/      /'
    for what in example.org 192.0.2.1 host.nixbox.internal; do
        case $denied in *"$what"*) ;; *) wrong "no event says that $what was denied" ;; esac
    done
else
    expect 6 run 'curl -sS --max-time 20 https://example.org'
fi

say "   and what it may not change"
expect 1 run 'sudo rm -f ~/keepsakes/letter.txt'
expect 1 run 'sudo mount -o remount,rw ~/keepsakes; sudo touch ~/keepsakes/new'

say "5. Root inside deletes everything but the clone"
box run 'sudo rm -rf --no-preserve-root --one-file-system / 2>/dev/null; echo "left of /usr/bin: $(echo /usr/bin/*)"' || true
box run -- /bin/ls / && wrong "there is still a /bin/ls in the box"

say "6. The host"
note "programs in /usr/bin:       $(find /usr/bin | wc -l)"
[ "$(cat "$tmp/keepsakes/letter.txt")" = "the only copy" ] || wrong "the box changed the host's keepsakes/letter.txt"
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
[ "$filtered" = yes ] || no_tun
say "Done. Now your own project: cd there, nixbox init, nixbox up, nixbox run \"…\""
