//! Extracted trees beside those of umoci, as root, with all that only root can have.
#![cfg(unix)]

mod umoci {
    use std::collections::BTreeMap;
    use std::path::Path;

    use crate::awkward::{For, Packing, awkward, listing};
    use crate::kit::{self, clean, kharon, put, run};
    use crate::real::{self, Kind, RealRegistry};

    fn by_umoci(layout: &Path, tag: &str, folder: &Path) -> BTreeMap<String, String> {
        let image = format!("{}:{tag}", layout.display());
        run(clean(real::tool("umoci")).args(["unpack", "--image", &image]).arg(folder)).well();
        listing(&folder.join("rootfs"))
    }

    #[test]
    #[ignore = "needs docker-registry and umoci, as root"]
    fn the_tree_is_the_one_that_umoci_unpacks() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        let folder = tempfile::tempdir().expect("a folder");
        put(&awkward(Packing::Gzip, For::Root), &host, "awkward", "1");
        put(&awkward(Packing::Zstd, For::Root), &host, "awkward", "zstd");
        let layout = kit::path_in(&folder, "layout");
        let text = kit::text_of(&layout);
        kharon(&["save", "-r", &host, "awkward:1", "--to", text]).well();
        let expected = by_umoci(&layout, "1", &folder.path().join("bundle"));
        for (name, from) in [
            ("tree", vec!["-r", &host, "awkward:1"]),
            ("zstd", vec!["-r", &host, "awkward:zstd"]),
            ("from-layout", vec!["--from", text]),
        ] {
            let tree = folder.path().join(name);
            let to = ["extract", "--to", kit::text_of(&tree)];
            kharon(&[&to[..], &from].concat()).well();
            let found = listing(&tree);
            for (name, line) in &expected {
                assert_eq!(found.get(name), Some(line), "{name}");
            }
            assert_eq!(found, expected);
        }
    }
}
