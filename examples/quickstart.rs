//! An image crosses from one registry to another, twice: whole, then as an upgrade that carries only
//! what is new. Both registries run inside this program; nothing else is needed. Run it with
//! `cargo run --release --example quickstart`.

use std::collections::BTreeSet;
use std::fs;
use std::future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kharon::digest::{Digest, Verifier};
use kharon::make::{self, Destination, MakeRequest, Summary};
use kharon::payload::Payload;
use kharon::progress::Silent;
use kharon::push::{self, PushRequest};
use kharon::reference::{Reference, RegistryHost, TagOrDigest};
use kharon::registry::{Connections, CredentialStore, Registries, RemoteBlob};
use kharon::serve::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(&mut io::stdout().lock()).await
}

/// Carries both versions of the image and writes a table. An error says what went wrong or differs.
pub(crate) async fn run(output: &mut impl Write) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // A served folder's tags belong to a repository of the folder's name.
    let image_folder = folder.path().join("worldclock");
    copy_folder(&fixture(), &image_folder)?;
    let near = start_registry(&image_folder).await?;
    let far = start_registry(&folder.path().join("far")).await?;

    writeln!(output, "from {near} to {far}\n")?;
    writeln!(output, "image              carried   expected      bytes  seconds")?;
    let full = folder.path().join("v1.zip");
    let upgrade = folder.path().join("v2.zip");
    for (image, payload, against) in
        [("worldclock:v1", &full, vec![]), ("worldclock:v2", &upgrade, vec![full.clone()])]
    {
        let (plan, took) = carry(image, &near, &far, payload, against).await?;
        check(image, &near, &far).await?;
        let (carried, expected) = (plan.total.carried_blobs, plan.total.expected_blobs);
        let (bytes, seconds) = (fs::metadata(payload)?.len(), took.as_secs_f64());
        writeln!(
            output,
            "{image}  {carried:>6} blobs {expected:>4} blobs {bytes:>10} {seconds:>8.3}"
        )?;
    }
    writeln!(output, "\nEvery manifest and blob has arrived with its digest.")?;
    Ok(())
}

/// Makes a payload of `image` from the registry `near` and pushes it to the registry `far`.
async fn carry(
    image: &str,
    near: &RegistryHost,
    far: &RegistryHost,
    payload: &Path,
    against: Vec<PathBuf>,
) -> anyhow::Result<(Summary, Duration)> {
    let started = Instant::now();
    let images = make::parse_images(&[image], near)?;
    let request = MakeRequest { against, ..MakeRequest::new(images) };
    let plan = make::make_payload(request, Destination::File(payload.to_owned()), Arc::new(Silent))
        .await?;

    // Here the file crosses the gap.

    let payload = Arc::new(Payload::open(payload)?);
    let report =
        push::push_payload(payload, PushRequest::new(far.clone()), Arc::new(Silent)).await?;
    ensure!(report.pushed.len() == 1, "{image} was not pushed: {report:?}");
    Ok((plan, started.elapsed()))
}

/// Checks that `far` holds exactly the manifests and blobs that `near` has under `image`.
pub(crate) async fn check(
    image: &str,
    near: &RegistryHost,
    far: &RegistryHost,
) -> anyhow::Result<()> {
    let (sent, arrived) = (content(image, near).await?, content(image, far).await?);
    ensure!(sent == arrived, "{image} is {sent:?} at {near}, but {arrived:?} at {far}");
    Ok(())
}

/// The digests of all manifests and blobs of an image. Every byte is fetched and checked.
async fn content(image: &str, host: &RegistryHost) -> anyhow::Result<BTreeSet<Digest>> {
    let registries =
        Registries::new(Connections::default(), CredentialStore::anonymous(), Arc::new(Silent));
    let registry = registries.registry(host)?;
    let image = Reference::parse(image, host)?;
    let mut digests = BTreeSet::new();
    let mut manifests = vec![registry.manifest(&image.repository, &image.tag_or_digest()).await?];
    while let Some(manifest) = manifests.pop() {
        for child in manifest.children() {
            let which = TagOrDigest::Digest(child.digest.clone());
            manifests.push(registry.manifest(&image.repository, &which).await?);
        }
        for blob in manifest.blobs() {
            read(&registry.blob(&image.repository, blob)).await?;
            digests.insert(blob.digest.clone());
        }
        digests.insert(manifest.digest().clone());
    }
    Ok(digests)
}

/// Reads a blob to its end; fails unless it is what its descriptor says.
async fn read(blob: &RemoteBlob) -> anyhow::Result<()> {
    let descriptor = blob.descriptor();
    let mut verifier = Verifier::new(descriptor.digest.clone(), descriptor.size);
    let mut stream = blob.open(0..descriptor.size).await?;
    while let Some(bytes) = stream.next().await? {
        verifier.update(&bytes)?;
    }
    Ok(verifier.finish()?)
}

/// Serves `folder` on a free port of this machine until the program ends.
pub(crate) async fn start_registry(folder: &Path) -> anyhow::Result<RegistryHost> {
    let server = Server::open(folder)?.bind(([127, 0, 0, 1], 0).into()).await?;
    let host = server.local_address().to_string().parse()?;
    tokio::spawn(server.run(future::pending::<()>()));
    Ok(host)
}

/// An OCI image layout with a small image, tagged `v1` and `v2`.
pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/quickstart")
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}
