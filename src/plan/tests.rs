use super::*;
use crate::payload::index::ImageState;
use crate::reference::{RegistryHost, RepositoryName};
use bytes::Bytes;

fn blob(seed: u8, size: u64, extra: &str) -> (Digest, String) {
    let digest = Digest::of(&[seed]);
    let json = format!(r#"{{"mediaType":"x/y","digest":"{digest}","size":{size}{extra}}}"#);
    (digest, json)
}

fn manifest(config: &str, layers: &[&str]) -> Manifest {
    let json = format!(r#"{{"config":{config},"layers":[{}]}}"#, layers.join(","));
    Manifest::parse(Bytes::from(json), None).expect("a manifest")
}

fn wanted(name: &str, manifests: Vec<Manifest>) -> Wanted {
    let reference = Reference::parse(name, &RegistryHost::docker_hub()).expect(name);
    let root = manifests.last().expect("a root").descriptor.clone();
    let tags = reference.tag.iter().map(|tag| (tag.clone(), root.digest.clone())).collect();
    Wanted {
        name: name.to_owned(),
        repository: reference.repository.clone(),
        choice: Choice::Carry(Box::new(Resolved {
            root,
            platforms: Vec::new(),
            tags,
            manifests,
            referrers: Vec::new(),
            converted: None,
        })),
        reference,
    }
}

fn plan(wanted: Vec<Wanted>, baseline: &Baseline) -> Plan {
    Plan::new(wanted, baseline, ForeignLayers::LeaveOut).expect("a plan")
}

#[test]
fn a_shared_blob_travels_once_and_in_the_order_of_the_images() {
    let ((a, a_json), (b, b_json), (c, c_json)) = (blob(1, 1, ""), blob(2, 2, ""), blob(3, 3, ""));
    let first = wanted("first", vec![manifest(&a_json, &[&b_json])]);
    let second = wanted("second", vec![manifest(&c_json, &[&b_json])]);
    let plan = plan(vec![first, second], &Baseline::default());
    let order: Vec<_> = plan.packed().map(|blob| blob.descriptor.digest.clone()).collect();
    assert_eq!(order, [a, b, c]);
    assert_eq!(plan.manifests.len(), 2);
}

#[test]
fn what_the_baseline_holds_is_expected_where_it_is() {
    let ((a, a_json), (b, b_json)) = (blob(1, 1, ""), blob(2, 2, ""));
    let repository: RepositoryName = "base".parse().expect("valid");
    let mut baseline = Baseline::default();
    let held = Descriptor::new(crate::manifest::MediaType::new("x/y"), b, 2);
    baseline.add_blob(&held, repository.clone(), None);
    baseline.add_blob(&held, repository.clone(), None);
    let former = Digest::of(b"former");
    baseline.add_tag("app".parse().expect("valid"), "1".parse().expect("valid"), former.clone());
    let plan = plan(vec![wanted("app:1", vec![manifest(&a_json, &[&b_json])])], &baseline);
    assert_eq!(plan.packed().map(|blob| &blob.descriptor.digest).collect::<Vec<_>>(), [&a]);
    assert_eq!(plan.blobs[1].travels, Travels::Expected { repositories: vec![repository] });
    assert_eq!(plan.images[0].tags[0].former, [former]);
}

#[test]
fn a_foreign_layer_is_left_out_unless_fetched_or_named_without_urls() {
    let (_, config) = blob(1, 1, "");
    let (_, foreign) = blob(2, 2, r#","urls":["https://elsewhere.example/layer"]"#);
    let (_, plain) = blob(2, 2, "");
    let image = |name, layer: &str| wanted(name, vec![manifest(&config, &[layer])]);
    let travels = |images, choice| {
        let made = Plan::new(images, &Baseline::default(), choice).expect("a plan");
        made.blobs[1].travels.clone()
    };
    let left = travels(vec![image("a", &foreign)], ForeignLayers::LeaveOut);
    assert!(matches!(left, Travels::LeftOut { .. }));
    assert_eq!(travels(vec![image("a", &foreign)], ForeignLayers::Fetch), Travels::Carried);
    let both = vec![image("a", &foreign), image("b", &plain)];
    assert_eq!(travels(both, ForeignLayers::LeaveOut), Travels::Carried);
}

#[test]
fn manifests_that_lie_about_a_size_are_refused() {
    let ((_, a), (_, small), (_, large)) = (blob(1, 1, ""), blob(2, 2, ""), blob(2, 3, ""));
    let images = vec![
        wanted("one", vec![manifest(&a, &[&small])]),
        wanted("two", vec![manifest(&a, &[&large])]),
    ];
    let error = Plan::new(images, &Baseline::default(), ForeignLayers::LeaveOut)
        .expect_err("a contradiction");
    assert!(matches!(error, Contradiction::Size { expected: 2, found: 3, .. }), "{error}");
}

#[test]
fn two_images_do_not_set_one_tag() {
    let ((_, a), (_, b)) = (blob(1, 1, ""), blob(2, 2, ""));
    let one = wanted("app:1", vec![manifest(&a, &[])]);
    let mut other = wanted("app:1", vec![manifest(&b, &[])]);
    other.name = "app:1@digest".to_owned();
    let error = Plan::new(vec![one.clone(), other], &Baseline::default(), ForeignLayers::LeaveOut)
        .expect_err("a contradiction");
    assert!(matches!(error, Contradiction::Tag { .. }), "{error}");
    assert!(
        Plan::new(vec![one.clone(), one], &Baseline::default(), ForeignLayers::LeaveOut).is_ok()
    );
}

#[test]
fn a_skipped_image_carries_nothing() {
    let mut image = wanted("app:1", vec![manifest(&blob(1, 1, "").1, &[])]);
    image.choice = Choice::Skip;
    let plan = plan(vec![image], &Baseline::default());
    assert_eq!(plan.images[0].state, ImageState::Skipped);
    assert_eq!(plan.images[0].tags.len(), 1);
    assert!(plan.manifests.is_empty() && plan.blobs.is_empty());
}

#[test]
fn what_deltas_are_made_against_is_listed_once_and_only_where_nothing_else_names_it() {
    let [config, raw, first, second, old] = [1, 2, 3, 4, 5].map(|seed| blob(seed, 9, ""));
    let layers = [raw.1.as_str(), &first.1, &second.1];
    let mut baseline = Baseline::default();
    let held = Descriptor::new(crate::manifest::MediaType::new("x/y"), old.0.clone(), 9);
    baseline.add_blob(&held, "base".parse().expect("valid"), None);
    let mut plan = plan(vec![wanted("app:2", vec![manifest(&config.1, &layers)])], &baseline);
    let needs = vec![old.0.clone(), raw.0.clone()];
    let delta = DeltaEntry { size_bytes: 7, sha256: String::new() };
    plan.carry_as_deltas(baseline.blobs(), |digest| {
        [&first.0, &second.0].contains(&digest).then(|| (delta.clone(), needs.clone()))
    });
    assert_eq!(plan.baselines.iter().map(|blob| &blob.digest).collect::<Vec<_>>(), [&old.0]);
    let travels = Travels::Delta { baselines: needs };
    assert_eq!(plan.blobs[1].travels, Travels::Carried);
    assert!(plan.blobs[2..].iter().all(|blob| blob.travels == travels && blob.delta.is_some()));
}
