//! The architectures a profile may name (`SCMP_ARCH_*`).

use super::tables::{Column, same};

/// An architecture as seccomp(2) and libseccomp see it.
#[derive(Debug)]
pub struct Arch {
    /// `SCMP_ARCH_*`.
    pub name: &'static str,
    /// `AUDIT_ARCH_*` of `<linux/audit.h>`, what a filter finds in `seccomp_data.arch`.
    pub token: u32,
    /// Numbers start here.
    pub base: u32,
    pub(super) column: Column,
    /// Arguments are 64 bits wide; elsewhere only the low half is compared.
    pub wide: bool,
    /// The high half of an argument comes first.
    pub big_endian: bool,
    /// The socket and ipc calls are behind socketcall(2) and ipc(2), some of them also on their own.
    pub multiplexed: bool,
    /// A call the kernel does not know arrives as number 0 (`setup`), which nothing else uses.
    pub unknown_is_zero: bool,
}

/// x32 calls are those of the x86_64 token with this bit in the number.
pub(super) const X32_BIT: u32 = 0x4000_0000;

const NARROW: u8 = 0;
const WIDE: u8 = 1;
const BIG: u8 = 2;
const MUX: u8 = 4;
const ZERO: u8 = 8;

const fn arch(name: &'static str, token: u32, base: u32, column: Column, traits: u8) -> Arch {
    Arch {
        name,
        token,
        base,
        column,
        wide: traits & WIDE != 0,
        big_endian: traits & BIG != 0,
        multiplexed: traits & MUX != 0,
        unknown_is_zero: traits & ZERO != 0,
    }
}

/// Every architecture, by name.
pub static ARCHES: [Arch; 23] = [
    arch("SCMP_ARCH_AARCH64", 0xc000_00b7, 0, Column::Aarch64, WIDE),
    arch("SCMP_ARCH_ARM", 0x4000_0028, 0, Column::Arm, NARROW),
    arch("SCMP_ARCH_LOONGARCH64", 0xc000_0102, 0, Column::Loongarch64, WIDE),
    arch("SCMP_ARCH_M68K", 0x0000_0004, 0, Column::M68k, BIG | MUX),
    arch("SCMP_ARCH_MIPS", 0x0000_0008, 4000, Column::Mips, BIG | MUX),
    arch("SCMP_ARCH_MIPS64", 0x8000_0008, 5000, Column::Mips64, WIDE | BIG),
    arch("SCMP_ARCH_MIPS64N32", 0xa000_0008, 6000, Column::Mips64n32, BIG),
    arch("SCMP_ARCH_MIPSEL", 0x4000_0008, 4000, Column::Mips, MUX),
    arch("SCMP_ARCH_MIPSEL64", 0xc000_0008, 5000, Column::Mips64, WIDE),
    arch("SCMP_ARCH_MIPSEL64N32", 0xe000_0008, 6000, Column::Mips64n32, NARROW),
    arch("SCMP_ARCH_PARISC", 0x0000_000f, 0, Column::Parisc, BIG),
    arch("SCMP_ARCH_PARISC64", 0x8000_000f, 0, Column::Parisc64, WIDE | BIG),
    arch("SCMP_ARCH_PPC", 0x0000_0014, 0, Column::Ppc, BIG | MUX),
    arch("SCMP_ARCH_PPC64", 0x8000_0015, 0, Column::Ppc64, WIDE | BIG | MUX),
    arch("SCMP_ARCH_PPC64LE", 0xc000_0015, 0, Column::Ppc64, WIDE | MUX),
    arch("SCMP_ARCH_RISCV64", 0xc000_00f3, 0, Column::Riscv64, WIDE),
    arch("SCMP_ARCH_S390", 0x0000_0016, 0, Column::S390, BIG | MUX | ZERO),
    arch("SCMP_ARCH_S390X", 0x8000_0016, 0, Column::S390x, WIDE | BIG | MUX | ZERO),
    arch("SCMP_ARCH_SH", 0x4000_002a, 0, Column::Sh, MUX),
    arch("SCMP_ARCH_SHEB", 0x0000_002a, 0, Column::Sh, BIG | MUX),
    arch("SCMP_ARCH_X32", 0xc000_003e, X32_BIT, Column::X32, NARROW),
    arch("SCMP_ARCH_X86", 0x4000_0003, 0, Column::X86, MUX),
    arch("SCMP_ARCH_X86_64", 0xc000_003e, 0, Column::X86_64, WIDE),
];

const NATIVE: &str = if cfg!(target_arch = "x86_64") {
    "SCMP_ARCH_X86_64"
} else if cfg!(target_arch = "aarch64") {
    "SCMP_ARCH_AARCH64"
} else if cfg!(target_arch = "riscv64") {
    "SCMP_ARCH_RISCV64"
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    "SCMP_ARCH_PPC64LE"
} else if cfg!(target_arch = "powerpc64") {
    "SCMP_ARCH_PPC64"
} else if cfg!(target_arch = "s390x") {
    "SCMP_ARCH_S390X"
} else if cfg!(target_arch = "loongarch64") {
    "SCMP_ARCH_LOONGARCH64"
} else if cfg!(target_arch = "x86") {
    "SCMP_ARCH_X86"
} else if cfg!(target_arch = "arm") {
    "SCMP_ARCH_ARM"
} else {
    panic!("no seccomp table for this architecture");
};

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const NATIVE_INDEX: usize = {
    let mut index = 0;
    while !same(ARCHES[index].name, NATIVE) {
        index += 1;
    }
    index
};

impl Arch {
    /// Returns the architecture this binary was built for.
    pub fn native() -> &'static Self {
        &ARCHES[NATIVE_INDEX]
    }

    /// Returns the architecture `SCMP_ARCH_*` names.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        ARCHES.iter().find(|arch| arch.name == name)
    }
}

impl PartialEq for Arch {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Arch {}
