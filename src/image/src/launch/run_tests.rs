//! The runtime is a script here: what it is given, and what is left when it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

struct Fake;

impl Image for Fake {
    fn config(&self) -> &[u8] {
        br#"{"os":"linux","config":{"Cmd":["cmd"],"Entrypoint":["/entry"],"Labels":{"run.oci.handler":"x"}}}"#
    }
    fn digest(&self) -> String {
        "sha256:x".into()
    }
    fn layers(&self) -> Result<Vec<PathBuf>> {
        Err(Error::unsupported("not here"))
    }
    fn unpack(&self, root: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        fs::create_dir(format!("/proc/self/fd/{}/bin", root.as_raw_fd())).context(|| "mkdir")
    }
    fn overlay(&self, _: std::os::fd::BorrowedFd<'_>) -> Result<bundle::inside::Overlay> {
        Err(Error::unsupported("not here"))
    }
    fn serve(&self, _: std::os::fd::BorrowedFd<'_>, _: &std::fs::File) -> Result<()> {
        Err(Error::unsupported("not here"))
    }
    fn keep(&self, _: &Path) -> Result<()> {
        Ok(())
    }
    fn release(&self) {}
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str, script: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("skep-run-test-{}-{name}", std::process::id()));
        let _leftover = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let place = Self(path);
        // By another process: what this one has open for writing, a child of another test may have open a moment longer, and
        // such a file is not executed (ETXTBSY).
        let text = format!("#!/bin/sh\ncd '{}'\n{script}\n", place.0.display());
        let written = Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .args([place.runtime().as_os_str(), text.as_ref()])
            .status();
        assert!(written.unwrap().success());
        place
    }

    fn runtime(&self) -> PathBuf {
        self.0.join("runtime")
    }

    fn bundles(&self) -> PathBuf {
        self.0.join("bundles")
    }

    fn run(&self, name: &'static str, words: &[&str]) -> Result<u8> {
        let (runtime, bundles) = (self.runtime(), self.bundles());
        let first = [
            name,
            "--image",
            "oci:x",
            "--runtime",
            runtime.to_str().unwrap(),
            "--bundle-root",
            bundles.to_str().unwrap(),
            "--global",
            "--root",
            "--global",
            self.0.to_str().unwrap(),
        ];
        let matches = command(name, "")
            .try_get_matches_from(first.iter().chain(words))
            .map_err(|e| Error::usage(e.to_string()))?;
        run(name, &matches, "oci:x", &Fake)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _leftover = fs::remove_dir_all(&self.0);
    }
}

const KEEP: &str = "echo \"$@\" >words; while [ $# -gt 0 ]; do [ \"$1\" = --bundle ] && cp \"$2/config.json\" config; shift; done";

#[test]
fn the_runtime_gets_a_bundle_that_ends_with_it() {
    let place = Place::new("run", &format!("{KEEP}; exit 42"));
    // An ordinary user has one id to give.
    let root = nix::unistd::geteuid().is_root();
    let user = if root { "5:6" } else { "0:0" };
    let code =
        place.run("run", &["--pid-file", "/p", "--user", user, "web", "--", "a", "-b"]).unwrap();
    assert_eq!(code, 42);
    let bundle = place.bundles().join("web");
    let state = place.0.display();
    assert_eq!(
        place.read("words"),
        format!("--root {state} run --bundle {} --pid-file /p web\n", bundle.display())
    );
    let config: serde_json::Value = serde_json::from_str(&place.read("config")).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["/entry", "a", "-b"]));
    assert_eq!(config["process"]["user"]["uid"], if root { 5 } else { 0 });
    assert_eq!(config["hostname"], "web");
    assert!(config["annotations"].get("run.oci.handler").is_none());
    assert!(config.get("hooks").is_none());
    assert_eq!(fs::read_dir(place.bundles()).unwrap().count(), 0);
}

#[test]
fn a_bundle_in_the_background_stays_until_its_container_is_deleted() {
    let place = Place::new("create", &format!("{KEEP}; mkdir web"));
    assert_eq!(place.run("create", &["web"]).unwrap(), 0);
    assert!(place.bundles().join("web/config.json").is_file());
    let config: serde_json::Value = serde_json::from_str(&place.read("config")).unwrap();
    assert_eq!(config["hooks"]["poststop"][0]["args"][2], "--remove");
    // The name is taken as long as the container lives; then whoever comes next removes it.
    let error = place.run("create", &["web"]).unwrap_err();
    assert!(error.to_string().contains("a container web already"), "{error}");
    fs::remove_dir(place.0.join("web")).unwrap();
    assert_eq!(place.run("run", &["-d", "web"]).unwrap(), 0);
}

#[test]
fn what_fails_leaves_nothing() {
    let place = Place::new("fails", "exit 3");
    assert_eq!(place.run("create", &["web"]).unwrap(), 3);
    assert_eq!(fs::read_dir(place.bundles()).unwrap().count(), 0);
    fs::write(place.runtime(), "no program").unwrap();
    for command in ["run", "create"] {
        let error = place.run(command, &["web"]).unwrap_err();
        assert!(error.to_string().contains("cannot start the runtime"), "{error}");
        assert_eq!(fs::read_dir(place.bundles()).unwrap().count(), 0);
    }
    for bad in [
        &["../x"][..],
        &[".x"],
        &["a/b"],
        &[""],
        &["--user", "nosuch", "web"],
        &["--rootfs=overlay", "web"],
        &["--env", "X", "web"],
    ] {
        place.run("run", bad).unwrap_err();
        assert_eq!(fs::read_dir(place.bundles()).map_or(0, Iterator::count), 0, "{bad:?}");
    }
    // Where others could put links in its way it does not work.
    fs::set_permissions(place.bundles(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = place.run("run", &["web"]).unwrap_err();
    assert!(error.to_string().contains("of this user alone"), "{error}");
}

#[test]
fn the_state_is_looked_for_where_the_runtime_keeps_it() {
    for (words, wanted) in [
        (&["--root", "/a"][..], "/a"),
        (&["--root=/b"], "/b"),
        (&["-root", "/c"], "/c"),
        (&["--debug", "--root=/d"], "/d"),
        (&["--log", "/l"], "/run/crun"),
    ] {
        let line = words.iter().flat_map(|word| ["--global", word]);
        let matches = command("run", "")
            .get_matches_from(["run", "--image", "x"].into_iter().chain(line).chain(["id"]));
        if wanted == "/run/crun" && !nix::unistd::geteuid().is_root() {
            continue;
        }
        assert_eq!(state_root(&matches, Path::new("/usr/bin/crun")), Path::new(wanted));
    }
}
