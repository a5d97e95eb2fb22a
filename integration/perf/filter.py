# SPDX-License-Identifier: Apache-2.0
"""Compiles the seccomp section of a bundle into the filter that the floor program loads.

The cheapest shape known: per architecture a binary search over ranges of system call numbers with
the same outcome, because the kernel runs the filter once per number when it is loaded. Covers what
the Docker-like bundle uses; skep has its own compiler, and this one must not be built on it.
"""

import re
import struct
from pathlib import Path

LD, AND = 0x20, 0x54
JA, JEQ, JGE = 0x05, 0x15, 0x35
RET = 0x06
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": (0xC000003E, "unistd_64.h"),
    "SCMP_ARCH_X86": (0x40000003, "unistd_32.h"),
    "SCMP_ARCH_X32": (0xC000003E, "unistd_x32.h"),
}
X32_BIT = 0x40000000
ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}


def numbers(header):
    """System call names and numbers of one architecture, from the kernel's headers."""
    for directory in ("/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"):
        path = Path(directory, header)
        if path.exists():
            found = re.findall(r"#define __NR_(\w+)\s+(.*)", path.read_text())
            return {n: eval(v, {"__X32_SYSCALL_BIT": X32_BIT}) for n, v in found}  # "(BIT + 514)"
    raise SystemExit(f"{header} not found: install linux-libc-dev")


def action(rule, default_errno):
    value = ACTIONS[rule["action"]]
    return value | rule.get("errnoRet", default_errno) if value == ACTIONS["SCMP_ACT_ERRNO"] else value


def check(argument, fail_at, wide):
    """Instructions that fall through when the argument matches; jumps to `fail_at` are left open."""
    low = 16 + 8 * argument["index"]
    mask = (1 << 64) - 1
    value, negate = argument["value"], argument["op"] == "SCMP_CMP_NE"
    if argument["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = value, argument.get("valueTwo", 0)
    elif argument["op"] not in ("SCMP_CMP_EQ", "SCMP_CMP_NE"):
        raise ValueError(argument["op"])
    words = [(low, mask & 0xFFFFFFFF, value & 0xFFFFFFFF)]
    if wide:
        words.append((low + 4, mask >> 32, value >> 32))
    code = []
    for at, word_mask, word in words:
        if not word_mask:
            continue
        code.append((LD, 0, 0, at))
        if word_mask != 0xFFFFFFFF:
            code.append((AND, 0, 0, word_mask))
        code.append((JEQ, 0, fail_at, word))
    if negate:
        # Any word that differs is a match: jump over the rest; only the last one decides.
        end = len(code)
        for i, (op, _, _, word) in enumerate(code):
            if op == JEQ:
                last = i == end - 1
                code[i] = (JEQ, fail_at, 0, word) if last else (JEQ, 0, end - i - 1, word)
    return code


def leaf(rules, default, wide):
    """What one number leads to: the first rule whose arguments match, else the default."""
    code = []
    for arguments, outcome in rules:
        body = []
        for argument in arguments:
            body += check(argument, "fail", wide)
        body.append((RET, 0, 0, outcome))
        for i, (op, true, false, value) in enumerate(body):
            skip = len(body) - i - 1
            body[i] = (op, skip if true == "fail" else true, skip if false == "fail" else false, value)
        code += body
        if not arguments:
            return code
    return code + [(RET, 0, 0, default)]


def tree(ranges):
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = tree(ranges[:middle]), tree(ranges[middle:])
    if len(low) < 256:
        return [(JGE, len(low), 0, ranges[middle][0])] + low + high
    return [(JGE, 0, 1, ranges[middle][0]), (JA, 0, 0, len(low))] + low + high


def ranges(profile, table, default, wide, floor):
    rules = {}
    errno = profile.get("defaultErrnoRet", 1)
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            if name in table:
                rules.setdefault(table[name], []).append((rule.get("args", []), action(rule, errno)))
    found = [(floor, leaf([], default, wide))]
    following = floor
    for number in sorted(rules):
        if number > following:
            found.append((following, leaf([], default, wide)))
        found.append((number, leaf(rules[number], default, wide)))
        following = number + 1
    found.append((following, leaf([], default, wide)))
    merged = []
    for start, code in found:
        if merged and merged[-1][0] == start:
            merged.pop()
        if not merged or merged[-1][1] != code:
            merged.append((start, code))
    return merged


def compile_filter(profile):
    """The filter as bytes: struct sock_filter after struct sock_filter."""
    default = action({"action": profile["defaultAction"]}, profile.get("defaultErrnoRet", 1))
    blocks = {}
    for name in profile["architectures"]:
        audit, header = ARCHITECTURES[name]
        x32 = name == "SCMP_ARCH_X32"
        table = {n: v for n, v in numbers(header).items() if not x32 or v & X32_BIT}
        found = ranges(profile, table, default, audit == 0xC000003E, X32_BIT if x32 else 0)
        blocks.setdefault(audit, []).append(found)
    code = [(LD, 0, 0, 4)]
    for audit, parts in blocks.items():
        # x32 shares x86_64's audit number and follows it in the number space.
        body = [(LD, 0, 0, 0)] + tree([r for part in parts for r in part])
        code += [(JEQ, 1, 0, audit), (JA, 0, 0, len(body))] + body
    code.append((RET, 0, 0, default))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
