//! `kharon serve` as a registry for others, and between two runs of kharon.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, assert_same, kharon_command, make, push, skopeo};
use crate::real::{Kind, RealRegistry};

/// A `kharon serve` that ends when it is dropped.
#[derive(Debug)]
pub struct Served {
    process: Child,
    pub host: String,
}

impl Served {
    pub fn start(folder: &Path) -> Self {
        Self::start_with(&["--dir", kit::text_of(folder)])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let fixed = ["serve", "--listen", "127.0.0.1:0"];
        let mut command = kharon_command(&[&fixed[..], arguments].concat());
        let mut process = command.stderr(Stdio::piped()).spawn().expect("kharon runs");
        let stderr = process.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let host = lines.find_map(|line| {
            let (_, after) = line.split_once("http://")?;
            after.split([',', ' ']).next().map(str::to_owned)
        });
        let host = host.expect("the server says where it listens");
        // It may say more later, and must not wait for a reader then.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// skopeo puts the image there, another skopeo reads it, and the folder is a layout.
#[track_caller]
fn takes_images_of_skopeo(served: &Served, folder: &Path) {
    put_quickstart(&served.host, "v2", "worldclock:v2", As::Oci);
    put_quickstart(&served.host, "v1", "clock:1", As::DockerSchema2);
    kit::assert_whole(&served.host, "worldclock", "v2");
    let copy = folder.with_file_name("copy");
    let from = format!("docker://{}/worldclock:v2", served.host);
    let to = format!("dir:{}", copy.display());
    skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &from, &to]).well();
    assert!(copy.join("manifest.json").exists());
    let listed = skopeo(&[
        "list-tags",
        "--tls-verify=false",
        &format!("docker://{}/worldclock", served.host),
    ]);
    assert_eq!(listed.well().json()["Tags"], serde_json::json!(["v2"]));
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs skopeo"]
    fn skopeo_pushes_to_kharon_serve_and_pulls_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = kit::path_in(&folder, "layout");
        takes_images_of_skopeo(&Served::start(&layout), &layout);
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn kharon_serve_stands_on_either_side_of_the_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let near = Served::start(&kit::path_in(&folder, "near"));
        let far = Served::start(&kit::path_in(&folder, "far"));
        let debian_far = RealRegistry::start(Kind::DockerRegistry);
        put_quickstart(&near.host, "v1", "clock:v1", As::Oci);
        put_quickstart(&near.host, "v2", "clock:v2", As::Oci);
        Debian::read().put(&near.host, "team/debian", As::DockerSchema2);
        let [first, next] = ["first.zip", "next.zip"].map(|name| kit::path_in(&folder, name));
        make(&near.host, &first, &["clock:v1", "team/debian:1"]);
        let against = ["--against", kit::text_of(&first), "clock:v2", "team/debian:2"];
        make(&near.host, &next, &against);
        for to in [&far.host, &debian_far.host()] {
            for file in [&first, &next] {
                push(to, file, &["--strict"]);
            }
            for name in ["clock:v1", "clock:v2", "team/debian:1", "team/debian:2"] {
                assert_same(&near.host, to, name);
            }
            assert_eq!(push(to, &next, &[])["sent"]["uploadedBlobs"], 0);
        }
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and unzip"]
    fn an_unzipped_payload_is_served() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        put_quickstart(&near.host(), "v2", "worldclock:v2", As::Oci);
        Debian::read().put(&near.host(), "debian", As::DockerSchema2);
        let images = ["worldclock:v2", "debian:1", "debian:2"];
        let folder = tempfile::tempdir().expect("a folder");
        let [file, layout] = ["payload.zip", "layout"].map(|name| kit::path_in(&folder, name));
        make(&near.host(), &file, &images);
        let mut unzip = kit::clean(crate::real::tool("unzip"));
        kit::run(unzip.arg("-q").arg(&file).arg("-d").arg(&layout)).well();
        let served = Served::start(&layout);
        for name in images {
            assert_same(&near.host(), &served.host, name);
        }
        let again = kit::path_in(&folder, "again.zip");
        make(&served.host, &again, &images);
        kit::kharon(&["verify", kit::text_of(&again)]).well();
    }
}

mod crane {
    use super::*;

    #[test]
    #[ignore = "needs skopeo and crane"]
    fn crane_finds_what_kharon_serve_holds_valid() {
        let folder = tempfile::tempdir().expect("a folder");
        let [near, far] = ["near", "far"].map(|name| Served::start(&kit::path_in(&folder, name)));
        put_quickstart(&near.host, "v2", "worldclock:v2", As::Oci);
        Debian::read().put(&near.host, "debian", As::DockerSchema2);
        for name in ["worldclock:v2", "debian:1", "debian:2"] {
            let [from, to] = [&near, &far].map(|served| format!("{}/{name}", served.host));
            kit::crane(&["copy", &from, &to]).well();
            kit::crane(&["validate", "--remote", &to]).well();
            assert_same(&near.host, &far.host, name);
        }
    }
}
