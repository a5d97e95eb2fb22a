#!/usr/bin/env bash
# Installs the release binary, skep-image if that was built, its manual pages and shell completions below $DESTDIR$PREFIX.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

binary=$(release_binary)
[[ -x $binary ]] || die 'nothing to install yet: make build'
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
install -D -m 755 "$binary" "$prefix/sbin/skep"
image=$(image_binary)
if [[ -x $image ]]; then
    hack/man.sh "$binary" "$prefix" "$image"
    install -D -m 755 "$image" "$prefix/libexec/skep/skep-image"
    note "installed $prefix/libexec/skep/skep-image"
else
    hack/man.sh "$binary" "$prefix"
    note 'skep-image is not built, so the commands of images are not installed: make build'
fi
note "installed $prefix/sbin/skep, its manual pages and completions"
