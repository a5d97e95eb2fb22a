#!/usr/bin/env bash
# The black-box tests on the runc and crun of this host: a test that they fail is wrong, or a known difference.
# BLACKBOX="name --skip other" in the environment chooses tests.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source-path=SCRIPTDIR
. hack/steps.sh

((EUID == 0)) || die 'containers are made as root: sudo make test-peers'

read -ra arguments <<<"${BLACKBOX:-}"
for peer in runc crun; do
    step "black-box tests on $peer" env RUNTIME="$(command -v "$peer")" \
        cargo test --locked --test blackbox -- "${arguments[@]}"
done
finish
