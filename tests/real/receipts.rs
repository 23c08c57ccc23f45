//! Receipts and inventories of registries that others wrote.

use std::collections::BTreeSet;
use std::path::Path;

use kharon::receipt::{Kind as Of, Receipt};

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, assert_same, make, push};
use crate::real::{Kind, RealRegistry};

fn read(path: &Path) -> Receipt {
    Receipt::parse(&std::fs::read(path).expect("a file")).expect("a receipt")
}

/// Repository, tag or digest: everything that a receipt lists.
fn all(receipt: &Receipt) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for repository in &receipt.repositories {
        let tags = repository.tags.iter().map(|(tag, digest)| format!("{tag} {digest}"));
        let listed = repository.manifests.iter().chain(&repository.blobs);
        let listed = listed.map(|listed| format!("{} {}", listed.digest, listed.size));
        all.extend(tags.chain(listed).map(|text| (repository.name.to_string(), text)));
    }
    all
}

/// Both images in their first version by payload, then the second against receipts and against an
/// inventory: what is left to carry is the same.
fn an_upgrade_carries_what_is_new(kind: Kind) {
    let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
    let (from, to) = (near.host(), far.host());
    for version in ["v1", "v2"] {
        put_quickstart(&from, version, &format!("worldclock:{version}"), As::Oci);
    }
    Debian::read().put(&from, "team/debian", As::DockerSchema2);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| kit::path_in(&folder, name);
    let [first, upgrade, again] = ["1.zip", "2.zip", "3.zip"].map(path);
    let [receipt, second, inventory] = ["1.json", "2.json", "far.json"].map(path);

    make(&from, &first, &["worldclock:v1,team/debian:1"]);
    push(&to, &first, &["--receipt", kit::text_of(&receipt)]);
    let walk = || {
        kit::kharon(&["inventory", "-r", &to, "-f", kit::text_of(&inventory)]).well();
        read(&inventory)
    };
    let found = walk();
    assert_eq!((found.kind, read(&receipt).kind), (Of::Inventory, Of::Receipt));
    assert_eq!(all(&found), all(&read(&receipt)));

    let wanted = "worldclock:v2,team/debian:2";
    let made = make(&from, &upgrade, &["--against", kit::text_of(&receipt), wanted]);
    assert_eq!(made["plan"]["total"]["expectedBlobs"], 4, "{made:#}");
    let by_inventory = make(&from, &again, &["--against", kit::text_of(&inventory), wanted]);
    assert_eq!(by_inventory["plan"]["total"]["expectedBlobs"], 4, "{by_inventory:#}");

    let report = push(&to, &upgrade, &["--receipt", kit::text_of(&second)]);
    assert_ne!(report["sent"]["rebuiltBlobs"], 0, "{report:#}");
    for name in ["worldclock:v2", "team/debian:2"] {
        assert_same(&from, &to, name);
    }
    let proved: BTreeSet<_> = all(&read(&receipt)).union(&all(&read(&second))).cloned().collect();
    assert_eq!(all(&walk()), proved);
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn an_upgrade_carries_what_is_not_proved() {
        an_upgrade_carries_what_is_new(Kind::DockerRegistry);
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn an_upgrade_carries_what_is_not_proved() {
        an_upgrade_carries_what_is_new(Kind::Zot);
    }
}
