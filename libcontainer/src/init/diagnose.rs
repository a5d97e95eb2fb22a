//! Why execve(2) failed: the kernel's errno says little, the file itself says it all.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::enter::display;
use crate::sys::fd::{self, CWD};

/// Looks at the first bytes of `program` and says in words what `errno` means for it; empty if there is nothing to add.
pub(super) fn why(program: &CStr, errno: Errno) -> String {
    if !matches!(errno, Errno::ENOENT | Errno::ENOEXEC | Errno::EACCES | Errno::ELIBBAD) {
        return String::new();
    }
    let Ok(head) = head(program) else { return String::new() };
    if let Some(line) = head.strip_prefix(b"#!") {
        return why_script(line);
    }
    if head.starts_with(b"\x7fELF") {
        return why_elf(&head);
    }
    match errno {
        Errno::ENOEXEC if head.is_empty() => "the file is empty".to_owned(),
        Errno::ENOEXEC => {
            "it is neither an ELF program nor a script that begins with #!".to_owned()
        }
        _ => String::new(),
    }
}

fn head(program: &CStr) -> Result<Vec<u8>, Errno> {
    let file = fd::openat(CWD, program, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    if !fd::stat(file.as_fd(), c"")?.is(libc::S_IFREG) {
        return Err(Errno::EINVAL);
    }
    let mut head = vec![0; 4096];
    let n = nix::unistd::read(&file, &mut head)?;
    head.truncate(n);
    Ok(head)
}

fn missing(path: &[u8]) -> bool {
    std::ffi::CString::new(path).is_ok_and(|path| fd::stat_follow(CWD, &path).is_err())
}

fn why_script(line: &[u8]) -> String {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let trimmed = line.trim_ascii_start();
    let end =
        trimmed.iter().position(|byte| *byte == b' ' || *byte == b'\t').unwrap_or(trimmed.len());
    let interpreter = trimmed.get(..end).unwrap_or_default();
    if interpreter.ends_with(b"\r") || line.ends_with(b"\r") {
        return "its first line ends in CR LF: save the script with Unix line ends".to_owned();
    }
    if missing(interpreter) {
        return format!("its interpreter {:?} is not in the container", display(interpreter));
    }
    String::new()
}

/// Machines of ELF headers (elf(5)), by the names people know.
const MACHINES: &[(u16, &str)] = &[
    (3, "i386"),
    (8, "mips"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

fn why_elf(head: &[u8]) -> String {
    let Some(elf) = Elf::parse(head) else { return "its ELF header is damaged".to_owned() };
    let own = std::env::consts::ARCH;
    let machine = MACHINES.iter().find(|(number, _)| *number == elf.machine);
    let machine = machine.map_or("unknown", |(_, name)| name);
    let runs = machine == own || (own, machine) == ("x86_64", "i386");
    if !runs {
        return format!("the program is for {machine}, this host is {own}");
    }
    match elf.interpreter(head) {
        Some(interpreter) if missing(interpreter) => format!(
            "its dynamic loader {:?} is not in the container (a musl or glibc program in the other's image?)",
            display(interpreter)
        ),
        _ => String::new(),
    }
}

/// What is needed of an ELF header.
struct Elf {
    wide: bool,
    big: bool,
    machine: u16,
    headers: usize,
    header_size: usize,
    count: usize,
}

impl Elf {
    fn parse(head: &[u8]) -> Option<Self> {
        let wide = *head.get(4)? == 2;
        let big = *head.get(5)? == 2;
        let mut elf = Self { wide, big, machine: 0, headers: 0, header_size: 0, count: 0 };
        elf.machine = elf.half(head, 18)?;
        elf.headers = elf.word(head, if wide { 32 } else { 28 })?;
        elf.header_size = elf.half(head, if wide { 54 } else { 42 })?.into();
        elf.count = elf.half(head, if wide { 56 } else { 44 })?.into();
        Some(elf)
    }

    fn half(&self, head: &[u8], at: usize) -> Option<u16> {
        let bytes = *head.get(at..)?.first_chunk::<2>()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn word(&self, head: &[u8], at: usize) -> Option<usize> {
        let rest = head.get(at..)?;
        let value = if self.wide {
            let bytes = *rest.first_chunk::<8>()?;
            if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
        } else {
            let bytes = *rest.first_chunk::<4>()?;
            u64::from(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        usize::try_from(value).ok()
    }

    /// The path in PT_INTERP, if it lies in the part that was read.
    fn interpreter<'h>(&self, head: &'h [u8]) -> Option<&'h [u8]> {
        const PT_INTERP: usize = 3;
        for i in 0..self.count {
            let at = self.headers.checked_add(i.checked_mul(self.header_size)?)?;
            let low = *head.get(at..)?.first_chunk::<4>()?;
            let kind = if self.big { u32::from_be_bytes(low) } else { u32::from_le_bytes(low) };
            if usize::try_from(kind).ok()? == PT_INTERP {
                let (offset, size) = if self.wide { (8, 32) } else { (4, 16) };
                let start = self.word(head, at.checked_add(offset)?)?;
                let length = self.word(head, at.checked_add(size)?)?;
                let path = head.get(start..start.checked_add(length)?)?;
                return path.split(|byte| *byte == 0).next();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file of that content.
    fn why(name: &str, content: &[u8], errno: Errno) -> String {
        let path = std::env::temp_dir().join(format!("skep-why-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let file = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let said = super::why(&file, errno);
        std::fs::remove_file(path).unwrap();
        said
    }

    #[test]
    fn scripts_are_diagnosed() {
        let crlf = why("crlf", b"#!/bin/sh\r\necho\r\n", Errno::ENOENT);
        assert!(crlf.contains("CR LF"), "{crlf}");
        let missing = why("missing", b"#! /no/such/interpreter -x\n", Errno::ENOENT);
        assert!(missing.contains("/no/such/interpreter"), "{missing}");
        let plain = why("plain", b"echo hello\n", Errno::ENOEXEC);
        assert!(plain.contains("neither"), "{plain}");
    }

    #[test]
    fn programs_of_other_machines_and_without_a_loader_are_diagnosed() {
        let mut elf = vec![0_u8; 256];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        if std::env::consts::ARCH == "x86_64" {
            let arm = why("arm", &elf, Errno::ENOEXEC);
            assert!(arm.contains("aarch64"), "{arm}");
            elf[18] = 62;
            elf[32] = 64;
            elf[54] = 56;
            elf[56] = 1;
            elf[64] = 3;
            elf[72] = 200;
            elf[96] = 12;
            elf[200..212].copy_from_slice(b"/no/ld-x.so\0");
            let dynamic = why("dynamic", &elf, Errno::ENOENT);
            assert!(dynamic.contains("/no/ld-x.so"), "{dynamic}");
        }
        let cut = why("cut", b"\x7fELF\x02\x01", Errno::ENOEXEC);
        assert!(cut.contains("damaged"), "{cut}");
    }
}
