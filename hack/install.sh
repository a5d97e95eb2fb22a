#!/usr/bin/env bash
# Installs the release binary, its manual pages and shell completions below $DESTDIR$PREFIX.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

binary=$(release_binary)
[[ -x $binary ]] || die 'nothing to install yet: make build'
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
install -D -m 755 "$binary" "$prefix/sbin/skep"
hack/man.sh "$binary" "$prefix"
note "installed $prefix/sbin/skep, its manual pages and completions"
