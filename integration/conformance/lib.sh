# shellcheck shell=bash
# What the suites share: the runtime, a place of their own, the way a suite is run and its results are kept.

note() { printf '# %s\n' "$*" >&2; }

die() {
    printf 'conformance: %s\n' "$*" >&2
    exit 2
}

# unfetched WHAT: status 75 (EX_TEMPFAIL), for whom that is a reason to go on.
unfetched() {
    printf 'conformance: CANNOT BE FETCHED: %s\n' "$*" >&2
    exit 75
}

# choose_runtime: RUNTIME, its NAME and VERSION, and the LANE its results are kept in: of other runtimes one for each version.
choose_runtime() {
    local said
    RUNTIME=${RUNTIME:-${SKEP:-$TOP/target/$(uname -m)-unknown-linux-musl/release/skep}}
    if [[ $RUNTIME =~ ^(runc|crun)(-[0-9.]+)?$ ]]; then RUNTIME=$(known_runtime "$RUNTIME"); fi
    RUNTIME=$(realpath -se "$RUNTIME" 2>/dev/null) || die 'no such runtime: build skep first, or name one with RUNTIME='
    [[ -x $RUNTIME ]] || die "$RUNTIME cannot be executed"
    # All of it first: who writes to a pipe that is closed after a line, may fail for that.
    said=$("$RUNTIME" --version 2>/dev/null) || die "$RUNTIME --version fails"
    VERSION=${said%%$'\n'*}
    NAME=${VERSION%% *}
    VERSION+=$(sed -n 's/^commit: /, /p;T;q' <<<"$said")
    [[ -n $NAME ]] || die "$RUNTIME --version says nothing"
    LANE=$NAME
    [[ $NAME == skep || ! $VERSION =~ version\ ([0-9.]+) ]] || LANE+=-${BASH_REMATCH[1]}
    export RUNTIME
}

# known_runtime NAME[-VERSION]: the path of this host's, or of a newer Debian's, which the benchmarks fetch and keep.
known_runtime() {
    local path
    if [[ $1 != *-* ]]; then
        command -v "$1" || die "there is no $1 here"
        return
    fi
    path=$("$TOP/integration/perf/packaged.py" | awk -F '\t' -v lane="$1" '$1 == lane { print $2 }') || true
    [[ -n $path ]] || unfetched "$1: integration/perf/packaged.py says what there is"
    printf '%s' "$path"
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

# judge SUITE: runs it, as often as it is to be, unless its last results are only to be shown, and compares.
judge() {
    local suite=$1 run began status=0 runs=() results=$CACHE/results/$1/$LANE.tsv
    mkdir -p "${results%/*}"
    if [[ -n $LIST ]]; then
        [[ -s $results ]] || die "no results of $suite with $LANE"
        verdict "$suite" "$results"
        return
    fi
    LOGS=$CACHE/logs/$suite/$LANE
    rm -rf "$LOGS"
    mkdir -p "$LOGS"
    "${suite//-/_}_prepare"
    for ((run = 1; run <= REPEAT; run++)); do
        note "$suite: running$( ((REPEAT == 1)) || printf ', %d of %d' "$run" "$REPEAT")"
        began=$SECONDS
        RESULTS=$WORK/$suite.$run.tsv
        : >"$RESULTS"
        "${suite//-/_}_run"
        printf '#run\t%s, %d s\n' "$(tally <"$RESULTS")" $((SECONDS - began)) >>"$WORK/$suite.runs"
        note "$suite: $((SECONDS - began)) s; what each test said is in $LOGS"
        runs+=("$RESULTS")
        verdict "$suite" "$RESULTS" || status=1
    done
    combine "${runs[@]}" >"$WORK/$suite.all"
    ! grep '^#unstable' "$WORK/$suite.all" >&2 || status=1
    ((${#FILES[@]})) || {
        printf '#date\t%s\n#version\t%s\n#suite\t%s\n' "$(date -u +%F)" "$VERSION" "$("${suite//-/_}_version")"
        printf '#retry\t%s\n#facts\t%s\n' "${NO_RETRY:+no}" "$(facts)"
        cat "$WORK/$suite.runs" "$WORK/$suite.all"
    } >"$results"
    return "$status"
}

# tally: of results on standard input.
tally() {
    awk -F '\t' '/^#/ { next } { count[$3]++ } END { printf "%d passed, %d failed, %d skipped", count["pass"], count["fail"], count["skip"] }'
}

# combine FILE...: the results of several runs as one, a test's worst outcome; those that changed are named. One that is
# missing from a run has failed.
combine() {
    awk -F '\t' '
        BEGIN { rank["pass"] = 1; rank["skip"] = 2; rank["fail"] = 3 }
        FNR == 1 { run++ }
        {
            test = $1 "\t" $2
            if (!(test in worst)) { order[++n] = test; worst[test] = "pass" }
            if (rank[$3] > rank[worst[test]]) worst[test] = $3
            outcome[test, run] = $3
            if ($4 != "" && index(why[test], $4) == 0)
                why[test] = why[test] (why[test] == "" ? "" : "; ") (ARGC > 2 ? "run " run ": " : "") $4
        }
        END {
            for (i = 1; i <= n; i++) {
                test = order[i]
                list = ""
                for (r = 1; r < ARGC; r++) list = list " " ((test, r) in outcome ? outcome[test, r] : "missing")
                if (list ~ /missing/) worst[test] = "fail"
                same = list; gsub(" " outcome[test, 1], "", same)
                if (same != "") { name = test; sub("\t", ": ", name); printf "#unstable\t%s:%s\n", name, list }
                printf "%s\t%s\t%s\n", test, worst[test], why[test]
            }
        }' "$@"
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
