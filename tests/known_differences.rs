//! Where runc and crun differ from what these tests ask, and why. A listed test that fails under that runtime is
//! counted as a known difference; one that passes is reported, so that the list does not rot (unless the reason says
//! that it "may" fail: a race). The versions are
//! Debian 12's: runc 1.1.5 and crun 1.8.1, on a host with cgroup v1.

mod newer;

mod crun;

use crate::harness::Kind;
use crun::CRUN;

type Table = &'static [(&'static str, &'static [&'static str])];

/// runtime-spec 1.3 has brought `linux.netDevices`.
const NET_DEVICES: &[&str] = &[
    "net_devices::a_bad_name_is_refused",
    "net_devices::a_device_is_renamed",
    "net_devices::a_device_moves_in_with_all_it_has",
    "net_devices::a_device_moves_into_a_joined_namespace_and_stays",
    "net_devices::a_device_moves_into_a_user_namespace",
    "net_devices::a_device_that_was_down_is_set_up",
    "net_devices::a_missing_device_is_refused",
    "net_devices::a_name_that_is_taken_is_refused",
    "net_devices::a_template_takes_the_first_free_name",
    "net_devices::devices_for_the_runtimes_own_namespace_are_refused",
    "net_devices::devices_without_a_network_namespace_are_refused",
    "net_devices::hooks_and_sysctls_find_the_device",
    "net_devices::loopback_is_refused",
    "net_devices::several_devices_move_in",
    "net_devices::the_name_of_the_device_itself_may_be_taken",
];

const RUNC: Table = &[
    ("newer than runc 1.1", NET_DEVICES),
    (
        "runc 1.1 gives a process of a document no limits but its own",
        &["exec::a_process_file_inherits_the_resource_limits"],
    ),
    (
        "the Go runtime may raise the soft limit of files",
        &["credentials::limits_apply_in_a_user_namespace"],
    ),
    (
        "the Go runtime raises the soft limit of files, and before 1.19.9 left it so",
        &["mount_sources::a_low_soft_limit_of_open_files_in_a_user_namespace"],
    ),
    (
        "runc makes / read-only where it is named so, and not where a detour leads there",
        &["devices::the_root_may_be_among_the_read_only_paths"],
    ),
    ("runc does not name the field", &["device_rules::a_rule_for_an_unknown_type_is_refused"]),
    (
        "runc start may return before the program runs",
        &[
            "printing::ps_as_a_table_is_that_of_the_host",
            "printing::ps_passes_arguments_to_the_ps_of_the_host",
        ],
    ),
    ("runc 1.1 may leave its directory", &["bad_input::a_run_that_fails_is_not_kept"]),
    (
        "runc 1.1 knows no scheduler; the nice value may be the caller's own",
        &["scheduling::nice_works_without_root"],
    ),
    (
        "runc 1.1 does not check this",
        &[
            "bad_config::a_config_that_is_not_utf_8",
            "bad_config::a_nul_in_a_string",
            "bad_config::limits_out_of_range",
            "bad_config::unknown_versions",
            "cli::a_root_of_slash_is_refused",
            "cli::an_invalid_number_is_refused",
            "descriptors::a_preserved_descriptor_that_is_not_open_is_refused",
            "exec_user::a_number_that_does_not_fit_is_refused",
            "exec_user::nothing_but_decimal_numbers_is_accepted",
            "mounts::an_unknown_option_on_a_bind_mount_is_refused",
            "namespaces::mappings_without_a_user_namespace_are_refused",
            "process::a_duplicate_resource_limit_is_refused",
            "seccomp::a_profile_without_names_is_refused",
            "seccomp::an_errno_for_an_action_that_has_none",
            "seccomp::listener_metadata_without_a_path_is_refused",
        ],
    ),
    (
        "runc 1.1 panics",
        &[
            "bad_config::a_config_that_is_not_an_object",
            "update::update_of_null_fields_changes_nothing",
        ],
    ),
    (
        "runc 1.1 does not name the directory",
        &["bad_input::a_missing_working_directory_that_cannot_be_made"],
    ),
    (
        "runc 1.1 makes the cgroup before it claims the id, so racing creates may all fail",
        &[
            "bad_input::a_second_create_at_the_same_moment",
            "lifecycle::of_two_creates_at_once_one_wins",
        ],
    ),
    (
        "runc 1.1 only warns",
        &[
            "cgroups::a_busy_cgroup_is_refused",
            "granted::the_hint_for_ordinary_users_is_not_for_root",
        ],
    ),
    (
        "runc 1.1 reads flags behind the operands of kill",
        &["cli::kill_leaves_what_follows_the_id_to_be_the_signal"],
    ),
    ("runc 1.1 lists nothing", &["default_root::an_explicit_root_that_is_missing_is_an_error"]),
    (
        "runc 1.1 wants mappings for a joined user namespace as well, and kills init alone in a joined pid namespace",
        &[
            "joined_namespaces::init_in_a_joined_user_and_pid_namespace_is_known_by_the_hosts_pid",
            "joined_namespaces::kill_ends_all_of_a_container_in_a_joined_pid_namespace",
        ],
    ),
    (
        "newer than runc 1.1",
        &[
            "cgroups::cpu_burst_is_set",
            "cgroups::cpu_idle_is_set",
            "namespaces::domainname_is_set",
            "namespaces::domainname_without_a_namespace_is_refused",
            "seccomp::flags_are_set",
            "namespaces::a_user_namespace_is_joined_by_path",
        ],
    ),
    (
        "runc has no bundled short flags, and only one form of a flag per call",
        &[
            "cli::repeated_lists_append",
            "cli::short_switches_can_be_bundled",
            "exec::both_forms_of_a_flag_may_be_mixed",
        ],
    ),
    (
        "runc 1.1 is open to this attack (fixed since)",
        &[
            "cve::a_volume_over_proc",
            "cve::dev_is_a_symlink",
            "cve::masking_with_a_false_dev_null",
            "cve_process::the_environment_of_the_image_does_not_reach_hooks",
        ],
    ),
    ("runc lets the kernel judge the value", &["cve_process::a_sysctl_value_smuggles_nothing"]),
    (
        "runc's exec.fifo is 0622, in a directory nobody else may enter",
        &["cve_process::nobody_else_can_read_the_state"],
    ),
    (
        "runc waits for READY for ever",
        &["descriptors::a_container_that_dies_before_it_is_ready_does_not_hang"],
    ),
    (
        "runc wants a rule for a device that the config lists",
        &["devices::a_device_that_exists_already", "devices::devices_work_in_a_user_namespace"],
    ),
    ("runc 1.1 watches until the container is deleted", &["events::events_end_with_the_container"]),
    (
        "runc 1.1 may have its own raised soft limit in exec",
        &["exec::exec_applies_the_resource_limits_of_the_container"],
    ),
    ("runc wants ids below 2147483648", &["exec_user::the_largest_uid_is_accepted"]),
    ("runc 1.1 says hook #N without the phase", &["hooks::a_failing_hook_is_named_in_the_error"]),
    (
        "runc 1.1 runs poststart at create",
        &[
            "hooks::a_failing_poststart_hook_stops_the_container",
            "hooks::a_hook_may_ask_for_the_state",
            "hooks::each_hook_gets_the_state_on_standard_input",
            "hooks::every_hook_runs_in_its_order",
            "hooks::hooks_of_a_phase_run_in_listed_order",
            "hooks::run_runs_every_hook",
        ],
    ),
    (
        "runc may be done with a hook before it looks whether its time was up",
        &["hooks::a_timeout_that_is_not_positive_is_refused"],
    ),
    (
        "runc's start does not wait for the hook",
        &["hooks::a_failing_start_container_hook_makes_start_fail"],
    ),
    (
        "runc kills only the hook and waits for whoever holds its output",
        &[
            "hooks::a_hook_past_its_timeout_is_killed_with_its_children",
            "hooks::a_hook_that_leaves_a_daemon_does_not_hold_the_runtime",
        ],
    ),
    (
        "runc gives hooks its own environment",
        &["hooks::a_hook_without_an_environment_has_none_of_the_callers"],
    ),
    (
        "runc stops at the first failing poststop hook",
        &["hooks::the_poststop_hooks_after_a_failing_one_run"],
    ),
    ("runc reads config.json again for exec", &["lifecycle::config_json_may_change_after_create"]),
    ("runc 1.1 lets the directory's mode win", &["mounts::tmpfs_mode_of_the_config_wins"]),
    (
        "runc leaves the bind mount of the root on the host",
        &["namespaces::without_a_mount_namespace"],
    ),
    (
        "runc sets the propagation of the parent, not of the root",
        &["root::root_propagation_is_set"],
    ),
    ("runc keeps the connection open", &["seccomp::the_notify_listener_is_sent"]),
    (
        "runc records nothing before init runs, so what is left may depend on the moment",
        &["bad_input::a_runtime_killed_at_any_moment_leaves_what_delete_force_removes"],
    ),
    ("runc ignores devices in an update", &["update::update_devices"]),
    (
        "runc 1.1 knows neither id maps nor recursive attributes of new file systems",
        &[
            "idmap::a_hundred_mounts_share_one_mapping",
            "idmap::a_mapping_in_a_user_namespace",
            "idmap::a_mapping_of_several_ranges",
            "idmap::a_mapping_without_a_user_namespace",
            "idmap::files_made_inside_belong_to_the_mapped_owner",
            "idmap::half_a_mapping_is_refused",
            "idmap::idmap_leaves_the_mounts_below_alone",
            "idmap::ridmap_maps_the_mounts_below",
            "idmap::the_same_source_twice_with_two_mappings",
            "mount_options::access_times_of_the_mounts_below",
            "mount_options::recursive_options_reach_a_new_file_system",
        ],
    ),
    (
        "the tmpfs around the cgroups of runc 1.1 stays writable",
        &[
            "kernel_mounts::a_cgroup_mount_in_a_user_namespace",
            "kernel_mounts::cgroup_mounts_have_their_attributes",
            "kernel_mounts::every_cgroup_mount_is_read_only",
        ],
    ),
    (
        "runc 1.1 makes nodes and links in a volume behind the image's /dev, and follows links while it makes targets (the race may be lost)",
        &[
            "cve::a_missing_target_below_a_swapped_directory",
            "cve_mounts::a_console_in_a_dev_that_leads_into_a_volume",
            "cve_mounts::a_copied_up_directory_that_is_swapped_all_the_time",
            "cve_mounts::a_dev_null_that_is_swapped_all_the_time",
            "cve_mounts::a_dev_that_is_swapped_all_the_time",
            "cve_mounts::a_directory_in_dev_leads_into_a_volume",
            "cve_mounts::a_proc_that_is_swapped_all_the_time",
            "cve_mounts::a_read_only_path_that_is_swapped_all_the_time",
            "cve_mounts::dev_leads_into_a_volume",
            "cve::a_mount_target_that_is_swapped_all_the_time",
        ],
    ),
    (
        "a remount with runc takes away what it does not name",
        &["mount_options::a_remount_with_long_options"],
    ),
    (
        "runc 1.1 does not keep the flags a user namespace cannot clear",
        &["mount_options::locked_flags_stay_in_a_user_namespace"],
    ),
    (
        "runc 1.1 needs the container's /proc, and fails on a file in the way of a path",
        &[
            "kernel_mounts::a_container_without_proc_and_sys",
            "mount_sources::a_masked_path_that_is_missing_is_ignored",
        ],
    ),
    (
        "runc 1.1 makes no missing directories for such a destination",
        &["mount_sources::a_destination_may_begin_with_the_path_of_the_root"],
    ),
];

/// Why the test may fail under this runtime.
pub fn find(kind: Kind, test: &str) -> Option<&'static str> {
    let table = match kind {
        Kind::Runc => RUNC,
        Kind::Crun => CRUN,
        Kind::Skep => &[],
    };
    let newer = newer::table(kind);
    let mut rows = table.iter().chain(newer);
    rows.find(|(_, tests)| tests.contains(&test)).map(|(why, _)| *why)
}
