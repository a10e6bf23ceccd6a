#!/bin/sh
# How long a sweep takes with one process on the device and with several:
#
#     sh scripts/sweep_speed.sh "1 8 16" device=cuda
#
# The first argument lists numbers of processes, what follows overrides the runs. Prints seconds and finished runs of each.
# Nothing else may run on the device; each number starts anew, at most nine minutes long.
set -e
numbers=$1
shift
python=${PYTHON:-python}
for jobs in $numbers; do
    folder=$(mktemp -d)
    start=$(date +%s)
    "$python" -m experiments.queue scripts/queues/sweep_speed.txt --minutes 9 --jobs "$jobs" --results-dir "$folder" "$@" \
        > "$folder/log" 2>&1 || true
    echo "$jobs at a time: $(($(date +%s) - start)) s, $(grep -ls '"status": "done"' "$folder"/records/*.json | wc -l) runs done"
done
