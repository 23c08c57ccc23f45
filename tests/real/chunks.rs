//! Blobs that are too large for one request.

use crate::images::{Image, random_layer};
use crate::kit::{self, assert_same, make, push, put};
use crate::real::{Kind, RealRegistry};

const MIB: usize = 1024 * 1024;
/// Above the 64 MiB up to which a blob is sent in one request.
const LAYER_BYTES: usize = 70 * MIB;

fn a_large_layer_goes_up_in_chunks(kind: Kind) -> RealRegistry {
    let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
    put(&Image::oci(&[random_layer(1, LAYER_BYTES)]), &near.host(), "large", "1");
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "large.zip");
    make(&near.host(), &file, &["large:1"]);
    push(&far.host(), &file, &["--chunk-size", "16MiB"]);
    assert_same(&near.host(), &far.host(), "large:1");
    far
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_layer_above_64_mib_goes_up_in_chunks() {
        let far = a_large_layer_goes_up_in_chunks(Kind::DockerRegistry);
        let log = far.log();
        let patches = log
            .lines()
            .filter(|line| {
                line.contains("response completed") && line.contains("http.request.method=PATCH")
            })
            .count();
        assert_eq!(patches, 5, "16 MiB each\n{log}");
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn a_layer_above_64_mib_goes_up_in_chunks() {
        a_large_layer_goes_up_in_chunks(Kind::Distribution3);
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn a_layer_above_64_mib_goes_up_in_chunks() {
        a_large_layer_goes_up_in_chunks(Kind::Zot);
    }
}
