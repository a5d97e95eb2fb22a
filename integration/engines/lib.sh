# shellcheck shell=bash
# What every engine's checks share: asking for something and saying so when it is not there, waiting,
# terminals, cgroups, and the book-keeping of results. Sourced by `run`.

# ---- results ---------------------------------------------------------------------------------

declare -A RESULT TITLE TALLY ENGINES_OF
declare -a ORDER=()

die() {
    printf 'engines: %s\n' "$*" >&2
    exit 2
}

note() { printf '# %s\n' "$*"; }

# Ends the check that calls it: this host cannot do it, for the reason given.
skip() {
    printf '%s\n' "$*" >"$WORK/reason"
    exit 77
}

# Ends the check that calls it: the runtime did something else than it should.
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# is GOT WANTED WHAT
is() { [[ $1 == "$2" ]] || fail "$3: wanted '$2', got '$1'"; }

# isnt GOT UNWANTED WHAT
isnt() { [[ $1 != "$2" ]] || fail "$3: got '$1'"; }

# like GOT REGEX WHAT
like() { [[ $1 =~ $2 ]] || fail "$3: wanted something like '$2', got '$1'"; }

# unlike GOT REGEX WHAT
unlike() { [[ ! $1 =~ $2 ]] || fail "$3: did not want '$2', got '$1'"; }

# between GOT LOW HIGH WHAT
between() {
    like "$1" '^[0-9]+$' "$4"
    (($1 >= $2 && $1 <= $3)) || fail "$4: wanted $2..$3, got $1"
}

# status WANTED COMMAND...: the command ends with that status (`126|127`: one of them). Its output is kept in $OUT.
status() {
    local wanted=$1 got=0
    shift
    OUT=$("$@" 2>&1) || got=$?
    like "$got" "^($wanted)$" "status of ${*:1:12} (it said: $OUT)"
}

# pause_briefly: the length of one turn of a poll loop, without a process.
pause_briefly() { read -rt 0.05 <>"$WORK/quiet" || true; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds, or the check fails.
wait_for() {
    local until=$((SECONDS + $1 * PATIENCE)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || fail "waited in vain: $what: $("$@" 2>&1 | tail -n 4)"
        pause_briefly
    done
}

# check ENGINE ID TITLE: runs the function called ID in a shell of its own and enters what came of it.
check() {
    local engine=$1 id=$2 title=$3 began=${EPOCHREALTIME/./} status=0 took
    local key="$engine/$id" column="$engine/$RUNTIME_NAME"
    NAME="e-$RUNTIME_NAME-${id,,}"
    rm -f "$WORK/reason" "$WORK/check.log"
    set +e
    (
        set -e
        "$id"
    ) >>"$WORK/check.log" 2>&1 </dev/null
    status=$?
    "${engine}_sweep" "$NAME" >/dev/null 2>&1
    set -e
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
    [[ -n ${TITLE[$key]:-} ]] || ORDER+=("$key")
    TITLE[$key]=$title
    case $status in
    0)
        RESULT[$key/$RUNTIME_NAME]=ok
        printf 'ok - %s %s %s (%d ms)\n' "$RUNTIME_NAME" "$id" "$title" "$took"
        ;;
    77)
        RESULT[$key/$RUNTIME_NAME]=skip
        printf 'ok - %s %s %s # SKIP %s\n' "$RUNTIME_NAME" "$id" "$title" "$(cat "$WORK/reason")"
        ;;
    *)
        RESULT[$key/$RUNTIME_NAME]=FAIL
        printf 'not ok - %s %s %s (%d ms)\n' "$RUNTIME_NAME" "$id" "$title" "$took"
        tail -n 12 "$WORK/check.log" | sed 's/^/#   /'
        ;;
    esac
    TALLY[$column/${RESULT[$key/$RUNTIME_NAME]}]=$((${TALLY[$column/${RESULT[$key/$RUNTIME_NAME]}]:-0} + 1))
    ENGINES_OF[$engine]=1
}

# checks_in FILE...: "ID<TAB>TITLE" of every check, in the order written: a function `X00() { # title`.
checks_in() { sed -n 's/^\([A-Z][0-9][0-9]\)() { # \(.*\)$/\1\t\2/p' "$@"; }

# ---- terminals -------------------------------------------------------------------------------

# pty ROWS COLUMNS COMMAND...: the command under a terminal of that size; what it shows, CRs removed.
# What is written to fd 8 meanwhile is typed; nobody types by default, and the input does not end.
pty() {
    local rows=$1 columns=$2 line status=0
    shift 2
    printf -v line '%q ' "$@"
    script -qefc "stty rows $rows cols $columns; exec $line" /dev/null <&8 >"$WORK/pty.out" || status=$?
    tr -d '\r' <"$WORK/pty.out"
    return "$status"
}

# open_keyboard: makes fd 8, from which `pty` types.
open_keyboard() {
    rm -f "$WORK/keys"
    mkfifo "$WORK/keys"
    exec 8<>"$WORK/keys"
}

type_line() { printf '%s\n' "$*" >&8; }

shown() { grep -q -- "$1" "$WORK/pty.out"; }

# ---- this host -------------------------------------------------------------------------------

# has_capability NUMBER: in our own bounding set, so that a container can have it.
has_capability() {
    local set
    set=$(sed -n 's/^CapBnd:\t//p' /proc/self/status)
    ((16#$set >> $1 & 1))
}

unified() { [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; }

# cgroup_of PID CONTROLLER: the directory that holds the controller's files for that process.
cgroup_of() {
    local line
    if unified; then
        line=$(sed -n 's/^0:://p' "/proc/$1/cgroup")
        printf '/sys/fs/cgroup%s\n' "$line"
    else
        line=$(sed -En "s/^[0-9]+:([^:]*,)?$2(,[^:]*)?:(.*)/\3/p" "/proc/$1/cgroup")
        printf '/sys/fs/cgroup/%s%s\n' "$2" "$line"
    fi
}

# limit PID CONTROLLER V1-FILE V2-FILE: one line of that cgroup file, as this host calls it.
limit() {
    local directory
    directory=$(cgroup_of "$1" "$2")
    # crun puts the processes below the scope, which has the limits.
    directory=${directory/%.scope\/container/.scope}
    if unified; then cat "$directory/$4"; else cat "$directory/$3"; fi
}

# is_limit PID CONTROLLER V1-FILE V1-VALUE V2-FILE V2-VALUE (`10|35`: one of them)
is_limit() {
    if unified; then
        like "$(limit "$1" "$2" "$3" "$5")" "^($6)\$" "$5"
    else
        is "$(limit "$1" "$2" "$3" "$5")" "$4" "$3"
    fi
}

frozen() {
    if unified; then
        grep -q '^frozen 1' "$(cgroup_of "$1" freezer)/cgroup.events"
    else
        grep -q FROZEN "$(cgroup_of "$1" freezer)/freezer.state"
    fi
}

needs_swap_accounting() {
    unified || [[ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ]] ||
        skip 'the kernel does not account swap'
}

# field STATUS-FILE NAME: a line of /proc/PID/status.
field() { sed -n "s/^$2:[[:space:]]*//p" <<<"$1"; }

# free_port: a loopback port where nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%d\n' "$port"
}

# ask PORT TEXT: sends the text to that loopback port and prints what comes back until it closes, at most 2 s.
ask() {
    exec 7<>"/dev/tcp/127.0.0.1/$1"
    printf '%b' "$2" >&7
    timeout 2 cat <&7 || true
    exec 7>&-
}

answers() { ask "$1" "$2" 2>/dev/null | grep -q -- "$3"; }

# in_scope UNIT-PATTERN PID: systemd has that process in a scope so named, below our slice.
in_scope() { like "$(sed -n 's/^0:://p' "/proc/$2/cgroup")" "/$CGROUP/$1\.scope(/container)?\$" 'the cgroup'; }

# ours PATTERN: pids of processes whose command line names our work directory and matches the pattern.
ours() {
    local pid words line
    for pid in /proc/[0-9]*; do
        mapfile -d '' -t words 2>/dev/null <"$pid/cmdline" || continue
        line="${words[*]} "
        pid=${pid#/proc/}
        if [[ $line == *"$WORK"* && $line =~ $1 && $pid != "$$" && $pid != "$BASHPID" ]]; then printf '%d\n' "$pid"; fi
    done
}

# our_cgroups: every cgroup below the parents that are ours alone, deepest first.
our_cgroups() { find /sys/fs/cgroup -depth -mindepth 1 -type d -path "*/$CGROUP/*" 2>/dev/null || true; }

our_mounts() { awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts; }

# nothing COMMAND...: it prints nothing; else that is shown.
nothing() {
    local left
    left=$("$@")
    [[ -z $left ]] || ! printf '%s\n' "$left"
}

# stop_process PID SECONDS: asks it to end and waits; after that time it is killed.
stop_process() {
    local until=$((SECONDS + $2))
    kill "$1" 2>/dev/null || return 0
    while kill -0 "$1" 2>/dev/null; do
        ((SECONDS < until)) || kill -KILL "$1" 2>/dev/null || true
        pause_briefly
    done
}

# ---- the table -------------------------------------------------------------------------------

table() {
    local engine runtime key row
    for engine in "${ENGINES[@]}"; do
        [[ -n ${ENGINES_OF[$engine]:-} ]] || continue
        printf '\n%-72s' "$engine ${ENGINE_VERSION[$engine]:-}"
        for runtime in "${RUNTIME_NAMES[@]}"; do printf '%8s' "$runtime"; done
        printf '\n'
        for key in "${ORDER[@]}"; do
            [[ $key == "$engine/"* ]] || continue
            printf -v row '%s %s' "${key#*/}" "${TITLE[$key]}"
            printf '%-72.72s' "$row"
            for runtime in "${RUNTIME_NAMES[@]}"; do printf '%8s' "${RESULT[$key/$runtime]:--}"; done
            printf '\n'
        done
    done
}

# lost_by_all KEY: whether everyone has failed it so far, skep among them.
lost_by_all() {
    local name lost=
    for name in "${RUNTIME_NAMES[@]}"; do
        case ${RESULT[$1/$name]:-} in
        ok) return 1 ;;
        FAIL) lost=yes ;;
        esac
    done
    [[ -n $lost ]]
}

# has_lost ENGINE: whether there is such a check.
has_lost() {
    local key
    for key in "${ORDER[@]}"; do [[ $key != "$1/"* ]] || ! lost_by_all "$key" || return 0; done
    return 1
}

# verdict: succeeds unless skep has failed what counts.
verdict() {
    local key name lost=() shared=0
    for key in "${ORDER[@]}"; do
        if [[ -n $JUDGE ]] && lost_by_all "$key"; then
            shared=$((shared + 1))
            continue
        fi
        for name in "${RUNTIME_NAMES[@]}"; do
            [[ $name =~ ^(runc|crun)$ || ${RESULT[$key/$name]:-} != FAIL ]] || lost+=("$key")
        done
    done
    if [[ -n $JUDGE ]]; then
        ((!shared)) || printf '%d failed with all runtimes\n' "$shared"
        ((!${#lost[@]})) || printf 'failed, which runc or crun passes: %s\n' "${lost[*]}"
        printf 'judged, %s driver: %d passed, %d failed, %d skipped\n' "$DRIVER" "${TALLY[total/${RUNTIME_NAMES[0]}/ok]}" \
            "${#lost[@]}" "$((${TALLY[total/${RUNTIME_NAMES[0]}/skip]} + shared))"
    fi
    ((${#lost[@]} == 0))
}

# counts ENGINE RUNTIME: "N passed, N failed, N skipped"
counts() {
    printf '%d passed, %d failed, %d skipped' "${TALLY[$1/$2/ok]:-0}" "${TALLY[$1/$2/FAIL]:-0}" \
        "${TALLY[$1/$2/skip]:-0}"
}

closing_lines() {
    local engine runtime kind
    printf '\n'
    for runtime in "${RUNTIME_NAMES[@]}"; do
        for kind in ok FAIL skip; do TALLY[total/$runtime/$kind]=0; done
        for engine in "${ENGINES[@]}"; do
            [[ -n ${ENGINES_OF[$engine]:-} ]] || continue
            printf '%-10s %-8s %s, %d s\n' "$engine" "$runtime" "$(counts "$engine" "$runtime")" \
                "${TOOK[$engine/$runtime]:-0}"
            for kind in ok FAIL skip; do
                TALLY[total/$runtime/$kind]=$((${TALLY[total/$runtime/$kind]} + ${TALLY[$engine/$runtime/$kind]:-0}))
            done
        done
        printf '%-10s %-8s %s\n' total "$runtime" "$(counts total "$runtime")"
    done
}
