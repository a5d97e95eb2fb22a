# shellcheck shell=bash
# For scripts in the guest: checks in TAP's words, waiting, the ordinary user. Source /usr/lib/lab/lib.sh.

PASSED=0 FAILED=0 SKIPPED=0

pass() {
    PASSED=$((PASSED + 1))
    printf 'ok %d - %s\n' "$((PASSED + FAILED + SKIPPED))" "$*"
}

fail() {
    FAILED=$((FAILED + 1))
    printf 'not ok %d - %s\n' "$((PASSED + FAILED + SKIPPED))" "$*"
}

# skip NAME REASON
skip() {
    SKIPPED=$((SKIPPED + 1))
    printf 'ok %d - %s # SKIP %s\n' "$((PASSED + FAILED + SKIPPED))" "$1" "${2:-}"
}

note() { sed 's/^/# /' <<<"$*"; }

# is NAME GOT WANTED; like and unlike take an extended regular expression.
is() { if [[ $2 == "$3" ]]; then pass "$1"; else fail "$1" && note "got:    $2" && note "wanted: $3"; fi; }
like() { if [[ $2 =~ $3 ]]; then pass "$1"; else fail "$1" && note "got:    $2" && note "wanted: ~ $3"; fi; }
unlike() { if [[ ! $2 =~ $3 ]]; then pass "$1"; else fail "$1" && note "got:    $2" && note "wanted: not ~ $3"; fi; }

# rc NAME STATUS COMMAND...: the command ends with that status.
rc() {
    local name=$1 wanted=$2 out got=0
    shift 2
    out=$("$@" 2>&1 </dev/null) || got=$?
    is "$name" "$got" "$wanted"
    [[ $got == "$wanted" ]] || note "$* said: $out"
}

good() {
    local name=$1
    shift
    rc "$name" 0 "$@"
}

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# finish: the closing line, and the status of the whole.
finish() {
    printf '1..%d\n%d passed, %d failed, %d skipped\n' "$((PASSED + FAILED + SKIPPED))" "$PASSED" "$FAILED" "$SKIPPED"
    ((FAILED == 0))
}

# as_user COMMAND...: in the ordinary user's own systemd session, whose cgroup is delegated.
as_user() {
    systemd-run --quiet --machine=user@.host --user --pipe --wait --collect --working-directory=/home/user \
        -E PATH="$PATH" -E LANG=C.UTF-8 -- "$@"
}
