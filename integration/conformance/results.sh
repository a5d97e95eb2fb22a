# shellcheck shell=bash
# RESULTS.md, from what the last whole run of each suite with each runtime has left in the cache.

# write_results FILE
write_results() {
    local suite kept lanes=() file=$1
    mapfile -t lanes < <(find "$CACHE/results" -name '*.tsv' -printf '%f\n' | sed 's/\.tsv$//' | sort -Vu |
        awk '{ order = $1 == "skep" ? 0 : $1 ~ /^runc/ ? 1 : 2; print order, $1 }' | sort -s -n -k1,1 | cut -d' ' -f2)
    {
        printf '# What the suites say\n\nWritten by `integration/conformance/run --results`. Of each suite and runtime the last whole run.\n'
        printf 'A test that passed in some of several runs counts as failed.\n'
        for suite in runtime-tools runc crun; do
            [[ -d $CACHE/results/$suite ]] || continue
            kept=$(find "$CACHE/results/$suite" -name '*.tsv' | head -n 1)
            [[ -n $kept ]] || continue
            printf '\n## %s, %s\n\n' "$suite" "$(heading suite "$kept")"
            results_summary "$suite" "${lanes[@]}"
            results_runs "$suite" "${lanes[@]}"
            case $suite in
            runc) printf '\nIts tests read the words of runc and call with flags that crun has not.\n' ;;
            crun) printf '\nIts tests call with --cgroup-manager and --config, which runc has not, so there it fails nearly all.\n' ;;
            esac
            results_table "$suite" "${lanes[@]}"
            ! [[ -e $CACHE/results/$suite/skep.tsv ]] || results_reasons "$suite"
        done
        printf '\n## The host\n\nLinux %s on %s, %d processors, %s.\n\nWhat expectations depend on it had, when:\n\n' "$(uname -r)" \
            "$(uname -m)" "$(nproc)" "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)"
        results_facts "${lanes[@]}"
    } >"$file.part"
    mv "$file.part" "$file"
    note "wrote $file"
}

# heading KEY FILE: of what stands at the top of kept results.
heading() { awk -F '\t' -v key="#$1" '$1 == key { print $2 }' "$2"; }

# results_summary SUITE LANE...
results_summary() {
    local suite=$1 lane kept
    shift
    printf '| runtime | passed | failed | skipped | runs | seconds | date |\n|---|---|---|---|---|---|---|\n'
    for lane; do
        kept=$CACHE/results/$suite/$lane.tsv
        [[ -e $kept ]] || continue
        awk -F '\t' '
            /^#version/ { version = $2 } /^#date/ { date = $2 } /^#run/ { runs++; seconds = $2; gsub(/.*, | s$/, "", seconds) }
            /^#retry\tno/ { retry = ", none run again" }
            /^#/ { next }
            { count[$3]++ }
            END { printf "| %s | %d | %d | %d | %d%s | %s | %s |\n", version, count["pass"], count["fail"], count["skip"], runs, retry, seconds, date }' \
            "$kept"
    done
}

# results_runs SUITE LANE...: where there were several, each; which tests were run again, and which had several outcomes.
results_runs() {
    local suite=$1 lane kept
    shift
    for lane; do
        kept=$CACHE/results/$suite/$lane.tsv
        [[ -e $kept ]] || continue
        awk -F '\t' -v lane="$lane" '
            function say(text) { if (!said++) print ""; print "- " lane ", " text }
            /^#run/ { runs[++n] = $2; next }
            /^#unstable/ { unstable[++u] = $2; next }
            /^#/ { next }
            $4 ~ /in try [0-9]+ of|the last of [0-9]+ tries/ { again[++a] = $1 ": " $4 }
            END {
                if (n > 1) for (i = 1; i <= n; i++) say("run " i ": " runs[i])
                for (i = 1; i <= a; i++) say("run again: " again[i])
                for (i = 1; i <= u; i++) say("not always the same: " unstable[i])
            }' "$kept"
    done
}

# results_table SUITE LANE...: passed, failed and skipped of each file, where anything was not passed by all.
results_table() {
    local suite=$1 lane files=()
    shift
    for lane; do
        [[ ! -e $CACHE/results/$suite/$lane.tsv ]] || files+=("$CACHE/results/$suite/$lane.tsv")
    done
    printf '\nPassed/failed/skipped of the files that not every runtime passes:\n\n'
    awk -F '\t' '
        FNR == 1 { r++; name = FILENAME; sub(/.*\//, "", name); sub(/\.tsv$/, "", name); sub(/-/, " ", name); runtime[r] = name }
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

# results_reasons SUITE: why skep fails what it fails and skips what it skips.
results_reasons() {
    local file test outcome why kept=$CACHE/results/$1/skep.tsv skipped=()
    read_expectations "$1" "$kept"
    printf '\nWhat skep fails:\n\n'
    while IFS=$'\t' read -r file test outcome why; do
        [[ $outcome != pass ]] || continue
        expected "$file: $test" "$outcome" "$why" || [[ $WANTED == flaky ]] || REASON=''
        if [[ $outcome == skip ]]; then
            [[ $REASON == "$why" || -z $why ]] || REASON=$why
            skipped+=("${REASON:-not expected}")
            continue
        fi
        [[ $test == all ]] && test=$file || test="$file: $test"
        printf -- '- %s: %s\n' "$test" "${REASON:-not expected}"
    done < <(grep -v '^#' "$kept")
    ((!${#skipped[@]})) || {
        printf '\nWhat is skipped, how often and why:\n\n'
        printf '%s\n' "${skipped[@]}" | sort | uniq -c | sort -k1,1nr | sed -E 's/^ *([0-9]+) /- \1: /'
    }
}

# results_facts LANE...: of each kept run, those alike together.
results_facts() {
    local suite lane kept
    for suite in runtime-tools runc crun; do
        for lane; do
            kept=$CACHE/results/$suite/$lane.tsv
            [[ ! -e $kept ]] || printf '%s\t%s with %s\n' "$(heading facts "$kept")" "$suite" "${lane/-/ }"
        done
    done | awk -F '\t' '
        !($1 in all) { order[++n] = $1 }
        { all[$1] = all[$1] (all[$1] == "" ? "" : ", ") $2 }
        END { for (i = 1; i <= n; i++) printf "- %s: %s\n", order[i], all[order[i]] }'
}
