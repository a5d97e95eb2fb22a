//! Where runc and crun differ from what these tests ask, and why. A listed test that fails under that runtime is
//! counted as a known difference; one that passes is reported, so that the list does not rot (unless the reason says
//! that it "may" fail: a race). The versions are
//! Debian 12's: runc 1.1.5 and crun 1.8.1, on a host with cgroup v1.

mod newer;

use crate::harness::Kind;

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
];

const CRUN: Table = &[
    ("newer than crun 1.8", NET_DEVICES),
    (
        "crun has words of its own for this, or names nothing",
        &[
            "labels::an_apparmor_profile_without_apparmor_is_refused",
            "labels::an_apparmor_profile_of_exec_without_apparmor_is_refused",
            "bad_config::an_empty_mount_destination",
            "bad_config::unknown_versions",
            "bad_config::wrongly_typed_fields",
            "bad_input::a_program_that_is_a_directory",
            "bad_input::a_program_that_is_not_executable",
            "bad_input::bad_ids_for_create",
            "bad_input::bad_ids_for_every_command",
            "bad_input::no_arguments",
            "bad_input::no_working_directory",
            "bad_targets::a_symlink_loop_as_a_target",
            "cli::a_missing_operand_is_reported",
            "cli::a_surplus_operand_is_reported",
            "cli::an_unknown_cgroup_manager_is_refused",
            "cli::no_command_prints_help",
            "cli::the_systemd_driver_without_systemd_fails",
            "exec::exec_of_a_directory_fails",
            "exec::exec_of_a_file_that_is_not_executable_fails",
            "hooks::a_failing_hook_is_named_in_the_error",
            "lifecycle::start_without_a_process_is_reported",
            "mounts::a_bind_mount_without_the_option_is_refused",
            "mounts::a_directory_on_a_file_is_reported",
            "mounts::a_file_on_a_directory_is_reported",
            "mounts::an_unknown_file_system_is_reported",
            "mounts::an_unknown_option_goes_to_the_file_system",
            "terminal::create_without_a_console_socket_is_refused",
            "terminal::exec_detached_with_a_terminal_needs_a_socket",
        ],
    ),
    (
        "crun does not check this",
        &[
            "bad_config::an_environment_without_an_equals_sign",
            "bad_config::an_unknown_propagation",
            "bad_input::unknown_signals",
            "cli::a_root_of_slash_is_refused",
            "cli::an_invalid_number_is_refused",
            "descriptors::a_preserved_descriptor_that_is_not_open_is_refused",
            "devices::a_relative_device_path_is_refused",
            "devices::an_unknown_device_type_is_refused",
            "exec_user::a_missing_part_is_refused_or_harmless",
            "exec_user::a_number_that_does_not_fit_is_refused",
            "exec_user::nothing_but_decimal_numbers_is_accepted",
            "hooks::a_timeout_that_is_not_positive_is_refused",
            "mounts::an_unknown_option_on_a_bind_mount_is_refused",
            "namespaces::a_duplicate_namespace_is_refused",
            "namespaces::mappings_without_a_user_namespace_are_refused",
            "process::a_duplicate_resource_limit_is_refused",
            "process::a_relative_working_directory_is_refused",
            "root::root_propagation_is_set",
            "seccomp::a_profile_without_names_is_refused",
            "seccomp::listener_metadata_without_a_path_is_refused",
            "seccomp::notify_without_a_listener_path_is_refused",
            "terminal::a_console_socket_without_a_terminal_is_refused",
            "cve_process::a_sysctl_value_smuggles_nothing",
            "update::update_of_a_stopped_container_is_refused",
            "update::update_of_broken_json_fails_and_changes_nothing",
            "cgroups::a_busy_cgroup_is_refused",
            "pause::resume_of_a_running_container_is_refused",
        ],
    ),
    (
        "crun leaves its cgroups behind when a limit cannot be applied",
        &[
            "bad_config::limits_out_of_range",
            "bad_config::limits_the_host_cannot_apply",
            "cgroups::a_swap_limit_below_memory_is_refused",
            "cgroups::an_impossible_cpuset_is_reported",
            "cgroups::an_invalid_cpu_period_is_reported",
            "cgroups::an_unknown_huge_page_size_is_reported",
            "cgroups::network_class_is_refused_or_set",
            "cgroups::unified_is_refused_on_v1",
        ],
    ),
    (
        "crun drops what it cannot set without privilege",
        &[
            "rootless::a_limit_that_cannot_be_set_is_reported",
            "rootless::additional_groups_are_refused",
        ],
    ),
    (
        "crun maps ids by /etc/subuid when the config maps none",
        &["rootless::the_rootless_template_runs"],
    ),
    (
        "crun 1.8 cannot make the mount of a file recursively read-only",
        &["engine_configs::docker_limited", "mount_options::recursive_read_only_works_for_a_file"],
    ),
    ("crun writes an empty label as well", &["labels::empty_labels_are_none"]),
    ("crun crashes", &["bad_config::a_nul_in_a_string"]),
    ("crun takes only the 1.0 versions", &["bad_config::later_minor_versions_are_accepted"]),
    (
        "crun leaves its state directory behind",
        &["bad_input::a_full_file_descriptor_table", "bad_input::no_space_in_the_state_directory"],
    ),
    (
        "crun delete --force does not remove a container whose state is broken",
        &["bad_input::a_state_file_cut_in_half", "bad_input::a_state_file_that_is_no_json"],
    ),
    ("crun waits for ever in a frozen cgroup", &["cgroups::a_frozen_cgroup_is_refused"]),
    (
        "crun refuses -1 on cgroup v1",
        &[
            "device_rules::a_negative_device_number_is_a_wildcard",
            "cgroups::an_unlimited_pids_limit_is_accepted",
            "cgroups::cpu_quota_and_period_are_set",
            "update::update_pids_limit",
        ],
    ),
    (
        "crun writes the weight to a file this kernel does not have",
        &["cgroups::blkio_weight_is_set_where_there_is_one", "update::update_blkio_weight"],
    ),
    (
        "newer than crun 1.8",
        &["cgroups::cpu_burst_is_set", "mount_options::recursive_options_are_set"],
    ),
    (
        "crun parses by getopt: two dashes, flags before operands, no booleans with values, usage errors are 64",
        &[
            "cli::a_flag_may_carry_its_value_after_an_equals_sign",
            "cli::a_switch_may_be_given_a_boolean",
            "cli::an_invalid_boolean_is_refused",
            "cli::every_command_has_help",
            "cli::flags_may_follow_the_id",
            "cli::global_flags_may_have_one_dash",
            "cli::long_flags_may_have_one_dash",
            "cli::the_bundle_flag_takes_an_equals_sign_in_its_short_form",
            "cli::the_criu_flag_of_old_shims_is_accepted",
            "cli::the_no_subreaper_flag_is_accepted_with_one_dash",
            "cli::the_program_has_help",
            "cli::short_flags_are_known",
            "cli::repeated_lists_append",
            "exec::both_forms_of_a_flag_may_be_mixed",
            "exec::exec_adds_to_the_environment",
            "exec::exec_environment_overrides_that_of_the_container",
        ],
    ),
    (
        "crun 1.8 has no such command or flag",
        &[
            "cli::help_names_every_command",
            "cli::checkpoint_has_help",
            "printing::features_is_json_and_nothing_else",
            "printing::features_names_what_engines_look_for",
            "run::run_keep_keeps_the_stopped_container",
            "printing::ps_as_a_table_is_that_of_the_host",
            "printing::ps_passes_arguments_to_the_ps_of_the_host",
            "update::update_memory_with_a_unit",
        ],
    ),
    (
        "crun has gone to the bundle before it opens the path",
        &[
            "cli::a_relative_root_is_relative_to_the_caller",
            "printing::a_relative_log_is_relative_to_the_caller",
            "run::a_relative_pid_file_is_relative_to_the_caller",
        ],
    ),
    (
        "crun 1.8 is open to this attack, or answers it otherwise",
        &[
            "cve::a_sysctl_on_a_false_proc",
            "cve::a_volume_over_proc",
            "cve::dev_is_a_symlink",
            "cve::masking_with_a_false_dev_null",
            "mounts::a_mount_on_proc_other_than_proc_is_refused",
            "exec::exec_refuses_a_cgroup_outside_the_container",
        ],
    ),
    (
        "crun's init holds its working directory and cgroup open until start",
        &["descriptors::a_created_container_holds_nothing_of_the_caller"],
    ),
    (
        "crun counts the sockets of LISTEN_FDS otherwise",
        &[
            "descriptors::listen_fds_are_passed",
            "descriptors::listen_fds_come_before_preserved_descriptors",
        ],
    ),
    ("crun does not tell MAINPID", &["descriptors::the_notify_socket_is_forwarded"]),
    (
        "crun makes its nodes in a bound /dev",
        &["devices::the_devices_of_a_bound_dev_are_left_alone"],
    ),
    (
        "crun's exec takes this from its own defaults, not from the container",
        &[
            "exec::exec_applies_the_oom_score_of_the_container",
            "exec::exec_applies_the_resource_limits_of_the_container",
            "exec::exec_keeps_no_new_privileges_of_the_container",
            "exec::exec_takes_capabilities",
            "rootless::the_oom_score_is_set_without_root",
        ],
    ),
    ("crun may list in any order", &["printing::list_quiet_prints_ids"]),
    (
        "crun sets HOME otherwise",
        &[
            "exec::exec_sets_home_from_passwd",
            "process::an_empty_home_is_replaced",
            "process::home_without_passwd_is_slash",
        ],
    ),
    (
        "crun does not fail when this hook fails",
        &[
            "hooks::a_failing_poststart_hook_stops_the_container",
            "hooks::a_failing_start_container_hook_makes_start_fail",
        ],
    ),
    (
        "crun kills only the hook itself",
        &["hooks::a_hook_past_its_timeout_is_killed_with_its_children"],
    ),
    (
        "crun warns, or dies of SIGPIPE, when a hook does not read",
        &["hooks::a_hook_that_does_not_read_its_standard_input"],
    ),
    (
        "crun gives hooks its own environment",
        &["hooks::a_hook_without_an_environment_has_none_of_the_callers"],
    ),
    (
        "crun gives hooks another status, and no pid where it is the container's",
        &[
            "hooks::each_hook_gets_the_state_on_standard_input",
            "hooks::the_pid_in_the_state_is_that_of_init",
        ],
    ),
    (
        "crun runs poststart before the program has started, and may die of SIGPIPE",
        &[
            "hooks::every_hook_runs_in_its_order",
            "hooks::hooks_of_a_phase_run_in_listed_order",
            "hooks::run_runs_every_hook",
        ],
    ),
    (
        "crun runs no poststop hooks after a failed create",
        &["hooks::poststop_runs_after_a_failed_create"],
    ),
    (
        "crun hides what hooks print",
        &["hooks::the_standard_error_of_a_failing_hook_is_in_the_error"],
    ),
    (
        "crun does not know it",
        &[
            "lifecycle::kill_takes_a_lower_case_name",
            "mount_options::contrary_options_the_last_wins",
        ],
    ),
    (
        "crun's JSON and tables have another shape",
        &[
            "lifecycle::state_has_the_fields_of_the_specification",
            "printing::list_as_a_table_has_a_header_and_rows",
            "printing::list_as_json_has_the_fields_of_state",
            "printing::list_as_json_of_nothing_is_null",
            "printing::state_is_indented_json",
            "printing::spec_rootless_has_a_user_namespace",
        ],
    ),
    (
        "crun's log has another shape, and nothing in it for some failures",
        &[
            "printing::a_failure_leaves_one_json_record_in_the_log",
            "printing::a_failure_leaves_one_text_record_in_the_log",
            "printing::debug_writes_records_below_error",
        ],
    ),
    (
        "crun makes and mounts directories with other modes",
        &[
            "mounts::a_missing_target_directory_is_made",
            "mounts::tmpfs_keeps_the_mode_of_the_directory",
        ],
    ),
    (
        "crun leaves the tmpfs over the v1 controllers writable",
        &["mounts::cgroup_is_read_only_when_asked"],
    ),
    (
        "crun records nothing before the container runs, so what is left may depend on the moment",
        &["bad_input::a_runtime_killed_at_any_moment_leaves_what_delete_force_removes"],
    ),
    ("crun does not pause what has not started", &["pause::pause_of_a_created_container"]),
    (
        "crun's root propagation covers that of the mounts",
        &["root::a_slave_root_sees_later_host_mounts", "root::propagation_of_a_mount_is_set"],
    ),
    (
        "crun reads flags behind the operands, lists nothing, and starts in a busy cgroup",
        &[
            "cli::kill_leaves_what_follows_the_id_to_be_the_signal",
            "default_root::an_explicit_root_that_is_missing_is_an_error",
            "granted::the_hint_for_ordinary_users_is_not_for_root",
        ],
    ),
    (
        "crun kills init alone in a joined pid namespace",
        &["joined_namespaces::kill_ends_all_of_a_container_in_a_joined_pid_namespace"],
    ),
    ("crun needs open standard streams", &["run::create_works_with_closed_standard_output"]),
    (
        "crun connects although the profile has no use for it",
        &["seccomp::an_unused_listener_path_is_ignored"],
    ),
    (
        "crun keeps the connection open, or sends an exec's listener nowhere",
        &[
            "seccomp::the_notify_listener_is_sent",
            "seccomp::the_notify_listener_of_an_exec_is_sent",
        ],
    ),
    (
        "crun's terminals belong to root, are named by a space, and get no size in the foreground",
        &[
            "terminal::exec_with_a_terminal_as_a_user",
            "terminal::in_the_foreground_newlines_are_translated_once",
            "terminal::run_passes_size_changes_on",
            "terminal::run_passes_the_first_size_on",
            "terminal::the_master_is_sent_to_the_console_socket",
        ],
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
