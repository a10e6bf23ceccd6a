#!/bin/sh
# The benchmarks that need a GPU, one after another, and where the time of a step goes:
#
#     sh scripts/benchmark_gpu.sh [RESULTS_DIR]
#
# Records, tables and plots go to RESULTS_DIR/PRESET-cuda/ (results/benchmark without an argument). Each net's cases are
# recorded when all of them are timed. What is recorded of this commit on this GPU is left out: after an interruption the
# same command goes on. About fifteen minutes on a large GPU; nothing else may run on it.
set -e
out=${1:-results/benchmark}
python=${PYTHON:-python}

benchmark() {
    "$python" -m experiments.benchmark device=cuda threads=null "$@"
}

benchmark preset=gpu rerun=missing results_dir="$out"
benchmark preset=curves case.precision=fp32 rerun=missing results_dir="$out"
benchmark preset=growth rerun=missing results_dir="$out"
benchmark preset=vit_gpu rerun=missing results_dir="$out"
benchmark preset=gpu case.model=mlp case.precision=fp32 case.rank='[10,40,160]' profile=true | tee "$out/profile-cuda.md"
benchmark preset=gpu case.model=lenet5 profile=true | tee -a "$out/profile-cuda.md"
