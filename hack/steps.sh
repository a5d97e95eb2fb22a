# shellcheck shell=bash
# Sourced by check.sh and test.sh: runs named steps, shows what failed, counts.
#
# A step that runs tests counts as they did; any other step counts as one.

# What a failure prints is for people to read.
export RUST_BACKTRACE=0 CARGO_TERM_COLOR=never

STEPS=$(mktemp -d)
trap 'rm -rf "$STEPS"' EXIT
PASSED=0 FAILED=0 SKIPPED=0
FAILED_STEPS=()

# skips FILE: why tests were skipped. Those of our runner are ignored with a reason; a unit test says so and passes.
skips() { sed -nE 's/^test (.*) \.\.\. ignored,? ?/\1: /p; s/^(SKIP|skipped): //p' "$1"; }

# counts FILE: passed, failed and skipped as the closing lines of cargo's, our own and the oracle's runners say.
counts() {
    awk '
        /^(SKIP|skipped): / { silent++ }
        /^test result: / || /^[0-9]+ passed, [0-9]+ failed/ {
            seen = 1
            gsub(/[;,.]/, " ")
            for (i = 2; i <= NF; i++) {
                if ($i == "passed") passed += $(i - 1)
                if ($i == "failed") failed += $(i - 1)
                if ($i == "ignored" || $i == "skipped") skipped += $(i - 1)
            }
        }
        END { print seen + 0, passed - silent, failed + 0, skipped + silent }' "$1"
}

# shorten: how it began and how it ended, indented, without what successful tests have said.
shorten() {
    awk '/^(failures:|test result: )/ { quiet = 0 } /^successes:$/ { quiet = 1 } !quiet { line[++n] = $0 } END {
        for (i = 1; i <= n; i++) {
            if (n <= 200 || i <= 60 || i > n - 140) print "    " line[i]
            else if (i == 61) print "    ... " n - 200 " lines ..."
        }
    }'
}

# step NAME COMMAND...: quiet unless it fails. Status 75 (EX_TEMPFAIL) is a skip, whose last line says why.
step() {
    local name=$1 log=$STEPS/log status=0 began seen passed failed skipped words
    shift
    began=${EPOCHREALTIME/./}
    [[ -t 2 ]] && printf '%-44s' "$name" >&2
    # A subshell of its own: errexit does not hold in a command that is tested.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1 </dev/null
    status=$?
    set -e
    read -r seen passed failed skipped < <(counts "$log")
    words=ok
    if ((status == 75)); then
        seen=1 passed=0 failed=0 skipped=1 words="skipped: $(tail -n 1 "$log")"
    elif ((status)); then
        words=FAILED
        FAILED_STEPS+=("$name")
        if ((!failed)); then failed=1 seen=1; fi
    elif ((seen)); then
        words="ok, $passed passed"
        ((!skipped)) || words+=", $skipped skipped"
    fi
    if ((!seen)); then passed=1; fi
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + skipped))
    [[ -t 2 ]] || printf '%-44s' "$name" >&2
    printf ' %6.1f s  %s\n' "$(((${EPOCHREALTIME/./} - began) / 100000))e-1" "$words" >&2
    if ((status && status != 75)); then
        # What a test run says about its successes is in nobody's way here.
        grep -vE '^test .* \.\.\. (ok|ignored.*|known difference.*)$|^ *(Compiling|Checking|Documenting|Downloaded) ' \
            "$log" | shorten >&2 || true
    elif ((status == 0 && skipped)); then
        skips "$log" | sort | uniq -c | sort -rn | head -n 40 | sed -E 's/^ *1 /  /; s/^ *([0-9]+) (.*)/  \2 (\1 times)/; s/^ */    skipped: /' >&2
    fi
}

# finish: the closing lines, and the status of the whole.
finish() {
    ((${#FAILED_STEPS[@]} == 0)) || printf 'failed: %s\n' "${FAILED_STEPS[@]}"
    printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    ((FAILED == 0 && ${#FAILED_STEPS[@]} == 0))
}
