//! What is done with images is another program's, `skep-image`: this one runs as root and links no network, no TLS and no
//! decompression.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcontainer::Error;
use libcontainer::sys::exec::{CStrArray, execve};
use nix::errno::Errno;

/// Where the program is, seen from the directory this one is in.
const BESIDE: &[&str] = &["skep-image", "../libexec/skep/skep-image", "../libexec/skep-image"];
/// Where it is installed, if it is not there.
const INSTALLED: &[&str] = &["/usr/local/libexec/skep/skep-image", "/usr/libexec/skep/skep-image"];

/// Becomes `skep-image`, with the command that is word `at` of `argv`. Returns only to say why not.
///
/// The words before the command are the runtime's, and come back to it by way of `--global`.
pub(crate) fn hand_over(argv: &[&OsStr], at: usize) -> Error {
    let (before, after) = argv.split_at_checked(at).unwrap_or((argv, &[]));
    let mut words = vec!["skep-image".into()];
    let mut after = after.iter();
    words.extend(after.next().map(|word| word.to_os_string()));
    if words.last().is_some_and(|command| command == "run" || command == "create") {
        for word in before.iter().skip(1) {
            words.extend(["--global".into(), word.to_os_string()]);
        }
    }
    words.extend(after.map(|word| word.to_os_string()));
    let strings = words.into_iter().filter_map(|word| CString::new(word.into_vec()).ok());
    let words = CStrArray::new(strings.collect());
    let environment = CStrArray::new(
        std::env::vars_os().filter_map(|(name, value)| variable(&name, &value)).collect(),
    );
    let own = own_file();
    let directory = own.as_deref().and_then(Path::parent);
    let beside = BESIDE.iter().filter_map(|place| Some(directory?.join(place)));
    for program in beside.chain(INSTALLED.iter().map(PathBuf::from)) {
        let Ok(path) = CString::new(program.as_os_str().as_bytes()) else { continue };
        match execve(&path, &words, &environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            errno => return Error::os("execute", errno).path(program),
        }
    }
    let own = own.unwrap_or_else(|| PathBuf::from("skep"));
    Error::unsupported("images are the program skep-image's, which is not there")
        .hint(format!("install it beside {}, or in ../libexec/skep seen from there", own.display()))
}

/// The file of this program, unless it runs from a mount of its own, which to the kernel lies in no directory (`/`): what is
/// executed beside it, as root perhaps, is to be beside this very file.
fn own_file() -> Option<PathBuf> {
    const EXE: &str = "/proc/self/exe";
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let path = fs::read_link(EXE).ok()?;
    (inode(&path)? == inode(Path::new(EXE))?).then_some(path)
}

fn variable(name: &OsStr, value: &OsStr) -> Option<CString> {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
}
