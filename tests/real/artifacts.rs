//! What is no image: charts.

use crate::images::Image;
use crate::kit::{self, assert_same, make, push, put};
use crate::real::{Kind, RealRegistry};

fn a_chart_arrives(kind: Kind) {
    let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
    put(&Image::helm_chart("harbour", "1.2.3"), &near.host(), "charts/harbour", "1.2.3");
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "chart.zip");
    make(&near.host(), &file, &["charts/harbour:1.2.3"]);
    push(&far.host(), &file, &[]);
    assert_same(&near.host(), &far.host(), "charts/harbour:1.2.3");
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_helm_chart_arrives() {
        a_chart_arrives(Kind::DockerRegistry);
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn a_helm_chart_arrives() {
        a_chart_arrives(Kind::Distribution3);
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn a_helm_chart_arrives() {
        a_chart_arrives(Kind::Zot);
    }
}
