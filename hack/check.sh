#!/usr/bin/env bash
# What every commit passes: formatting, lints, layers, documentation, unit and plan tests. Neither root nor a container.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source-path=SCRIPTDIR
. hack/steps.sh

# Of its own, so that nobody who builds skep needs libseccomp.
ORACLE=(--manifest-path integration/seccomp-oracle/Cargo.toml)

formatting() { cargo fmt --all --check -- --color never && cargo fmt "${ORACLE[@]}" --check -- --color never; }

lints() { cargo clippy --locked --workspace --all-targets -- -D warnings; }

lints_of_the_oracle() {
    cargo clippy --locked "${ORACLE[@]}" --target-dir "$TARGET_DIR/seccomp-oracle" --all-targets -- -D warnings
}

scripts() {
    local files file
    mapfile -t files < <(grep -rlE '^#!/(usr/bin/env bash|bin/(ba)?sh)|^# shellcheck shell=' .ci hack integration)
    for file in "${files[@]}"; do bash -n "$file"; done
    command -v shellcheck >/dev/null || { echo 'no shellcheck here'; return 75; }
    # Those of integration/engines are parts of one script, whose variables it cannot follow.
    shellcheck --severity=error "${files[@]}"
    shellcheck --external-sources --severity=warning .ci/run hack/*.sh
}

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps; }

other_architecture() {
    has_target aarch64-unknown-linux-musl || { echo 'rustup has no aarch64-unknown-linux-musl here'; return 75; }
    # Not skep-image: its TLS comes with C, for which a compiler of that architecture would have to be there.
    cargo check --locked --package skep --package skep-libcontainer --target aarch64-unknown-linux-musl
}

# Linked into a program that runs as root, exactly these. A new one needs a design note: what it saves, what it brings, who keeps it.
linked_crates() {
    local allowed=' bitflags cfg-if itoa libc memchr memoffset nix serde serde_core serde_json skep skep-libcontainer zmij '
    local name linked unknown=()
    linked=$'\n'$(cargo tree --locked --package skep --edges normal,no-proc-macro --prefix none --target "$(release_target)" | sort -u)
    while read -r name _; do
        [[ -z $name || $allowed == *" $name "* ]] || unknown+=("$name")
    done <<<"$linked"
    ((${#unknown[@]} == 0)) || { echo "skep links more than hack/check.sh allows: ${unknown[*]}"; return 1; }
    for name in $allowed; do
        [[ $linked == *$'\n'"$name "* ]] || { echo "skep no longer links $name: take it off the list in hack/check.sh"; return 1; }
    done
}

# What skep-image adds is in libcontainer/design/0014-images.md. The lists are here so that a new one is seen, and so that skep is
# known to have none of them: neither TLS nor HTTP nor decompression.
image_crates() {
    local own=' anstyle base64 bytes cfg-if clap clap_builder clap_lex const-oid cpufeatures crypto-common digest block-buffer flate2
        getrandom hybrid-array http httparse log once_cell percent-encoding ring ruzstd rustls rustls-pki-types rustls-webpki serde_spanned sha2
        skep-image strsim subtle tar-core thiserror toml toml_datetime toml_parser twox-hash typenum untrusted ureq ureq-proto utf8-zero webpki-roots winnow zerocopy zeroize zlib-rs '
    local name unknown=() shared
    shared=$(cargo tree --locked --package skep --edges normal,no-proc-macro --prefix none --target "$(release_target)" | cut -d' ' -f1)
    while read -r name _; do
        [[ " ${own//$'\n'/ } " == *" $name "* || $'\n'$shared$'\n' == *$'\n'"$name"$'\n'* ]] || unknown+=("$name")
    done < <(cargo tree --locked --package skep-image --edges normal,no-proc-macro --prefix none --target "$(release_target)" | sort -u)
    ((${#unknown[@]} == 0)) || { echo "skep-image links more than hack/check.sh allows: ${unknown[*]}"; return 1; }
    for name in ureq rustls ring flate2 zlib-rs ruzstd tar-core clap; do
        [[ $'\n'$shared$'\n' != *$'\n'"$name"$'\n'* ]] || { echo "skep links $name"; return 1; }
    done
}

# unit_tests CARGO-ARGUMENT...: what needs root skips. As root they run as nobody, so that this is seen.
unit_tests() {
    local place file files status=0 skips=()
    if ((EUID != 0)) || ! unshare --mount true 2>/dev/null; then
        if ! [[ -w /dev/pts/ptmx ]]; then
            echo 'test terminals ... ignored, /dev/pts/ptmx is not for everybody here'
            echo '0 passed, 0 failed, 1 skipped'
            skips=(--skip foreground:: --skip terminal::)
        fi
        cargo test --locked "$@" -- --show-output "${skips[@]}"
        return
    fi
    place=$(mktemp -d)
    # shellcheck disable=SC2064 # now, not later
    trap "rm -rf '$place'" EXIT
    mapfile -t files < <(cargo test --locked --no-run "$@" 2>&1 | tee "$place/log" | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    ((${#files[@]})) || { cat "$place/log"; return 1; }
    # Where cargo has put them nobody may not come.
    chmod 755 "$place"
    install -d -m 1777 "$place/tmp"
    for file in "${files[@]}"; do
        install -m 755 "$file" "$place/test"
        as_nobody "$place" "$place/test" --show-output || status=1
    done
    return "$status"
}

# as_nobody DIRECTORY COMMAND...: in DIRECTORY/tmp, with terminals of its own that are for everybody.
as_nobody() {
    local place=$1/tmp
    shift
    # shellcheck disable=SC2016 # for the inner shell
    TMPDIR=$place HOME=$place unshare --mount --propagation private sh -c '
        mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts
        cd "$TMPDIR"
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh "$@"
}

step 'formatting' formatting
step 'lints' lints
step 'lints of the seccomp oracle' lints_of_the_oracle
step 'layers' hack/layers.sh
step 'coverage of the specification' hack/coverage.sh
step 'linked crates' linked_crates
step 'linked crates of skep-image' image_crates
step 'scripts' scripts
step 'documentation' documentation
step 'types on aarch64' other_architecture
step 'unit tests, without root' unit_tests --workspace --lib --bins
step 'plan snapshots' cargo test --locked --package skep-libcontainer --test plan
finish
