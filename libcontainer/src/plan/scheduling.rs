//! `process.scheduler`, `process.ioPriority` and `process.execCPUAffinity` → the arguments of their system calls.

use super::list::Mask;
use crate::error::{Error, Result};
use crate::spec;
use crate::sys::scheduling::Attributes;

/// When and where the kernel runs the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// For sched_setattr(2).
    pub attributes: Option<Attributes>,
    /// For ioprio_set(2): the class in the upper three bits.
    pub io_priority: Option<u16>,
    /// CPUs of a process of `exec` before it is in the container's cgroup.
    pub initial: Option<Mask>,
    /// CPUs of a process of `exec` from there on.
    pub last: Option<Mask>,
}

/// Policies and their numbers (sched(7)).
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// `SCHED_FLAG_*` (sched_setattr(2)).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 1),
    ("SCHED_FLAG_RECLAIM", 2),
    ("SCHED_FLAG_DL_OVERRUN", 4),
    ("SCHED_FLAG_KEEP_POLICY", 8),
    ("SCHED_FLAG_KEEP_PARAMS", 16),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 32),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 64),
];

/// `IOPRIO_CLASS_*` (ioprio_set(2)).
const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// Bits of an I/O priority below its class.
const IO_CLASS_SHIFT: u32 = 13;

impl Scheduling {
    /// Checks that a process so scheduled can fork, as it has to for startContainer hooks.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config): sched(7) lets nobody fork under `SCHED_DEADLINE` whose children would inherit it.
    pub fn check_forks(&self) -> Result<()> {
        match &self.attributes {
            Some(attributes) if attributes.policy == 6 && attributes.flags & 1 == 0 => {
                Err(Error::config("under SCHED_DEADLINE a startContainer hook cannot be forked")
                    .field("process.scheduler.flags")
                    .hint("add SCHED_FLAG_RESET_ON_FORK"))
            }
            _ => Ok(()),
        }
    }

    /// Plans the three.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) naming the field.
    pub fn build(process: &spec::Process<'_>) -> Result<Self> {
        let affinity = process.exec_cpu_affinity.as_ref();
        Ok(Self {
            attributes: process.scheduler.as_ref().map(attributes).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            initial: cpus(affinity.and_then(|cpus| cpus.initial.as_deref()), "initial")?,
            last: cpus(affinity.and_then(|cpus| cpus.last.as_deref()), "final")?,
        })
    }
}

/// The number of `name` in `table`.
pub(super) fn number<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of policy `number`.
pub(super) fn policy_name(policy: u32) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("SCHED_?", |(name, _)| name)
}

fn attributes(scheduler: &spec::Scheduler<'_>) -> Result<Attributes> {
    let field = |name: &str| format!("process.scheduler.{name}");
    let refuse = |sentence: String, name: &str| Err(Error::config(sentence).field(field(name)));
    let policy = scheduler.policy.as_str();
    if policy.is_empty() {
        return refuse("scheduler policy is required".to_owned(), "policy");
    }
    let Some(number) = number(&POLICIES, policy) else {
        return refuse(format!("invalid scheduler policy: {policy:?}"), "policy");
    };
    let nice = scheduler.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return refuse(
            format!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}"),
            "nice",
        );
    }
    let mut flags = 0;
    for (i, flag) in scheduler.flags.iter().enumerate() {
        match self::number(&FLAGS, flag) {
            Some(bit) => flags |= bit,
            None => {
                return refuse(format!("invalid scheduler flag: {flag:?}"), &format!("flags[{i}]"));
            }
        }
    }
    let priority = scheduler.priority.unwrap_or(0);
    let static_priority = matches!(policy, "SCHED_FIFO" | "SCHED_RR");
    if priority != 0 && !static_priority {
        return refuse(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy".to_owned(),
            "priority",
        );
    }
    let keeps = flags & 8 != 0;
    let priority = match u32::try_from(priority) {
        Ok(priority) if priority <= 99 && (priority > 0 || !static_priority || keeps) => priority,
        _ => {
            return refuse(
                format!("{policy} takes priorities from 1 to 99, not {priority}"),
                "priority",
            );
        }
    };
    let times = [
        scheduler.runtime.unwrap_or(0),
        scheduler.deadline.unwrap_or(0),
        scheduler.period.unwrap_or(0),
    ];
    check_times(policy, times)?;
    let [runtime, deadline, period] = times;
    Ok(Attributes { policy: number, flags, nice, priority, runtime, deadline, period })
}

fn check_times(policy: &str, [runtime, deadline, period]: [u64; 3]) -> Result<()> {
    let refuse = |sentence: &str, name: &str| {
        Err(Error::config(sentence).field(format!("process.scheduler.{name}")))
    };
    if policy != "SCHED_DEADLINE" {
        let fields = [("runtime", runtime), ("deadline", deadline), ("period", period)];
        return match fields.iter().find(|(_, value)| *value != 0) {
            None => Ok(()),
            Some((name, _)) => refuse(
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
                name,
            ),
        };
    }
    if runtime == 0 {
        return refuse("SCHED_DEADLINE needs a runtime", "runtime");
    }
    if deadline == 0 {
        return refuse("SCHED_DEADLINE needs a deadline", "deadline");
    }
    if runtime > deadline {
        return refuse("the runtime is longer than the deadline", "runtime");
    }
    // The kernel takes the deadline for a period of 0.
    if period != 0 && deadline > period {
        return refuse("the deadline is longer than the period", "deadline");
    }
    Ok(())
}

fn io_priority(given: &spec::IoPriority<'_>) -> Result<u16> {
    let Some(class) = number(&IO_CLASSES, &given.class) else {
        return Err(Error::config(format!("invalid ioPriority.Class: {:?}", &*given.class))
            .field("process.ioPriority.class")
            .hint("use IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE"));
    };
    match u16::try_from(given.priority) {
        Ok(priority) if priority <= 7 => Ok(class << IO_CLASS_SHIFT | priority),
        _ => Err(Error::config(format!("invalid ioPriority.Priority: {}", given.priority))
            .field("process.ioPriority.priority")
            .hint("they are 0 to 7")),
    }
}

fn cpus(list: Option<&str>, name: &str) -> Result<Option<Mask>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(None) };
    Mask::parse(list).map(Some).map_err(|why| {
        Error::config(format!("invalid list of CPUs {list:?}: {why}"))
            .field(format!("process.execCPUAffinity.{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> Result<Scheduling> {
        let process: spec::Process<'_> = serde_json::from_str(json).unwrap();
        Scheduling::build(&process)
    }

    #[test]
    fn every_policy_becomes_its_attributes() {
        for (json, policy, flags, nice, priority) in [
            (r#"{"policy":"SCHED_OTHER","nice":-5}"#, 0, 0, -5, 0),
            (r#"{"policy":"SCHED_FIFO","priority":99}"#, 1, 0, 0, 99),
            (
                r#"{"policy":"SCHED_RR","priority":1,"flags":["SCHED_FLAG_RESET_ON_FORK"]}"#,
                2,
                1,
                0,
                1,
            ),
            (r#"{"policy":"SCHED_BATCH","nice":19,"priority":0}"#, 3, 0, 19, 0),
            (r#"{"policy":"SCHED_ISO"}"#, 4, 0, 0, 0),
            (
                r#"{"policy":"SCHED_IDLE","flags":["SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN"]}"#,
                5,
                48,
                0,
                0,
            ),
        ] {
            let plan = build(&format!(r#"{{"scheduler":{json}}}"#)).unwrap();
            let expected = Attributes { policy, flags, nice, priority, ..Attributes::default() };
            assert_eq!(plan.attributes, Some(expected), "{json}");
        }
        let deadline = r#"{"scheduler":{"policy":"SCHED_DEADLINE","nice":19,"runtime":42000,
            "deadline":100000,"period":1000000,"flags":["SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN"]}}"#;
        let attributes = build(deadline).unwrap().attributes.unwrap();
        assert_eq!((attributes.policy, attributes.flags), (6, 6));
        assert_eq!(
            (attributes.runtime, attributes.deadline, attributes.period),
            (42000, 100_000, 1_000_000)
        );
    }

    #[test]
    fn io_priorities_have_their_class_above() {
        for (class, value) in [
            ("IOPRIO_CLASS_RT", 0x2004),
            ("IOPRIO_CLASS_BE", 0x4004),
            ("IOPRIO_CLASS_IDLE", 0x6004),
        ] {
            let plan = build(&format!(r#"{{"ioPriority":{{"class":"{class}","priority":4}}}}"#));
            assert_eq!(plan.unwrap().io_priority, Some(value));
        }
    }

    #[test]
    fn affinity_is_two_masks_and_empty_is_none() {
        let plan = build(r#"{"execCPUAffinity":{"initial":"0-1","final":"1"}}"#).unwrap();
        assert_eq!(plan.initial.unwrap().words(), [3]);
        assert_eq!(plan.last.unwrap().words(), [2]);
        assert_eq!(
            build(r#"{"execCPUAffinity":{"initial":"","final":null}}"#).unwrap(),
            Scheduling::default()
        );
    }

    #[test]
    fn bad_values_name_their_field() {
        for (json, field) in [
            (r#""scheduler":{}"#, "process.scheduler.policy"),
            (r#""scheduler":{"policy":"OTHER"}"#, "process.scheduler.policy"),
            (r#""scheduler":{"policy":"SCHED_OTHER","nice":20}"#, "process.scheduler.nice"),
            (r#""scheduler":{"policy":"SCHED_OTHER","nice":-21}"#, "process.scheduler.nice"),
            (r#""scheduler":{"policy":"SCHED_OTHER","priority":1}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_FIFO"}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_RR","priority":100}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_RR","priority":-1}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_IDLE","flags":["X"]}"#, "process.scheduler.flags[0]"),
            (
                r#""scheduler":{"policy":"SCHED_RR","priority":1,"period":1}"#,
                "process.scheduler.period",
            ),
            (r#""scheduler":{"policy":"SCHED_DEADLINE"}"#, "process.scheduler.runtime"),
            (
                r#""scheduler":{"policy":"SCHED_DEADLINE","runtime":2}"#,
                "process.scheduler.deadline",
            ),
            (
                r#""scheduler":{"policy":"SCHED_DEADLINE","runtime":3,"deadline":2}"#,
                "process.scheduler.runtime",
            ),
            (
                r#""scheduler":{"policy":"SCHED_DEADLINE","runtime":1,"deadline":3,"period":2}"#,
                "process.scheduler.deadline",
            ),
            (r#""ioPriority":{}"#, "process.ioPriority.class"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_NONE"}"#, "process.ioPriority.class"),
            (
                r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#,
                "process.ioPriority.priority",
            ),
            (
                r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":-1}"#,
                "process.ioPriority.priority",
            ),
            (r#""execCPUAffinity":{"initial":"a"}"#, "process.execCPUAffinity.initial"),
            (r#""execCPUAffinity":{"final":"3-1"}"#, "process.execCPUAffinity.final"),
        ] {
            let message = build(&format!("{{{json}}}")).unwrap_err().to_string();
            assert!(message.contains(field), "{json}: {message}");
        }
    }
}
