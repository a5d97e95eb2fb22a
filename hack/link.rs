//! The build script of `skep`: where its functions are put in order (libcontainer/design/0018-text-order.md).

#![expect(clippy::print_stdout, reason = "a build script speaks to cargo so")]

use std::env;
use std::path::Path;

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let order = Path::new(&root).join("libcontainer/text-order.ld");
    println!("cargo::rerun-if-changed={}", order.display());
    let is = |what: &str, wanted: &str| env::var(what).is_ok_and(|value| value == wanted);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}", order.display());
    }
}
