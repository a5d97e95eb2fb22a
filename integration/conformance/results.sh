# shellcheck shell=bash
# RESULTS.md, from what the last whole run of each suite with each runtime has left in the cache.

# write_results FILE
write_results() {
    local suite kept runtimes=() name file=$1
    mapfile -t runtimes < <(find "$CACHE/results" -name '*.tsv' -printf '%f\n' | sed 's/\.tsv$//' | sort -u |
        awk '{ order = $1 == "skep" ? 0 : $1 == "runc" ? 1 : 2; print order, $1 }' | sort -n | cut -d' ' -f2)
    {
        printf '# What the suites say\n\nWritten by `integration/conformance/run --results`. Of each suite and runtime the last whole run.\n'
        for suite in runtime-tools runc crun; do
            [[ -d $CACHE/results/$suite ]] || continue
            kept=$(find "$CACHE/results/$suite" -name '*.tsv' | head -n 1)
            [[ -n $kept ]] || continue
            printf '\n## %s, %s\n\n' "$suite" "$(heading suite "$kept")"
            results_summary "$suite" "${runtimes[@]}"
            results_table "$suite" "${runtimes[@]}"
            ! [[ -e $CACHE/results/$suite/skep.tsv ]] || results_reasons "$suite"
        done
        printf '\n## The host\n\nLinux %s on %s, %d processors, %s. Of what expectations depend on it has: %s.\n' "$(uname -r)" \
            "$(uname -m)" "$(nproc)" "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)" "$(facts)"
    } >"$file.part"
    mv "$file.part" "$file"
    note "wrote $file"
}

# heading KEY FILE: of what stands at the top of kept results.
heading() { awk -F '\t' -v key="#$1" '$1 == key { print $2 }' "$2"; }

# results_summary SUITE RUNTIME...
results_summary() {
    local suite=$1 name kept
    shift
    printf '| runtime | passed | failed | skipped | seconds | date |\n|---|---|---|---|---|---|\n'
    for name; do
        kept=$CACHE/results/$suite/$name.tsv
        [[ -e $kept ]] || continue
        awk -F '\t' -v version="$(heading version "$kept")" -v seconds="$(heading seconds "$kept")" \
            -v date="$(heading date "$kept")" '
            /^#/ { next }
            { count[$3]++ }
            END { printf "| %s | %d | %d | %d | %s | %s |\n", version, count["pass"], count["fail"], count["skip"], seconds, date }' \
            "$kept"
    done
}

# results_table SUITE RUNTIME...: passed, failed and skipped of each file, where anything was not passed by all.
results_table() {
    local suite=$1 name files=()
    shift
    for name; do
        [[ ! -e $CACHE/results/$suite/$name.tsv ]] || files+=("$CACHE/results/$suite/$name.tsv")
    done
    printf '\nPassed/failed/skipped of the files that not every runtime passes:\n\n'
    awk -F '\t' '
        FNR == 1 { r++; name = FILENAME; sub(/.*\//, "", name); sub(/\.tsv$/, "", name); runtime[r] = name }
        /^#/ { next }
        !($1 in seen) { seen[$1] = ++n; file[n] = $1 }
        { count[r, $1, $3]++; if ($3 == "fail") failed[$1] = 1 }
        END {
            printf "| file |"; for (i = 1; i <= r; i++) printf " %s |", runtime[i]; print ""
            printf "|---|"; for (i = 1; i <= r; i++) printf "---|"; print ""
            for (j = 1; j <= n; j++) {
                if (!(file[j] in failed)) continue
                printf "| %s |", file[j]
                for (i = 1; i <= r; i++)
                    printf " %d/%d/%d |", count[i, file[j], "pass"], count[i, file[j], "fail"], count[i, file[j], "skip"]
                print ""
            }
        }' "${files[@]}"
}

# results_reasons SUITE: why skep fails what it fails.
results_reasons() {
    local file test outcome why
    read_expectations "$1" "$CACHE/results/$1/skep.tsv"
    printf '\nWhat skep fails:\n\n'
    while IFS=$'\t' read -r file test outcome why; do
        [[ $outcome == fail ]] || continue
        expected "$file: $test" fail '' || true
        [[ $test == all ]] && test=$file || test="$file: $test"
        printf -- '- %s: %s\n' "$test" "${REASON:-not expected}"
    done < <(grep -v '^#' "$CACHE/results/$1/skep.tsv")
}
