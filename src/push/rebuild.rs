//! A new index of the children that travel, for registries that refuse a sparse one. Pure.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::Value;

use crate::digest::Digest;
use crate::manifest::Manifest;

/// `index` without the children for which `travels` says no. Children that were rebuilt themselves are
/// replaced by what `rebuilt` has for them; everything else stays as it is.
///
/// # Errors
/// When the index has not the shape that it had when it was read, which no reader lets through.
pub(super) fn rebuild(
    index: &Manifest,
    travels: impl Fn(&Digest) -> bool,
    rebuilt: &BTreeMap<Digest, Manifest>,
) -> anyhow::Result<Manifest> {
    let mut json: Value = serde_json::from_slice(&index.raw)?;
    let children = json
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .context("an index has no list of manifests")?;
    let digest_of = |child: &Value| child.get("digest")?.as_str()?.parse::<Digest>().ok();
    children.retain(|child| digest_of(child).is_some_and(|digest| travels(&digest)));
    for child in children {
        let new = digest_of(child).and_then(|digest| rebuilt.get(&digest));
        if let (Some(new), Some(child)) = (new, child.as_object_mut()) {
            child.insert("digest".to_owned(), new.digest().to_string().into());
            child.insert("size".to_owned(), new.descriptor.size.into());
        }
    }
    let raw = Bytes::from(serde_json::to_vec(&json)?);
    Ok(Manifest::parse(raw, Some(&index.descriptor.media_type))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuilt_index_keeps_its_children_as_they_are() {
        let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
        let child = |digest: &Digest, platform| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":9,"platform":{{"os":"linux","architecture":"{platform}"}},"x-own":[1]}}"#
            )
        };
        let json = format!(
            r#"{{"schemaVersion":2,"annotations":{{"a":"b"}},"manifests":[{},{}]}}"#,
            child(&gone, "arm"),
            child(&kept, "amd64")
        );
        let index = Manifest::parse(Bytes::from(json), None).expect("an index");
        let new = rebuild(&index, |digest| *digest == kept, &BTreeMap::new()).expect("rebuilt");
        assert_ne!(new.digest(), index.digest());
        assert_eq!(new.children(), &index.children()[1..]);
        let text = String::from_utf8(new.raw.to_vec()).expect("text");
        assert!(text.contains(r#""x-own":[1]"#) && text.contains(r#""annotations":{"a":"b"}"#));
    }

    #[test]
    fn an_index_over_a_rebuilt_one_names_the_new_digest() {
        let inner =
            Manifest::parse(Bytes::from_static(br#"{"manifests":[]}"#), None).expect("valid");
        let old = Digest::of(b"old");
        let json = format!(
            r#"{{"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{old}","size":1}}]}}"#
        );
        let outer = Manifest::parse(Bytes::from(json), None).expect("an index");
        let rebuilt = BTreeMap::from([(old, inner.clone())]);
        let new = rebuild(&outer, |_| true, &rebuilt).expect("rebuilt");
        assert_eq!(new.children()[0].digest, *inner.digest());
        assert_eq!(new.children()[0].size, inner.descriptor.size);
    }
}
