#!/bin/sh
# The piece of work of `make run`, done inside the box: builds some of the project's own unit tests and runs them.
# What it makes stays in from-the-box/ of the mounted clone.
set -eu
cd "$(dirname "$0")/../.."
out=from-the-box
mkdir -p "$out"
for t in base wire; do
    echo "building and running test_$t"
    cc -O0 -D_GNU_SOURCE -DNB_DATADIR='"/usr/share/nixbox"' -Isrc -o "$out/test_$t" \
        "tests/unit/test_$t.c" src/base/*.c src/wire/*.c -lcmocka -lnettle
    "$out/test_$t" 2>&1 | tee "$out/test_$t.log" | grep -E 'PASSED|FAILED'
done
