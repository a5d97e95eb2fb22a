# shellcheck shell=bash
# Compares results with what is expected of skep, and says where they differ.
#
# expected/SUITE.tsv has a line for each test that is not expected to pass, columns with tabs between:
#   fail|skip|flaky   flaky: the suite's own race, either is taken
#   condition         when the line holds: facts of host.sh, with commas between, ! for not; - always
#   FILE: TEST        a pattern of the shell; of a skip * stands for whatever skips itself for the reason
#   reason            why; of a skip, a pattern for what the test itself says
#   why               of a skip, where the test says nothing
# and lines of numbers: count, condition, tests|skip, number: how many there are in all, or of those that skip themselves.
# Each line that holds has to be met.

# read_expectations SUITE RESULTS: those that hold where these are from.
read_expectations() {
    local outcome when test reason why
    EXPECTED=() MET=() COUNTS=()
    # Kept results are of the host as it was then, with the controllers that were mounted.
    FACTS=$(sed -n 's/^#facts\t//p' "$2")
    [[ -n $FACTS ]] || FACTS=$(facts)
    while IFS=$'\t' read -r outcome when test reason why; do
        [[ -n $outcome && $outcome != \#* ]] || continue
        if [[ $outcome == count && $test =~ ^(tests|skip)$ && $reason =~ ^[0-9]+$ ]]; then
            ! holds "$when" || COUNTS+=("$test $reason")
            continue
        fi
        [[ $outcome =~ ^(fail|skip|flaky)$ && -n $reason && (-n $why || $reason != '*') ]] ||
            die "expected/$1.tsv: $outcome $when $test: bad line"
        ! holds "$when" || EXPECTED+=("$outcome"$'\t'"$test"$'\t'"$reason"$'\t'"$why")
    done <"$HERE/expected/$1.tsv"
}

# expected TEST OUTCOME WHY: whether OUTCOME is what is expected; else says what is, in WANTED, and why, in REASON.
expected() {
    local at outcome test reason why
    WANTED=pass REASON=''
    for at in "${!EXPECTED[@]}"; do
        IFS=$'\t' read -r outcome test reason why <<<"${EXPECTED[at]}"
        # shellcheck disable=SC2053 # patterns
        [[ $1 == $test ]] || continue
        # shellcheck disable=SC2053
        [[ $outcome != skip || $test != '*' || $2 == skip && $3 == $reason ]] || continue
        WANTED=$outcome REASON=${why:-$reason}
        # shellcheck disable=SC2053
        if [[ $outcome == skip ]]; then
            [[ $2 == skip && $3 == $reason ]] || return 1
        fi
        MET[at]=1
        break
    done
    case $WANTED in
    flaky) [[ $2 == pass || $2 == fail ]] ;;
    *) [[ $2 == "$WANTED" ]] ;;
    esac
}

# unmet PASSED FAILED SKIPPED: the lines that hold and no test has met, the numbers that are others.
unmet() {
    local at kind number found
    for at in "${!EXPECTED[@]}"; do
        [[ -n ${MET[at]:-} ]] || printf 'no such test: %s\n' "${EXPECTED[at]}"
    done
    for at in "${COUNTS[@]}"; do
        read -r kind number <<<"$at"
        found=$3
        [[ $kind == skip ]] || found=$(($1 + $2 + $3))
        ((found == number)) || printf 'number of %s: %d, expected: %d\n' "$kind" "$found" "$number"
    done
}

# verdict SUITE RESULTS: the table, what differs, and the line that counts. Fails if skep's results are not as expected.
verdict() {
    local suite=$1 file test outcome why more different=() passed=0 failed=0 skipped=0
    table <"$2"
    if [[ $NAME == skep ]]; then read_expectations "$suite" "$2"; fi
    while IFS=$'\t' read -r file test outcome why; do
        [[ $file != \#* ]] || continue
        case $outcome in
        pass) passed=$((passed + 1)) ;;
        fail) failed=$((failed + 1)) ;;
        *) skipped=$((skipped + 1)) ;;
        esac
        if [[ $NAME == skep ]]; then
            expected "$file: $test" "$outcome" "$why" || different+=("$file: $test: $outcome, expected: $WANTED${why:+ ($why)}")
        elif [[ $outcome == fail ]]; then
            printf '%s fails %s: %s\n' "$LANE" "$file" "$test"
        fi
    done <"$2"
    if [[ $NAME == skep ]] && ((${#FILES[@]} == 0)); then
        mapfile -t more < <(unmet "$passed" "$failed" "$skipped")
        different+=("${more[@]}")
    fi
    ((!${#different[@]})) || printf 'DIFFERENT %s\n' "${different[@]}"
    [[ $NAME == skep ]] || note "there are no expectations of $NAME"
    printf '%s, %s: %d passed, %d failed, %d skipped\n' "$suite" "$LANE" "$passed" "$failed" "$skipped"
    ((!${#different[@]}))
}

# table: one line for each file, of results on standard input.
table() {
    awk -F '\t' '
        /^#/ { next }
        !($1 in seen) { seen[$1] = ++n; name[n] = $1 }
        { count[$1, $3]++ }
        END {
            printf "%-36s %6s %6s %6s\n", "file", "pass", "fail", "skip"
            for (i = 1; i <= n; i++)
                printf "%-36s %6d %6d %6d\n", name[i], count[name[i], "pass"], count[name[i], "fail"], count[name[i], "skip"]
        }'
}
