//! `update`.

use std::io::Read;
use std::path::Path;

use libcontainer::bundle;
use libcontainer::container::{Saved, Status};
use libcontainer::error::Context;
use libcontainer::resctrl::Schemata;
use libcontainer::spec::{BlockIo, Cpu, Memory, Pids, Resources};
use libcontainer::{Error, Result};

use super::{id, store};
use crate::cli::flag::{self, Flag};
use crate::cli::{Args, Globals};
use crate::logging::Logger;

/// Changes the limits of a container: from a document, or from flags.
///
/// # Errors
/// It does not run; a value that is none; a limit the kernel refuses.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    // Before the lock, which whoever writes the document would hold otherwise.
    let path = args.path(&flag::RESOURCES);
    let text = path.map(read).transpose()?.unwrap_or_default();
    let (store, id) = (store(globals)?, id(args)?);
    // A hook that asks this of its own container would wait for the create that waits for it.
    if Saved::open(&store, &id)?.container()?.status()? == Status::Creating {
        return Err(Error::lifecycle("container not running").hint("it is being created"));
    }
    let saved = Saved::open_locked(&store, &id)?;
    let mut container = saved.container()?;
    let schemata =
        Schemata::new(args.text(&flag::L3_CACHE_SCHEMA)?, args.text(&flag::MEM_BW_SCHEMA)?, &[])?;
    match path {
        Some(path) => {
            let name = if is_standard_input(path) { "standard input" } else { "the resources" };
            container.update(&bundle::parse_as::<Resources<'_>>(&text, name)?, log)?;
        }
        None => container.update(&from_flags(args)?, log)?,
    }
    if schemata.is_empty() { Ok(()) } else { container.update_schemata(&schemata) }
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a file whole, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if !is_standard_input(path) {
        return bundle::read_document(path);
    }
    let mut text = Vec::new();
    let limit = bundle::MAX_CONFIG + 1;
    std::io::stdin().lock().take(limit).read_to_end(&mut text).doing("read standard input")?;
    if text.len() as u64 >= limit {
        return Err(Error::config("standard input is over 16 MiB"));
    }
    Ok(text)
}

fn from_flags<'a>(args: &'a Args<'a>) -> Result<Resources<'a>> {
    let text = |flag: &'static Flag| -> Result<_> { Ok(args.text(flag)?.map(Into::into)) };
    let weight = args.uint(&flag::BLKIO_WEIGHT)?;
    let weight = weight.map(|weight| {
        u16::try_from(weight).map_err(|_too_large| {
            Error::config(format!("invalid value \"{weight}\" for flag -blkio-weight: 10 to 1000"))
        })
    });
    Ok(Resources {
        memory: Some(Memory {
            limit: args.bytes(&flag::MEMORY)?,
            reservation: args.bytes(&flag::MEMORY_RESERVATION)?,
            swap: args.bytes(&flag::MEMORY_SWAP)?,
            kernel: args.bytes(&flag::KERNEL_MEMORY)?,
            kernel_tcp: args.bytes(&flag::KERNEL_MEMORY_TCP)?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: args.uint(&flag::CPU_SHARE)?,
            quota: args.int(&flag::CPU_QUOTA)?,
            period: args.uint(&flag::CPU_PERIOD)?,
            burst: args.uint(&flag::CPU_BURST)?,
            realtime_runtime: args.int(&flag::CPU_RT_RUNTIME)?,
            realtime_period: args.uint(&flag::CPU_RT_PERIOD)?,
            cpus: text(&flag::CPUSET_CPUS)?,
            mems: text(&flag::CPUSET_MEMS)?,
            idle: args.int(&flag::CPU_IDLE)?,
        }),
        pids: args.int(&flag::PIDS_LIMIT)?.map(|limit| Pids { limit: Some(limit) }),
        block_io: weight
            .transpose()?
            .map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}
