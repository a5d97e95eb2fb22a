//! The cgroups in a checkpoint (`cgroup.img`: CRIU's images/cgroup.proto).
//!
//! CRIU saves every cgroup below those of the processes, and makes them anew at the restore. Where the container is in no
//! cgroup of its own, as in the hierarchies of version 1 it needs no limit of, that is every cgroup of the host's.

use super::Places;
use super::wire::{Fields, Message, Value};
use crate::cgroup::Cgroup;
use crate::error::Result;

const IMAGE: &str = "cgroup.img";
const NEW: &str = "cgroup.img.new";

/// Room for every cgroup of a large host.
const MAX_IMAGE: u64 = 64 << 20;

/// The magic numbers of images and of this one, and the length of the message.
const HEADER: usize = 12;

// cgroup_entry, cg_set_entry, cg_member_entry, cg_controller_entry and cgroup_dir_entry.
const SETS: u32 = 1;
const CONTROLLERS: u32 = 2;
const MEMBERS: u32 = 2;
const NAME: u32 = 1;
const PATH: u32 = 2;
const DIRECTORIES: u32 = 2;
const PERMISSIONS: u32 = 4;

/// Takes the cgroups that are not the container's out of the checkpoint in `places`.
///
/// # Errors
/// Those of reading and writing the image, which is whole then as CRIU has made it.
pub(crate) fn forget_others(places: &Places, cgroup: &Cgroup) -> Result<()> {
    let image = places.read(IMAGE, MAX_IMAGE)?;
    match without_others(&image, &|controller| cgroup.has(controller)) {
        Some(image) => places.replace(IMAGE, NEW, &image),
        None => Ok(()),
    }
}

/// The image with other cgroups and what is below them left out; `None` if there is nothing of that, or it is no such image.
fn without_others(image: &[u8], has: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    let (header, message) = image.split_at_checked(HEADER)?;
    let fields: Vec<_> = Fields::of(message).collect::<Option<_>>()?;
    let sets = fields.iter().filter(|(field, _)| *field == SETS);
    let paths: Vec<&[u8]> = sets.flat_map(|(_, set)| paths_of(set.bytes())).collect();
    let mut entry = Message::default();
    let mut changed = false;
    for (field, value) in fields {
        match value {
            Value::Bytes(controller) if field == CONTROLLERS => {
                let kept = own_of(controller, has, &paths)?;
                changed |= kept.bytes() != controller;
                entry.message(CONTROLLERS, &kept);
            }
            Value::Bytes(bytes) => entry.text(field, bytes),
            Value::Number(number) => entry.uint(field, number),
        }
    }
    let length = u32::try_from(entry.bytes().len()).ok()?;
    let magic = header.get(..HEADER - 4)?;
    changed.then(|| [magic, &length.to_le_bytes(), entry.bytes()].concat())
}

/// Where the processes of a set are, whatever the controller.
fn paths_of(set: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = Fields::of(set).flatten().filter(|(field, _)| *field == MEMBERS);
    members.flat_map(|(_, member)| {
        let paths = Fields::of(member.bytes()).flatten().filter(|(field, _)| *field == PATH);
        paths.map(|(_, path)| path.bytes())
    })
}

/// A controller as it is if the container has a cgroup of its own there. Else with the cgroups that its processes are in
/// alone, without limits, for CRIU to know which path becomes which.
fn own_of(controller: &[u8], has: &dyn Fn(&str) -> bool, paths: &[&[u8]]) -> Option<Message> {
    let fields: Vec<_> = Fields::of(controller).collect::<Option<_>>()?;
    let is_own = fields
        .iter()
        .any(|(field, value)| *field == NAME && std::str::from_utf8(value.bytes()).is_ok_and(has));
    let mut kept = Message::default();
    for (field, value) in fields {
        match value {
            Value::Number(number) => kept.uint(field, number),
            Value::Bytes(directory) if field == DIRECTORIES && !is_own => {
                let fields: Vec<_> = Fields::of(directory).collect::<Option<_>>()?;
                let is_name = |value: Value<'_>| {
                    let is = |path: &&[u8]| path.strip_prefix(b"/") == Some(value.bytes());
                    paths.iter().any(is)
                };
                if !fields.iter().any(|(field, value)| *field == NAME && is_name(*value)) {
                    continue;
                }
                let mut bare = Message::default();
                for (field, value) in fields {
                    if matches!(field, NAME | PERMISSIONS) {
                        bare.text(field, value.bytes());
                    }
                }
                kept.message(DIRECTORIES, &bare);
            }
            Value::Bytes(bytes) => kept.text(field, bytes),
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str, children: &[Message]) -> Message {
        let mut directory = Message::default();
        directory.text(NAME, name.as_bytes());
        children.iter().for_each(|child| directory.message(2, child));
        directory.text(3, b"property");
        directory.text(PERMISSIONS, b"permissions");
        directory
    }

    /// In cpuset at the root, in hugetlb where the caller is.
    fn image(others: &[Message]) -> Vec<u8> {
        let mut set = Message::default();
        set.uint(1, 1);
        for (name, path) in [("cpu", "/box"), ("cpuset", "/"), ("hugetlb", "/user/caller")] {
            let mut member = Message::default();
            member.text(NAME, name.as_bytes());
            member.text(PATH, path.as_bytes());
            set.message(MEMBERS, &member);
        }
        let mut entry = Message::default();
        entry.message(SETS, &set);
        let caller = [directory("user/caller", others)];
        for (names, directories) in [
            (&["cpu", "cpuacct"][..], &[directory("box", &[directory("sub", &[])])][..]),
            (&["cpuset"], others),
            (&["hugetlb"], &caller),
        ] {
            let mut controller = Message::default();
            names.iter().for_each(|name| controller.text(NAME, name.as_bytes()));
            directories.iter().for_each(|one| controller.message(DIRECTORIES, one));
            controller.uint(3, 1);
            entry.message(CONTROLLERS, &controller);
        }
        let length = u32::try_from(entry.bytes().len()).unwrap();
        [b"\x19CVT038Y", &length.to_le_bytes()[..], entry.bytes()].concat()
    }

    #[test]
    fn what_is_beside_the_container_is_left_out() {
        let has = |name: &str| name == "cpuacct";
        let full = image(&[directory("other", &[directory("deep", &[])])]);
        let kept = without_others(&full, &has).unwrap();
        let text = String::from_utf8_lossy(&kept);
        assert!(!text.contains("other") && !text.contains("deep"), "{text}");
        assert!(text.contains("box") && text.contains("sub"), "{text}");
        assert_eq!(text.matches("user/caller").count(), 2, "{text}");
        assert_eq!(text.matches("property").count(), 2, "{text}");
        assert_eq!(text.matches("permissions").count(), 3, "{text}");
        assert_eq!(kept[..8], full[..8]);
        assert_eq!(u32::from_le_bytes(kept[8..12].try_into().unwrap()) as usize, kept.len() - 12);
        // Once more there is nothing to do, nor where all is the container's.
        assert_eq!(without_others(&kept, &has), None);
        assert_eq!(without_others(&full, &|_| true), None);
    }

    #[test]
    fn what_is_no_such_image_is_left_alone() {
        let full = image(&[]);
        assert_eq!(without_others(&[], &|_| false), None);
        for end in 0..full.len() {
            let _no_panic = without_others(&full[..end], &|_| false);
        }
    }
}
