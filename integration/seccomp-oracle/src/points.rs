//! The calls a profile is tried with.

use std::collections::BTreeSet;

use libcontainer::seccomp::{ARCHES, Arch};
use libcontainer::spec::Seccomp;

use crate::random::{Random, VALUES};
use crate::simulator::Call;

/// Beyond every table.
const LAST: u32 = 700;

/// Numbers at the edges of what an architecture may mean by one.
const EDGES: [u32; 19] = [
    0x000e_ffff,
    0x000f_0010,
    0x3fff_ffff,
    0x4000_0000 + LAST,
    0x4fff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0x8000_0029,
    0x8000_0187,
    0xbfff_ffff,
    0xc000_0000,
    0xc000_0029,
    0xffff_ff00,
    0xffff_ff9b,
    0xffff_fffd,
    0xffff_fffe,
    0xffff_ffff,
    1 << 20,
];

/// Every number `arch` may have, and some it may not.
pub fn numbers(arch: &Arch) -> impl Iterator<Item = u32> {
    let private = if arch.name == "SCMP_ARCH_ARM" { 0x000f_0000..0x000f_0010 } else { 0..0 };
    let x32 = if arch.token == 0xc000_003e { 0x4000_0000..0x4000_0000 + LAST } else { 0..0 };
    let low = if arch.base == 0 || !x32.is_empty() { 0..LAST } else { 0..8 };
    let based =
        if x32.is_empty() && arch.base > 0 { arch.base - 8..arch.base + LAST } else { 0..0 };
    low.chain(based).chain(private).chain(x32).chain(EDGES)
}

/// All calls for one profile: every number of every architecture with a few arguments, and every number a rule
/// with conditions is about with the arguments around its values.
pub fn calls(profile: &Seccomp<'_>, native: &'static Arch, seed: u64) -> Vec<Call> {
    let mut random = Random(seed ^ 0x5eed);
    let mut tokens = BTreeSet::from([native.token, 0, 0x1234_5678, 0xc000_003e, 0x4000_0003]);
    tokens.insert(random.pick(&ARCHES).token);
    for name in profile.architectures.iter() {
        tokens.extend(Arch::from_name(name).map(|arch| arch.token));
    }
    let mut values: BTreeSet<u64> = VALUES.into_iter().collect();
    for arg in profile.syscalls.iter().flat_map(|rule| rule.args.iter()) {
        for value in [arg.value, arg.value_two.unwrap_or(0)] {
            values.extend([value, value.wrapping_sub(1), value.wrapping_add(1)]);
            values.extend([value & 0xffff_ffff, value | 0xff00_0000_0000, value.rotate_left(32)]);
        }
    }
    // The numbers a multiplexer takes.
    values.extend([3, 4, 11, 18, 20, 21, 24]);
    let values: Vec<u64> = values.into_iter().collect();
    let conditional = profile.syscalls.iter().any(|rule| !rule.args.is_empty());
    let tries = if conditional { 60 } else { 3 };

    let mut calls = Vec::new();
    for arch in tokens {
        let known: Vec<&Arch> = ARCHES.iter().filter(|known| known.token == arch).collect();
        let all: BTreeSet<u32> = match known.as_slice() {
            [] => (0..LAST).chain(EDGES).collect(),
            several => several.iter().flat_map(|arch| numbers(arch)).collect(),
        };
        for nr in all {
            calls.push(Call { nr, arch, args: [0; 6] });
            for _ in 1..tries {
                let args = std::array::from_fn(|_| *random.pick(&values));
                calls.push(Call { nr, arch, args });
            }
        }
    }
    calls
}
