# shellcheck shell=bash
# The engine checks, with engines of their own; arguments as for integration/engines/run. Without any: skep alone.
# lab: timeout 7200
# lab: file skep-engines/debian.tar integration/engines/debian-image
export XDG_CACHE_HOME=/opt/skep
(($#)) || set -- --runtime /opt/skep/bin/skep
integration/engines/run "$@" | tee /run/lab/engines.log
status=${PIPESTATUS[0]}
sed -nE 's/^total +skep +//p' /run/lab/engines.log
exit "$status"
