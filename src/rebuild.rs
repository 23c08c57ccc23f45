//! New indexes of the children that travel, for registries that refuse sparse ones. Pure.
//!
//! What is written depends on the manifests alone, so that a later make-payload knows which digest a
//! tag got where an index had to be rebuilt.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::Value;

use crate::digest::Digest;
use crate::manifest::{Manifest, MediaType};

/// Everything that is rebuilt, by the digest of the original, where no index of `manifests` may be sparse. They come children before
/// parents; `travels` says which manifests do.
///
/// # Errors
/// As [`rebuild`].
pub(crate) fn rebuild_all<'a>(
    manifests: impl IntoIterator<Item = &'a Manifest>,
    travels: impl Fn(&Digest) -> bool,
) -> anyhow::Result<BTreeMap<Digest, Manifest>> {
    let mut rebuilt = BTreeMap::new();
    for manifest in manifests {
        let changes = |digest: &Digest| !travels(digest) || rebuilt.contains_key(digest);
        if manifest.children().iter().any(|child| changes(&child.digest)) {
            let new = rebuild(manifest, &travels, |digest| rebuilt.get(digest))?;
            rebuilt.insert(manifest.digest().clone(), new);
        }
    }
    Ok(rebuilt)
}

/// `index` without the manifests for which `travels` says no. Children that were rebuilt themselves are
/// replaced by what `rebuilt` has for them; everything else stays as it is, children that are no
/// manifests among it.
///
/// # Errors
/// When the index has not the shape that it had when it was read, which no reader lets through.
pub(crate) fn rebuild<'a>(
    index: &Manifest,
    travels: impl Fn(&Digest) -> bool,
    rebuilt: impl Fn(&Digest) -> Option<&'a Manifest>,
) -> anyhow::Result<Manifest> {
    let mut json: Value = serde_json::from_slice(&index.raw)?;
    let children = json
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .context("an index has no list of manifests")?;
    let digest_of = |child: &Value| child.get("digest")?.as_str()?.parse::<Digest>().ok();
    let is_manifest = |child: &Value| {
        let media_type = child.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        MediaType::new(media_type).is_manifest()
    };
    children.retain(|child| {
        !is_manifest(child) || digest_of(child).is_some_and(|digest| travels(&digest))
    });
    for child in children {
        let new = digest_of(child).and_then(|digest| rebuilt(&digest));
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
        let new = rebuild(&index, |digest| *digest == kept, |_| None).expect("rebuilt");
        assert_ne!(new.digest(), index.digest());
        assert_eq!(new.children(), &index.children()[1..]);
        let text = String::from_utf8(new.raw.to_vec()).expect("text");
        assert!(text.contains(r#""x-own":[1]"#) && text.contains(r#""annotations":{"a":"b"}"#));
    }

    #[test]
    fn a_child_that_is_no_manifest_stays() {
        let note = Digest::of(b"note");
        let json =
            format!(r#"{{"manifests":[{{"mediaType":"text/plain","digest":"{note}","size":4}}]}}"#);
        let index = Manifest::parse(Bytes::from(json), None).expect("an index");
        let new = rebuild(&index, |_| false, |_| None).expect("rebuilt");
        assert_eq!(new.blobs().map(|blob| &blob.digest).collect::<Vec<_>>(), [&note]);
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
        let rebuilt = |digest: &Digest| (*digest == old).then_some(&inner);
        let new = rebuild(&outer, |_| true, rebuilt).expect("rebuilt");
        let all = rebuild_all([&outer], |_| false).expect("rebuilt");
        assert!(all[outer.digest()].children().is_empty());
        assert!(rebuild_all([&outer], |_| true).expect("nothing to do").is_empty());
        assert_eq!(new.children()[0].digest, *inner.digest());
        assert_eq!(new.children()[0].size, inner.descriptor.size);
    }
}
