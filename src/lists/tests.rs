use super::*;

const NO_VARIABLES: &dyn Fn(&str) -> Option<String> = &|_| None;

fn found(text: &str, paths: &[&str]) -> Result<Found, Usage> {
    let paths: Vec<ImagePath> = paths.iter().map(|path| path.parse().expect("a path")).collect();
    find(text, "`x.yaml`", &paths, NO_VARIABLES)
}

fn names(text: &str, paths: &[&str]) -> Vec<String> {
    let found = found(text, paths).unwrap_or_else(|error| panic!("{error}\n{text}"));
    found.images.into_iter().map(|image| image.name).collect()
}

fn refusal(text: &str, paths: &[&str]) -> String {
    found(text, paths).expect_err("refused").to_string()
}

#[test]
fn a_plain_list_has_comments_and_empty_lines() {
    let text = "\u{feff}# images\n\npython:3.9  # the old one\r\n  redis, b:1 ,\n#x\n a#b \n";
    let found = found(text, &[]).expect("images");
    assert_eq!(found.documents, None);
    let images: Vec<_> =
        found.images.iter().map(|image| (image.place.line, image.name.as_str())).collect();
    assert_eq!(images, [(3, "python:3.9"), (4, "redis"), (4, "b:1"), (6, "a#b")]);
}

#[test]
fn what_a_file_is_shows_in_its_first_line() {
    for (text, expected) in [
        ("python:3.9\n", false),
        ("registry.example:5000/a/b:1@sha256:00 # x: y\n", false),
        ("[::1]:5000/a:1\n", true),
        ("# a: comment\npython:3.9", false),
        ("", false),
        ("# only: comments", false),
        ("---\n", true),
        ("%YAML 1.2\n---\n", true),
        ("# Source: chart/templates/x.yaml\napiVersion: v1", true),
        ("services:\n", true),
        ("- a: b", true),
        ("-\n  a: b", true),
        ("{\"kind\": \"Pod\"}", true),
        ("\"kind\": Pod", true),
    ] {
        assert_eq!(is_yaml(text), expected, "{text}");
    }
}

const PODS: &str = r#"
# Source: chart/templates/pod.yaml
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  initContainers: [{name: a, image: init:1}]
  containers:
  - name: b
    image: &main "main:1"
  - {name: c, image: *main}
  - {name: patch}
  ephemeralContainers: [{name: d, image: debug:1}]
  volumes:
  - {name: v, image: {reference: "data:1"}}
  - {name: w, emptyDir: {}}
status:
  containers: [{image: not-this:1}]
---
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: "cron:1"}]}}}}}
---
apiVersion: v1
kind: List
items:
- kind: Deployment
  metadata: {name: one}
  spec: {template: {spec: {containers: [{image: "one:1"}]}}}
- kind: ConfigMap
  metadata: {name: text}
  data: {pod: "containers: [{image: 'inside:1'}]"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: schema}
spec: {properties: {containers: {type: array, items: {properties: {image: {type: string}}}}}}
---
kind: Custom
metadata: {name: own}
spec: {parts: [{podTemplate: {spec: {containers: [{image: "own:1"}]}}}]}
"#;

#[test]
fn pods_are_found_by_their_shape_at_any_depth() {
    let found = found(PODS, &[]).expect("images");
    assert_eq!(found.documents, Some(6));
    let images: Vec<String> = found
        .images
        .iter()
        .map(|image| {
            let within = image.place.within.as_ref().expect("a document");
            format!("{} {} {} {}", image.place.line, within.document, within.field, image.name)
        })
        .collect();
    assert_eq!(
        images,
        [
            "10 Pod/alone spec.containers[0].image main:1",
            "11 Pod/alone spec.containers[1].image main:1",
            "13 Pod/alone spec.ephemeralContainers[0].image debug:1",
            "7 Pod/alone spec.initContainers[0].image init:1",
            "15 Pod/alone spec.volumes[0].image.reference data:1",
            "24 CronJob/nightly spec.jobTemplate.spec.template.spec.containers[0].image cron:1",
            "31 Deployment/one spec.template.spec.containers[0].image one:1",
            "43 Custom/own spec.parts[0].podTemplate.spec.containers[0].image own:1",
        ]
    );
}

#[test]
fn json_is_yaml_too() {
    let json =
        r#"{"kind":"List","items":[{"kind":"Pod","spec":{"containers":[{"image":"a:1"}]}}]}"#;
    assert_eq!(names(json, &[]), ["a:1"]);
    let array = r#"[{"kind":"Pod","spec":{"containers":[{"image":"a:1"}]}}]"#;
    assert_eq!(names(array, &[]), ["a:1"]);
}

#[test]
fn what_is_strange_and_valid_does_no_harm() {
    for text in [
        "kind: Pod\nkind: Pod\ncontainers: [{image: 'a:1', x: .nan, y: 1e999, z: 0x10}]",
        "1: one\n? [a, b]\n: two\nnull: n\ncontainers: [{image: 'a:1'}]",
        "x: !Ref y\nz: !!binary aGVsbG8=\nw: !custom {a: b}\ncontainers: [{image: 'a:1'}]",
        "base: &b {image: 'a:1'}\ncontainers: [{<<: *b, name: x}]",
        "containers: [{image: null}, {image: }, {}, {image: 'a:1'}]",
        "containers: [{image: 'a:1'}]\nvolumes: [text, {image: {}}, {image: text}]",
        "big: 123456789012345678901234567890123456789012345\ncontainers: [{image: 'a:1'}]",
    ] {
        assert_eq!(names(text, &[]), ["a:1"], "{text}");
    }
}

#[test]
fn paths_name_fields_of_custom_resources() {
    let text = r#"
kind: Prometheus
metadata: {name: main}
spec:
  image: prometheus:1
  jobs: [{image: job-a:1}, {name: none}, {image: job-b:1}]
  components: {x: {image: x:1}, y: {image: y:1}}
  values: {registry: ghcr.io, repository: team/app, tag: "1.10", digest: ""}
  numbers: {7: {image: seven:1}, 1.5: {image: lost:1}, true: {image: true:1}}
  named: {name: team/other, tag: null}
  "dotted.name": dotted:1
---
kind: Other
spec: {image: other:1}
"#;
    for (path, expected) in [
        ("spec.image", &["prometheus:1", "other:1"][..]),
        ("Prometheus=spec.image", &["prometheus:1"]),
        ("Other=spec.image", &["other:1"]),
        ("spec.jobs[].image", &["job-a:1", "job-b:1"]),
        ("spec.jobs[2].image", &["job-b:1"]),
        ("spec.components.*.image", &["x:1", "y:1"]),
        ("spec.numbers.7.image", &["seven:1"]),
        ("spec.numbers.true.image", &["true:1"]),
        ("spec.values", &["ghcr.io/team/app:1.10"]),
        ("spec.named", &["team/other"]),
        ("spec.\"dotted.name\"", &["dotted:1"]),
    ] {
        assert_eq!(names(text, &[path]), expected, "{path}");
    }
    let met = found(text, &["spec.image", "Job=spec.image"]).expect("images").paths_met;
    assert_eq!(met, [true, false]);
    let pod = "kind: Pod\nspec: {containers: [{image: 'a:1'}]}";
    assert_eq!(names(pod, &["spec.containers[].image"]), ["a:1"]);
}

const COMPOSE: &str = r"
services:
  web: {image: 'web:${TAG:-1}'}
  database: {image: 'database:$VERSION'}
  own: {build: .}
  both: {build: ., image: 'both:1'}
  child: {extends: {file: other.yaml, service: base}}
";

#[test]
fn the_services_of_a_compose_file_are_found() {
    let variable = |name: &str| (name == "TAG").then(|| "7".to_owned());
    let found = find(COMPOSE, "`c.yaml`", &[], &variable).expect("images");
    let images: Vec<_> = found.images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(images, ["both:1", "database:", "web:7"]);
    assert_eq!(
        found.left,
        [
            "service `child` extends one of `other.yaml`",
            "service `own` is built and has no image",
            "variable `VERSION` is not set, so empty",
        ]
    );
    let required = "services:\n  a: {image: 'a:${TAG:?say which}'}";
    let error = refusal(required, &[]);
    assert_eq!(
        error,
        "variable `TAG` is not set (say which) in `x.yaml`, line 2, field `services.a.image` of compose file"
    );
}

#[test]
fn what_names_no_image_is_refused_with_what_was_found() {
    for (text, expected) in [
        ("---\n", "`x.yaml` names no image, found no document"),
        (
            "kind: ConfigMap\nmetadata: {name: a}\n---\nkind: Secret\nmetadata: {name: b}",
            "`x.yaml` names no image, found ConfigMap/a, Secret/b",
        ),
        ("a: b", "`x.yaml` names no image, found the document at line 1"),
        (
            "services:\n  a: {build: .}",
            "`x.yaml` names no image, found service `a` is built and has no image",
        ),
        (
            "kind: Pod\nspec:\n  containers:\n  - image: 5",
            "expected the name of an image, found a number in `x.yaml`, line 4, field `spec.containers[0].image` of Pod",
        ),
        ("kind: Pod\ncontainers: [{image: [a]}]", "found a list in `x.yaml`, line 2"),
    ] {
        let error = refusal(text, &[]);
        assert!(error.contains(expected), "{error}");
    }
    let number = refusal("image: {repository: a, tag: 1.10}", &["image"]);
    assert!(number.contains("expected text as `tag`"), "{number}");
    let list = refusal("images: [a]", &["images"]);
    assert!(list.contains("found a list"), "{list}");
}

#[test]
fn yaml_that_cannot_be_read_is_named_with_its_line() {
    for text in ["a: b\nc: [", "a: b\n  c: d: e", "{{- if .Values.x }}\na: b\n{{- end }}"] {
        let error = refusal(text, &[]);
        assert!(error.starts_with("`x.yaml` cannot be read as YAML: "), "{error}");
        assert!(error.contains("line"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn aliases_make_not_much_of_little() {
    let mut laughs = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push(format!("a{level}: &a{level} [{before}]"));
    }
    let long = "x".repeat(1_000_000);
    let aliases = vec!["*t"; 40_000].join(", ");
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = (0..100_000).map(|_| "- ").collect::<String>();
    for text in [laughs.join("\n"), deep, nested] {
        let error = refusal(&text, &[]);
        assert!(error.contains("cannot be read as YAML"), "{error}");
        assert!(error.len() < 500, "{error}");
    }
    // Whatever comes of it, it is no gigabytes of text.
    let wide = format!("t: &t \"{long}\"\nl: [{aliases}]\n");
    drop(found(&wide, &[]));
    let levels = format!("a: {}{}", "[".repeat(120), "]".repeat(120));
    assert!(refusal(&levels, &[]).contains("names no image"));
}
