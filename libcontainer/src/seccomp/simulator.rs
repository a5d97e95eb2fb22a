//! Runs a filter the way the kernel does: for tests, and to know beforehand what a filter answers.

use crate::sys::seccomp::Instruction;

/// `struct seccomp_data`, the instruction pointer left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// System call number.
    pub(crate) nr: u32,
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    /// The six arguments.
    pub(crate) args: [u64; 6],
}

/// Runs `program` on `call` and returns `SECCOMP_RET_*`; says what is wrong with a program the kernel would refuse.
pub(crate) fn run(program: &[Instruction], call: &Call, big_endian: bool) -> Result<u32, String> {
    let mut accumulator = 0_u32;
    let mut at = 0;
    for _ in 0..=program.len() {
        let Some(insn) = program.get(at) else { return Err(format!("runs off its end at {at}")) };
        at += 1;
        let jump = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => accumulator = word(call, insn.k, big_endian)?,
            0x54 => accumulator &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += jump(accumulator == insn.k),
            0x25 => at += jump(accumulator > insn.k),
            0x35 => at += jump(accumulator >= insn.k),
            0x06 => return Ok(insn.k),
            code => return Err(format!("instruction {code:#x} at {}", at - 1)),
        }
    }
    Err("never ends".to_owned())
}

fn word(call: &Call, offset: u32, big_endian: bool) -> Result<u32, String> {
    match offset {
        0 => Ok(call.nr),
        4 => Ok(call.arch),
        16..64 if offset.is_multiple_of(4) => {
            let Some(arg) = call.args.get((offset as usize - 16) / 8) else {
                return Err(format!("loads from {offset}"));
            };
            let high = offset.is_multiple_of(8) == big_endian;
            let half = if high { arg >> 32 } else { arg & u64::from(u32::MAX) };
            u32::try_from(half).map_err(|error| error.to_string())
        }
        _ => Err(format!("loads from {offset}")),
    }
}
