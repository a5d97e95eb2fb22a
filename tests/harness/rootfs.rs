//! Root file systems made of one static busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const APPLETS: &str = "[ ash awk base64 basename cat chgrp chmod chown chroot cp cut date dd df dirname dmesg \
    du echo env expr false find free fold grep groups head hostname id ifconfig ip ipcs kill less ln ls lsof \
    md5sum mkdir mkfifo mknod mktemp more mount mv nc nproc nslookup od pidof ping pivot_root printenv printf ps \
    pwd readlink renice rm rmdir route sed seq setsid sh sha256sum sleep sort stat stty su swapoff sync sysctl \
    tail tar tee test timeout top touch tr true tty umount uname uniq unshare uptime usleep vi wc which whoami \
    xargs yes";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/bin/false\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nbin:x:1:\ntty:x:5:\nuser:x:1000:\nextra:x:1001:user\n";

/// The busybox of this host, if it is a static one.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| fs::read(path).is_ok_and(|bytes| !contains(&bytes, b"/lib64/ld-linux")))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Copies busybox to where it can be hard-linked from, once per run.
pub fn prepare(store: &Path) -> Result<(), String> {
    let busybox = busybox().ok_or("no static busybox (Debian: apt-get install busybox-static)")?;
    fs::create_dir_all(store).map_err(|error| format!("{}: {error}", store.display()))?;
    let copy = store.join("busybox");
    fs::copy(&busybox, &copy).map_err(|error| format!("{}: {error}", busybox.display()))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
}

/// Makes a root file system at `path` from the store.
pub fn build(store: &Path, path: &Path) {
    for dir in [
        "bin",
        "dev",
        "etc",
        "home/user",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "var/run",
    ] {
        fs::create_dir_all(path.join(dir)).unwrap();
    }
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(store.join("busybox"), path.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", path.join("bin").join(applet)).unwrap();
    }
    fs::write(path.join("etc/passwd"), PASSWD).unwrap();
    fs::write(path.join("etc/group"), GROUP).unwrap();
}
