//! Secret keys: `NAME.key`, encrypted by a password or not.

use std::fmt;
use std::io;

use super::KeyId;
use super::crypto::{Cost, KEY_BYTES, Prehash, checksum, public_of, random, sign, stretch};
use super::error::{InvalidText, Locked};
use super::public_key::PublicKey;
use super::signature::Signature;
use super::text::{UNTRUSTED, decode, encode, take};

const ALGORITHM: [u8; 2] = *b"Ed";
const CHECKSUM: [u8; 2] = *b"B2";
const SCRYPT: [u8; 2] = *b"Sc";
const PLAIN: [u8; 2] = [0; 2];
const SALT_BYTES: usize = 32;
/// Key id, seed and public key, checksum: what a password covers.
const BODY_BYTES: usize = 8 + 2 * KEY_BYTES + 32;
/// Three algorithms, the salt, two costs, the body.
const FILE_BYTES: usize = 6 + SALT_BYTES + 16 + BODY_BYTES;

/// What opens an encrypted key.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Takes the password as it was typed.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What signatures are made with.
#[derive(Clone)]
pub struct SecretKey {
    id: KeyId,
    seed: [u8; KEY_BYTES],
    point: [u8; KEY_BYTES],
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SecretKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        let (id, seed) = (KeyId(random()?), random()?);
        let point = public_of(&seed).ok_or_else(|| io::Error::other("cannot make a key"))?;
        Ok(Self { id, seed, point })
    }

    /// The number that it shares with its signatures.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What checks its signatures.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { id: self.id, point: self.point }
    }

    /// Signs what has the hash `prehash`, and `trusted_comment`. Comments have one line.
    ///
    /// # Errors
    /// None that this type can cause.
    pub fn sign(
        &self,
        prehash: &Prehash,
        untrusted_comment: &str,
        trusted_comment: &str,
    ) -> io::Result<Signature> {
        let failed = || io::Error::other("cannot sign");
        let mut signature = Signature {
            untrusted_comment: untrusted_comment.to_owned(),
            key_id: self.id,
            of_content: sign(&self.seed, &prehash.0).ok_or_else(failed)?,
            trusted_comment: trusted_comment.to_owned(),
            of_comment: [0; 64],
        };
        let signed = signature.signed_comment();
        signature.of_comment = sign(&self.seed, &signed).ok_or_else(failed)?;
        Ok(signature)
    }

    /// The file, encrypted where there is a password.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn to_text(&self, password: Option<&Password>) -> io::Result<String> {
        let mut body = self.body();
        let (kdf, salt, cost) = match password {
            None => (PLAIN, [0; SALT_BYTES], Cost { work: 0, memory_bytes: 0 }),
            Some(password) => {
                let salt = random()?;
                let covered = cover(&mut body, password, &salt, Cost::NEW);
                covered.ok_or_else(|| io::Error::other("cannot encrypt a key"))?;
                (SCRYPT, salt, Cost::NEW)
            }
        };
        let line = encode(&[
            &ALGORITHM,
            &kdf,
            &CHECKSUM,
            &salt,
            &cost.work.to_le_bytes(),
            &cost.memory_bytes.to_le_bytes(),
            &body,
        ]);
        let kind = if kdf == PLAIN { "unencrypted" } else { "encrypted" };
        Ok(format!("{UNTRUSTED}minisign {kind} secret key {}\n{line}\n", self.id))
    }

    fn body(&self) -> [u8; BODY_BYTES] {
        let checksum = checksum(&[&ALGORITHM, &self.id.0, &self.seed, &self.point]);
        let parts = [&self.id.0[..], &self.seed, &self.point, &checksum].concat();
        let mut body = [0; BODY_BYTES];
        body.copy_from_slice(&parts);
        body
    }

    /// The key in a body that nothing covers; `None` if its halves do not belong together.
    fn of_body(body: &[u8; BODY_BYTES]) -> Option<Self> {
        let rest = &mut &body[..];
        let key = Self { id: KeyId(take(rest)?), seed: take(rest)?, point: take(rest)? };
        (public_of(&key.seed) == Some(key.point)).then_some(key)
    }
}

/// Encrypts or decrypts a body: both are the same.
fn cover(body: &mut [u8; BODY_BYTES], password: &Password, salt: &[u8], cost: Cost) -> Option<()> {
    let mut stream = [0; BODY_BYTES];
    stretch(password.0.as_bytes(), salt, cost, &mut stream)?;
    for (byte, with) in body.iter_mut().zip(stream) {
        *byte ^= with;
    }
    Some(())
}

/// A secret key as a file holds it.
#[derive(Clone)]
pub struct StoredKey {
    cover: Option<([u8; SALT_BYTES], Cost)>,
    body: [u8; BODY_BYTES],
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey").finish_non_exhaustive()
    }
}

impl StoredKey {
    /// Reads the file.
    ///
    /// # Errors
    /// [`InvalidText`] if it is something else.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let read = || {
            let mut lines = text.lines();
            lines.next()?.strip_prefix(UNTRUSTED)?;
            let bytes: [u8; FILE_BYTES] = decode(lines.next()?)?;
            let rest = &mut &bytes[..];
            (take(rest)? == ALGORITHM).then_some(())?;
            let kdf: [u8; 2] = take(rest)?;
            (take(rest)? == CHECKSUM).then_some(())?;
            let salt = take(rest)?;
            let work = u64::from_le_bytes(take(rest)?);
            let cost = Cost { work, memory_bytes: u64::from_le_bytes(take(rest)?) };
            let cover = match kdf {
                PLAIN => None,
                SCRYPT => Some((salt, cost)),
                _ => return None,
            };
            Some(Self { cover, body: take(rest)? })
        };
        read().ok_or(InvalidText::SecretKey)
    }

    /// Whether it takes a password to open it.
    pub fn is_encrypted(&self) -> bool {
        self.cover.is_some()
    }

    /// The key, where it is not encrypted.
    ///
    /// # Errors
    /// [`InvalidText::Checksum`] if it is encrypted or damaged.
    pub fn open(&self) -> Result<SecretKey, InvalidText> {
        let plain = self.cover.is_none().then(|| SecretKey::of_body(&self.body)).flatten();
        // minisign leaves the checksum of a key out that it does not encrypt.
        let is_left_out = self.body.ends_with(&[0; 32]);
        plain.filter(|key| is_left_out || key.body() == self.body).ok_or(InvalidText::Checksum)
    }

    /// The key that `password` opens. Takes seconds, and as much as 1 GiB of memory for a key by minisign.
    ///
    /// # Errors
    /// [`Locked`] if it does not.
    pub fn unlock(&self, password: &Password) -> Result<SecretKey, Locked> {
        let mut body = self.body;
        if let Some((salt, cost)) = &self.cover {
            cover(&mut body, password, salt, *cost).ok_or(Locked::Cost)?;
        }
        SecretKey::of_body(&body).filter(|key| key.body() == body).ok_or(Locked::Password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minisign::Forged;

    fn secret() -> Password {
        Password::new("s3cret".to_owned())
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = SecretKey::generate().expect("a key");
        let plain = StoredKey::parse(&key.to_text(None).expect("text")).expect("a key");
        assert!(!plain.is_encrypted());
        assert_eq!(plain.open().expect("open").seed, key.seed);
        let text = key.to_text(Some(&secret())).expect("text");
        let locked = StoredKey::parse(&text).expect("a key");
        assert!(locked.is_encrypted());
        assert_eq!(locked.unlock(&secret()).expect("open").seed, key.seed);
        assert_eq!(locked.open().err(), Some(InvalidText::Checksum));
        let other = Password::new("secret".to_owned());
        assert_eq!(locked.unlock(&other).err(), Some(Locked::Password));
        let public = key.public_key();
        for text in [public.to_text(), public.to_line()] {
            assert_eq!(text.parse::<PublicKey>().expect("a key"), public);
        }
    }

    #[test]
    fn a_signature_proves_what_was_signed_and_nothing_else() {
        let (key, other) = (SecretKey::generate().expect("a key"), SecretKey::generate());
        let signed = Prehash::of(b"content");
        let sign = || key.sign(&signed, "untrusted", "trusted").expect("signed");
        assert_eq!(sign(), sign());
        let signature = Signature::parse(sign().to_text().as_bytes()).expect("a signature");
        assert_eq!(signature, sign());
        let public = key.public_key();
        assert_eq!(public.check(&signed, &signature), Ok(()));
        let id = key.id();
        let forged = public.check(&Prehash::of(b"Content"), &signature);
        assert_eq!(forged, Err(Forged::Content(id)));
        let trusted_comment = "Trusted".to_owned();
        let commented = Signature { trusted_comment, ..signature.clone() };
        assert_eq!(public.check(&signed, &commented), Err(Forged::Comment(id)));
        let other = other.expect("a key");
        let expected = Forged::OtherKey { expected: other.id(), found: id };
        assert_eq!(other.public_key().check(&signed, &signature), Err(expected));
        // A key that only says that it is this one.
        let liar = PublicKey { id, ..other.public_key() };
        assert_eq!(liar.check(&signed, &signature), Err(Forged::Content(id)));
    }

    #[test]
    fn no_secret_shows() {
        let key = SecretKey::generate().expect("a key");
        let text = key.to_text(None).expect("text");
        let stored = StoredKey::parse(&text).expect("a key");
        let shown = format!("{key:?} {stored:?} {:?}", secret());
        assert_eq!(
            shown,
            format!("SecretKey {{ id: {}, .. }} StoredKey {{ .. }} Password(…)", key.id())
        );
    }

    #[test]
    fn what_is_no_key_or_signature_is_refused() {
        let key = SecretKey::generate().expect("a key");
        let good = key.to_text(None).expect("text");
        let (comment, line) = good.split_once('\n').expect("two lines");
        let mut damaged = line.to_owned();
        damaged.replace_range(100..101, if &line[100..101] == "A" { "B" } else { "A" });
        for (text, error) in [
            (String::new(), InvalidText::SecretKey),
            (line.to_owned(), InvalidText::SecretKey),
            (format!("{comment}\n{}", &line[..200]), InvalidText::SecretKey),
            (key.public_key().to_text(), InvalidText::SecretKey),
            (format!("{comment}\n{damaged}"), InvalidText::Checksum),
        ] {
            let found = StoredKey::parse(&text).and_then(|stored| stored.open());
            assert_eq!(found.err(), Some(error), "{text}");
        }
        for text in ["", "untrusted comment: x", "RWQ", &good] {
            assert_eq!(text.parse::<PublicKey>(), Err(InvalidText::PublicKey), "{text}");
        }
        let signature = key.sign(&Prehash::of(b""), "u", "t").expect("signed").to_text();
        for (text, error) in [
            (String::new(), InvalidText::Signature),
            (signature.replace("trusted", "Trusted"), InvalidText::Signature),
            (signature.replacen("\nRU", "\nRV", 1), InvalidText::Signature),
            (signature.replacen("\nRU", "\nRW", 1), InvalidText::Former),
            (signature.lines().take(3).collect::<Vec<_>>().join("\n"), InvalidText::Signature),
        ] {
            assert_eq!(Signature::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Signature::parse(b"\xff"), Err(InvalidText::Signature));
    }

    #[test]
    fn a_key_that_asks_for_too_much_is_refused_before_it_is_tried() {
        let key = SecretKey::generate().expect("a key");
        let text = key.to_text(Some(&secret())).expect("text");
        let mut stored = StoredKey::parse(&text).expect("a key");
        for (work, memory_bytes) in [(1 << 26, 1 << 27), (1 << 22, (1 << 30) + 1)] {
            stored.cover = Some(([0; SALT_BYTES], Cost { work, memory_bytes }));
            assert_eq!(stored.unlock(&secret()).err(), Some(Locked::Cost));
        }
    }
}
