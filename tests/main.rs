//! Black-box tests: the built runtime, run as root on the real kernel.
//!
//! `RUNTIME=/usr/sbin/runc cargo test --test blackbox` runs the same tests with another runtime. Arguments are
//! those of `cargo test`: names to run, `--exact`, `--skip`, `--test-threads`, `--list`. In the environment,
//! `SKEP_TEST_KEEP=1` keeps the directories of the tests, `SKEP_TEST_TIMES=1` lists the slowest, and
//! `SKEP_TEST_PROBE=FILE` is the probe (harness/probe.c, built statically) for a host without a C compiler,
//! `SKEP_TEST_CRIU=FILE` another CRIU than the one in the path, and
//! `SKEP_TEST_PATIENCE=N` makes every time limit N times as long, for an emulated machine.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::tests_outside_test_module,
    clippy::disallowed_methods,
    reason = "a test fails by panicking and reports by printing"
)]

use std::process::ExitCode;

mod annotations;
mod at_once;
mod bad_config;
mod bad_input;
mod bad_targets;
mod bad_values;
mod big_input;
mod cgroup_v2;
mod cgroups;
mod checkpoint;
mod checkpoint_scripts;
mod checkpoint_trust;
mod cli;
mod counts;
mod credentials;
mod cve;
mod cve_mounts;
mod cve_process;
mod default_root;
mod delegation;
mod descriptors;
mod device_rules;
mod devices;
mod engine_configs;
mod events;
mod exec;
mod exec_user;
mod extra_hierarchies;
mod fields;
mod finer_points;
mod flags;
mod granted;
mod harness;
mod hook_commands;
mod hook_state;
mod hooks;
mod host_mounts;
mod id_maps;
mod idmap;
mod joined_namespaces;
mod kernel_mounts;
mod keyring;
mod killed;
mod known_differences;
mod labels;
mod lifecycle;
mod live_mounts;
mod mount_options;
mod mount_sources;
mod mounts;
mod namespaces;
mod nested;
mod net_devices;
mod pause;
mod printing;
mod process;
mod regex;
mod resctrl;
mod resources;
mod root;
mod rootless;
mod rootless_cgroups;
mod run;
mod saved_state;
mod scheduling;
mod seccomp;
mod seccomp_options;
mod selinux;
mod shapes;
mod start;
mod strict_filter;
mod systemd;
mod systemd_bus;
mod systemd_fake;
mod systemd_user;
mod terminal;
mod timens;
mod uncgrouped;
mod update;
mod words;

fn main() -> ExitCode {
    let cases = [
        cli::CASES,
        printing::CASES,
        lifecycle::CASES,
        start::CASES,
        run::CASES,
        pause::CASES,
        regex::CASES,
        exec::CASES,
        exec_user::CASES,
        extra_hierarchies::CASES,
        cgroups::CASES,
        checkpoint::CASES,
        checkpoint_scripts::CASES,
        checkpoint_trust::CASES,
        cgroup_v2::CASES,
        update::CASES,
        resources::CASES,
        resctrl::CASES,
        events::CASES,
        process::CASES,
        namespaces::CASES,
        timens::CASES,
        net_devices::CASES,
        scheduling::CASES,
        counts::CASES,
        credentials::CASES,
        labels::CASES,
        mounts::CASES,
        mount_options::CASES,
        kernel_mounts::CASES,
        live_mounts::CASES,
        mount_sources::CASES,
        idmap::CASES,
        root::CASES,
        devices::CASES,
        seccomp::CASES,
        annotations::CASES,
        seccomp_options::CASES,
        selinux::CASES,
        hooks::CASES,
        hook_commands::CASES,
        hook_state::CASES,
        descriptors::CASES,
        terminal::CASES,
        bad_config::CASES,
        bad_input::CASES,
        bad_targets::CASES,
        bad_values::CASES,
        big_input::CASES,
        cve::CASES,
        cve_mounts::CASES,
        engine_configs::CASES,
        fields::CASES,
        finer_points::CASES,
        flags::CASES,
        keyring::CASES,
        rootless::CASES,
        id_maps::CASES,
        rootless_cgroups::CASES,
        nested::CASES,
        cve_process::CASES,
        default_root::CASES,
        delegation::CASES,
        device_rules::CASES,
        granted::CASES,
        host_mounts::CASES,
        joined_namespaces::CASES,
        killed::CASES,
        strict_filter::CASES,
        systemd::CASES,
        systemd_bus::CASES,
        systemd_fake::CASES,
        systemd_user::CASES,
        saved_state::CASES,
        shapes::CASES,
        at_once::CASES,
        uncgrouped::CASES,
        words::CASES,
    ]
    .concat();
    ExitCode::from(harness::runner::main(cases))
}
