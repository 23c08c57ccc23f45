//! Tags, last of all.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::digest::Digest;
use crate::failure::Hinted;
use crate::manifest::Manifest;
use crate::payload::index::{Referrer, TagTarget};
use crate::reference::{RepositoryName, Tag, TagOrDigest};

use super::manifests::Rebuilt;
use super::receipt::ProvedTag;
use super::report::{KeptTag, PushReport, PushedImage, RefusedTag};
use super::targets::Target;
use super::{Push, TagPolicy};

/// What became of one tag.
enum Outcome {
    Set,
    Refused(String),
    Kept(Digest),
}

/// What to do with a tag, from what it names now, named before and is to name. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Move {
    /// It names the right manifest.
    Nothing,
    /// It may be set, and named this before.
    Set(Option<Digest>),
    /// Somebody else moved it to this.
    Keep(Digest),
}

fn decide(now: Option<Digest>, former: &[Digest], wanted: &Digest, policy: TagPolicy) -> Move {
    let is_known = |now: &Digest| former.is_empty() || former.contains(now);
    match now {
        Some(now) if now == *wanted => Move::Nothing,
        Some(now) if policy == TagPolicy::Protect && !is_known(&now) => Move::Keep(now),
        now => Move::Set(now),
    }
}

impl Push {
    /// Sets the tags of all targets, and says what is known of them then. A tag that is refused or left
    /// alone does not stop the others.
    pub(super) async fn set_tags(
        &self,
        targets: &[Target<'_>],
        rebuilt: &Rebuilt,
        report: &mut PushReport,
    ) -> anyhow::Result<Vec<ProvedTag>> {
        let images = targets.iter().map(|target| self.set_tags_of(target, rebuilt));
        let images: Vec<_> = stream::iter(images).buffered(self.jobs).try_collect().await?;
        let mut proved = Vec::new();
        for (image, tags) in images {
            report.pushed.extend(image.pushed);
            report.refused_tags.extend(image.refused_tags);
            report.kept_tags.extend(image.kept_tags);
            proved.extend(tags);
        }
        Ok(proved)
    }

    async fn set_tags_of(
        &self,
        target: &Target<'_>,
        rebuilt: &Rebuilt,
    ) -> anyhow::Result<(PushReport, Vec<ProvedTag>)> {
        let mut report = PushReport::default();
        let (mut tags, mut companions, mut proved) = (Vec::new(), Vec::new(), Vec::new());
        let mut prove = |tag: &Tag, digest: &Digest| {
            let (tag, digest) = (tag.clone(), digest.clone());
            proved.push(ProvedTag { repository: target.repository.clone(), tag, digest });
        };
        for TagTarget { tag, digest, former } in &target.image.tags {
            let (name, repository) = (target.image.name.clone(), target.repository.clone());
            let stands = |digest| self.manifest(&repository, digest, rebuilt);
            let Some(manifest) = digest.as_ref().and_then(stands) else { continue };
            let wanted = manifest.digest().clone();
            match self.set_tag(&repository, tag, former, manifest).await? {
                Outcome::Set => {
                    prove(tag, &wanted);
                    tags.push((tag.clone(), wanted));
                }
                Outcome::Refused(reason) => {
                    let tag = tag.clone();
                    report.refused_tags.push(RefusedTag { name, repository, tag, reason });
                }
                Outcome::Kept(found) => {
                    prove(tag, &found);
                    let tag = tag.clone();
                    report.kept_tags.push(KeptTag { name, repository, tag, found, wanted });
                }
            }
        }
        for Referrer { tag, digest, .. } in &target.image.referrers {
            if let (Some(tag), Some(manifest)) = (tag, self.payload.manifest(digest)) {
                match self.set_companion(&target.repository, tag, manifest).await? {
                    Outcome::Set => prove(tag, digest),
                    Outcome::Kept(found) => prove(tag, &found),
                    Outcome::Refused(reason) => companions.push(RefusedTag {
                        name: target.image.name.clone(),
                        repository: target.repository.clone(),
                        tag: tag.clone(),
                        reason,
                    }),
                }
            }
        }
        if report.refused_tags.is_empty() && report.kept_tags.is_empty() {
            let root = target.image.resolved.as_ref().map(|root| &root.digest);
            report.pushed.push(PushedImage {
                position: target.position,
                name: target.image.name.clone(),
                repository: target.repository.clone(),
                digest: tags.first().map(|(_, digest)| digest).or(root).cloned(),
                tags,
            });
        }
        report.refused_tags.extend(companions);
        Ok((report, proved))
    }

    /// The manifest that stands for `digest`: the one written anew where there is one.
    fn manifest<'a>(
        &'a self,
        repository: &RepositoryName,
        digest: &Digest,
        rebuilt: &'a Rebuilt,
    ) -> Option<&'a Manifest> {
        rebuilt.get(repository, digest).or_else(|| self.payload.manifest(digest))
    }

    async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        former: &[Digest],
        manifest: &Manifest,
    ) -> anyhow::Result<Outcome> {
        let which = TagOrDigest::Tag(tag.clone());
        let now = self.registry.manifest_digest(repository, &which).await?;
        let wanted = manifest.digest();
        let before = match decide(now, former, wanted, self.tag_policy) {
            Move::Nothing => return Ok(Outcome::Set),
            Move::Keep(found) => {
                self.reporter.warn(format!(
                    "tag `{repository}:{tag}` names `{found}`, neither what it named before nor the new `{wanted}`: \
                     it is left alone, `--force-tags` moves it"
                ));
                return Ok(Outcome::Kept(found));
            }
            Move::Set(before) => before,
        };
        match self.registry.put_manifest(repository, &which, manifest).await {
            Ok(_) => {
                if let Some(before) = before {
                    let note =
                        format!("tag `{repository}:{tag}` moved from `{before}` to `{wanted}`");
                    self.reporter.note(note);
                }
                Ok(Outcome::Set)
            }
            Err(error) if error.is_refusal() => Ok(Outcome::Refused(error.to_string())),
            Err(error) => Err(anyhow::Error::new(error).context(Hinted::new(
                format!("cannot set tag `{repository}:{tag}`"),
                "push again: all content is there, only tags are missing",
            ))),
        }
    }

    /// Sets one of cosign's tags. One that names something else holds signatures of the far side.
    async fn set_companion(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        manifest: &Manifest,
    ) -> anyhow::Result<Outcome> {
        let digest = manifest.digest();
        let which = TagOrDigest::Tag(tag.clone());
        match self.registry.manifest_digest(repository, &which).await? {
            Some(now) if now == *digest => return Ok(Outcome::Set),
            Some(now) if self.tag_policy == TagPolicy::Protect => {
                self.reporter.warn(format!(
                    "`{repository}:{tag}` already names `{now}` and is left alone; `--force-tags` replaces it by `{digest}`"
                ));
                return Ok(Outcome::Kept(now));
            }
            _ => {}
        }
        match self.registry.put_manifest(repository, &which, manifest).await {
            Ok(_) => Ok(Outcome::Set),
            Err(error) if error.is_refusal() => Ok(Outcome::Refused(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_somebody_else_moved_is_kept_unless_forced() {
        let [old, new, other] = [&b"old"[..], b"new", b"other"].map(Digest::of);
        let protect = |now: Option<&Digest>, former: Option<&Digest>| {
            let former: Vec<Digest> = former.cloned().into_iter().collect();
            decide(now.cloned(), &former, &new, TagPolicy::Protect)
        };
        assert_eq!(protect(None, None), Move::Set(None));
        assert_eq!(protect(None, Some(&old)), Move::Set(None));
        assert_eq!(protect(Some(&new), Some(&old)), Move::Nothing);
        assert_eq!(protect(Some(&old), Some(&old)), Move::Set(Some(old.clone())));
        assert_eq!(protect(Some(&other), None), Move::Set(Some(other.clone())));
        assert_eq!(protect(Some(&other), Some(&old)), Move::Keep(other.clone()));
        let forced =
            decide(Some(other.clone()), std::slice::from_ref(&old), &new, TagPolicy::Force);
        assert_eq!(forced, Move::Set(Some(other)));
    }
}
