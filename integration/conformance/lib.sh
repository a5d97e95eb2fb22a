# shellcheck shell=bash
# What the suites share: the runtime, a place of their own, the way a suite is run and its results are kept.

note() { printf '# %s\n' "$*" >&2; }

die() {
    printf 'conformance: %s\n' "$*" >&2
    exit 2
}

# choose_runtime: RUNTIME, its NAME and VERSION.
choose_runtime() {
    RUNTIME=${RUNTIME:-${SKEP:-$TOP/target/$(uname -m)-unknown-linux-musl/release/skep}}
    RUNTIME=$(realpath -se "$RUNTIME" 2>/dev/null) || die 'no such runtime: build skep first, or name one with RUNTIME='
    [[ -x $RUNTIME ]] || die "$RUNTIME cannot be executed"
    VERSION=$("$RUNTIME" --version 2>/dev/null | head -n 1) || die "$RUNTIME --version fails"
    NAME=${VERSION%% *}
    VERSION+=$("$RUNTIME" --version | sed -n 's/^commit: /, /p;T;q')
    [[ -n $NAME ]] || die "$RUNTIME --version says nothing"
    export RUNTIME
}

# enter_namespaces: what a suite leaves behind, mounts and processes, ends with this script.
enter_namespaces() {
    if [[ -z ${CONFORMANCE_LOCKS:-} ]]; then
        note "judging $VERSION, $RUNTIME"
        CONFORMANCE_LOCKS=$LOCKS exec unshare --mount --pid --fork --kill-child --mount-proc --propagation slave -- \
            "$HERE/run" "${ARGUMENTS[@]}"
    fi
    WORK=$(mktemp -d /tmp/conformance.XXXXXX)
    # The root of a user namespace has to pass through to its root file system.
    chmod 755 "$WORK"
    # Containers that no test has deleted are recorded here alone.
    mkdir -p "/run/$NAME"
    mount -t tmpfs -o mode=700 tmpfs "/run/$NAME"
    NULL_OWNER=$(stat -c %u:%g /dev/null)
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    prepare_cgroups
}

leave() {
    local status=$?
    trap - EXIT
    set +e
    mapfile -t mounts < <(awk -v below="$WORK/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac)
    for target in "${mounts[@]}"; do umount -l "$target"; done
    # Containers that no test has deleted would keep their cgroups; this is the first process of its namespace.
    (($$ != 1)) || kill -KILL -1 2>/dev/null
    for _ in {1..50}; do
        remove_our_cgroups
        [[ -n $(our_cgroups) ]] || break
    done
    # runc 1.1 gives it to the user of a container whose standard input it is.
    chown "$NULL_OWNER" /dev/null
    rm -rf --one-file-system "$WORK"
    exit "$status"
}

# judge SUITE: runs it, unless its last results are only to be shown, and compares.
judge() {
    local suite=$1 began results=$CACHE/results/$1/$NAME.tsv
    mkdir -p "${results%/*}"
    if [[ -z $LIST ]]; then
        "${suite//-/_}_prepare"
        note "$suite: running"
        began=$SECONDS
        RESULTS=$WORK/$suite.tsv
        LOGS=$CACHE/logs/$suite/$NAME
        rm -rf "$LOGS"
        mkdir -p "$LOGS"
        : >"$RESULTS"
        "${suite//-/_}_run"
        if ((${#FILES[@]} == 0)); then
            {
                printf '#date\t%s\n' "$(date -u +%F)"
                printf '#version\t%s\n' "$VERSION"
                printf '#suite\t%s\n' "$("${suite//-/_}_version")"
                printf '#seconds\t%d\n' $((SECONDS - began))
                printf '#facts\t%s\n' "$(facts)"
                cat "$RESULTS"
            } >"$results"
        fi
        results=$RESULTS
        note "$suite: $((SECONDS - began)) s; what each test said is in $LOGS"
    fi
    [[ -s $results ]] || die "no results of $suite with $NAME"
    verdict "$suite" "$results"
}

# wanted NAME: whether --file leaves this file in.
wanted() {
    local file
    ((${#FILES[@]})) || return 0
    for file in "${FILES[@]}"; do [[ $file != "$1" ]] || return 0; done
    return 1
}

# result FILE TEST pass|fail|skip [WHY]
result() {
    local why=${4:-}
    printf '%s\t%s\t%s\t%s\n' "$1" "${2//$'\t'/ }" "$3" "${why//[$'\t\n']/ }" >>"$RESULTS"
}
