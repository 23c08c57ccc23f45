//! Full transfer, upgrade and repetition, between two registries of each kind.

use kharon::platform::Platform;
use serde_json::Value;

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, assert_same, make, push};
use crate::real::{Kind, RealRegistry};

const ALL: [&str; 4] = ["worldclock:v1", "worldclock:v2", "team/debian:1", "team/debian:2"];

/// A registry with both images in both versions; worldclock is OCI, debian Docker schema 2.
fn source(kind: Kind) -> RealRegistry {
    let near = RealRegistry::start(kind);
    put_quickstart(&near.host(), "v1", "worldclock:v1", As::Oci);
    put_quickstart(&near.host(), "v2", "worldclock:v2", As::Oci);
    Debian::read().put(&near.host(), "team/debian", As::DockerSchema2);
    near
}

/// A number of a plan's total.
fn total(made: &Value, key: &str) -> u64 {
    made["plan"]["total"][key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {made:#}"))
}

fn names(report: &Value) -> Vec<&str> {
    let images = report["pushed"].as_array().expect("a list");
    images.iter().map(|image| image["name"].as_str().expect("a name")).collect()
}

fn first_everything_then_what_is_new(kind: Kind) {
    let (near, far) = (source(kind), RealRegistry::start(kind));
    let (from, to) = (near.host(), far.host());
    let folder = tempfile::tempdir().expect("a folder");
    let [full, upgrade, by_tag] =
        ["full.zip", "upgrade.zip", "by-tag.zip"].map(|name| kit::path_in(&folder, name));

    let made = make(&from, &full, &["worldclock:v1", "team/debian:1"]);
    assert_eq!(total(&made, "expectedBlobs"), 0, "{made:#}");
    assert_eq!(names(&push(&to, &full, &[])), ["worldclock:v1", "team/debian:1"]);
    for name in ["worldclock:v1", "team/debian:1"] {
        assert_same(&from, &to, name);
    }

    let wanted = "worldclock:v2, team/debian:2";
    let against = ["--against", kit::text_of(&full), wanted];
    let made = make(&from, &upgrade, &against);
    // worldclock: base and words; debian: both layers of the first version. Configs are new.
    assert_eq!(total(&made, "expectedBlobs"), 4, "{made:#}");
    let named = ["-a", "worldclock:v1,team/debian:1", wanted];
    assert_eq!(make(&from, &by_tag, &named)["plan"]["total"], made["plan"]["total"]);
    // The layers that changed travel as deltas, and the far side has what gives them back.
    let verify = ["verify", "--json", "-r", &to, kit::text_of(&upgrade)];
    let verified = kit::kharon(&verify).well().json();
    let deltas = verified["deltasProved"].as_u64().expect("a number");
    assert!(deltas >= 2 && verified["deltasUnproved"] == 0, "{verified:#}");

    let report = push(&to, &upgrade, &[]);
    assert_eq!(names(&report), ["worldclock:v2", "team/debian:2"]);
    assert_eq!(report["sent"]["rebuiltBlobs"], deltas, "{report:#}");
    let raw = total(&made, "carriedBlobs") - deltas;
    assert_eq!(report["sent"]["uploadedBlobs"], raw, "{report:#}");
    for name in ALL {
        assert_same(&from, &to, name);
    }

    for payload in [&full, &upgrade, &by_tag] {
        let report = push(&to, payload, &[]);
        for how in ["uploadedBlobs", "rebuiltBlobs"] {
            assert_eq!(report["sent"][how], 0, "a second push sends no blob: {report:#}");
        }
        assert_eq!(names(&report).len(), 2, "and still names what is there");
    }
}

/// Images of one payload that share their base: it travels once, and is mounted.
fn a_shared_base_travels_once(kind: Kind) {
    let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
    let (from, to) = (near.host(), far.host());
    let debian = Debian::read();
    let images = ["one/debian:2", "two/debian:2", "three:2"];
    for name in images {
        let (repository, _) = name.split_once(':').expect("a tag");
        debian.put(&from, repository, As::DockerSchema2);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "shared.zip");
    let made = make(&from, &file, &images);
    assert_eq!(total(&made, "carriedBlobs"), 4, "config and three layers: {made:#}");
    let report = push(&to, &file, &[]);
    assert_eq!(report["sent"]["uploadedBlobs"], 4, "{report:#}");
    // zot says that a repository has what any of its repositories has.
    let spared = if kind == Kind::Zot { "presentBlobs" } else { "mountedBlobs" };
    assert_eq!(report["sent"][spared], 8, "{report:#}");
    for name in images {
        assert_same(&from, &to, name);
    }
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn everything_arrives_and_an_upgrade_carries_what_is_new() {
        first_everything_then_what_is_new(Kind::DockerRegistry);
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_base_of_three_images_travels_once_and_is_mounted() {
        a_shared_base_travels_once(Kind::DockerRegistry);
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn what_skopeo_converted_to_docker_schema_2_arrives_as_it_is() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let far = RealRegistry::start(Kind::DockerRegistry);
        put_quickstart(&near.host(), "v1", "clock:1", As::DockerSchema2);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        make(&near.host(), &file, &["clock:1"]);
        push(&far.host(), &file, &[]);
        assert_same(&near.host(), &far.host(), "clock:1");
        let media_type = kit::manifest(&far.host(), "clock", "1").descriptor.media_type;
        assert_eq!(media_type.as_str(), "application/vnd.docker.distribution.manifest.v2+json");
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn one_platform_is_chosen_and_its_tag_names_that_manifest() {
        let near = source(Kind::DockerRegistry);
        let far = RealRegistry::start(Kind::DockerRegistry);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "arm64.zip");
        make(&near.host(), &file, &["--platform", "linux/arm64", "worldclock:v2"]);
        push(&far.host(), &file, &[]);
        let index = kit::manifest(&near.host(), "worldclock", "v2");
        // Its variant is `v8`, which everybody leaves out.
        let is_arm64 = |platform: &Platform| platform.to_string() == "linux/arm64/v8";
        let mut children = index.children().iter();
        let arm64 = children.find(|child| child.platform.as_ref().is_some_and(is_arm64));
        let arrived = kit::assert_whole(&far.host(), "worldclock", "v2");
        assert_eq!(Some(&arrived), arm64.map(|child| &child.digest));
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn everything_arrives_and_an_upgrade_carries_what_is_new() {
        first_everything_then_what_is_new(Kind::Distribution3);
    }

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn a_base_of_three_images_travels_once_and_is_mounted() {
        a_shared_base_travels_once(Kind::Distribution3);
    }
}

mod referrers_registry {
    use super::*;

    #[test]
    #[ignore = "needs referrers-registry and skopeo"]
    fn everything_arrives_and_an_upgrade_carries_what_is_new() {
        first_everything_then_what_is_new(Kind::Referrers);
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn everything_arrives_and_an_upgrade_carries_what_is_new() {
        first_everything_then_what_is_new(Kind::Zot);
    }

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn a_base_of_three_images_travels_once_and_is_mounted() {
        a_shared_base_travels_once(Kind::Zot);
    }
}

mod crane {
    use super::*;

    /// crane validates by its own code, and appends with another compressor than everybody else.
    #[test]
    #[ignore = "needs docker-registry, skopeo and crane"]
    fn crane_finds_what_was_pushed_valid() {
        let near = source(Kind::DockerRegistry);
        let far = RealRegistry::start(Kind::DockerRegistry);
        let (from, to) = (near.host(), far.host());
        let folder = tempfile::tempdir().expect("a folder");
        let [layer, file] = ["layer.tar", "payload.zip"].map(|name| kit::path_in(&folder, name));
        let mut archive = tar::Builder::new(std::fs::File::create(&layer).expect("a file"));
        archive.append_path_with_name("/etc/os-release", "etc/os-release").expect("a tar");
        archive.finish().expect("a tar");
        let [base, new] = ["2", "3"].map(|tag| format!("{from}/team/debian:{tag}"));
        kit::crane(&["append", "-b", &base, "-f", kit::text_of(&layer), "-t", &new]).well();

        let names = [&ALL[..], &["team/debian:3"]].concat();
        make(&from, &file, &names);
        push(&to, &file, &[]);
        for name in names {
            assert_same(&from, &to, name);
            kit::crane(&["validate", "--remote", &format!("{to}/{name}")]).well();
        }
    }
}
