//! The files that `--against` names: payloads, receipts and inventories, told apart by what is in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::digest::Digest;
use crate::payload::Payload;
use crate::plan::Baseline;
use crate::progress::Reporter;
use crate::receipt::{RECEIPT_MAX_BYTES, Receipt};
use crate::reference::{Reference, RegistryHost, RepositoryName};

use super::baseline::add_payload;
use super::request::MakeRequest;

/// So much is read to tell what a file is, in bytes.
const START_BYTES: u64 = 512;

enum Against {
    Payload(Box<Payload>),
    Receipt(Receipt),
}

/// Adds what all files and receipts of the request prove. Gives the payloads, for old blobs that are in them, and the
/// digest of what each file says.
pub(super) fn add_files(
    baseline: &mut Baseline,
    request: &MakeRequest,
    reporter: &dyn Reporter,
) -> anyhow::Result<(Vec<Payload>, Vec<Digest>)> {
    let near = sources(request)?;
    let (mut payloads, mut said, mut far) = (Vec::new(), Vec::new(), None);
    for path in &request.against {
        let cannot = || format!("cannot take `{}` as baseline", path.display());
        match open(path).with_context(cannot)? {
            Against::Payload(payload) => {
                add_payload(baseline, &payload)?;
                said.push(Digest::of(&payload.index().to_json()?));
                payloads.push(*payload);
            }
            Against::Receipt(receipt) => {
                add_receipt(baseline, &receipt, &near);
                said.push(Digest::of(&receipt.to_json()?));
                warn_of_two(&mut far, &receipt.registry, reporter);
            }
        }
    }
    for receipt in &request.receipts {
        add_receipt(baseline, receipt, &near);
        said.push(Digest::of(&receipt.to_json()?));
        warn_of_two(&mut far, &receipt.registry, reporter);
    }
    Ok((payloads, said))
}

fn open(path: &Path) -> anyhow::Result<Against> {
    if fs::metadata(path)?.is_dir() {
        return Ok(Against::Payload(Box::new(Payload::open(path)?)));
    }
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.by_ref().take(START_BYTES).read_to_end(&mut bytes)?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(Against::Payload(Box::new(Payload::open(path)?)));
    }
    file.take(RECEIPT_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Against::Receipt(Receipt::parse(&bytes)?))
}

/// For each far repository, the image that goes there: its repository at the source may have old blobs.
fn sources(request: &MakeRequest) -> anyhow::Result<BTreeMap<RepositoryName, &Reference>> {
    let mut sources = BTreeMap::new();
    for image in request.wanted.iter().chain(&request.already_transferred) {
        sources.entry(request.names.of(&image.reference)?).or_insert(&image.reference);
    }
    Ok(sources)
}

fn add_receipt(
    baseline: &mut Baseline,
    receipt: &Receipt,
    near: &BTreeMap<RepositoryName, &Reference>,
) {
    for repository in &receipt.repositories {
        let name = repository.name_in_payloads();
        for (tag, digest) in &repository.tags {
            baseline.add_tag(name.clone(), tag.clone(), digest.clone());
        }
        for blob in &repository.blobs {
            baseline.add_blob(blob, name.clone(), near.get(name).copied());
        }
    }
}

/// Nobody but the user knows whether two names are one registry.
fn warn_of_two(far: &mut Option<RegistryHost>, registry: &RegistryHost, reporter: &dyn Reporter) {
    let known = far.get_or_insert_with(|| registry.clone());
    if known != registry {
        reporter.warn(format!(
            "receipts of `{known}` and `{registry}` count as one far side: what only one of them has is not sent to the other"
        ));
    }
}
