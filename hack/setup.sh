#!/usr/bin/env bash
# Installs what is missing, from Debian and rustup; says and does nothing when all is there.
#
#   hack/setup.sh build|run|check|test|peers|images|lab
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

PACKAGES=()

# want PACKAGE COMMAND...: the package is missing unless COMMAND succeeds.
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || PACKAGES+=("$package")
}

want_compiler() {
    want gcc command -v cc
    want libc6-dev test -e /usr/include/stdio.h
}

# install_packages: all at once. The package lists are fetched only when they do not have what is wanted.
install_packages() {
    ((${#PACKAGES[@]})) || return 0
    note "installing ${PACKAGES[*]}"
    command -v apt-get >/dev/null || die "this host has no apt-get: install ${PACKAGES[*]} by its own means"
    ((EUID == 0)) || die "needs root, or: sudo apt-get install ${PACKAGES[*]}"
    local log install
    log=$(mktemp)
    install=(apt-get install --yes --quiet --no-install-recommends "${PACKAGES[@]}")
    export DEBIAN_FRONTEND=noninteractive
    if ! "${install[@]}" >"$log" 2>&1 </dev/null; then
        apt-get update --quiet >"$log" 2>&1 || true
        if ! "${install[@]}" >>"$log" 2>&1 </dev/null; then
            tail -n 20 "$log" >&2
            die "apt-get could not install ${PACKAGES[*]}"
        fi
    fi
    rm -f "$log"
}

# need_rust: a compiler that is new enough.
need_rust() {
    command -v cargo >/dev/null || die 'no cargo: install Rust as https://rustup.rs says'
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2) || die 'rustc does not run: rustup default stable'
    [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]] ||
        die "rustc is $have, skep needs $wanted: rustup update stable"
}

# need_component NAME PROGRAM
need_component() {
    "$2" --version >/dev/null 2>&1 || rustup component add "$1" >&2 || die "rustup cannot add $1"
}

# offer_target TRIPLE: adds it where that is possible, and says why where it is not.
offer_target() {
    has_target "$1" && return
    note "adding the target $1"
    rustup target add "$1" >/dev/null
}

[[ $# -eq 1 ]] || die 'usage: hack/setup.sh build|run|check|test|aarch64|peers|images|lab'
case $1 in
build) want_compiler ;;
run)
    want_compiler
    want busybox-static static_busybox
    ;;
check) want_compiler ;;
test)
    want_compiler
    want busybox-static static_busybox
    want libseccomp-dev test -e /usr/include/seccomp.h
    want procps command -v ps
    # Without these, tests are skipped.
    want strace command -v strace
    want uidmap command -v newuidmap
    want iproute2 command -v ip
    want libcap2-bin command -v setcap
    want e2fsprogs command -v mkfs.ext4
    ;;
aarch64)
    want_compiler
    [[ $(uname -m) == aarch64 ]] || want qemu-user-static command -v qemu-aarch64-static
    ;;
peers)
    want runc command -v runc
    want crun command -v crun
    ;;
images)
    want skopeo command -v skopeo
    want umoci command -v umoci
    want jq command -v jq
    want python3 command -v python3
    want docker-registry command -v docker-registry
    want openssl command -v openssl
    for program in curl podman buildah mmdebstrap strace; do want "$program" command -v "$program"; done
    want busybox-static static_busybox
    ;;
lab)
    for pair in mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs cpio:cpio python3:python3 xz:xz-utils debootstrap:debootstrap secilc:secilc; do
        want "${pair#*:}" command -v "${pair%:*}"
    done
    ;;
*) die "nothing is known about $1" ;;
esac
install_packages
need_rust

machine=$(uname -m)
offer_target "$machine-unknown-linux-musl" || note "
WARNING: there is no $machine-unknown-linux-musl here. skep is linked with glibc, statically: it works, and starts 0.6 ms later.
"
if [[ $1 == check ]]; then
    need_component rustfmt rustfmt
    need_component clippy cargo-clippy
fi
if [[ $1 == check || $1 == aarch64 ]]; then
    offer_target aarch64-unknown-linux-musl || true
fi
