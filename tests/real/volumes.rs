//! A payload in volumes, pushed by processes that share nothing but a real registry, whose garbage
//! collector runs in between.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::images::{Image, random_layer};
use crate::kit::{self, assert_same, clean, kharon, kharon_command, put, run, text_of};
use crate::real::{self, Kind, RealRegistry};

const MIB: usize = 1 << 20;

/// Two images of 20 MiB together, with a layer of 9 MiB, a shared one, and one whose new version is
/// made against the old one.
fn put_images(near: &str) {
    let shared = random_layer(1, 3 * MIB);
    let large = random_layer(2, 9 * MIB);
    let old = kit::text_layer(3, 0);
    let new = kit::text_layer(3, 50_000);
    put(&Image::oci(&[shared.clone(), large, old]), near, "team/app", "1");
    put(&Image::oci(&[shared, random_layer(4, 7 * MIB), new]), near, "other", "2");
}

/// Some order that is another one each time; it is printed for who has to look for a failure.
fn shuffled(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut seed = now.as_nanos() | 1;
    for at in (1..files.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        files.swap(at, usize::try_from((seed >> 64) % (at as u128 + 1)).expect("small"));
    }
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("pushed in the order {names:?}\n").as_bytes(),
    )
    .expect("written");
    files
}

fn collect_garbage(registry: &RealRegistry) {
    let configuration = registry.storage().with_file_name("configuration.yml");
    let mut command = clean(real::tool("docker-registry"));
    run(command.arg("garbage-collect").arg(configuration)).well();
}

/// A push of one volume, with a work folder of its own.
fn push_of(far: &str, file: &Path, workdir: &Path) -> Command {
    std::fs::create_dir_all(workdir).expect("a folder");
    let fixed = ["push-payload", "-r", far, "-f", text_of(file), "--workdir", text_of(workdir)];
    let mut command = kharon_command(&fixed);
    command.env("KHARON_STATE_DIR", workdir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn volumes_pushed_by_two_at_once_with_the_garbage_collector_in_between() {
    let (near, far) =
        (RealRegistry::start(Kind::DockerRegistry), RealRegistry::start(Kind::DockerRegistry));
    let (from, to) = (near.host(), far.host());
    put_images(&from);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| kit::path_in(&folder, name);
    let payload = path("payload.zip");
    let images = "team/app:1,other:2";
    let split = ["--volume-size", "1MiB", "--recompress"];
    kit::make(&from, &payload, &[&split[..], &[images]].concat());
    let files = kit::volumes_in(folder.path());
    assert!(files.len() >= 18, "only {} volumes", files.len());

    // One is lost, and made again byte for byte.
    let lost = &files[7];
    let bytes = std::fs::read(lost).expect("a volume");
    std::fs::remove_file(lost).expect("removed");
    kharon(&["verify", text_of(folder.path())]).with_code(4);
    kharon(&["make-payload", "--only-volume", "8", "--plan", text_of(&files[2])]).well();
    assert!(std::fs::read(lost).expect("a volume") == bytes, "another volume");
    kharon(&["verify", text_of(folder.path())]).well();
    run(Command::new("sha256sum").args(["-c", "payload.sha256"]).current_dir(folder.path())).well();

    let shuffled = shuffled(files);
    let workdirs = [path("one"), path("two")];
    let mut published = Vec::new();
    for pair in shuffled.chunks(2) {
        let running: Vec<_> = pair
            .iter()
            .zip(&workdirs)
            .map(|(file, workdir)| {
                let mut command = push_of(&to, file, workdir);
                let child = command.spawn().expect("kharon starts");
                (command, child)
            })
            .collect();
        for (command, child) in running {
            let output = child.wait_with_output().expect("an end");
            published.extend(kit::Ended::new(&command, output).well().lines());
        }
        collect_garbage(&far);
    }
    published.sort();
    published.dedup();
    assert_eq!(published, ["other:2", "team/app:1"]);
    for name in ["team/app:1", "other:2"] {
        assert_same(&from, &to, name);
        let (repository, _) = name.split_once(':').expect("a tag");
        let listed = far.get(&format!("/v2/{repository}/tags/list")).body;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        assert!(!listed.contains("kharon-"), "markers are left: {listed}");
    }
    // What the markers kept, the images keep now.
    collect_garbage(&far);
    assert_same(&from, &to, "team/app:1");
}
