//! Images that files name, from manifests and compose files to a payload.

use kharon::failure::ExitCode;

use crate::cli::{Desk, Ran};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

/// A source with images of these names, all with the tag `1`, and a desk.
fn source(names: &[&str]) -> (TestRegistry, Desk) {
    let source = TestRegistry::start();
    for (seed, name) in (1..).zip(names) {
        source.put(name, "1", &Image::oci(&[random_layer(seed, 3000)]));
    }
    (source, Desk::new())
}

fn write(desk: &Desk, name: &str, text: &str) {
    std::fs::write(desk.path(name), text).expect("written");
}

/// A plan of what `arguments` name at `source`.
fn plan(source: &TestRegistry, arguments: &[&str]) -> Vec<String> {
    let host = source.host();
    ["make-payload", "--dry-run", "--json", "-r", &host]
        .iter()
        .chain(arguments)
        .map(|argument| (*argument).to_owned())
        .collect()
}

fn images(ran: &Ran) -> Vec<String> {
    let plan = ran.assert(ExitCode::Done).json();
    let images = plan["plan"]["images"].as_array().expect("a list");
    images.iter().map(|image| image["name"].as_str().expect("text").to_owned()).collect()
}

fn run(desk: &Desk, arguments: &[String]) -> Ran {
    desk.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

const DEPLOYMENT: &str = "\
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers: [{name: i, image: init:1}]
      containers: [{name: w, image: 'web:1'}]
---
kind: Service
metadata: {name: web}
---
kind: CronJob
metadata: {name: clean}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: 'init:1'}]}}}}}
---
kind: Prometheus
metadata: {name: main}
spec: {image: {repository: prometheus, tag: '1'}}
";

#[test]
fn manifests_lists_and_compose_files_come_together_and_each_image_once() {
    let (source, desk) = source(&["web", "init", "prometheus", "plain", "service"]);
    write(&desk, "deploy.yaml", DEPLOYMENT);
    write(&desk, "images.txt", "# ours\nplain:1\nweb:1\n");
    let compose = "services:\n  a: {image: 'service:${TAG:-1}'}\n  b: {build: .}\n";
    write(&desk, "compose.yaml", compose);
    let arguments = plan(
        &source,
        &[
            "-v",
            "--images-from",
            "deploy.yaml",
            "--images-from",
            "images.txt",
            "--images-from",
            "compose.yaml",
            "--image-path",
            "Prometheus=spec.image",
        ],
    );
    let ran = run(&desk, &arguments);
    assert_eq!(images(&ran), ["web:1", "init:1", "prometheus:1", "plain:1", "service:1"]);
    let told = ran.stderr.replace(&source.host(), "HOST");
    for line in [
        "`deploy.yaml`: 4 images in 3 of 4 documents, 1 of them named before\n",
        "`deploy.yaml` line 1, Deployment/web: HOST/web:1, HOST/init:1\n",
        "`deploy.yaml` line 12, CronJob/clean: HOST/init:1\n",
        "`deploy.yaml` line 16, Prometheus/main: HOST/prometheus:1\n",
        "`images.txt`: 2 images, 1 of them named before\n",
        "`compose.yaml`: 1 image in 1 of 1 document\n",
        "`compose.yaml`: service `b` is built and has no image\n",
    ] {
        assert!(told.contains(line), "no {line} in\n{told}");
    }
}

#[test]
fn the_output_of_helm_template_comes_through_stdin_into_a_payload() {
    let (source, desk) = source(&["web", "init"]);
    let host = source.host();
    let rendered = format!("---\n# Source: chart/templates/deploy.yaml\n{DEPLOYMENT}");
    let arguments = ["make-payload", "-r", &host, "-f", "x.zip", "--images-from", "-"];
    let ran = desk.run_with(&arguments, rendered.as_bytes());
    ran.assert(ExitCode::Done);
    assert!(ran.stderr.contains("stdin: 3 images in 2 of 4 documents"), "{}", ran.stderr);
    let inspected = desk.run(&["inspect", "x.zip"]);
    inspected.assert(ExitCode::Done);
    assert!(inspected.stdout.contains("web:1") && inspected.stdout.contains("init:1"));
}

#[test]
fn variables_of_a_compose_file_come_from_the_environment() {
    let (source, desk) = source(&["service"]);
    write(&desk, "compose.yaml", "services:\n  a: {image: 'service:${SERVICE_TAG}'}\n");
    let arguments = plan(&source, &["--images-from", "compose.yaml"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = desk.kharon(&arguments).env("SERVICE_TAG", "1").output().expect("it runs");
    assert_eq!(images(&Ran::of(&output)), ["service:1"]);
    let ran = desk.run(&arguments);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("variable `SERVICE_TAG` is not set"), "{}", ran.stderr);
    assert!(ran.stderr.contains("field `services.a.image`"), "{}", ran.stderr);
}

#[test]
fn bad_lists_are_refused_before_anything_is_asked() {
    let (source, desk) = source(&["web"]);
    let long = format!("kind: Pod\nx: {}\n", "y".repeat(17 * 1024 * 1024));
    for (name, text, more, code, expected) in [
        (
            "none.yaml",
            "kind: ConfigMap\nmetadata: {name: a}\n",
            &[][..],
            ExitCode::Usage,
            "`none.yaml` names no image, found ConfigMap/a\nhint: name the field that holds one",
        ),
        (
            "bad.yaml",
            "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - image: Bad/Name:1\n",
            &[],
            ExitCode::Usage,
            "`bad.yaml`, line 5, field `spec.containers[0].image` of Pod/p: `Bad/Name:1` is no image",
        ),
        ("bad.txt", "web:1\n\nA B\n", &[], ExitCode::Usage, "`bad.txt`, line 3: `A B` is no image"),
        ("broken.yaml", "a: [\n", &[], ExitCode::Usage, "`broken.yaml` cannot be read as YAML"),
        (
            "chart.yaml",
            "{{- if .Values.web }}\nkind: Pod\n{{- end }}\n",
            &[],
            ExitCode::Usage,
            "hint: render a chart first: `helm template",
        ),
        (
            "path.yaml",
            DEPLOYMENT,
            &["--image-path", "spec.imag"],
            ExitCode::Usage,
            "`--image-path spec.imag` names nothing in what --images-from reads",
        ),
        ("large.yaml", &long, &[], ExitCode::Usage, "`large.yaml` has more than"),
    ] {
        write(&desk, name, text);
        let arguments = plan(&source, &[&["--images-from", name], more].concat());
        let ran = run(&desk, &arguments);
        ran.assert(code);
        assert!(ran.stderr.contains(expected), "{name}: {}", ran.stderr);
    }
    let missing = run(&desk, &plan(&source, &["--images-from", "nowhere.yaml"]));
    missing.assert(ExitCode::Failed);
    assert!(missing.stderr.contains("cannot read the list of images from `nowhere.yaml`"));
    let path = run(&desk, &plan(&source, &["--image-path", "a..b", "web:1"]));
    path.assert(ExitCode::Usage);
    assert!(source.journal().is_empty());
}
