//! What tells one request from another: everything that decides which bytes come out. Pure.

use std::path::Path;

use crate::digest::Digest;

use super::request::{DeltaRequest, MakeRequest};

/// A name for what `request` asks for, the same for the same arguments. How it is done (connections, logins,
/// folders) does not count; `against` are the digests of what the files of `--against` say.
pub(super) fn of(request: &MakeRequest, payload: &Path, against: &[Digest]) -> String {
    let images = |names: &[super::ImageName]| -> Vec<(String, String)> {
        names.iter().map(|image| (image.name.clone(), image.reference.to_string())).collect()
    };
    let DeltaRequest { deltas, recompress, effort, .. } = &request.delta;
    let text = format!(
        "{:?}",
        (
            concat!("kharon ", env!("CARGO_PKG_VERSION")),
            (
                std::path::absolute(payload).ok(),
                images(&request.wanted),
                request.repositories.key()
            ),
            (images(&request.already_transferred), against),
            (&request.platforms, request.referrers, request.foreign_layers, &request.names),
            (request.format, request.volume_bytes, request.sign.is_some()),
            (deltas, recompress, effort),
        )
    );
    Digest::of(text.as_bytes()).hex().to_owned()
}
