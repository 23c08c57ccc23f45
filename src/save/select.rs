//! The child of an index that serves a platform. Pure.

use crate::failure::Usage;
use crate::manifest::{Descriptor, Manifest};
use crate::platform::Platform;

/// A child that was chosen, and for which platforms there are others.
#[derive(Debug)]
pub(super) struct Nearest {
    pub(super) descriptor: Descriptor,
    pub(super) others: Vec<Platform>,
}

/// The child of `index` that serves `wanted` best, the first among equals.
pub(super) fn nearest(index: &Manifest, wanted: &Platform, name: &str) -> Result<Nearest, Usage> {
    let offered = || {
        let images = index
            .children()
            .iter()
            .filter(|child| child.attests_to().is_none() && !child.media_type.is_index());
        images.filter_map(|child| Some((child, child.platform.as_ref()?)))
    };
    let best = offered()
        .filter_map(|(child, platform)| Some((wanted.distance(platform)?, child)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, chosen)) = best {
        let others = offered().filter(|(child, _)| child.digest != chosen.digest);
        let others = others.map(|(_, platform)| platform.clone()).collect();
        return Ok(Nearest { descriptor: chosen.clone(), others });
    }
    let found: Vec<String> = offered().map(|(_, platform)| platform.with_version()).collect();
    let (found, hint) = if found.is_empty() {
        ("it names no platform".to_owned(), "save everything with `--platform all`")
    } else {
        let hint =
            "choose among those it has with `--platform`, or save them with `--platform all`";
        (format!("it has {}", found.join(", ")), hint)
    };
    Err(Usage::new(format!("`{name}` has no {wanted}; {found}")).with_hint(hint))
}
