//! What is put in place of each value of a document, and of each name that the document's author chooses.
//!
//! Nothing here knows the crate: `tests/bad_values.rs` puts the same values before the binary.

use serde_json::Value;

/// Stands for the mutated value until the text is made: a number may be one that no parser here could hold.
const PLACE: &str = "@the mutated value@";

/// A name longer than any, and than a path may be.
pub const LONG: &str = "@long";
/// The same as an absolute path whose parts are short.
pub const LONG_PATH: &str = "@long path";

/// Stands for a name that is there twice.
pub const TWICE: &str = "twice";

/// One property of a document: its name as errors have it, its JSON pointer and its value.
#[derive(Debug)]
pub struct Node {
    pub path: String,
    pub pointer: String,
    pub value: Value,
}

/// Every property of `value`, which is itself called `path` and found at `pointer`.
pub fn walk(path: &str, pointer: &str, value: &Value, nodes: &mut Vec<Node>) {
    let (path, pointer) = (path.to_owned(), pointer.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{name}"), &format!("{pointer}/{name}"), value, nodes);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), &format!("{pointer}/{index}"), value, nodes);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        nodes.push(Node { path, pointer, value: value.clone() });
    }
}

/// What is put in place of a number.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "-2147483649",
    "-9223372036854775808",
    "-9223372036854775809",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e3",
    "1.5",
    "1e400",
    "\"5\"",
    "\"\"",
    "true",
    "[]",
    "{}",
    "[1]",
];

/// What is put in place of a value, as JSON or one of the names above; the empty text is its absence.
pub fn mutations(value: &Value) -> Vec<&'static str> {
    let mut list = vec!["", "null"];
    list.extend(match value {
        Value::String(_) => &[
            "\"\"",
            "\"no such value\"",
            "\"a\\u0000b\"",
            "\"/a\\u0000b\"",
            "\"a\\nb\"",
            "\"..\"",
            "\"/../..\"",
            "\"/a/\"",
            "\"/\"",
            "\"/a/../b\"",
            "\"a/../b\"",
            LONG,
            LONG_PATH,
            "5",
            "-1",
            "1.5",
            "true",
            "[]",
            "{}",
            "[\"a\"]",
            "{\"a\":\"b\"}",
        ][..],
        Value::Number(_) => NUMBERS,
        Value::Bool(_) => &["0", "1", "-1", "1.5", "\"true\"", "\"\"", "[]", "{}", "[true]"],
        Value::Array(_) => &[
            "[]",
            "[null]",
            "[[]]",
            "[{}]",
            "[1]",
            "[\"\"]",
            "[true]",
            "[\"a\\u0000b\"]",
            "{}",
            "{\"0\":1}",
            "\"\"",
            "\"a\"",
            "0",
            "true",
        ],
        Value::Object(_) => &[
            "{}",
            "{\"\":null}",
            "{\"unknown\":1}",
            "{\"unknown\":null}",
            "[]",
            "[{}]",
            "\"\"",
            "\"a\"",
            "0",
            "true",
        ],
        Value::Null => &[],
    });
    list
}

/// The JSON of a value: of one of the names above, what it stands for.
pub fn json(with: &str) -> String {
    match with {
        LONG => format!("\"{}\"", "x".repeat(5000)),
        LONG_PATH => format!("\"{}\"", "/x".repeat(2500)),
        json => json.to_owned(),
    }
}

/// A document with a hole in it.
#[derive(Debug)]
pub struct Hole {
    before: String,
    after: String,
}

impl Hole {
    /// A hole in `document` where the value at `pointer` is.
    fn of_value(document: &Value, pointer: &str) -> Self {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap() = PLACE.into();
        Self::cut(&document)
    }

    /// A hole where the first name in the object at `pointer` is.
    fn of_name(document: &Value, pointer: &str) -> Self {
        let mut document = document.clone();
        let members = document.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        let first = members.keys().next().unwrap().clone();
        let value = members.remove(&first).unwrap();
        members.insert(PLACE.to_owned(), value);
        Self::cut(&document)
    }

    /// A hole for another name of the first member of the object at `pointer`, and the name it has.
    fn of_second_name(document: &Value, pointer: &str) -> (Self, String) {
        let mut document = document.clone();
        let members = document.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        let (first, value) = members.iter().next().unwrap();
        let (first, value) = (first.clone(), value.clone());
        members.insert(PLACE.to_owned(), value);
        (Self::cut(&document), first)
    }

    fn cut(document: &Value) -> Self {
        let text = document.to_string();
        let (before, after) = text.split_once(&format!("\"{PLACE}\"")).unwrap();
        Self { before: before.to_owned(), after: after.to_owned() }
    }

    /// The document with `json` in the hole.
    fn fill(&self, json: &str) -> String {
        [&self.before, json, &self.after].concat()
    }
}

/// `document` without what is at `pointer`.
fn without(document: &Value, pointer: &str) -> String {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        _ => unreachable!("a leaf has no members"),
    }
    document.to_string()
}

/// `document` with `with` in place of what is at `pointer`.
pub fn mutate(document: &Value, pointer: &str, with: &str) -> String {
    match with {
        "" => without(document, pointer),
        with => Hole::of_value(document, pointer).fill(&json(with)),
    }
}

/// One document to try: what was changed, and into what.
#[derive(Debug)]
pub struct Case {
    /// The property as tables have it: `[]` is any index, `{}` a name that the author chose.
    pub path: String,
    /// The property as errors name it.
    pub at: String,
    /// What is in its place.
    pub with: String,
    pub text: String,
}

/// Calls `each` with every document to try that is `document` with another value at one of `nodes`, or another name there.
pub fn cases(document: &Value, nodes: &[Node], each: &mut dyn FnMut(&Case)) {
    for Node { path: at, pointer, value } in nodes {
        let path = without_indices(at);
        let hole = Hole::of_value(document, pointer);
        let mut case = |path: &str, with: &str, text: String| {
            each(&Case { path: path.to_owned(), at: at.clone(), with: with.to_owned(), text });
        };
        for with in mutations(value) {
            let text = match with {
                "" => without(document, pointer),
                with => hole.fill(&json(with)),
            };
            case(&path, with, text);
        }
        for other in choices(&path).map(neighbours).unwrap_or_default() {
            let with = format!("{other:?}");
            let text = hole.fill(&with);
            case(&path, &with, text);
        }
        if MAPS.contains(&path.as_str()) {
            let name = format!("{path}{{}}");
            let hole = Hole::of_name(document, pointer);
            for with in KEYS {
                case(&name, with, hole.fill(&json(with)));
            }
            let (hole, first) = Hole::of_second_name(document, pointer);
            case(&name, TWICE, hole.fill(&format!("{first:?}")));
        }
    }
}

/// The objects whose members the author of a configuration names himself.
pub const MAPS: &[&str] = &[
    "annotations",
    "linux.netDevices",
    "linux.resources.rdma",
    "linux.resources.unified",
    "linux.sysctl",
    "linux.timeOffsets",
];

/// What is put in place of such a name.
pub const KEYS: &[&str] = &[
    "\"\"",
    "\" \"",
    "\".\"",
    "\"..\"",
    "\"../x\"",
    "\"/\"",
    "\"/x\"",
    "\"x/\"",
    "\"a/b\"",
    "\"a/../../b\"",
    "\"a\\u0000b\"",
    "\"a\\nb\"",
    "\"a b\"",
    "\"a=b\"",
    "\"a:b\"",
    "\"%d\"",
    "\"no.such.name\"",
    "\"cgroup.procs\"",
    LONG,
    LONG_PATH,
];

/// The properties with a choice of values, and these, in the words of the specification.
pub const ENUMERATIONS: &[(&str, &[&str])] = &[
    (
        "process.rlimits[].type",
        &[
            "RLIMIT_AS",
            "RLIMIT_CORE",
            "RLIMIT_CPU",
            "RLIMIT_DATA",
            "RLIMIT_FSIZE",
            "RLIMIT_LOCKS",
            "RLIMIT_MEMLOCK",
            "RLIMIT_MSGQUEUE",
            "RLIMIT_NICE",
            "RLIMIT_NOFILE",
            "RLIMIT_NPROC",
            "RLIMIT_RSS",
            "RLIMIT_RTPRIO",
            "RLIMIT_RTTIME",
            "RLIMIT_SIGPENDING",
            "RLIMIT_STACK",
        ],
    ),
    (
        "process.scheduler.policy",
        &[
            "SCHED_OTHER",
            "SCHED_FIFO",
            "SCHED_RR",
            "SCHED_BATCH",
            "SCHED_ISO",
            "SCHED_IDLE",
            "SCHED_DEADLINE",
        ],
    ),
    (
        "process.scheduler.flags[]",
        &[
            "SCHED_FLAG_RESET_ON_FORK",
            "SCHED_FLAG_RECLAIM",
            "SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY",
            "SCHED_FLAG_KEEP_PARAMS",
            "SCHED_FLAG_UTIL_CLAMP_MIN",
            "SCHED_FLAG_UTIL_CLAMP_MAX",
        ],
    ),
    ("process.ioPriority.class", &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]),
    (
        "linux.namespaces[].type",
        &["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"],
    ),
    ("linux.devices[].type", &["c", "b", "u", "p"]),
    ("linux.resources.devices[].type", &["a", "c", "b"]),
    ("linux.resources.devices[].access", &["r", "w", "m", "rw", "rm", "wm", "rwm", "mr"]),
    ("linux.resources.hugepageLimits[].pageSize", &["64KB", "2MB", "1GB"]),
    (
        "linux.rootfsPropagation",
        &[
            "shared",
            "slave",
            "private",
            "unbindable",
            "rshared",
            "rslave",
            "rprivate",
            "runbindable",
        ],
    ),
    ("linux.seccomp.defaultAction", ACTIONS),
    ("linux.seccomp.syscalls[].action", ACTIONS),
    (
        "linux.seccomp.architectures[]",
        &[
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_LOONGARCH64",
            "SCMP_ARCH_M68K",
            "SCMP_ARCH_MIPS",
            "SCMP_ARCH_MIPS64",
            "SCMP_ARCH_MIPS64N32",
            "SCMP_ARCH_MIPSEL",
            "SCMP_ARCH_MIPSEL64",
            "SCMP_ARCH_MIPSEL64N32",
            "SCMP_ARCH_PPC",
            "SCMP_ARCH_PPC64",
            "SCMP_ARCH_PPC64LE",
            "SCMP_ARCH_S390",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_PARISC",
            "SCMP_ARCH_PARISC64",
            "SCMP_ARCH_RISCV64",
            "SCMP_ARCH_SH",
            "SCMP_ARCH_SHEB",
        ],
    ),
    (
        "linux.seccomp.flags[]",
        &[
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    ),
    (
        "linux.seccomp.syscalls[].args[].op",
        &[
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ],
    ),
    (
        "linux.memoryPolicy.mode",
        &[
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ],
    ),
    (
        "linux.memoryPolicy.flags[]",
        &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
    ),
    ("linux.personality.domain", &["LINUX", "LINUX32"]),
];

const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

/// The choices of a property, if it has some.
pub fn choices(path: &str) -> Option<&'static [&'static str]> {
    let mut all = ENUMERATIONS.iter();
    all.find(|(name, _)| *name == path).map(|(_, values)| *values)
}

/// Every value of every choice, and `own` as somebody might misspell them.
pub fn neighbours(own: &[&str]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for (_, values) in ENUMERATIONS {
        list.extend(values.iter().map(|value| (*value).to_owned()));
    }
    for value in own {
        let (upper, lower) = (value.to_uppercase(), value.to_lowercase());
        list.extend([if upper == *value { lower } else { upper }]);
        list.extend([format!("{value} "), format!(" {value}"), format!("{value},{value}")]);
        list.extend(value.rsplit_once('_').map(|(_, end)| end.to_owned()));
        list.extend(value.get(..value.len() - 1).map(str::to_owned));
    }
    list.sort();
    list.dedup();
    list
}

/// `a[3].b` as patterns have it: `a[].b`.
pub fn without_indices(path: &str) -> String {
    path.split('[')
        .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join("[")
}
