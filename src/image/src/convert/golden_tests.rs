//! `golden/NAME.image.json` becomes `golden/NAME.config.json`, in a root with `golden/passwd` and `golden/group`.
//! `UPDATE_SNAPSHOTS=1` writes what is made. `integration/images/conversion` holds the same against umoci.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use super::user::tests::Root;
use super::*;

#[test]
fn images_become_the_documents_they_should() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/convert/golden");
    let read = |name: &str| fs::read(golden.join(name)).unwrap();
    let root = Root::new(&[("etc/passwd", &read("passwd")), ("etc/group", &read("group"))]);
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&golden).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(case) = name.strip_suffix(".image.json") else { continue };
        seen += 1;
        let made = convert(&read(&name), root.fd.as_fd(), &Request::default())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let mut spec = made.spec;
        // The architecture is that of the machine the test runs on.
        if let Some(linux) = spec["linux"].as_object_mut() {
            linux.remove("seccomp");
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&spec).unwrap());
        let expected = golden.join(format!("{case}.config.json"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{case}: {text}"));
        }
    }
    assert!(seen >= 20, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
