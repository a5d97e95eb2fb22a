//! Compares skep's seccomp compiler with libseccomp.
//!
//! Both compile the same profile, and both programs answer the same calls in the same simulator: every number of
//! every architecture, and around every value a rule compares with. A difference fails, unless the rules that
//! match the call all say what our program says: then it is the library that is wrong, and that is counted.
//! `design/0009-seccomp.md` says what is compared and what is not.

mod library;
mod points;
mod random;
#[path = "../../../libcontainer/src/seccomp/simulator.rs"]
mod simulator;
mod truth;

/// The simulator is shared with the unit tests, where this is its path.
mod sys {
    pub(crate) use libcontainer::sys::seccomp;
}

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use libcontainer::seccomp::{ARCHES, Arch, CompileOptions, Filter, compile};
use libcontainer::spec::{List, Seccomp, SeccompRule, Str};
use libcontainer::sys::seccomp::Instruction;

use library::Numbers;
use random::{Random, Style};
use simulator::{Call, run};

const ENGINES: [(&str, &str); 3] = [
    ("docker", include_str!("../profiles/docker.json")),
    ("podman", include_str!("../profiles/podman.json")),
    ("containerd", include_str!("../profiles/containerd.json")),
];

const ENOSYS: u32 = 0x0005_0026;

#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
    calls: usize,
    /// Profiles both refuse.
    refused: usize,
    /// Generated profiles that both compile, and whose programs give the same answer to every call.
    equal: usize,
    /// Calls where the library contradicts every rule that matches, per kind of profile.
    library_wrong: BTreeMap<&'static str, BTreeSet<usize>>,
    library_wrong_calls: usize,
    /// Profiles with a program of the library that compares the wrong argument.
    confused: usize,
    /// Profiles the library refuses for a call that is not there.
    refused_for_nothing: usize,
}

impl Count {
    fn check(&mut self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                println!("FAILED {what}: {why}");
            }
        }
    }
}

const USAGE: &str = "usage: seccomp-oracle [[FIRST] END], seeds of the generated profiles";

/// So many generated profiles have to be without any difference, the library's own mistakes included; without
/// arguments it goes on until they are.
const EQUAL: usize = 100;

struct Oracle {
    numbers: HashMap<&'static str, Numbers>,
    /// The names that this libseccomp has under another number than we, per architecture.
    other: BTreeMap<&'static str, BTreeSet<String>>,
    count: Count,
    seed: usize,
    kind: &'static str,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let words = (args.next(), args.next());
    let (wanted, enough) = if words.0.is_none() { (EQUAL, 10 * EQUAL) } else { (0, 0) };
    let seeds = match words {
        (None, _) => 0..EQUAL,
        (Some(first), None) => 0..first.parse().expect(USAGE),
        (Some(first), Some(end)) => first.parse().expect(USAGE)..end.parse().expect(USAGE),
    };
    let (major, minor, micro) = library::version();
    println!("libseccomp {major}.{minor}.{micro}");
    let known: Vec<&'static Arch> = ARCHES.iter().filter(|arch| library::has(arch)).collect();
    println!("{} of {} architectures are known to it", known.len(), ARCHES.len());
    let names = library::names(&known);
    let numbers =
        known.iter().map(|arch| (arch.name, library::numbers(arch, &names).expect("has")));
    let mut oracle = Oracle {
        numbers: numbers.collect(),
        other: BTreeMap::new(),
        count: Count::default(),
        seed: 0,
        kind: "tables",
    };

    oracle.tables(&known, &names);
    oracle.kind = "engines";
    for (name, text) in ENGINES {
        let profile: Seccomp<'_> = serde_json::from_str(text).expect("profile");
        for native in ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86", "SCMP_ARCH_S390X"]
        {
            let native = Arch::from_name(native).expect("known");
            let mut profile = profile.clone();
            match native.name {
                "SCMP_ARCH_AARCH64" => profile.architectures.0 = vec![Str::from("SCMP_ARCH_ARM")],
                "SCMP_ARCH_S390X" => profile.architectures.0 = vec![Str::from("SCMP_ARCH_S390")],
                _ => {}
            }
            let named = profile.architectures.iter().map(|name| &**name);
            let same = oracle.same(&names, named.chain([native.name]));
            let left_out = keep(&mut profile, &same);
            println!(
                "{name} on {}: {left_out} names have no place in this libseccomp",
                native.name
            );
            oracle.compare(&format!("{name} on {}", native.name), &profile, native);
        }
    }
    let more = seeds.end..enough;
    oracle.random(seeds, &known, &names);
    for seed in more {
        if oracle.count.equal >= wanted {
            break;
        }
        oracle.random(seed..seed + 1, &known, &names);
    }
    let equal = oracle.count.equal;
    let result = if equal >= wanted { Ok(()) } else { Err(format!("only {equal}")) };
    oracle.count.check("profiles without a difference", result);

    let Count { passed, failed, calls, .. } = oracle.count;
    println!("{calls} calls compared");
    println!("{equal} generated profiles without any difference");
    println!("{} profiles refused by both", oracle.count.refused);
    println!(
        "{} refused by libseccomp for a call that is not there",
        oracle.count.refused_for_nothing
    );
    println!("{} programs of libseccomp compare the wrong argument", oracle.count.confused);
    println!(
        "{} calls where libseccomp contradicts the rules, in",
        oracle.count.library_wrong_calls
    );
    for (kind, profiles) in &oracle.count.library_wrong {
        println!("  {} of the {kind} profiles", profiles.len());
    }
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}

/// Drops the names that are not in `same`, and the rules that have none left.
fn keep(profile: &mut Seccomp<'_>, same: &[String]) -> usize {
    let same: BTreeSet<&str> = same.iter().map(String::as_str).collect();
    let mut left_out = 0;
    for rule in &mut profile.syscalls.0 {
        let before = rule.names.len();
        rule.names.0.retain(|name| same.contains(name.as_str()));
        left_out += before - rule.names.len();
    }
    profile.syscalls.0.retain(|rule| !rule.names.is_empty());
    left_out
}

fn options(native: &'static Arch, enosys: bool) -> CompileOptions {
    CompileOptions { native, enosys, fail_unknown_syscall: true }
}

fn ours(profile: &Seccomp<'_>, native: &'static Arch, enosys: bool) -> Result<Filter, String> {
    match compile(profile, &options(native, enosys)) {
        Ok(filter) => filter.ok_or_else(|| "empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn answer(program: &[Instruction], call: &Call, native: &Arch) -> Result<u32, String> {
    run(program, call, native.big_endian)
}

impl Oracle {
    /// One profile per name and architecture: the tables, and the ways around a multiplexer.
    ///
    /// Remembers the names that are not to be compared any further, and where.
    fn tables(&mut self, known: &[&'static Arch], names: &[String]) {
        let version = library::version();
        for arch in known {
            let mut wrong = Vec::new();
            for name in names.iter().filter(|name| library::knows(name)) {
                let profile = one_name(name);
                let theirs = library::compile(&profile, arch).expect("one rule");
                let Ok(filter) = ours(&profile, arch, false) else {
                    wrong.push(format!("{name} is not in our tables"));
                    continue;
                };
                let calls = points::numbers(arch).flat_map(|nr| {
                    let multiplexer = [102, 117].map(|number| arch.base + number).contains(&nr);
                    let first = if multiplexer { 0..26 } else { 0..1 };
                    first.map(move |first| Call {
                        nr,
                        arch: arch.token,
                        args: [first, 0, 0, 0, 0, 0],
                    })
                });
                for call in calls {
                    self.count.calls += 1;
                    let (mine, its) =
                        (answer(&filter.program, &call, arch), answer(&theirs, &call, arch));
                    if mine == its && mine.is_ok() {
                        continue;
                    }
                    // Linux has since taken this one off, and so has 2.6.1, which our tables are from.
                    let lost = version == (2, 6, 0)
                        && arch.name == "SCMP_ARCH_PARISC64"
                        && (name.as_str(), call.nr) == ("_llseek", 0x8c);
                    if version < (2, 6, 0) || lost {
                        self.other.entry(arch.name).or_default().insert(name.clone());
                    } else {
                        wrong.push(format!("{name} at {:#x}: {mine:?}, not {its:?}", call.nr));
                    }
                }
            }
            let result = if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) };
            self.count.check(&format!("table of {}", arch.name), result);
        }
        for (arch, names) in &self.other {
            println!("left out of profiles for {arch}, where this libseccomp differs: {names:?}");
        }
    }

    /// Of `names` those that both have under the same numbers on all of `arches`.
    fn same<'a>(&self, names: &[String], arches: impl Iterator<Item = &'a str>) -> Vec<String> {
        let other: Vec<_> = arches.filter_map(|arch| self.other.get(arch)).collect();
        let same = |name: &&String| {
            library::knows(name) && !other.iter().any(|names| names.contains(*name))
        };
        names.iter().filter(same).cloned().collect()
    }

    fn random(&mut self, seeds: Range<usize>, known: &[&'static Arch], names: &[String]) {
        for seed in seeds {
            let mut random = Random(seed as u64);
            let (kind, style) = match seed % 4 {
                0 => ("plain", Style::Plain),
                1 | 2 => ("one-action", Style::OneAction),
                _ => ("mixed-action", Style::Mixed),
            };
            (self.seed, self.kind) = (seed, kind);
            let native = if seed % 3 == 0 { *random.pick(known) } else { Arch::native() };
            let others: Vec<&'static str> = (0..random.below(4))
                .map(|_| {
                    let all =
                        ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"];
                    let arch =
                        if seed % 3 == 1 { *random.pick(&all) } else { random.pick(known).name };
                    Arch::from_name(arch).expect("known")
                })
                .filter(|arch| arch.big_endian == native.big_endian && known.contains(arch))
                .map(|arch| arch.name)
                .collect();
            let same = self.same(names, others.iter().copied().chain([native.name]));
            let profile = random::profile(&mut random, style, &others, &same);
            self.compare(&format!("{kind} profile {seed} on {}", native.name), &profile, native);
        }
    }

    fn compare(&mut self, what: &str, profile: &Seccomp<'_>, native: &'static Arch) {
        let text = || serde_json::to_string(profile).unwrap_or_default();
        let theirs = library::compile(profile, native);
        let filter = ours(profile, native, false);
        let (filter, theirs) = match (filter, theirs) {
            (Ok(filter), Ok(theirs)) => (filter, theirs),
            (Err(_), Err(_)) => {
                self.count.refused += 1;
                return self.count.check(what, Ok(()));
            }
            (Ok(_), Err(_)) if self.refused_for_nothing(profile, native) => {
                self.count.refused_for_nothing += 1;
                return self.count.check(what, Ok(()));
            }
            (Ok(_), Err(why)) => {
                return self
                    .count
                    .check(what, Err(format!("only libseccomp refuses: {why}\n    {}", text())));
            }
            (Err(why), Ok(_)) => {
                return self
                    .count
                    .check(what, Err(format!("only we refuse: {why}\n    {}", text())));
            }
        };
        let with_enosys = match ours(profile, native, true) {
            Ok(filter) => filter,
            Err(why) => return self.count.check(what, Err(format!("with ENOSYS: {why}"))),
        };
        let confused = library::is_confused(&theirs);
        self.count.confused += usize::from(confused);
        let mut wrong = Vec::new();
        let mistakes = self.count.library_wrong_calls;
        for call in points::calls(profile, native, self.seed as u64) {
            self.count.calls += 1;
            let mine = answer(&filter.program, &call, native);
            let its = answer(&theirs, &call, native);
            let truth = self.truth(profile, native, &call);
            let may_be = |answer: &Result<u32, String>| match answer {
                Ok(answer) => truth.as_ref().is_none_or(|truth| truth.contains(answer)),
                Err(_) => false,
            };
            if mine != its || mine.is_err() {
                if may_be(&mine) && (confused || !may_be(&its)) {
                    self.count.library_wrong_calls += 1;
                    self.count.library_wrong.entry(self.kind).or_default().insert(self.seed);
                } else {
                    wrong.push(format!("{call:x?}: {mine:x?}, not {its:x?} (rules: {truth:x?})"));
                }
            } else if !may_be(&mine) {
                wrong.push(format!("{call:x?}: both {mine:x?}, the rules say {truth:x?}"));
            }
            let expected = self.expected_with_enosys(profile, native, &call, mine.unwrap_or(0));
            let found = answer(&with_enosys.program, &call, native);
            if found != Ok(expected) {
                wrong.push(format!("{call:x?} with ENOSYS: {found:x?}, not {expected:x?}"));
            }
            if wrong.len() > 3 {
                break;
            }
        }
        let generated = self.kind != "engines";
        let equal = wrong.is_empty() && self.count.library_wrong_calls == mistakes;
        self.count.equal += usize::from(generated && equal);
        if !wrong.is_empty() {
            wrong.push(text());
        }
        let result = if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) };
        self.count.check(what, result);
    }

    /// The library keeps rules for calls an architecture does not have, and lets them contradict each other.
    ///
    /// Says whether it takes the profile once they are left out.
    fn refused_for_nothing(&self, profile: &Seccomp<'_>, native: &'static Arch) -> bool {
        let named = profile.architectures.iter().filter_map(|name| Arch::from_name(name));
        std::iter::once(native).chain(named).all(|arch| {
            let numbers = &self.numbers[arch.name];
            let mut alone = profile.clone();
            alone.architectures = List::default();
            for rule in &mut alone.syscalls.0 {
                rule.names.0.retain(|name| {
                    numbers.direct.contains_key(name.as_str())
                        || arch.multiplexed && numbers.multiplexed.contains_key(name.as_str())
                });
            }
            library::compile(&alone, arch).is_ok()
        })
    }

    fn truth(&self, profile: &Seccomp<'_>, native: &'static Arch, call: &Call) -> Option<Vec<u32>> {
        let arch = architecture_of(profile, native, call)?;
        Some(truth::answers(profile, arch, &self.numbers[arch.name], call))
    }

    /// runc's rule: a call beyond the last one the profile names on its architecture is not there.
    ///
    /// Bit 30 says whether a call is one of x32, unless the profile has x86_64 or x32 only.
    fn expected_with_enosys(
        &self,
        profile: &Seccomp<'_>,
        native: &'static Arch,
        call: &Call,
        otherwise: u32,
    ) -> u32 {
        let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        if permissive.contains(&&*profile.default_action) || profile.default_errno_ret == Some(38) {
            return otherwise;
        }
        let arches = std::iter::once(native)
            .chain(profile.architectures.iter().filter_map(|name| Arch::from_name(name)));
        let is_x32 = call.nr & 0x4000_0000 != 0;
        for arch in arches.filter(|arch| arch.token == call.arch) {
            if arch.token == 0xc000_003e && is_x32 != (arch.name == "SCMP_ARCH_X32") {
                continue;
            }
            let numbers = &self.numbers[arch.name].direct;
            let names = profile.syscalls.iter().flat_map(|rule| rule.names.iter());
            let last = names.filter_map(|name| numbers.get(name.as_str())).max();
            if last.is_some_and(|last| call.nr > *last || (arch.unknown_is_zero && call.nr == 0)) {
                return ENOSYS;
            }
        }
        otherwise
    }
}

/// The architecture whose rules hold for the call; `None` where none does.
fn architecture_of(
    profile: &Seccomp<'_>,
    native: &'static Arch,
    call: &Call,
) -> Option<&'static Arch> {
    let named = profile.architectures.iter().filter_map(|name| Arch::from_name(name));
    let mut of_token = std::iter::once(native).chain(named).filter(|arch| arch.token == call.arch);
    if call.arch != 0xc000_003e {
        return of_token.next();
    }
    let is_x32 = call.nr & 0xc000_0000 == 0x4000_0000;
    let is_x86_64 = call.nr < 0x4000_0000;
    of_token.find(|arch| if arch.name == "SCMP_ARCH_X32" { is_x32 } else { is_x86_64 })
}

/// libseccomp 2.6.1 forgets to load the number where the first rule is one its architecture does not have, so
/// another call goes along.
fn one_name(name: &str) -> Seccomp<'_> {
    let rule = SeccompRule {
        names: List(vec![Str::from("exit_group"), Str::from(name)]),
        action: Str::from("SCMP_ACT_ALLOW"),
        ..SeccompRule::default()
    };
    Seccomp {
        default_action: Str::from("SCMP_ACT_ERRNO"),
        syscalls: List(vec![rule]),
        ..Seccomp::default()
    }
}
