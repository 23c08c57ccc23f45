//! What a payload expects at the far side: mounted where it is, named where it is missing.

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, assert_same, make, push, try_push};
use crate::real::{Kind, RealRegistry};

/// Two empty registries, but for the Debian image in both versions in two repositories of the first.
fn registries() -> (RealRegistry, RealRegistry) {
    let near = RealRegistry::start(Kind::DockerRegistry);
    let debian = Debian::read();
    debian.put(&near.host(), "team/base", As::DockerSchema2);
    debian.put(&near.host(), "app", As::DockerSchema2);
    (near, RealRegistry::start(Kind::DockerRegistry))
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_blob_that_another_repository_holds_is_mounted() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let [base, app] = ["base.zip", "app.zip"].map(|name| kit::path_in(&folder, name));
        make(&near.host(), &base, &["team/base:1"]);
        push(&far.host(), &base, &[]);
        make(&near.host(), &app, &["app:2", "-a", "team/base:1"]);
        let report = push(&far.host(), &app, &[]);
        assert_eq!(report["sent"]["mountedBlobs"], 2, "{report:#}");
        let brought = |how: &str| report["sent"][how].as_u64().expect("a number");
        let new = brought("uploadedBlobs") + brought("rebuiltBlobs");
        assert_eq!(new, 2, "config and one layer: {report:#}");
        assert_same(&near.host(), &far.host(), "app:2");
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn what_is_missing_is_named_and_the_others_are_pushed() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        put_quickstart(&near.host(), "v1", "clock:1", As::Oci);
        make(&near.host(), &file, &["app:2", "clock:1", "-a", "team/base:1"]);
        let ended = try_push(&far.host(), &file, &[]).with_code(5);
        let base = kit::manifest(&near.host(), "app", "1");
        let layer = base.blobs().nth(1).expect("a layer").digest.to_string();
        let ended = ended.saying(&["`app:2` lacks", &layer, "`team/base`"]);
        assert_eq!(ended.lines(), ["clock:1"]);
        assert_same(&near.host(), &far.host(), "clock:1");
        assert!(kit::find_manifest(&far.host(), "app", "2").is_none());
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn strict_sends_nothing_where_something_is_missing() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        put_quickstart(&near.host(), "v1", "clock:1", As::Oci);
        make(&near.host(), &file, &["app:2", "clock:1", "-a", "team/base:1"]);
        let ended = try_push(&far.host(), &file, &["--strict"]).with_code(5);
        assert_eq!(ended.saying(&["`app:2` lacks"]).text(), "");
        assert_eq!(far.get("/v2/_catalog").body, b"{\"repositories\":[]}\n");
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_skipped_image_is_printed_where_it_is_and_a_warning_where_it_is_not() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let [base, file] = ["base.zip", "payload.zip"].map(|name| kit::path_in(&folder, name));
        put_quickstart(&near.host(), "v1", "clock:1", As::Oci);
        make(&near.host(), &file, &["app:1", "clock:1", "-a", "app:1"]);

        let ended = try_push(&far.host(), &file, &[]).well();
        assert_eq!(ended.saying(&["`app:1` was skipped"]).lines(), ["clock:1"]);
        try_push(&far.host(), &file, &["--strict"]).with_code(5);

        make(&near.host(), &base, &["app:1"]);
        push(&far.host(), &base, &[]);
        let ended = try_push(&far.host(), &file, &["--strict"]).well();
        assert_eq!(ended.lines(), ["app:1", "clock:1"]);
    }
}
