//! Sources that lie, or send more than anybody needs: each is refused as the registry's fault, before
//! a payload is begun.

use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::manifest::{Manifest, MediaType};
use serde_json::{Value, json};

use crate::kit::{Failed, Job};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_layer};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 100)])
}

/// What `change` makes of an image's manifest, with the same blobs and children.
fn changed(image: &Image, change: impl FnOnce(&mut Value)) -> Image {
    let mut document = serde_json::from_slice(&image.manifest.raw).expect("JSON");
    change(&mut document);
    let manifest = Manifest::parse(document.to_string().into(), None).expect("a manifest");
    Image { manifest, ..image.clone() }
}

/// An index that names its first child so often.
fn repeated(child: &Image, times: usize) -> Image {
    changed(&Image::index(std::slice::from_ref(child)), |document| {
        document["manifests"] = vec![document["manifests"][0].clone(); times].into();
    })
}

async fn refused(job: &Job, image: &Image, parts: &[&str]) {
    job.source.put("app", "1", image);
    let failed = job.fail_to_pack("payload.zip", job.request(&["app:1"])).await;
    failed.assert(ExitCode::Registry, parts);
    assert!(!job.path("payload.zip").exists());
}

#[tokio::test]
async fn indexes_that_name_too_many_manifests_together_are_refused() {
    let leaf = image(1);
    let index = Image::index(&[repeated(&leaf, 6000), repeated(&leaf, 6001)]);
    refused(&Job::new(), &index, &["app:1` nests too many", "10000 manifests"]).await;
}

#[tokio::test]
async fn indexes_that_are_nested_too_deep_are_refused() {
    let mut nested = image(1);
    for _ in 0..4 {
        nested = Image::index(&[nested]);
    }
    let job = Job::new();
    job.source.put("deep", "1", &nested);
    job.pack("deep.zip", &["deep:1"]).await;
    let deeper = Image::index(&[nested]);
    refused(&job, &deeper, &["app:1` nests too many", "4 levels"]).await;
}

#[tokio::test]
async fn more_bytes_of_manifests_than_a_reader_takes_are_refused() {
    let children: Vec<Image> = (0..66)
        .map(|n| {
            changed(&image(1), |document| {
                document["annotations"] = json!({ "n": format!("{n}{}", "x".repeat(4_100_000)) });
            })
        })
        .collect();
    let index = Image::index(&children);
    refused(&Job::new(), &index, &["more than 268435456 bytes of manifests", "fewer images"]).await;
}

#[tokio::test]
async fn an_index_that_lies_about_the_size_of_a_child_is_refused() {
    let child = image(1);
    let size = child.manifest.descriptor.size;
    let index = changed(&Image::index(std::slice::from_ref(&child)), |document| {
        document["manifests"][0]["size"] = (size + 1).into();
    });
    let said = format!("to have {} bytes as its index says, found {size}", size + 1);
    refused(&Job::new(), &index, &["app:1`", &child.digest().to_string(), &said]).await;
}

#[tokio::test]
async fn more_referrers_than_anybody_has_are_refused() {
    let descriptor = image(9).manifest.descriptor;
    let descriptor = json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest,
                             "size": descriptor.size });
    let list = |count: usize| {
        let document = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
                               "manifests": vec![descriptor.clone(); count] });
        Fault::on("GET", "/referrers/", Effect::Body(document.to_string())).always()
    };
    let job = Job::new();
    job.source.fail(list(10_001));
    refused(&job, &image(1), &["listed more than 10000 manifests for the referrers of"]).await;
    // No list is too long, but all together are.
    let job = Job::new();
    job.source.fail(list(6000));
    let index = Image::index(&[image(1)]);
    refused(&job, &index, &["more than 10000 manifests refer to", "`--no-referrers`"]).await;
}

#[tokio::test]
async fn a_config_that_cannot_say_its_platform_is_the_registrys_fault() {
    async fn failed(job: &Job, image: &Image) -> Failed {
        job.source.put("app", "1", image);
        let platforms = vec!["linux/amd64".parse().expect("a platform")];
        let request = MakeRequest { platforms, ..job.request(&["app:1"]) };
        job.fail_to_pack("payload.zip", request).await
    }
    let job = Job::new();
    let unusable = format!("`{}` sent an unusable config for image `", job.source.host());
    let text = Blob::new(OCI_CONFIG, "no JSON");
    let unreadable = Image::of_blobs(MediaType::OCI_MANIFEST, text, Vec::new(), &json!({}));
    failed(&job, &unreadable).await.assert(ExitCode::Registry, &[&unusable, "app:1"]);

    let honest = image(1);
    let config = honest.blobs[0].digest().to_string();
    job.source.fail(Fault::on("GET", &config, Effect::Corrupt(3)).always());
    failed(&job, &honest).await.assert(ExitCode::Registry, &[&unusable, "app:1", &config]);

    let large = changed(&image(2), |document| document["config"]["size"] = (9 << 20).into());
    let limit = "app:1` to have at most 8388608 bytes, found 9437184";
    failed(&job, &large).await.assert(ExitCode::Registry, &[limit]);
}
