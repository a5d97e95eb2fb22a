//! Writes `libcontainer/src/seccomp/tables/numbers.rs` from the resolver of the libseccomp it is linked with.
//!
//! `make -C integration/seccomp-oracle tables`; set `LIBSECCOMP_LIB_PATH` and `LD_LIBRARY_PATH` to the directory of a
//! newer library than the system's where there is one.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use libseccomp_sys::{
    seccomp_syscall_resolve_name_arch, seccomp_syscall_resolve_num_arch, seccomp_version,
};

/// Column name, SCMP_ARCH_* token, what the table's numbers are relative to.
const COLUMNS: [(&str, u32, i32); 18] = [
    ("x86", 0x4000_0003, 0),
    ("x86_64", 0xc000_003e, 0),
    ("x32", 0x4000_003e, 0x4000_0000),
    ("arm", 0x4000_0028, 0),
    ("aarch64", 0xc000_00b7, 0),
    ("loongarch64", 0xc000_0102, 0),
    ("m68k", 0x0000_0004, 0),
    ("mips", 0x0000_0008, 4000),
    ("mips64", 0x8000_0008, 5000),
    ("mips64n32", 0xa000_0008, 6000),
    ("parisc", 0x0000_000f, 0),
    ("parisc64", 0x8000_000f, 0),
    ("ppc", 0x0000_0014, 0),
    ("ppc64", 0x8000_0015, 0),
    ("riscv64", 0xc000_00f3, 0),
    ("s390", 0x0000_0016, 0),
    ("s390x", 0x8000_0016, 0),
    ("sh", 0x4000_002a, 0),
];

/// arm's private calls lie at 0x0f0000; the table writes 0x0f00nn as 0xf0nn.
const ARM_PRIVATE: i32 = 0x000f_0000;

fn name_of(token: u32, number: i32) -> Option<String> {
    let text = unsafe { seccomp_syscall_resolve_num_arch(token, number) };
    if text.is_null() {
        return None;
    }
    let name = unsafe { CStr::from_ptr(text) }.to_str().expect("ASCII").to_owned();
    unsafe { libc_free(text.cast_mut().cast()) };
    Some(name)
}

unsafe extern "C" {
    #[link_name = "free"]
    fn libc_free(pointer: *mut std::ffi::c_void);
}

fn main() {
    let mut rows: BTreeMap<String, [Option<u16>; COLUMNS.len()]> = BTreeMap::new();
    for pseudo in 1..20_000 {
        for (_, token, _) in COLUMNS {
            if let Some(name) = name_of(token, -pseudo) {
                rows.entry(name).or_default();
            }
        }
    }
    for (column, (_, token, base)) in COLUMNS.into_iter().enumerate() {
        let private = ARM_PRIVATE..ARM_PRIVATE + 0x100;
        for number in (0..4000).chain(if token == 0x4000_0028 { private } else { 0..0 }) {
            let Some(name) = name_of(token, base + number) else { continue };
            let encoded = match number {
                n if n < 0xf000 => n,
                n => n - ARM_PRIVATE + 0xf000,
            };
            let row = rows.entry(name).or_default();
            row[column] = Some(u16::try_from(encoded).expect("fits"));
        }
    }
    // Two names of one number: the number resolves to one of them only.
    for (name, row) in &mut rows {
        let c_name = CString::new(name.as_str()).expect("no NUL");
        for (column, (_, token, base)) in COLUMNS.into_iter().enumerate() {
            let number = unsafe { seccomp_syscall_resolve_name_arch(token, c_name.as_ptr()) };
            if number < 0 {
                continue;
            }
            let number = match number - base {
                n if n < 0xf000 => n,
                n => n - ARM_PRIVATE + 0xf000,
            };
            let number = u16::try_from(number).expect("fits");
            if let Some(known) = row[column] {
                assert_eq!(known, number, "{name} in column {column}");
            }
            row[column] = Some(number);
        }
    }
    print(&rows);
}

fn print(rows: &BTreeMap<String, [Option<u16>; COLUMNS.len()]>) {
    let version = unsafe { *seccomp_version() };
    let (major, minor, micro) = (version.major, version.minor, version.micro);
    println!("//! System call numbers of every architecture a profile may name.");
    println!("//!");
    println!(
        "//! Generated, do not edit: `integration/seccomp-oracle` writes this file from the resolver of"
    );
    println!(
        "//! libseccomp {major}.{minor}.{micro} (`make -C integration/seccomp-oracle tables`)."
    );
    println!();
    println!("/// What each column is.");
    println!("#[derive(Debug, Clone, Copy, PartialEq, Eq)]");
    println!("pub(in crate::seccomp) enum Column {{");
    for (name, _, _) in COLUMNS {
        let mut chars = name.chars();
        let first = chars.next().expect("not empty").to_ascii_uppercase();
        println!("    {first}{},", chars.as_str());
    }
    println!("}}");
    println!();
    println!("/// Columns of [`ROWS`].");
    println!("pub(super) const COLUMNS: usize = {};", COLUMNS.len());
    println!();
    println!("/// The architecture has no such call.");
    println!("const __: u16 = u16::MAX;");
    println!();
    println!(
        "/// Name and number in each column, relative to the architecture's base; 0xf0nn is arm's 0x0f00nn."
    );
    println!("#[rustfmt::skip]");
    println!(
        "#[expect(clippy::large_const_arrays, reason = \"only the compiler reads it; a static would be in the binary\")]"
    );
    println!("pub(super) const ROWS: [(&str, [u16; COLUMNS]); {}] = [", rows.len());
    for (name, row) in rows {
        let numbers: Vec<String> = row
            .iter()
            .map(|number| match number {
                Some(n) if *n >= 0xf000 => format!("{n:#x}"),
                Some(n) => n.to_string(),
                None => "__".to_owned(),
            })
            .collect();
        println!("    (\"{name}\", [{}]),", numbers.join(", "));
    }
    println!("];");
}
