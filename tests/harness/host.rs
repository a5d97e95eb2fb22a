//! What this host can do, found once: tests that need more are skipped with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How the cgroup file systems are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    V1,
    V2,
}

/// Facts about the host.
#[derive(Debug)]
pub struct Host {
    pub layout: Layout,
    /// Controller (v1) or "" (v2) to the directory of its hierarchy.
    pub hierarchies: BTreeMap<String, PathBuf>,
    /// Controllers that can be used: in the v1 hierarchies, or in the v2 root.
    pub controllers: Vec<String>,
    effective: u64,
    pub user_namespaces: bool,
}

const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_MKNOD", 27),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_PTRACE", 19),
];

/// crun 1.8 refuses to work where a v2 hierarchy beside the v1 ones has any controller ("cgroups in hybrid mode not
/// supported"), even one it does not need. In a mount namespace of the tests' own, the list of controllers is empty.
pub fn empty_v2_hierarchy() -> nix::Result<()> {
    let list = "/sys/fs/cgroup/unified/cgroup.controllers";
    if fs::read_to_string(list).unwrap_or_default().trim().is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("/dev/null"), list, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

impl Host {
    pub fn probe() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut hierarchies = BTreeMap::new();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let fields: Vec<&str> = left.split(' ').collect();
            let (root, point) = (fields[3], PathBuf::from(fields[4]));
            let right: Vec<&str> = right.split(' ').collect();
            match right[0] {
                "cgroup" if root == "/" => {
                    for option in right[2].split(',') {
                        if matches!(option, "rw" | "ro" | "xattr" | "clone_children") {
                            continue;
                        }
                        hierarchies
                            .insert(option.trim_start_matches("name=").to_owned(), point.clone());
                    }
                }
                "cgroup2" => {
                    hierarchies.insert(String::new(), point);
                }
                _ => {}
            }
        }
        let layout = if hierarchies.contains_key("memory") || hierarchies.contains_key("pids") {
            Layout::V1
        } else {
            Layout::V2
        };
        let controllers = match layout {
            Layout::V1 => hierarchies.keys().filter(|name| !name.is_empty()).cloned().collect(),
            Layout::V2 => fs::read_to_string(hierarchies[""].join("cgroup.controllers"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0);
        let number = |path: &str| {
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok())
        };
        Self {
            layout,
            hierarchies,
            controllers,
            effective,
            user_namespaces: number("/proc/sys/user/max_user_namespaces").unwrap_or(0) > 0,
        }
    }

    /// Whether this process has the capability.
    pub fn has_capability(&self, name: &str) -> bool {
        let bit = CAPABILITIES.iter().find(|(known, _)| *known == name).unwrap().1;
        self.effective & (1 << bit) != 0
    }

    /// The directories below which the cgroups of the tests appear.
    pub fn cgroup_roots(&self) -> Vec<PathBuf> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut roots = Vec::new();
        for (name, dir) in &self.hierarchies {
            roots.push(dir.clone());
            for line in own.lines() {
                let mut fields = line.splitn(3, ':').skip(1);
                let (names, path) =
                    (fields.next().unwrap_or_default(), fields.next().unwrap_or("/"));
                if names.split(',').any(|own| own.trim_start_matches("name=") == name)
                    && path != "/"
                {
                    roots.push(dir.join(path.trim_start_matches('/')));
                }
            }
        }
        roots
    }

    /// The file of a cgroup that belongs to a v1 controller.
    pub fn v1(&self, controller: &str, cgroup: &str, file: &str) -> PathBuf {
        self.hierarchies[controller].join(cgroup.trim_start_matches('/')).join(file)
    }

    /// A file of a v2 cgroup.
    pub fn v2(&self, cgroup: &str, file: &str) -> PathBuf {
        self.hierarchies[""].join(cgroup.trim_start_matches('/')).join(file)
    }

    /// Whether a file of a v1 controller, or of v2, exists at all, seen in the root of the hierarchy or a child.
    pub fn has_cgroup_file(&self, v1: (&str, &str), v2: &str) -> bool {
        let (root, file) = match self.layout {
            Layout::V1 => match self.hierarchies.get(v1.0) {
                Some(root) => (root, v1.1),
                None => return false,
            },
            Layout::V2 => (&self.hierarchies[""], v2),
        };
        let child = |entry: fs::DirEntry| fs::metadata(entry.path().join(file)).is_ok();
        fs::metadata(root.join(file)).is_ok()
            || fs::read_dir(root).into_iter().flatten().flatten().any(child)
    }

    /// Whether a program is on the usual path.
    pub fn has_program(name: &str) -> bool {
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .any(|dir| fs::metadata(Path::new(dir).join(name)).is_ok())
    }
}
