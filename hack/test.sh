#!/usr/bin/env bash
# What decides whether a change lands, beyond `make check`: the built binary on the real kernel. Needs root.
#
# In the environment: UPDATE_SNAPSHOTS=1 rewrites the plan snapshots, BLACKBOX="name --skip other" chooses black-box tests,
# CONFORMANCE=1 runs the suites of others too.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source-path=SCRIPTDIR
. hack/steps.sh

((EUID == 0)) || die 'containers are made as root: sudo make test'

release_build() { hack/build.sh; }

seccomp_oracle() {
    cargo run --locked --quiet --manifest-path integration/seccomp-oracle/Cargo.toml \
        --target-dir "$TARGET_DIR/seccomp-oracle" --bin seccomp-oracle
}

# The tests are built by the host's own compiler settings; what they run is what `make install` installs.
black_box() {
    local arguments
    read -ra arguments <<<"${BLACKBOX:-}"
    RUNTIME=$(release_binary) cargo test --locked --test blackbox -- "${arguments[@]}"
}

installation() {
    local place
    place=$(mktemp -d)
    # shellcheck disable=SC2064 # now, not later
    trap "rm -rf '$place'" EXIT
    DESTDIR=$place PREFIX=/usr hack/install.sh
    "$place/usr/sbin/skep" --version
    for file in man/man8/skep.8 man/man8/skep-run.8 bash-completion/completions/skep zsh/site-functions/_skep fish/vendor_completions.d/skep.fish; do
        test -s "$place/usr/share/$file"
    done
    [[ -x $(image_binary) ]] || return 0
    "$place/usr/libexec/skep/skep-image" --version
    for file in skep-image skep-pull skep-unpack skep-bundle skep-copy skep-store; do
        test -s "$place/usr/share/man/man8/$file.8"
    done
    # shellcheck disable=SC2016
    bash -c '. "$1"
        completed() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=(); _skep_images; echo " ${COMPREPLY[*]} "; }
        [[ $(completed skep p) == *" pull "* && $(completed skep bundle --root) == *" --rootfs "* ]] &&
            [[ $(completed skep run --image x --root) == *" --rootfs "* && $(completed skep run --b) == *" --bundle "* ]]' \
        bash "$place/usr/share/bash-completion/completions/skep"
    bash -n "$place/usr/share/zsh/site-functions/_skep"
    for file in zsh/site-functions/_skep fish/vendor_completions.d/skep.fish; do
        grep -q unpack "$place/usr/share/$file"
    done
}

# What they are made from cannot be had everywhere, which is no failure here: the runner's status is then 75, a skip.
conformance() {
    if [[ -z ${CONFORMANCE:-} ]]; then
        echo "not asked for: 'make conformance', or CONFORMANCE=1, fetches the suites of others and takes ten minutes"
        return 75
    fi
    SKEP=$(release_binary) integration/conformance/run
}

step 'release build' release_build
step 'unit tests, as root' cargo test --locked --workspace --lib --bins -- --show-output
step 'plan snapshots' cargo test --locked --package skep-libcontainer --test plan
step 'seccomp against libseccomp' seccomp_oracle
step 'black-box tests' black_box
step 'make run' hack/run-demo.sh
step 'make install' installation
step 'suites of runtime-tools, runc and crun' conformance
finish
