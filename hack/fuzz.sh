#!/usr/bin/env bash
# Fuzzes skep-image's readers of what others wrote, each target for SECONDS (60), two at a time; words choose targets by name.
# The targets are tests, so the stable toolchain does; SEED=N begins elsewhere (by default at random). What is found is printed
# with the input that found it, and is to become a test.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

export SKEP_FUZZ_SECONDS=${SECONDS_EACH:-60} SKEP_FUZZ_SEED=${SEED:-$RANDOM$RANDOM}
# Layers are applied to directories: in memory that is quick.
if [[ -z ${TMPDIR:-} && $(stat -f -c %T /dev/shm 2>/dev/null) == tmpfs ]]; then export TMPDIR=/dev/shm; fi
(($#)) || set -- fuzz_
cargo test --quiet --locked --package skep-image --lib -- --test-threads 2 --nocapture "$@"
