#!/bin/sh
# The piece of work of `make run`, done inside the box: builds some of the project's own unit tests and runs them.
# What it makes stays in from-the-box/ of the mounted clone.
set -eu
cd "$(dirname "$0")/../.."
out=from-the-box
mkdir -p "$out"
for source in src/base/*.c src/wire/*.c; do
    echo "compiling $source"
    cc -O0 -D_GNU_SOURCE -DNB_DATADIR='"/usr/share/nixbox"' -Isrc -c -o "$out/$(basename "$source" .c).o" "$source"
done
for t in base wire; do
    cc -O0 -D_GNU_SOURCE -Isrc -o "$out/test_$t" "tests/unit/test_$t.c" "$out"/*.o -lcmocka -lnettle
    echo "running test_$t"
    "$out/test_$t" 2>&1 | tee "$out/test_$t.log" | grep -E 'PASSED|FAILED'
done
