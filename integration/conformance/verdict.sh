# shellcheck shell=bash
# Compares results with what is expected of skep, and says where they differ.
#
# expected/SUITE.tsv has a line for each test that is not expected to pass, four columns with tabs between:
#   fail|skip|flaky   flaky: the suite's own race, either is taken
#   condition         when the line holds: facts of host.sh, with commas between, ! for not; - always
#   FILE: TEST        a pattern of the shell
#   reason            why; of a skip, a pattern for what the test itself says

# read_expectations SUITE RESULTS: those that hold where these are from.
read_expectations() {
    local outcome when test reason
    EXPECTED=() MET=()
    # Kept results are of the host as it was then, with the controllers that were mounted.
    FACTS=$(sed -n 's/^#facts\t//p' "$2")
    [[ -n $FACTS ]] || FACTS=$(facts)
    while IFS=$'\t' read -r outcome when test reason; do
        [[ -n $outcome && $outcome != \#* ]] || continue
        [[ $outcome =~ ^(fail|skip|flaky)$ && -n $reason ]] || die "expected/$1.tsv: $outcome $when $test: bad line"
        ! holds "$when" || EXPECTED+=("$outcome"$'\t'"$test"$'\t'"$reason")
    done <"$HERE/expected/$1.tsv"
}

# expected TEST OUTCOME WHY: whether OUTCOME is what is expected; else says what is, in WANTED.
expected() {
    local at outcome test reason
    WANTED=pass REASON=''
    for at in "${!EXPECTED[@]}"; do
        IFS=$'\t' read -r outcome test reason <<<"${EXPECTED[at]}"
        # shellcheck disable=SC2053 # patterns
        [[ $1 == $test ]] || continue
        # shellcheck disable=SC2053
        [[ $outcome != skip || $2 == skip && $3 == $reason ]] || continue
        WANTED=$outcome REASON=$reason MET[at]=1
        break
    done
    case $WANTED in
    flaky) [[ $2 == pass || $2 == fail ]] ;;
    *) [[ $2 == "$WANTED" ]] ;;
    esac
}

# verdict SUITE RESULTS: the table, what differs, and the line that counts. Fails if skep's results are not as expected.
verdict() {
    local suite=$1 file test outcome why at different=() passed=0 failed=0 skipped=0
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
            printf '%s fails %s: %s\n' "$NAME" "$file" "$test"
        fi
    done <"$2"
    if [[ $NAME == skep ]] && ((${#FILES[@]} == 0)); then
        for at in "${!EXPECTED[@]}"; do
            [[ ${EXPECTED[at]} != fail* || -n ${MET[at]:-} ]] || different+=("no such test: ${EXPECTED[at]}")
        done
    fi
    ((!${#different[@]})) || printf 'DIFFERENT %s\n' "${different[@]}"
    [[ $NAME == skep ]] || note "there are no expectations of $NAME"
    printf '%s, %s: %d passed, %d failed, %d skipped\n' "$suite" "$NAME" "$passed" "$failed" "$skipped"
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
