#!/usr/bin/env bash
# Whether each test and each module that the table of the specification names is there: libcontainer/design/0013.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

table=libcontainer/design/0013-spec-coverage.md
tests=0 modules=0 missing=0

miss() {
    printf 'coverage: %s names %s, which is not there\n' "$table" "$1" >&2
    missing=$((missing + 1))
}

# source_of FILE: where a file of the table lies.
source_of() {
    case $1 in
    src/*) printf '%s' "$1" ;;
    plan.rs) printf 'libcontainer/tests/plan.rs' ;;
    *.rs | */) printf 'libcontainer/src/%s' "$1" ;;
    *) printf 'tests/%s.rs' "$1" ;;
    esac
}

rows=$(grep '^|' "$table")
while read -r name; do
    tests=$((tests + 1))
    file=$(source_of "${name%%::*}")
    grep -qsE "(fn ${name##*::}\(|^    ${name##*::}( =|:|,|$))" "$file" || miss "$name"
done < <(grep -oE '`[a-z0-9_/]+(\.rs)?::[a-z0-9_]+`' <<<"$rows" | tr -d '`' | sort -u)
while read -r name; do
    modules=$((modules + 1))
    file=$(source_of "$name")
    [[ -e $file ]] || miss "$name"
done < <(cut -d '|' -f 3 <<<"$rows" | grep -oE '`[a-z0-9_/]+(\.rs|/)`' | tr -d '`' | sort -u)

# A property has a test, a gap that the document explains, or a note that says why it is not done.
while IFS='|' read -r _ property _ test _; do
    [[ $property != *---* && $property != *' Property '* && $property != *' What '* ]] || continue
    [[ $test == *::* || $test == *'gap G'* || $test =~ ^\ rejected:\ \`[0-9]{4}- ]] || miss "no test for:$property"
done < <(sed '/^## Gaps/,$d' "$table" | grep '^|')
while read -r note; do
    [[ -e libcontainer/design/$note ]] || miss "$note"
done < <(grep -oE 'rejected: `[0-9]{4}-[a-z-]+\.md`' "$table" | cut -d '`' -f 2 | sort -u)
while read -r gap; do
    grep -q "^| $gap |" "$table" || miss "gap $gap"
done < <(grep -oE 'gap G[0-9]+' "$table" | cut -d ' ' -f 2 | sort -u)

((missing == 0)) || exit 1
printf 'coverage: %d tests and %d modules are there\n' "$tests" "$modules"
