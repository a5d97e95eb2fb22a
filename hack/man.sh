#!/bin/sh
# Writes the manual pages and the shell completions that a package installs, made by the binary from its own table.
# Usage: hack/man.sh SKEP PREFIX [SKEP-IMAGE]      (PREFIX/share/man/man8, PREFIX/share/bash-completion/completions, ...)
set -eu

[ $# -eq 2 ] || [ $# -eq 3 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
skep=$1
share=$2/share

man=$share/man/man8
mkdir -p "$man"
"$skep" man > "$man/skep.8"
sed -n 's/^\.BR skep\\-\([a-z]*\) (8)$/\1/p' "$man/skep.8" | while read -r command; do
    "$skep" man "$command" > "$man/skep-$command.8"
done

mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$skep" completion bash > "$share/bash-completion/completions/skep"
"$skep" completion zsh > "$share/zsh/site-functions/_skep"
"$skep" completion fish > "$share/fish/vendor_completions.d/skep.fish"

[ $# -eq 3 ] || exit 0
image=$3
"$image" man | while read -r command; do
    "$image" man "$command" > "$man/skep-$command.8"
done
"$image" completion bash >> "$share/bash-completion/completions/skep"
"$image" completion bash >> "$share/zsh/site-functions/_skep"
"$image" completion fish >> "$share/fish/vendor_completions.d/skep.fish"
