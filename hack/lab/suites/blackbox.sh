# shellcheck shell=bash
# The black-box tests of tests/. Arguments as for `cargo test --test blackbox --`.
# lab: timeout 7200
export RUNTIME=${RUNTIME:-/opt/skep/bin/skep} SKEP_TEST_PROBE=/opt/skep/bin/probe
# An emulated machine is slow, and may share its processors.
export SKEP_TEST_PATIENCE=${SKEP_TEST_PATIENCE:-6}
# CRIU gives up after 10 s when it stops the processes.
mkdir -p /etc/criu
printf 'timeout %d\n' $((10 * SKEP_TEST_PATIENCE)) >/etc/criu/default.conf
exec bin/blackbox "$@"
