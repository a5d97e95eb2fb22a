//! What needs root to mount skips with its reason where there is none.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Place(PathBuf);

impl Place {
    /// On a file system that can be the upper of an overlay; its name is one that option strings would be cut at.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir()
            .join(format!("skep-bundle-test-{}-{name},a:b\\c", std::process::id()));
        let _leftover = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn layer(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = self.0.join(name);
        fs::create_dir_all(layer.join("etc")).unwrap();
        for (file, content) in files {
            let file = layer.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        layer
    }

    fn leftovers(&self) -> usize {
        let is_left =
            |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes());
        fs::read_dir(&self.0).unwrap().map(Result::unwrap).filter(is_left).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let directory = open_directory(&self.0).unwrap();
        for name in names(directory.as_fd()).unwrap() {
            if let Ok(bundle) = open_below(directory.as_fd(), &name) {
                let _gone = remove::bundle(
                    directory.as_fd(),
                    OsStr::from_bytes(name.to_bytes()),
                    bundle.as_fd(),
                );
            }
        }
        let _leftover = fs::remove_dir_all(&self.0);
    }
}

#[allow(clippy::print_stdout, reason = "how the test harness is told")]
fn skip(why: &str) {
    println!("test of overlays ... ignored, {why}");
}

/// Whether overlays can be mounted here; says why not.
fn can_mount(place: &Place) -> bool {
    let (one, two) = (place.layer("can-1", &[]), place.layer("can-2", &[]));
    let lowers = overlay::open_layers(&[one, two], None).unwrap();
    let directory = open_directory(&place.0).unwrap();
    let target = make_directory(directory.as_fd(), c"can", 0o755).unwrap();
    let mounted = overlay::mount(&lowers, None, directory.as_fd(), c"can");
    drop(target);
    match mounted {
        Ok(()) => {
            nix::mount::umount(&place.0.join("can")).unwrap();
            true
        }
        Err(error) => {
            skip(&error.to_string());
            false
        }
    }
}

const CONFIG: &[u8] = br#"{"os":"linux","config":{"Cmd":["/hello"],"User":"app"}}"#;

fn plan<'a>(
    place: &'a Path,
    layers: &'a [PathBuf],
    rootfs: Rootfs,
    request: &'a Request,
) -> Plan<'a> {
    Plan {
        place,
        rootfs,
        layers,
        own: None,
        config: CONFIG,
        request,
        source: "oci:test",
        manifest: String::new(),
        owner: None,
    }
}

fn unpack(root: BorrowedFd<'_>) -> Result<()> {
    let root = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "app:x:7:8::/home:\n").unwrap();
    Ok(())
}

#[test]
fn a_copy_is_made_whole_or_not_at_all() {
    let place = Place::new("copy");
    let request = Request::default();
    let bundle = place.0.join("bundle");
    let plan = plan(&bundle, &[], Rootfs::Copy, &request);
    let made = make(&plan, &unpack).unwrap();
    assert_eq!(made.rootfs, Rootfs::Copy);
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["user"]["uid"], 7);
    assert_eq!(fs::metadata(&bundle).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(bundle.join("rootfs")).unwrap().mode() & 0o7777, 0o755);
    // The name is taken now; and nothing of the second try stays.
    assert_eq!(make(&plan, &unpack).unwrap_err().kind(), Kind::Usage);
    assert_eq!(place.leftovers(), 0);
    // In use as long as somebody has it locked.
    let error = remove(&bundle).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(made);
    remove(&bundle).unwrap();
    assert!(fs::symlink_metadata(&bundle).is_err());
    assert_eq!(place.leftovers(), 0);

    for failing in [
        &(|_: BorrowedFd<'_>| Err(Error::no_space("full"))) as &Unpack<'_>,
        // No /etc/passwd, which the user is looked for in.
        &|_: BorrowedFd<'_>| Ok(()),
    ] {
        make(&plan, failing).unwrap_err();
        assert!(fs::symlink_metadata(&bundle).is_err());
        assert_eq!(place.leftovers(), 0);
    }
}

#[test]
fn what_a_killed_process_leaves_the_next_one_removes() {
    let place = Place::new("killed");
    let request = Request::default();
    let left = place.0.join(format!("{UNFINISHED}1-2-3"));
    fs::create_dir_all(left.join("rootfs/a")).unwrap();
    let busy = place.0.join(format!("{UNFINISHED}4-5-6"));
    fs::create_dir(&busy).unwrap();
    let lock_of_busy = open_directory(&busy).unwrap();
    lock(lock_of_busy.as_fd()).unwrap();
    make(&plan(&place.0.join("b"), &[], Rootfs::Copy, &request), &unpack).unwrap();
    assert!(fs::symlink_metadata(&left).is_err());
    assert!(fs::symlink_metadata(&busy).is_ok());
}

#[test]
fn only_bundles_of_ours_are_removed() {
    let place = Place::new("others");
    let other = place.0.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("config.json"), "{}").unwrap();
    assert_eq!(remove(&other).unwrap_err().kind(), Kind::Usage);
    symlink("/etc/passwd", other.join("skep-bundle.json")).unwrap();
    remove(&other).unwrap_err();
    fs::remove_file(other.join("skep-bundle.json")).unwrap();
    fs::write(other.join("skep-bundle.json"), r#"{"version":99,"source":"","overlay":false}"#)
        .unwrap();
    assert_eq!(remove(&other).unwrap_err().kind(), Kind::Unsupported);
    assert!(fs::metadata(other.join("config.json")).is_ok());
    symlink(&other, place.0.join("link")).unwrap();
    remove(&place.0.join("link")).unwrap_err();
    assert!(remove(Path::new("/")).is_err() && remove(Path::new("..")).is_err());
}

#[test]
fn the_bundles_of_containers_that_are_gone_are_collected() {
    let place = Place::new("collect");
    let request = Request::default();
    let state = place.0.join("state");
    fs::create_dir(&state).unwrap();
    let bundle = place.0.join("b");
    let remover = Some(PathBuf::from("/usr/libexec/skep-image"));
    let owner = record::Owner { state: state.clone(), remover };
    let plan = Plan { owner: Some(owner), ..plan(&bundle, &[], Rootfs::Copy, &request) };
    let made = make(&plan, &unpack).unwrap();
    assert_eq!(
        made.conversion.spec["hooks"]["poststop"][0]["args"],
        serde_json::json!(["skep-image", "bundle", "--remove", bundle])
    );
    fs::remove_dir(&state).unwrap();
    assert_eq!(collect(&place.0).unwrap(), 0, "it is locked");
    drop(made);
    fs::create_dir(&state).unwrap();
    assert_eq!(collect(&place.0).unwrap(), 0, "the container lives");
    fs::remove_dir(&state).unwrap();
    assert_eq!(collect(&place.0).unwrap(), 1);
    assert!(fs::symlink_metadata(&bundle).is_err());
}

#[test]
fn trees_of_any_depth_and_mode_are_removed() {
    let place = Place::new("deep");
    let top = place.0.join("top");
    fs::create_dir(&top).unwrap();
    let mut at = open_directory(&top).unwrap();
    for level in 0..1500 {
        let name = CString::new(format!("d{}", level % 3)).unwrap();
        at = make_directory(at.as_fd(), &name, 0o700).unwrap();
    }
    drop(at);
    fs::write(top.join(".deep-1"), "").unwrap();
    fs::create_dir_all(top.join("closed/below")).unwrap();
    fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("/", top.join("link")).unwrap();
    let parent = open_directory(&place.0).unwrap();
    remove_tree(parent.as_fd(), "top").unwrap();
    assert!(fs::symlink_metadata(&top).is_err());
}

#[test]
fn an_overlay_shows_its_layers_whatever_they_are_called() {
    let place = Place::new("overlay");
    if !can_mount(&place) {
        return;
    }
    let request = Request::default();
    let low =
        place.layer("low:er,upperdir=/x\\", &[("etc/passwd", "app:x:1:1::/:\n"), ("low", "1")]);
    let high = place.layer("high", &[("etc/passwd", "app:x:9:9::/:\n"), ("high", "2")]);
    fs::set_permissions(&high, fs::Permissions::from_mode(0o751)).unwrap();
    // One layer twice, as an image may have it.
    let layers = [high.clone(), low.clone(), high.clone()];
    let bundle = place.0.join("bun:dle,b\\");
    let made = make(&plan(&bundle, &layers, Rootfs::Auto, &request), &unpack).unwrap();
    assert_eq!(made.rootfs, Rootfs::Overlay);
    let rootfs = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(rootfs.join("low")).unwrap(), "1");
    assert_eq!(fs::read_to_string(rootfs.join("high")).unwrap(), "2");
    assert_eq!(made.conversion.spec["process"]["user"]["uid"], 9);
    assert_eq!(fs::metadata(&rootfs).unwrap().mode() & 0o7777, 0o751);
    fs::write(rootfs.join("new"), "3").unwrap();
    fs::remove_file(rootfs.join("low")).unwrap();
    assert_eq!(fs::read_to_string(low.join("low")).unwrap(), "1", "the layer stays as it is");
    // Unmounted, and mounted again, as after a reboot.
    nix::mount::umount(&rootfs).unwrap();
    assert!(fs::metadata(rootfs.join("new")).is_err());
    mount_again(&bundle, None).unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("new")).unwrap(), "3");
    assert_eq!(mount_again(&bundle, None).unwrap_err().kind(), Kind::Usage);
    drop(made);
    remove(&bundle).unwrap();
    assert!(fs::symlink_metadata(&bundle).is_err());
    assert_eq!(place.leftovers(), 0);
}

#[test]
fn an_overlay_has_as_many_layers_as_images_have() {
    let place = Place::new("many");
    if !can_mount(&place) {
        return;
    }
    let request = Request::default();
    let layers: Vec<PathBuf> = (0..128)
        .map(|n| {
            place.layer(
                &format!("layer-{n}"),
                &[(&format!("f{n}"), "x"), ("etc/passwd", "app:x:1:1::/:\n")],
            )
        })
        .collect();
    let bundle = place.0.join("b");
    drop(make(&plan(&bundle, &layers, Rootfs::Overlay, &request), &unpack).unwrap());
    assert_eq!(fs::read_dir(bundle.join("rootfs")).unwrap().count(), 128 + 1);
    remove(&bundle).unwrap();
    // As kernels before 6.8 mount it.
    let directory = open_directory(&place.0).unwrap();
    make_directory(directory.as_fd(), c"old", 0o755).unwrap();
    let lowers = overlay::open_layers(&layers, None).unwrap();
    overlay::mount_as_before_6_8(&lowers, None, directory.as_fd(), c"old").unwrap();
    assert_eq!(fs::read_dir(place.0.join("old")).unwrap().count(), 128 + 1);
    nix::mount::umount(&place.0.join("old")).unwrap();
}

#[test]
fn an_overlay_that_cannot_be_is_a_copy_or_an_error() {
    let place = Place::new("cannot");
    let request = Request::default();
    let bundle = place.0.join("b");
    let gone = [place.0.join("no such layer")];
    let error = make(&plan(&bundle, &gone, Rootfs::Overlay, &request), &unpack).unwrap_err();
    assert!(error.to_string().contains("no such layer"), "{error}");
    assert_eq!(place.leftovers(), 0);
    let made = make(&plan(&bundle, &gone, Rootfs::Auto, &request), &unpack).unwrap();
    assert_eq!(made.rootfs, Rootfs::Copy);
    assert!(fs::symlink_metadata(bundle.join("overlay")).is_err());
}

#[test]
fn nothing_is_mounted_below_an_opaque_root() {
    if !nix::unistd::geteuid().is_root() {
        return skip("attributes of overlayfs need root");
    }
    let place = Place::new("opaque");
    let layers = ["one", "two", "three"].map(|name| place.layer(name, &[]));
    assert_eq!(overlay::open_layers(&layers, None).unwrap().len(), 3);
    let two = open_directory(&layers[1]).unwrap();
    fd::set_attribute(two.as_fd(), c"trusted.overlay.opaque", b"y").unwrap();
    assert_eq!(overlay::open_layers(&layers, None).unwrap().len(), 2);
}
