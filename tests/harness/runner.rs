//! Runs the cases and reports as `cargo test` does, with skips and known differences counted apart.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::host::Host;
use super::orphans;
use super::runtime::{Kind, Runtime};
use super::test::{Skip, Test};
use crate::known_differences;

/// One test.
#[derive(Clone, Copy)]
pub struct Case {
    /// `module::function`, without the crate.
    pub name: &'static str,
    pub run: fn(&Test),
    /// Whether nothing else may run at the same time.
    pub serial: bool,
}

/// Lists the tests of a module; those after `serial:` run alone.
macro_rules! cases {
    ($($test:ident),* $(,)? $(; serial: $($alone:ident),* $(,)?)?) => {
        pub const CASES: &[$crate::harness::runner::Case] = &[
            $($crate::harness::runner::Case {
                name: concat!(module_path!(), "::", stringify!($test)), run: $test, serial: false,
            },)*
            $($($crate::harness::runner::Case {
                name: concat!(module_path!(), "::", stringify!($alone)), run: $alone, serial: true,
            },)*)?
        ];
    };
}
pub(crate) use cases;

enum Verdict {
    Passed,
    PassedUnexpectedly(&'static str),
    Failed(String),
    Skipped(String),
    Different(&'static str),
}

struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Options {
    fn parse() -> Self {
        let cpus = thread::available_parallelism().map_or(2, usize::from);
        let mut options = Self {
            filters: Vec::new(),
            skips: Vec::new(),
            exact: false,
            list: false,
            threads: (cpus + 1).clamp(2, 4),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            match flag.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--skip" => options.skips.extend(value.or_else(|| args.next())),
                "--test-threads" => {
                    options.threads =
                        value.or_else(|| args.next()).and_then(|n| n.parse().ok()).unwrap_or(1);
                }
                "--format" | "--color" | "-Z" | "--logfile" if value.is_none() => {
                    args.next();
                }
                other if other.starts_with('-') => {}
                _ => options.filters.push(flag),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter) };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs everything asked for and returns the exit status of the process.
pub fn main(cases: Vec<Case>) -> u8 {
    let options = Options::parse();
    let all = cases.len();
    let cases: Vec<Case> =
        cases.into_iter().filter(|case| options.wants(short(case.name))).collect();
    if options.list {
        for case in &cases {
            println!("{}: test", short(case.name));
        }
        return 0;
    }
    let setting = match Setting::prepare() {
        Ok(setting) => setting,
        Err(reason) => {
            eprintln!("cannot run the tests: {reason}");
            return 101;
        }
    };
    panic::set_hook(Box::new(|info| LAST_PANIC.set(info.to_string())));
    println!(
        "\nrunning {} tests on {} ({})",
        cases.len(),
        setting.runtime.version,
        setting.runtime.original.display()
    );
    let start = Instant::now();
    let (alone, together): (Vec<Case>, Vec<Case>) =
        cases.iter().copied().partition(|case| case.serial);
    let results = Mutex::new(Vec::new());
    run_batch(together, options.threads, &setting, &results);
    run_batch(alone, 1, &setting, &results);
    let results = results.into_inner().unwrap();
    let stray = setting.finish();
    report(&results, &stray, all - cases.len(), start.elapsed())
}

fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// What all tests share.
struct Setting {
    store: &'static Path,
    runtime: &'static Runtime,
    host: &'static Host,
    /// What a hybrid host's version 2 hands down.
    controllers: String,
}

/// Of a hybrid host: version 1 has a controller only while nobody has handed it down here.
const HANDED_DOWN: &str = "/sys/fs/cgroup/unified/cgroup.subtree_control";

impl Setting {
    fn prepare() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("they want root".to_owned());
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| format!("subreaper: {errno}"))?;
        let mut runtime = Runtime::find()?;
        super::reaper::start();
        if runtime.kind == Kind::Crun {
            super::host::empty_v2_hierarchy()
                .map_err(|errno| format!("mount namespace for crun: {errno}"))?;
        }
        let store =
            std::env::temp_dir().join(format!("{}{}", orphans::DIRECTORY, std::process::id()));
        let host = Host::probe();
        orphans::remove(&host, &std::env::temp_dir());
        super::rootfs::prepare(&store)?;
        runtime
            .make_reachable(&store)
            .map_err(|error| format!("{}: {error}", runtime.path.display()))?;
        Ok(Self {
            store: Box::leak(store.into_boxed_path()),
            runtime: Box::leak(Box::new(runtime)),
            host: Box::leak(Box::new(host)),
            controllers: std::fs::read_to_string(HANDED_DOWN).unwrap_or_default(),
        })
    }

    /// Removes what the tests shared; returns the processes that outlived all of them.
    fn finish(&self) -> Vec<String> {
        let mut stray = Vec::new();
        let own = std::process::id().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
            let mut fields = rest.split(' ');
            let (state, parent) =
                (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            if parent == own && !matches!(state, "Z" | "X") {
                let command =
                    std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                stray.push(format!("{name}) {}", command.replace('\0', " ").trim()));
            }
        }
        let now = std::fs::read_to_string(HANDED_DOWN).unwrap_or_default();
        for new in now.split_whitespace().filter(|name| !self.controllers.contains(name)) {
            let _in_use_by_others = std::fs::write(HANDED_DOWN, format!("-{new}"));
        }
        if std::env::var_os("SKEP_TEST_KEEP").is_none() {
            let _best_effort = std::fs::remove_dir_all(self.store);
        }
        stray
    }
}

type Results = Mutex<Vec<(&'static str, Verdict, Duration)>>;

fn run_batch(cases: Vec<Case>, threads: usize, setting: &Setting, results: &Results) {
    let queue = Mutex::new(VecDeque::from(cases));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else { break };
                    let number = results_number();
                    let start = Instant::now();
                    let verdict = run_case(case, number, setting);
                    let mut results = results.lock().unwrap();
                    println!("test {} ... {}", short(case.name), word(&verdict));
                    results.push((short(case.name), verdict, start.elapsed()));
                }
            });
        }
    });
}

fn results_number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "ok".to_owned(),
        Verdict::PassedUnexpectedly(_) => "ok (listed as a known difference)".to_owned(),
        Verdict::Failed(_) => "FAILED".to_owned(),
        Verdict::Skipped(reason) => format!("ignored, {reason}"),
        Verdict::Different(why) => format!("known difference, {why}"),
    }
}

fn run_case(case: Case, number: u32, setting: &Setting) -> Verdict {
    let id = format!("{}{}-{number}", orphans::ID, std::process::id());
    let test = Test::new(short(case.name), id, setting.store, setting.runtime, setting.host);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (case.run)(&test)));
    let left = panic::catch_unwind(AssertUnwindSafe(|| test.finish()))
        .unwrap_or_else(|panic| vec![format!("cleaning up failed: {}", message(&*panic))]);
    let failure = match outcome {
        Ok(()) => None,
        Err(payload) => match payload.downcast::<Skip>() {
            Ok(skip) => return Verdict::Skipped(skip.0),
            Err(payload) => Some(message(&*payload)),
        },
    };
    let known = known_differences::find(setting.runtime.kind, test.name);
    let failure = match (failure, left.is_empty()) {
        (None, true) => {
            let surprising = known.filter(|why| !why.contains(" may "));
            return surprising.map_or(Verdict::Passed, Verdict::PassedUnexpectedly);
        }
        (None, false) => format!("left behind: {}", left.join("; ")),
        (Some(text), true) => text,
        (Some(text), false) => format!("{text}\nand left behind: {}", left.join("; ")),
    };
    known.map_or(Verdict::Failed(failure), Verdict::Different)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = LAST_PANIC.take();
    if !text.is_empty() {
        return text;
    }
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => payload.downcast_ref::<&str>().unwrap_or(&"a panic without words").to_string(),
    }
}

fn report(
    results: &[(&'static str, Verdict, Duration)],
    stray: &[String],
    filtered: usize,
    took: Duration,
) -> u8 {
    let select = |pick: fn(&Verdict) -> Option<&str>| -> Vec<(&str, &str)> {
        let mut rows: Vec<_> =
            results.iter().filter_map(|(name, verdict, _)| Some((*name, pick(verdict)?))).collect();
        rows.sort_unstable();
        rows
    };
    let failed =
        select(|verdict| if let Verdict::Failed(text) = verdict { Some(text) } else { None });
    let skipped =
        select(|verdict| if let Verdict::Skipped(text) = verdict { Some(text) } else { None });
    let different =
        select(|verdict| if let Verdict::Different(why) = verdict { Some(*why) } else { None });
    let surprising =
        select(
            |verdict| {
                if let Verdict::PassedUnexpectedly(why) = verdict { Some(*why) } else { None }
            },
        );
    for (name, text) in &failed {
        println!("\n---- {name} ----\n{text}");
    }
    table("failed", &failed.iter().map(|(name, _)| (*name, "")).collect::<Vec<_>>());
    table("known differences", &different);
    table("listed as known differences, but passed", &surprising);
    table("ignored", &skipped);
    if std::env::var_os("SKEP_TEST_TIMES").is_some() {
        let mut slow: Vec<_> = results.iter().map(|(name, _, took)| (*took, *name)).collect();
        slow.sort_unstable_by(|a, b| b.cmp(a));
        for (took, name) in slow.iter().take(15) {
            println!("{:>7.2}s {name}", took.as_secs_f32());
        }
    }
    for process in stray {
        println!("\nstill running after all tests: {process}");
    }
    let ignored = skipped.len() + different.len();
    let passed = results.len() - failed.len() - ignored;
    let good = failed.is_empty() && stray.is_empty();
    let differences = match different.len() {
        0 => String::new(),
        n => format!(" ({n} known differences)"),
    };
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored{differences}; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        if good { "ok" } else { "FAILED" },
        failed.len(),
        took.as_secs_f32(),
    );
    if good { 0 } else { 101 }
}

fn table(title: &str, rows: &[(&str, &str)]) {
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    println!("\n{title} ({}):", rows.len());
    for (name, text) in rows {
        println!("    {name:width$}  {text}");
    }
}
