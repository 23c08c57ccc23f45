//! Reading by mirrors, and the settings of `config.toml`, with the binary and real requests.

use std::time::{Duration, Instant};

use kharon::failure::ExitCode;

use crate::cli::{Desk, Ran};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, Redirect, TestRegistry};

fn image() -> Image {
    Image::oci(&[random_layer(1, 3000), random_layer(2, 300_000)])
}

/// A registry, a mirror of it with the same image below `hub/`, and a desk.
fn mirrored(mirror: Options) -> (TestRegistry, TestRegistry, Desk) {
    let (source, mirror) = (TestRegistry::start(), TestRegistry::start_with(mirror));
    source.put("team/app", "1", &image());
    mirror.put("hub/team/app", "1", &image());
    (source, mirror, Desk::new())
}

/// `--mirror SOURCE=MIRROR/hub`
fn option(source: &TestRegistry, mirror: &str) -> String {
    format!("--mirror={}={mirror}/hub", source.host())
}

/// Packs `team/app:1` of `source` into `file`.
fn pack(desk: &Desk, source: &TestRegistry, file: &str, more: &[&str]) -> Ran {
    let name = source.reference("team/app:1");
    desk.run(&[&["make-payload", "-v", "-f", file, &name], more].concat())
}

fn same_payload(desk: &Desk, source: &TestRegistry, file: &str) {
    pack(desk, source, "direct.zip", &[]).assert(ExitCode::Done);
    let read = |name| std::fs::read(desk.path(name)).expect("a payload");
    assert!(read("direct.zip") == read(file), "another payload");
}

/// A `config.toml` where the user's is looked for.
fn configure(desk: &Desk, text: &str) {
    let folder = desk.path(".config/kharon");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.toml"), text).expect("written");
}

#[test]
fn a_mirror_is_read_and_the_payload_is_that_of_the_registry() {
    let redirect = Some(Redirect::default());
    for options in [Options::default(), Options { redirect, ..Options::default() }] {
        let (source, mirror, desk) = mirrored(options);
        let signature = Image::cosign_signature(&image());
        let referrer = Image::referrer(&image(), "application/x-sbom", b"parts");
        for (registry, name) in [(&source, "team/app"), (&mirror, "hub/team/app")] {
            registry.put(name, &image().signature_tag(), &signature);
            registry.put(name, "", &referrer);
        }
        let of = option(&source, &mirror.host());
        pack(&desk, &source, "x.zip", &[&of]).assert(ExitCode::Done);
        assert_eq!(source.count("GET", "/blobs/"), 0);
        assert_eq!(source.count("GET", &image().digest().to_string()), 0);
        source.clear_journal();
        pack(&desk, &source, "only.zip", &[&of, "--mirror-only"]).assert(ExitCode::Done);
        assert!(source.journal().is_empty());
        mirror.assert_no_violations();
        same_payload(&desk, &source, "x.zip");
        same_payload(&desk, &source, "only.zip");
        let listed = desk.run(&["inspect", "x.zip"]);
        assert!(!listed.stdout.contains("hub/"), "{}", listed.stdout);
    }
}

#[test]
fn what_a_mirror_lacks_comes_from_the_registry_itself() {
    let (source, mirror, desk) = mirrored(Options::default());
    mirror.forget_blob("hub/team/app", image().layers()[1].digest());
    let of = option(&source, &mirror.host());
    let ran = pack(&desk, &source, "x.zip", &[&of]);
    ran.assert(ExitCode::Done);
    let asked = format!("; asking `{}`", source.host());
    assert!(ran.stderr.contains(&asked), "{}", ran.stderr);
    let lacked = image().layers()[1].digest().to_string();
    let fetched = source.exchanges("GET", "/blobs/");
    assert!(!fetched.is_empty() && fetched.iter().all(|blob| blob.path.contains(&lacked)));
    same_payload(&desk, &source, "x.zip");
    source.clear_journal();
    let only = pack(&desk, &source, "only.zip", &[&of, "--mirror-only"]);
    only.assert(ExitCode::Registry);
    let what = format!("`{}` does not have blob `hub/team/app@{lacked}`", mirror.host());
    assert!(only.stderr.contains(&what), "{}", only.stderr);
    assert!(source.journal().is_empty() && !desk.path("only.zip").exists());

    let empty = TestRegistry::start();
    let of = option(&source, &empty.host());
    pack(&desk, &source, "none.zip", &[&of]).assert(ExitCode::Done);
    same_payload(&desk, &source, "none.zip");
    let only = pack(&desk, &source, "only.zip", &[&of, "--mirror-only", "--fresh"]);
    only.assert(ExitCode::Registry);
    assert!(only.stderr.contains("does not have manifest `hub/team/app:1`"), "{}", only.stderr);
}

#[test]
fn mirrors_are_asked_in_their_order() {
    let (source, second, desk) = mirrored(Options::default());
    let first = TestRegistry::start();
    let (of_first, of_second) = (option(&source, &first.host()), option(&source, &second.host()));
    pack(&desk, &source, "x.zip", &[&of_first, &of_second]).assert(ExitCode::Done);
    assert!(first.count("GET", "/manifests/1") > 0 && source.count("GET", "/blobs/") == 0);
    first.clear_journal();
    pack(&desk, &source, "y.zip", &[&of_second, &of_first]).assert(ExitCode::Done);
    assert_eq!(first.count("GET", "/manifests/1"), 0);
    same_payload(&desk, &source, "x.zip");
}

#[test]
fn a_mirror_that_cannot_be_reached_is_told_of_once_and_left_alone() {
    let (source, _, desk) = mirrored(Options::default());
    // Nobody listens where this one was.
    let gone = TestRegistry::start().host();
    let of = option(&source, &gone);
    let ran = pack(&desk, &source, "x.zip", &[&of]);
    ran.assert(ExitCode::Done);
    let told = "leaving this mirror alone from now on";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    same_payload(&desk, &source, "x.zip");
    let only = pack(&desk, &source, "only.zip", &[&of, "--mirror-only"]);
    only.assert(ExitCode::Registry);
    assert!(only.stderr.contains(&gone) && only.stderr.contains("closed"), "{}", only.stderr);
}

#[test]
fn a_mirror_cannot_change_what_a_digest_names() {
    let (source, mirror, desk) = mirrored(Options::default());
    let other = Image::oci(&[random_layer(9, 2000)]);
    let by_digest = format!("{}@{}", source.reference("team/app"), image().digest());
    let wrong = Effect::Answer(200, Vec::new(), other.manifest.raw.clone());
    let manifest = format!("/manifests/{}", image().digest());
    mirror.fail(Fault::on("GET", &manifest, wrong).always());
    let of = option(&source, &mirror.host());
    let ran = desk.run(&["make-payload", "-f", "x.zip", &of, &by_digest]);
    ran.assert(ExitCode::Done);
    assert!(ran.stderr.contains("sent damaged content"), "{}", ran.stderr);
    let listed = desk.run(&["inspect", "--json", "x.zip"]);
    assert!(listed.stdout.contains(&image().digest().to_string()), "{}", listed.stdout);

    mirror.heal();
    let layer = image().layers()[0].digest().to_string();
    mirror.fail(Fault::on("GET", &layer, Effect::Corrupt(5)).always());
    let ran = pack(&desk, &source, "y.zip", &[&of]);
    ran.assert(ExitCode::Registry);
    assert!(!desk.path("y.zip").exists());
}

#[test]
fn a_mirror_and_its_registry_each_see_their_own_login_only() {
    let bearer = |login| Options {
        access: Access::Bearer(Bearer { login: Some(login), ..Bearer::default() }),
        ..Options::default()
    };
    let source = TestRegistry::start_with(bearer(("me", "of-the-source")));
    let mirror = TestRegistry::start_with(bearer(("robot", "of-the-mirror")));
    source.put("team/app", "1", &image());
    mirror.put("hub/team/app", "1", &image());
    mirror.forget_blob("hub/team/app", image().layers()[0].digest());
    let desk = Desk::new();
    configure(
        &desk,
        &format!(
            "[registry.\"{0}\"]\nmirror = \"{1}/hub\"\n\
             [registry.\"{1}\"]\nusername = \"robot\"\npassword-file = \"password\"\n",
            source.host(),
            mirror.host()
        ),
    );
    std::fs::write(desk.path(".config/kharon/password"), "of-the-mirror\n").expect("written");
    let host = source.host();
    let login = ["-r", &host, "-u", "me", "-p", "of-the-source"];
    pack(&desk, &source, "x.zip", &login).assert(ExitCode::Done);
    assert!(mirror.count("GET", "/blobs/") > 0 && source.count("GET", "/blobs/") > 0);
    mirror.assert_no_violations();
    source.assert_no_violations();
}

#[test]
fn circles_and_nonsense_are_refused_before_anything_is_asked() {
    let (source, mirror, desk) = mirrored(Options::default());
    let (a, b) = (source.host(), mirror.host());
    let circle = format!("mirrors go in a circle: `{a}` → `{b}` → `{a}`");
    let circle_from_b = format!("mirrors go in a circle: `{b}` → `{a}` → `{b}`");
    let (there, back, own) =
        (format!("--mirror={a}={b}"), format!("--mirror={b}={a}/x"), format!("--mirror={a}={a}"));
    let ran = pack(&desk, &source, "x.zip", &[&there, &back]);
    ran.assert(ExitCode::Usage);
    let named = [&circle, &circle_from_b].iter().any(|circle| ran.stderr.contains(*circle));
    assert!(named, "{}", ran.stderr);
    for (arguments, expected) in [
        (&[own.as_str()][..], "mirrors go in a circle"),
        (&["--mirror", "docker.io"], "expected a registry and its mirror such as"),
        (&["--mirror", "docker.io=https://x"], "expected a mirror such as"),
        (&["--mirror-only"], "no registry has a mirror"),
    ] {
        let ran = pack(&desk, &source, "x.zip", arguments);
        ran.assert(ExitCode::Usage);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    }
    assert!(source.journal().is_empty() && mirror.journal().is_empty());
}

#[test]
fn a_bad_file_of_settings_is_refused_with_file_line_and_key() {
    let (source, _, desk) = mirrored(Options::default());
    for (text, expected) in [
        (
            "[registry.\"a.x\"]\nmirrors = \"b.x\"\n",
            "config.toml`, line 2: unknown field `mirrors`",
        ),
        (
            "[registry.\"a.x\"]\nusername = \"u\"\npassword = \"s3cret\"\n",
            "config.toml`, line 3: `password` cannot stand in this file\nhint: name where it is found",
        ),
        (
            "[registry.\"a.x\"]\nusername = \"u\"\n",
            "`username` needs a password for registry `a.x`",
        ),
        ("[registry.\"a.x\"]\nmirror-only = true\n", "`a.x` is `mirror-only` in config.toml"),
    ] {
        configure(&desk, text);
        let ran = pack(&desk, &source, "x.zip", &[]);
        ran.assert(ExitCode::Usage);
        assert!(ran.stderr.contains(expected), "{text}{}", ran.stderr);
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    }
    let name = source.reference("team/app:1");
    let mut command = desk.kharon(&["make-payload", "-f", "x.zip", &name]);
    let ran = Ran::of(&command.env("KHARON_CONFIG", "nowhere.toml").output().expect("it runs"));
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("`nowhere.toml` that KHARON_CONFIG names"), "{}", ran.stderr);
    assert!(source.journal().is_empty());
}

/// Each place where a login may stand, the one that counts most first.
#[test]
fn logins_are_taken_from_the_first_place_that_has_one() {
    let access = Access::Basic { username: "me", password: "right" };
    let source = TestRegistry::start_with(Options { access, ..Options::default() });
    source.put("team/app", "1", &image());
    let host = source.host();
    let name = source.reference("team/app:1");
    // By place: the command line, the environment, config.toml, Docker's config.json.
    for first in 0..4 {
        let desk = Desk::new();
        let password = |place: usize| match place.cmp(&first) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some("right"),
            std::cmp::Ordering::Greater => Some("wrong"),
        };
        let mut arguments = vec!["make-payload", "-f", "x.zip", "-r", &host, &name];
        if let Some(password) = password(0) {
            arguments.extend(["-u", "me", "-p", password]);
        }
        let mut command = desk.kharon(&arguments);
        if let Some(password) = password(1) {
            command.env("KHARON_USERNAME", "me").env("KHARON_PASSWORD", password);
        }
        if let Some(password) = password(2) {
            command.env("APP_PASSWORD", password);
            let login = "username = \"me\"\npassword-env = \"APP_PASSWORD\"\n";
            configure(&desk, &format!("[registry.\"{host}\"]\n{login}"));
        }
        if let Some(password) = password(3) {
            std::fs::create_dir(desk.path(".docker")).expect("a folder");
            let entry = format!(
                "{{\"auths\":{{\"{host}\":{{\"username\":\"me\",\"password\":\"{password}\"}}}}}}"
            );
            std::fs::write(desk.path(".docker/config.json"), entry).expect("written");
        }
        let ran = Ran::of(&command.output().expect("it runs"));
        assert_eq!(ran.code, Some(0), "place {first}: {}", ran.stderr);
    }
}

#[test]
fn a_login_that_is_not_where_it_should_be_is_named_when_it_is_asked_for() {
    let access = Access::Basic { username: "me", password: "right" };
    let source = TestRegistry::start_with(Options { access, ..Options::default() });
    source.put("team/app", "1", &image());
    let desk = Desk::new();
    std::fs::write(desk.path("empty"), "\n").expect("written");
    let empty = desk.path("empty").display().to_string();
    let absent = desk.path("absent").display().to_string();
    for (key, value, expected) in [
        ("password-env", "NO_SUCH_VARIABLE", "environment variable NO_SUCH_VARIABLE, found none"),
        ("password-file", &empty, "expected a password on the first line of"),
        ("password-file", &absent, "cannot read `"),
    ] {
        let text =
            format!("[registry.\"{}\"]\nusername = \"me\"\n{key} = \"{value}\"\n", source.host());
        configure(&desk, &text);
        let ran = pack(&desk, &source, "x.zip", &[]);
        ran.assert(ExitCode::Registry);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    // A registry that asks for none is not kept from answering.
    let open = TestRegistry::start();
    open.put("team/app", "1", &image());
    let login = "username = \"me\"\npassword-env = \"NO_SUCH_VARIABLE\"\n";
    configure(&desk, &format!("[registry.\"{}\"]\n{login}", open.host()));
    pack(&desk, &open, "x.zip", &[]).assert(ExitCode::Done);
}

#[test]
fn the_rate_of_one_registry_holds_for_it_and_for_no_other() {
    let (source, mirror, desk) = mirrored(Options::default());
    let at_rate = |rate: &str| {
        configure(&desk, &format!("[registry.\"{}\"]\nlimit-rate = \"{rate}\"\n", mirror.host()));
    };
    // At this rate the mirror would need five minutes.
    at_rate("1kB");
    let begun = Instant::now();
    pack(&desk, &source, "x.zip", &[]).assert(ExitCode::Done);
    let free = begun.elapsed();
    assert!(free < Duration::from_secs(60), "{free:?}");
    at_rate("200kB");
    let begun = Instant::now();
    pack(&desk, &source, "y.zip", &[&option(&source, &mirror.host())]).assert(ExitCode::Done);
    let limited = begun.elapsed();
    // 300 kB, of which a tenth of a second's worth may pass at once.
    assert!(limited > Duration::from_millis(900), "{limited:?}");
}

#[test]
fn a_push_goes_to_the_registry_itself_with_the_settings_of_the_file() {
    let access = Access::Basic { username: "me", password: "right" };
    let far = TestRegistry::start_with(Options { access, ..Options::default() });
    let (source, mirror, desk) = mirrored(Options::default());
    pack(&desk, &source, "x.zip", &[]).assert(ExitCode::Done);
    configure(
        &desk,
        &format!(
            "[registry.\"{}\"]\nmirror = \"{}/hub\"\nmirror-only = true\nusername = \"me\"\n\
             password-file = \"password\"\n",
            far.host(),
            mirror.host()
        ),
    );
    std::fs::write(desk.path(".config/kharon/password"), "right\n").expect("written");
    mirror.clear_journal();
    desk.run(&["push-payload", "-r", &far.host(), "-f", "x.zip"]).assert(ExitCode::Done);
    assert_eq!(far.tagged("team/app", "1"), Some(image().digest().clone()));
    assert!(mirror.journal().is_empty());
}

#[test]
fn an_inventory_is_of_the_registry_itself() {
    let (source, mirror, desk) = mirrored(Options::default());
    configure(
        &desk,
        &format!("[registry.\"{}\"]\nmirror = \"{}/hub\"\n", source.host(), mirror.host()),
    );
    mirror.put("hub/team/other", "1", &image());
    mirror.clear_journal();
    let found = desk.run(&["inventory", "-r", &source.host()]).assert(ExitCode::Done).json();
    let names: Vec<_> = found["repositories"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|repository| repository["name"].clone())
        .collect();
    assert_eq!(names, ["team/app"]);
    assert!(mirror.journal().is_empty());
}

#[test]
fn save_reads_by_mirrors_too() {
    let (source, mirror, desk) = mirrored(Options::default());
    let name = source.reference("team/app:1");
    desk.run(&["save", &name, "-o", "direct.tar"]).assert(ExitCode::Done);
    source.clear_journal();
    let of = option(&source, &mirror.host());
    desk.run(&["save", &name, "-o", "x.tar", &of, "--mirror-only"]).assert(ExitCode::Done);
    assert!(source.journal().is_empty());
    let read = |name| std::fs::read(desk.path(name)).expect("a tar");
    assert!(read("direct.tar") == read("x.tar"), "another tar");
}
