//! An index of which some platforms travel.

use crate::content::Debian;
use crate::images::Image;
use crate::kit::{self, make, push, put, try_push};
use crate::real::{Kind, RealRegistry};

const CHOSEN: [&str; 4] = ["--platform", "linux/amd64,linux/arm64", "app:1", "--no-referrers"];

fn three_platforms(registry: &str) -> Image {
    let debian = Debian::read();
    let children = [
        ("linux/amd64", &debian.shell),
        ("linux/arm64", &debian.search),
        ("linux/s390x", &debian.base),
    ]
    .map(|(platform, layer)| Image::oci_for(platform, std::slice::from_ref(layer)));
    let index = Image::index(&children);
    put(&index, registry, "app", "1");
    index
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_sparse_index_is_refused_and_no_tag_moves() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let far = RealRegistry::start(Kind::DockerRegistry);
        three_platforms(&near.host());
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "two.zip");
        make(&near.host(), &file, &CHOSEN);
        let ended = try_push(&far.host(), &file, &[]).with_code(3);
        assert_eq!(ended.saying(&["refuses index", "--rebuild-index"]).text(), "");
        for tag in ["1", "1-linux-amd64", "1-linux-arm64"] {
            assert!(kit::find_manifest(&far.host(), "app", tag).is_none(), "{tag}");
        }
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_rebuilt_index_names_the_unchanged_children() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let far = RealRegistry::start(Kind::DockerRegistry);
        let index = three_platforms(&near.host());
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "two.zip");
        make(&near.host(), &file, &CHOSEN);
        let ended = try_push(&far.host(), &file, &["--rebuild-index"]).well();
        let arrived = kit::assert_whole(&far.host(), "app", "1");
        assert_ne!(&arrived, index.digest());
        ended.saying(&[&index.digest().to_string(), &arrived.to_string(), "its digest is new"]);
        let there = kit::manifest(&far.host(), "app", "1");
        for ((child, original), tag) in
            there.children().iter().zip(&index.children).zip(["1-linux-amd64", "1-linux-arm64"])
        {
            assert_eq!(&child.digest, original.digest());
            assert_eq!(&kit::assert_whole(&far.host(), "app", tag), original.digest());
        }
        assert_eq!(there.children().len(), 2);
        let report = push(&far.host(), &file, &["--rebuild-index"]);
        assert_eq!(report["sent"]["uploadedBlobs"], 0, "{report:#}");
    }
}
