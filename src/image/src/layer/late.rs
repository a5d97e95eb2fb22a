//! Hard links whose target comes later, if it comes: a hostile layer has as many as its limits let it.

use std::collections::HashMap;

use super::name::{Path, shown, whole};
use crate::error::{Error, Result};

/// How often the late links are gone through. Links to links are made in one pass, in whatever order they are; one more
/// is needed where a link makes the symlink on the way to another's target.
const PASSES: usize = 8;

/// A hard link whose target is not there yet.
#[derive(Debug)]
pub(super) struct LateLink {
    /// Both are clean names: in parts they would take several times as much.
    path: Box<[u8]>,
    target: Box<[u8]>,
}

/// What has become of one.
pub(super) enum Tried {
    /// It is made, and its name has this number.
    As(u64),
    /// There is nothing of the name of its target. The number of that, if it can be known.
    Missing(Option<u64>),
}

impl LateLink {
    pub(super) fn new(path: &Path, target: &Path) -> Self {
        let join = |path: &Path| whole(path).join(&b'/').into();
        Self { path: join(path), target: join(target) }
    }

    /// Bytes that it takes until the end: itself, what the heap adds to its names, and its part of what is known of those that wait.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + 32 + 40 + self.path.len() + self.target.len()
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }
}

fn path(name: &[u8]) -> Path {
    let mut parts: Vec<Vec<u8>> = name.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
    let base = parts.pop().unwrap_or_default();
    Path { parent: parts, base }
}

/// Makes them all with `make`, which is given path and target, in any order.
///
/// # Errors
/// Those of `make`; [`Kind::Verification`](crate::Kind::Verification) for one whose target never comes.
pub(super) fn place(
    mut links: Vec<LateLink>,
    make: &mut dyn FnMut(&Path, &Path) -> Result<Tried>,
) -> Result<()> {
    for _ in 0..PASSES {
        let before = links.len();
        let placed = pass(&links, make)?;
        let mut placed = placed.into_iter();
        links.retain(|_| !placed.next().unwrap_or_default());
        if links.len() == before {
            break;
        }
    }
    match links.first() {
        None => Ok(()),
        Some(link) => Err(Error::verification(format!(
            "\"{}\": a hard link to \"{}\", which is not there",
            link.shown(),
            shown(&link.target)
        ))),
    }
}

/// Tries each link once, and after each that is made those that have waited for its name. Says which are made.
fn pass(
    links: &[LateLink],
    make: &mut dyn FnMut(&Path, &Path) -> Result<Tried>,
) -> Result<Vec<bool>> {
    let mut placed = vec![false; links.len()];
    // The last that waits for a name, and for each link the one before it that waits for the same, counted from 1.
    let mut waiting: HashMap<u64, u32> = HashMap::new();
    let mut before = vec![0_u32; links.len()];
    for first in 0..links.len() {
        let mut ready = vec![first];
        while let Some(number) = ready.pop() {
            let Some(link) = links.get(number) else { continue };
            match make(&path(&link.path), &path(&link.target))? {
                Tried::As(name) => {
                    placed.get_mut(number).into_iter().for_each(|placed| *placed = true);
                    let mut next = waiting.remove(&name).unwrap_or(0);
                    while let Some(number) =
                        usize::try_from(next).ok().and_then(|n| n.checked_sub(1))
                    {
                        ready.push(number);
                        next = before.get(number).copied().unwrap_or(0);
                    }
                }
                Tried::Missing(Some(name)) => {
                    let this = u32::try_from(number + 1).unwrap_or(0);
                    let last = waiting.insert(name, this).unwrap_or(0);
                    before.get_mut(number).into_iter().for_each(|before| *before = last);
                }
                Tried::Missing(None) => {}
            }
        }
    }
    Ok(placed)
}
