//! Profiles nobody would write, made from a seed.

use libcontainer::spec::{List, Seccomp, SeccompArg, SeccompRule, Str};

/// splitmix64: the same profiles on every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("fits")
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Values that share halves, differ in one half, or lie next to each other.
pub const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    6,
    7,
    40,
    0x7e02_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x5_0000_0005,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

const ACTIONS: [(&str, Option<u32>); 9] = [
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", Some(13)),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_LOG", None),
];

const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"];

/// How hard the rules of a profile are on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Names only.
    Plain,
    /// Rules with conditions, one action per profile.
    OneAction,
    /// Rules with conditions and any action, which overlap and contradict each other.
    Mixed,
}

/// Calls whose numbers, arguments or ways in differ between architectures.
const FAVOURITES: [&str; 16] = [
    "socket",
    "socketcall",
    "ipc",
    "shmat",
    "semop",
    "accept4",
    "sendmsg",
    "send",
    "clone",
    "personality",
    "openat",
    "ioctl",
    "prctl",
    "read",
    "set_tls",
    "mmap2",
];

/// Makes a profile of `names` for `arches`.
pub fn profile(
    random: &mut Random,
    style: Style,
    arches: &[&'static str],
    names: &[String],
) -> Seccomp<'static> {
    let default = *random.pick(&[
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", Some(38)),
        ("SCMP_ACT_ERRNO", Some(1)),
        ("SCMP_ACT_KILL", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_LOG", None),
        ("SCMP_ACT_TRACE", Some(2)),
    ]);
    let mut profile = Seccomp {
        default_action: Str::from(default.0),
        default_errno_ret: default.1,
        ..Seccomp::default()
    };
    profile.architectures = List(arches.iter().map(|name| Str::from(*name)).collect());
    let one = *random.pick(&ACTIONS);
    let mut rules = Vec::new();
    for _ in 0..=random.below(3) {
        let many = if style == Style::Plain { 250 } else { 20 };
        let picked = (0..random.below(many)).map(|_| Str::from(random.pick(names).clone()));
        let picked: Vec<_> = picked.collect();
        rules.push(rule(
            if style == Style::OneAction { one } else { *random.pick(&ACTIONS) },
            picked,
        ));
    }
    if style != Style::Plain {
        let calls: Vec<String> = (0..4)
            .map(|_| {
                if random.chance(70) {
                    (*random.pick(&FAVOURITES)).to_owned()
                } else {
                    random.pick(names).clone()
                }
            })
            .filter(|name| names.contains(name))
            .collect();
        for _ in 0..2 + random.below(10) {
            if calls.is_empty() {
                break;
            }
            let action = if style == Style::OneAction { one } else { *random.pick(&ACTIONS) };
            let mut rule = rule(action, vec![Str::from(random.pick(&calls).clone())]);
            rule.args = List(args(random));
            let at = random.below(rules.len() + 1);
            rules.insert(at, rule);
        }
    }
    profile.syscalls = List(rules);
    profile
}

fn rule(
    (action, errno): (&'static str, Option<u32>),
    names: Vec<Str<'static>>,
) -> SeccompRule<'static> {
    SeccompRule {
        names: List(names),
        action: Str::from(action),
        errno_ret: errno,
        ..SeccompRule::default()
    }
}

fn args(random: &mut Random) -> Vec<SeccompArg<'static>> {
    let mut args: Vec<SeccompArg<'_>> = Vec::new();
    for _ in 0..=random.below(3) {
        let index = u32::try_from(random.below(4)).expect("small");
        let repeats = args.iter().any(|arg| arg.index == index);
        if repeats && !random.chance(15) {
            continue;
        }
        let operator = *random.pick(&OPERATORS);
        args.push(SeccompArg {
            index,
            value: *random.pick(&VALUES),
            value_two: (operator == "MASKED_EQ").then(|| *random.pick(&VALUES)),
            op: Str::from(format!("SCMP_CMP_{operator}")),
        });
    }
    args
}
