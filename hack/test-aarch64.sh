#!/usr/bin/env bash
# The unit tests and plan snapshots built for aarch64 and run by qemu's user emulation: what is computed comes out the same
# there. What asks the kernel for more than the emulation passes on is skipped, and said; skep-image needs a C compiler for
# that architecture.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source-path=SCRIPTDIR
. hack/steps.sh

TARGET=aarch64-unknown-linux-musl

# Module, and what its tests need that qemu 7.2 does not pass on.
BEYOND=(
    'commands::features::tests::what_runc seccomp(2)'
    'foreground::tests openat2(2)'
    'hooks::tests clone(2) with CLONE_PIDFD'
    'notify::tests openat2(2)'
    'path::tests::a_symlink openat2(2)'
    'path::tests::missing openat2(2)'
    'path::tests::symlinks openat2(2)'
    'seccomp::tests::a_filter_with_notify seccomp(2)'
    'seccomp::tests::the_kernel seccomp(2)'
    'sys::seccomp::tests::a_program seccomp(2)'
    'sys::seccomp::tests::this_kernel seccomp(2)'
    'sys::spawn::signal::tests::the_mask the real-time signals it uses itself'
    'sys::spawn::tests clone(2) with CLONE_PIDFD'
    'terminal::tests openat2(2)'
)

# tests PACKAGE-ARGUMENT...: all of them but those.
tests() {
    local runner='' entry list skips=() skipped=0
    has_target "$TARGET" || { echo "rustup has no $TARGET here" && return 75; }
    if [[ $(uname -m) != aarch64 ]]; then
        runner=$(command -v qemu-aarch64-static || command -v qemu-aarch64) ||
            { echo 'no qemu-aarch64 here: install qemu-user-static' && return 75; }
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=$runner
    fi
    if [[ -n $runner ]]; then
        list=$(cargo test --locked --target "$TARGET" "$@" -- --list)
        for entry in "${BEYOND[@]}"; do
            skips+=(--skip "${entry%% *}")
            while read -r test; do
                echo "test ${test%: test} ... ignored, qemu does not pass on ${entry#* }"
                skipped=$((skipped + 1))
            done < <(grep "^${entry%% *}.*: test$" <<<"$list")
        done
        echo "0 passed, 0 failed, $skipped skipped"
    fi
    cargo test --locked --no-fail-fast --target "$TARGET" "$@" -- "${skips[@]}"
}

step 'unit tests on aarch64' tests --package skep --package skep-libcontainer --lib --bins
step 'plan snapshots on aarch64' tests --package skep-libcontainer --test plan
finish
