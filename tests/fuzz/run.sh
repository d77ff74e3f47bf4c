#!/bin/sh
# run.sh TARGET CORPUS: fuzzes for FUZZ_SECONDS (default 5) from the stored seeds. New inputs stay in a folder beside the
# target, so that a second run goes on where the first one stopped; an input that fails is kept there as well.
set -eu
target=$(realpath "$1")
seeds=$(realpath "$2")
found="$target.found"
mkdir -p "$found"
cd "$found"
exec "$target" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -use_value_profile=1 \
    -print_final_stats=1 -artifact_prefix="$found/failed-" "$found" "$seeds"
