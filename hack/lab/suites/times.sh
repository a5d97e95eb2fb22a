# shellcheck shell=bash
# How long create, start and delete take, with each cgroup driver, in one boot with runc and crun: medians of many
# rounds in turn, as ratios. In an emulated machine nothing else counts. One argument: the rounds (15).
# lab: timeout 3600
exec python3 hack/lab/suites/times.py "$@"
