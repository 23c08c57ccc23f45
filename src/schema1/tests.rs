//! Documents and what skopeo 1.9 and containers/image make of them.

use serde_json::json;

use super::*;
use crate::digest::Digest;
use crate::unpack::Packing;

/// The layers that the documents name, and their plain bytes.
const LAYERS: [(&str, &str); 3] = [
    (
        "sha256:817eba5b921d0b27616755d6bf41f8d0a86f15e94bc6b628834dc6c05cb11752",
        "sha256:9511ad8753a2055038a1bf697fc12928bdb0c29676e7b4b05b300fd979f170cf",
    ),
    (
        "sha256:245e14e4fae81e84d87c3608ce70a772731a1bd078535b5b490ddfc6b3ff5c32",
        "sha256:c25080675b21598c228e441835e193324ce8ace42da307d72371e5f15ccd868a",
    ),
    (
        "sha256:b1dd88cdd8bf09af2539d0b345e647129d8fd55c92b6d824b6ecc53efd531028",
        "sha256:84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652",
    ),
];

/// A document of these steps, the newest first, each with the number of its layer. Of IDs, `$1` is the first.
fn document(steps: &[(usize, &str)]) -> String {
    let id = |text: &str| {
        (1..=9).fold(text.to_owned(), |text, n| {
            text.replace(&format!("${n}"), &n.to_string().repeat(64))
        })
    };
    let layers: Vec<_> = steps.iter().map(|(n, _)| json!({ "blobSum": LAYERS[*n].0 })).collect();
    let history: Vec<_> =
        steps.iter().map(|(_, entry)| json!({ "v1Compatibility": id(entry) })).collect();
    let document = json!({
        "schemaVersion": 1, "name": "x/y", "tag": "1", "architecture": "amd64",
        "fsLayers": layers, "history": history,
    });
    document.to_string()
}

fn convert(document: &str) -> Converted {
    let document = Schema1::parse(document.as_bytes()).expect("a document");
    let read = |digest: &Digest| {
        let (_, diff_id) = LAYERS.iter().find(|(it, _)| *it == digest.to_string()).expect("one");
        let (digest, diff_id) = (digest.clone(), diff_id.parse().expect("a digest"));
        ReadLayer { digest, size_bytes: 89, packing: Packing::Gzip, diff_id }
    };
    let layers: Vec<ReadLayer> = document.layers().map(read).collect();
    document.convert(&layers).expect("it can be converted")
}

fn config(steps: &[(usize, &str)]) -> String {
    String::from_utf8(convert(&document(steps)).config.to_vec()).expect("a text")
}

const USUAL: [(usize, &str); 3] = [
    (
        1,
        r##"{"id":"$3","parent":"$2","created":"2015-10-31T22:22:55.500Z","docker_version":"1.9.1","architecture":"amd64","os":"linux","author":"B <b@example.org>","container":"0123","config":{"Env":["X=<&>"],"Cmd":["sh"]},"container_config":{"Cmd":["/bin/sh","-c","#(nop) CMD [\"sh\"]"]},"Size":7,"layer_id":"x","parent_id":"y"}"##,
    ),
    (
        2,
        r#"{"id":"$2","parent":"$1","created":"2015-10-31T22:22:54.690851953Z","throwaway":true,"comment":"a\tcomment","author":"A <a@example.org>","container_config":{"Cmd":null}}"#,
    ),
    (
        0,
        r##"{"id":"$1","created":"2015-10-31T22:22:53+02:00","container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD <a> & b in /"]}}"##,
    ),
];

#[test]
fn an_image_is_converted_as_skopeo_does_it() {
    let converted = convert(&document(&USUAL));
    assert_eq!(
        converted.config,
        r##"{"architecture":"amd64","author":"B \u003cb@example.org\u003e","config":{"Env":["X=\u003c\u0026\u003e"],"Cmd":["sh"]},"container":"0123","container_config":{"Cmd":["/bin/sh","-c","#(nop) CMD [\"sh\"]"]},"created":"2015-10-31T22:22:55.500Z","docker_version":"1.9.1","history":[{"created":"2015-10-31T22:22:53+02:00","created_by":"/bin/sh -c #(nop) ADD \u003ca\u003e \u0026 b in /"},{"created":"2015-10-31T22:22:54.690851953Z","author":"A \u003ca@example.org\u003e","comment":"a\tcomment","empty_layer":true},{"created":"2015-10-31T22:22:55.5Z","author":"B \u003cb@example.org\u003e","created_by":"/bin/sh -c #(nop) CMD [\"sh\"]"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:9511ad8753a2055038a1bf697fc12928bdb0c29676e7b4b05b300fd979f170cf","sha256:c25080675b21598c228e441835e193324ce8ace42da307d72371e5f15ccd868a"]}}"##
    );
    assert_eq!(
        converted.manifest.raw,
        r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":831,"digest":"sha256:e8e60428f8a2b7eb7174086804721a5c08eb79b5ca54b6d50543fb0b2e512054"},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":89,"digest":"sha256:817eba5b921d0b27616755d6bf41f8d0a86f15e94bc6b628834dc6c05cb11752"},{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":89,"digest":"sha256:245e14e4fae81e84d87c3608ce70a772731a1bd078535b5b490ddfc6b3ff5c32"}]}"#
    );
}

#[test]
fn what_docker_before_1_8_3_left_out_is_there() {
    let steps = [
        (
            1,
            r#"{"id":"$3","parent":"$2","created":"2014-01-02T03:04:05.600000000+00:00","docker_version":"1.6.2","architecture":"amd64","os":"linux","unknown":1,"config":{"Hostname":"h","ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Env":null,"Cmd":"a string","Volumes":{"/b":{},"/a":{}},"Memory":0,"Labels":{"z":"<1>","a":"2"},"OnBuild":[],"Entrypoint":["e","\u2028"],"MacAddress":"","NetworkDisabled":true,"StopTimeout":0},"Size":0,"comment":""}"#,
        ),
        (
            1,
            r#"{"ID":"$2","Parent":"$1","created":null,"container_config":{"cmd":["x",null,"y"]}}"#,
        ),
        (0, r#"{"id":"$1"}"#),
    ];
    assert_eq!(
        config(&steps),
        r#"{"architecture":"amd64","config":{"Hostname":"h","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"443/tcp":{},"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["a string"],"Image":"","Volumes":{"/a":{},"/b":{}},"WorkingDir":"","Entrypoint":["e","\u2028"],"NetworkDisabled":true,"OnBuild":[],"Labels":{"a":"2","z":"\u003c1\u003e"},"StopTimeout":0},"container_config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},"created":"2014-01-02T03:04:05.6Z","docker_version":"1.6.2","history":[{"created":"0001-01-01T00:00:00Z"},{"created":"0001-01-01T00:00:00Z","created_by":"x  y"},{"created":"2014-01-02T03:04:05.6Z"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:9511ad8753a2055038a1bf697fc12928bdb0c29676e7b4b05b300fd979f170cf","sha256:c25080675b21598c228e441835e193324ce8ace42da307d72371e5f15ccd868a","sha256:c25080675b21598c228e441835e193324ce8ace42da307d72371e5f15ccd868a"]}}"#
    );
}

#[test]
fn what_is_said_of_the_image_stays_to_the_letter() {
    let steps = [
        (0, r#"{"id":"$2","parent":"$1"}"#),
        (
            0,
            "{ \"id\" : \"$2\" ,\n \"parent\":\"$1\", \"os\" : \"linux\", \"z\\u003c\": [ 1.50, 2e3, \"\\/ \u{2028} > \\u00e4\" ], \"history\": 3, \"created\": \"2015-10-31T22:22:53Z\", \"throwaway\": false, \"docker_version\": null }",
        ),
        (0, r#"{"id":"$1","created":"2015-10-31T22:22:53.000Z","throwaway":true}"#),
    ];
    assert_eq!(
        config(&steps),
        r#"{"created":"2015-10-31T22:22:53Z","docker_version":null,"history":[{"created":"2015-10-31T22:22:53Z","empty_layer":true},{"created":"2015-10-31T22:22:53Z"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:9511ad8753a2055038a1bf697fc12928bdb0c29676e7b4b05b300fd979f170cf"]},"z\u003c":[1.50,2e3,"\/ \u2028 \u003e \u00e4"]}"#
    );
}

#[test]
fn an_image_of_steps_without_layers_has_none() {
    let step =
        r#"{"id":"$1","throwaway":true,"created":"2015-10-31T22:22:53Z","docker_version":"1.8.3"}"#;
    let converted = convert(&document(&[(2, step)]));
    assert_eq!(
        converted.config,
        r#"{"created":"2015-10-31T22:22:53Z","docker_version":"1.8.3","history":[{"created":"2015-10-31T22:22:53Z","empty_layer":true}],"rootfs":{"type":"layers"}}"#
    );
    assert_eq!(converted.manifest.blobs().count(), 1, "the config alone");
}

/// A manifest as distribution 2.8 served it, with its header `Docker-Content-Digest`.
#[test]
fn the_digest_is_that_of_what_is_signed() {
    let payload = r#"{"name":"a/clock","tag":"v1","schemaVersion":1,"fsLayers":[{"blobSum":"$D"}],"history":[{"v1Compatibility":"{\"id\":\"$1\"}"}]}"#;
    let payload = payload.replace("$D", LAYERS[0].0).replace("$1", &"1".repeat(64));
    let length = payload.len() - 1;
    let protected = json!({ "formatLength": length, "formatTail": "fQ", "time": "" }).to_string();
    let signed = |protected: &str| {
        let encoded = base64(protected);
        format!("{},\"signatures\":[{{\"protected\":\"{encoded}\"}}]}}", &payload[..length])
    };
    let raw = signed(&protected);
    let document = Schema1::parse(raw.as_bytes()).expect("a document");
    assert_eq!(*document.digest(), Digest::of(payload.as_bytes()));
    assert!(
        document.is(&Digest::of(payload.as_bytes())) && document.is(&Digest::of(raw.as_bytes()))
    );
    assert!(!document.is(&Digest::of(b"")));
    assert_eq!(
        document,
        Schema1 { raw_digest: document.raw_digest.clone(), ..parse(&payload).expect("one") }
    );
    // What stands behind the signed part counts for nothing.
    let smuggled = raw.replace("\"signatures\"", "\"fsLayers\":[],\"signatures\"");
    assert!(Schema1::parse(smuggled.as_bytes()).is_err());
    for (wrong, said) in [
        (signed("{}"), "cannot be read"),
        (signed(&protected.replace(&length.to_string(), "99999")), "more than"),
        (signed(&protected.replace("fQ", "*")), "base64"),
        (raw.replace("[{\"pro", "[{},{\"pro"), "cannot be read"),
        (payload.replace("\"name\"", "\"signatures\":[],\"name\""), "none in the list"),
    ] {
        let error = Schema1::parse(wrong.as_bytes()).expect_err(&wrong);
        assert!(error.to_string().contains(said), "{error}");
    }
}

fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn parse(document: &str) -> Result<Schema1, InvalidSchema1> {
    Schema1::parse(document.as_bytes())
}

#[test]
fn what_is_wrong_is_said() {
    let one = r#"{"id":"$1"}"#;
    let with = |entry: &'static str| document(&[(0, entry), (1, one)]);
    let whole = document(&[(0, one)]);
    for (wrong, said) in [
        ("[1]".to_owned(), "found something else"),
        ("{".to_owned(), "found something else"),
        ("{}".to_owned(), "`schemaVersion` 1 as its media type says, found none"),
        (whole.replace(":1,", ":3,"), "found 3"),
        (whole.replace(":1,", ":\"1\","), "found \"1\""),
        (whole.replace(LAYERS[0].0, "sha256:12"), "found something else"),
        (whole.replace("\"tag\"", "\"layers\":[],\"tag\""), "found `layers` in it too"),
        (document(&[]), "at least one layer"),
        (r#"{"schemaVersion":1,"fsLayers":null}"#.to_owned(), "at least one layer"),
        (
            whole.replace("\"history\":[", "\"history\":[{\"v1Compatibility\":\"{}\"},"),
            "found 2 and 1",
        ),
        (with("no JSON"), "entry 1 of its history cannot be read"),
        (with("[]"), "entry 1 of its history cannot be read"),
        (with(r#"{"id":"$2","parent":"$1","created":"yesterday"}"#), "entry 1 of its history"),
        (with(r#"{"id":"short"}"#), "entry 1 of its history, found `short`"),
        (with(r#"{"id":"$2","parent":"$3"}"#), "as parent of entry 1"),
        (document(&[(0, r#"{"id":"$2","parent":"$1"}"#)]), "expected `` as parent of entry 1"),
        (document(&[(0, one), (1, r#"{"id":"$2"}"#), (0, one)]), "twice"),
    ] {
        let error = parse(&wrong).expect_err(&wrong);
        assert!(error.to_string().contains(said), "expected `{said}`, found `{error}`");
    }
    let bad = with(r#"{"id":"$2","parent":"$1","docker_version":"1.0","config":{"Env":"x"}}"#);
    let error = parse(&bad).expect("a document").convert(&[]).expect_err("no config");
    assert!(error.to_string().contains("entry 1"), "{error}");
}
