#!/usr/bin/env bash
# Builds the release binary, static, and prints where it is. With --images skep-image as well, beside which skep finds it once
# installed; skep needs nothing of it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

target=$(release_target)
# `skep --version` says it. A source archive has no history, and may say it itself.
SKEP_COMMIT=${SKEP_COMMIT:-$(git describe --always --dirty --abbrev=12 2>/dev/null || true)}
if [[ -n $SKEP_COMMIT ]]; then export SKEP_COMMIT; else unset SKEP_COMMIT; fi
if [[ $target != *-musl ]]; then
    export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi

cargo build --release --locked --bin skep --target "$target"
static_program "$(release_binary)" || die "$(release_binary) is not static"
if [[ ${1:-} == --images ]]; then
    cargo build --profile image --locked --package skep-image --bin skep-image --target "$target"
    static_program "$(image_binary)" || die "$(image_binary) is not static"
    # Installed they lie side by side, and so the tests want them.
    ln -f "$(release_binary)" "$(dirname "$(image_binary)")/skep"
fi
release_binary
