//! The labels of the security modules that the program and the session keyring get.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::prepare::open_proc_file;
use crate::plan::ProcessPlan;
use crate::sync::{At, Fault, Step};

/// The labels the program gets at execve(2), and the open files that take them: /proc/self/attr, reached through the
/// host's procfs before anything of the image could be asked for it (CVE-2023-28642, CVE-2025-52881).
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<Label>);

#[derive(Debug)]
struct Label {
    file: OwnedFd,
    text: Vec<u8>,
    step: Step,
}

impl Labels {
    /// Opens the files for the labels that `process` asks for.
    pub(super) fn open(process: &ProcessPlan, proc: BorrowedFd<'_>) -> Result<Self, Fault> {
        let mut list = Vec::new();
        if let Some(profile) = &process.apparmor {
            let file = open_proc_file(proc, c"self/attr/apparmor/exec")
                .or_else(|_before_5_1| open_proc_file(proc, c"self/attr/exec"))
                .at(Step::Apparmor, 0)?;
            let text = [b"exec ", profile.to_bytes()].concat();
            list.push(Label { file, text, step: Step::Apparmor });
        }
        if let Some(label) = &process.selinux {
            let file = open_proc_file(proc, c"self/attr/exec").at(Step::Selinux, 0)?;
            list.push(Label { file, text: label.to_bytes().to_vec(), step: Step::Selinux });
        }
        Ok(Self(list))
    }

    /// The descriptors that have to stay open.
    pub(super) fn numbers(&self) -> impl Iterator<Item = libc::c_int> {
        self.0.iter().map(|label| label.file.as_raw_fd())
    }

    /// Sets them.
    pub(super) fn apply(&self) -> Result<(), Fault> {
        for label in &self.0 {
            nix::unistd::write(&label.file, &label.text).at(label.step, 1)?;
        }
        Ok(())
    }
}

/// Runs `make`, which makes a key, so that the key gets the SELinux label of the process.
pub(super) fn with_key_label<T>(
    process: &ProcessPlan,
    proc: BorrowedFd<'_>,
    make: impl FnOnce() -> T,
) -> Result<T, Fault> {
    const FILE: &CStr = c"self/attr/keycreate";
    let Some(label) = &process.selinux else { return Ok(make()) };
    let set = |text: &[u8]| -> nix::Result<()> {
        nix::unistd::write(open_proc_file(proc, FILE)?, text).map(drop)
    };
    set(label.to_bytes()).at(Step::Selinux, 2)?;
    let made = make();
    // A line break alone takes it back.
    set(b"\n").at(Step::Selinux, 2)?;
    Ok(made)
}
