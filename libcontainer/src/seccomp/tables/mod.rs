//! System call names and their numbers.
//!
//! [`mod@numbers`] is the readable form, one row per name. What the binary holds is made from it by the compiler: the
//! names in one blob (an array of `&str` would be 8 KiB of relocations, paid at every start), a hash of them,
//! and one dense column of numbers per architecture, so that a profile touches only the columns it needs.

mod numbers;

use numbers::{COLUMNS, ROWS};

pub(super) use numbers::Column;

/// What [`mod@numbers`] has where the architecture has no such call.
pub(super) const NONE: u16 = u16::MAX;

/// Numbers from here on are arm's private calls: `0xf0nn` stands for `0x0f00nn`.
pub(super) const PRIVATE: u16 = 0xf000;

/// How many names there are.
const NAMES: usize = ROWS.len();

/// Slots of the hash: at least twice the names, so that chains stay short.
const SLOTS: usize = 1024;

const _: () = assert!(NAMES * 3 / 2 < SLOTS, "lookups get slow: double SLOTS");

static BLOB: [u8; blob_len()] = blob();
static ENDS: [u16; NAMES] = ends();
static HASH: [u16; SLOTS] = hash_table();
static NUMBERS: [[u16; NAMES]; COLUMNS] = columns();
static SPANS: [u16; COLUMNS] = spans();
static MULTIPLEXED: [u8; NAMES] = multiplexed();

/// Calls that socketcall(2) multiplexes, with their number in `<linux/net.h>`.
const SOCKETCALL: [(&str, u8); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// Calls that ipc(2) multiplexes, with their number in `<linux/ipc.h>`.
const IPC: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Marks an ipc(2) call in [`MULTIPLEXED`].
const IPC_BIT: u8 = 0x80;

/// The call behind which another is hidden on i386, s390 and others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiplexer {
    /// socketcall(2).
    Socketcall,
    /// ipc(2).
    Ipc,
}

/// Returns the row of the system call `name`.
pub(super) fn find(name: &str) -> Option<usize> {
    let mut slot = hash(name.as_bytes()) % SLOTS;
    loop {
        let row = usize::from(*HASH.get(slot)?);
        if name_of(row)? == name.as_bytes() {
            return Some(row);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Returns the name in `row`.
pub(super) fn name(row: usize) -> &'static str {
    name_of(row).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
}

/// Returns the numbers of `column` by row, relative to the architecture's base, or [`NONE`].
pub(super) fn numbers(column: Column) -> &'static [u16] {
    NUMBERS.get(column as usize).map_or(&[], |numbers| numbers)
}

/// Returns one more than the largest number of `column`, arm's private calls left aside.
pub(super) fn span(column: Column) -> u16 {
    SPANS.get(column as usize).copied().unwrap_or(0)
}

/// Returns the multiplexer of the call in `row` and its number there.
pub(super) fn multiplexer(row: usize) -> Option<(Multiplexer, u8)> {
    match MULTIPLEXED.get(row).copied() {
        None | Some(0) => None,
        Some(n) if n & IPC_BIT != 0 => Some((Multiplexer::Ipc, n & !IPC_BIT)),
        Some(n) => Some((Multiplexer::Socketcall, n)),
    }
}

fn name_of(row: usize) -> Option<&'static [u8]> {
    let start = match row.checked_sub(1) {
        Some(before) => usize::from(*ENDS.get(before)?),
        None => 0,
    };
    BLOB.get(start..usize::from(*ENDS.get(row)?))
}

/// FNV-1a, by words.
const fn hash(name: &[u8]) -> usize {
    const PRIME: u32 = 0x0100_0193;
    let mut hash: u32 = 0x811c_9dc5;
    let mut rest = name;
    while let [a, b, c, d, tail @ ..] = rest {
        hash = (hash ^ u32::from_le_bytes([*a, *b, *c, *d])).wrapping_mul(PRIME);
        // The product carries upwards only: the low bits have to learn of the high ones.
        hash ^= hash >> 15;
        rest = tail;
    }
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u32).wrapping_mul(PRIME);
        rest = tail;
    }
    (hash ^ (hash >> 15)) as usize
}

pub(super) const fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.is_empty() && b.is_empty()
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const fn blob_len() -> usize {
    let mut len = 0;
    let mut row = 0;
    while row < NAMES {
        len += ROWS[row].0.len();
        row += 1;
    }
    len
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const fn blob() -> [u8; blob_len()] {
    let mut blob = [0; blob_len()];
    let (mut row, mut at) = (0, 0);
    while row < NAMES {
        let name = ROWS[row].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            blob[at] = name[byte];
            at += 1;
            byte += 1;
        }
        row += 1;
    }
    blob
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn ends() -> [u16; NAMES] {
    assert!(blob_len() <= u16::MAX as usize);
    let mut ends = [0; NAMES];
    let (mut row, mut at) = (0, 0);
    while row < NAMES {
        at += ROWS[row].0.len();
        ends[row] = at as u16;
        row += 1;
    }
    ends
}

/// Linear probing; an empty slot is a row that does not exist.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
#[expect(clippy::cast_possible_truncation, reason = "SLOTS is less than 2^16")]
const fn hash_table() -> [u16; SLOTS] {
    let mut table = [u16::MAX; SLOTS];
    let mut row = 0;
    while row < NAMES {
        let mut slot = hash(ROWS[row].0.as_bytes()) % SLOTS;
        while table[slot] != u16::MAX {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = row as u16;
        row += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const fn columns() -> [[u16; NAMES]; COLUMNS] {
    let mut columns = [[NONE; NAMES]; COLUMNS];
    let mut row = 0;
    while row < NAMES {
        let mut column = 0;
        while column < COLUMNS {
            columns[column][row] = ROWS[row].1[column];
            column += 1;
        }
        row += 1;
    }
    columns
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const fn spans() -> [u16; COLUMNS] {
    let mut spans = [0; COLUMNS];
    let mut row = 0;
    while row < NAMES {
        let mut column = 0;
        while column < COLUMNS {
            let number = ROWS[row].1[column];
            if number < PRIVATE && number >= spans[column] {
                spans[column] = number + 1;
            }
            column += 1;
        }
        row += 1;
    }
    spans
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler: a wrong index does not build"
)]
const fn multiplexed() -> [u8; NAMES] {
    let mut codes = [0; NAMES];
    let mut row = 0;
    while row < NAMES {
        let mut call = 0;
        while call < SOCKETCALL.len() {
            if same(SOCKETCALL[call].0, ROWS[row].0) {
                codes[row] = SOCKETCALL[call].1;
            }
            call += 1;
        }
        call = 0;
        while call < IPC.len() {
            if same(IPC[call].0, ROWS[row].0) {
                codes[row] = IPC[call].1 | IPC_BIT;
            }
            call += 1;
        }
        row += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_row() {
        for (row, (name, numbers)) in ROWS.iter().enumerate() {
            assert_eq!(find(name), Some(row), "{name}");
            assert_eq!(super::numbers(Column::X86_64)[row], numbers[Column::X86_64 as usize]);
        }
    }

    #[test]
    fn a_name_nobody_knows_is_not_found() {
        for name in ["", "rea", "readd", "READ", "no_such_call", "socketcall\0"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel_this_was_built_for() {
        let calls = [
            ("read", libc::SYS_read),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("futex_waitv", libc::SYS_futex_waitv),
        ];
        let column = super::super::arch::Arch::native().column;
        for (name, expected) in calls {
            let row = find(name).unwrap();
            assert_eq!(i64::from(numbers(column)[row]), expected, "{name}");
        }
    }

    #[test]
    fn multiplexed_calls_are_all_there() {
        let count = (0..NAMES).filter(|row| multiplexer(*row).is_some()).count();
        assert_eq!(count, SOCKETCALL.len() + IPC.len());
        assert_eq!(multiplexer(find("shmat").unwrap()), Some((Multiplexer::Ipc, 21)));
        assert_eq!(multiplexer(find("accept4").unwrap()), Some((Multiplexer::Socketcall, 18)));
        assert_eq!(multiplexer(find("read").unwrap()), None);
    }
}
