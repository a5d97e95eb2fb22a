# shellcheck shell=bash
# Sourced by the scripts beside it: where the tree, cargo and the release binary are.

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP"

# A service or a CI runner has neither HOME nor rustup's directory in PATH.
HOME=${HOME:-$(getent passwd "$EUID" | cut -d: -f6)}
export HOME
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH

TARGET_DIR=${CARGO_TARGET_DIR:-$TOP/target}

note() { printf '%s\n' "$*" >&2; }

die() {
    note "${0##*/}: $*"
    exit 1
}

# has_target TRIPLE: whether rustc can build for it.
has_target() { [[ -d $(rustc --print sysroot)/lib/rustlib/$1/lib ]]; }

# release_target: the triple `make build` builds for: musl, or where that cannot be had the host's own.
release_target() {
    local musl
    musl=$(uname -m)-unknown-linux-musl
    if has_target "$musl"; then
        printf '%s\n' "$musl"
    else
        rustc --version --verbose | sed -n 's/^host: //p'
    fi
}

# release_binary: where `make build` puts skep.
release_binary() { printf '%s/%s/release/skep\n' "$TARGET_DIR" "$(release_target)"; }

# image_binary: where `make build` puts skep-image.
image_binary() { printf '%s/%s/image/skep-image\n' "$TARGET_DIR" "$(release_target)"; }

# static_program FILE: whether FILE asks for no dynamic linker.
static_program() { [[ -r $1 ]] && ! LC_ALL=C grep -qaE '/lib(64)?/ld-(linux|musl)' "$1"; }

# static_busybox: the path of a busybox that runs in an empty root file system.
static_busybox() {
    local path
    for path in /bin/busybox /usr/bin/busybox /bin/busybox.static; do
        if static_program "$path"; then
            printf '%s\n' "$path"
            return
        fi
    done
    return 1
}
