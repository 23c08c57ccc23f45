//! The primitives that minisign is made of, each by a library: Ed25519 (RFC 8032), `BLAKE2b` (RFC 7693) and
//! scrypt (RFC 7914). The one place where they are called.

use std::io;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};

/// The bytes of an Ed25519 signature.
pub(super) const SIGNATURE_BYTES: usize = 64;
/// The bytes of a seed, and those of a public key.
pub(super) const KEY_BYTES: usize = 32;

/// The most memory that libsodium's largest preset takes, which `minisign -G` uses, in bytes.
const MEMORY_MAX_BYTES: u64 = 1 << 30;
/// The most work, as that preset has it.
const WORK_MAX: u64 = 1 << 25;

/// The BLAKE2b-512 of what is signed.
#[derive(Clone, Debug)]
pub struct Prehash(pub(super) [u8; 64]);

impl Prehash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Blake2b512::digest(bytes).into())
    }
}

/// The BLAKE2b-256 of `parts`, one after the other.
pub(super) fn checksum(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let none = |_| io::Error::other("the system has no random numbers");
    rand::fill(&mut bytes).map_err(none)?;
    Ok(bytes)
}

/// The public key of `seed`.
pub(super) fn public_of(seed: &[u8; KEY_BYTES]) -> Option<[u8; KEY_BYTES]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    pair.public_key().as_ref().try_into().ok()
}

/// Signs `message`: the same for the same seed, as RFC 8032 wants it.
pub(super) fn sign(seed: &[u8; KEY_BYTES], message: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    pair.try_sign(message).ok()?.as_ref().try_into().ok()
}

/// Whether `signature` is one of `message`.
pub(super) fn is_signed(
    public: &[u8; KEY_BYTES],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// How much memory and work a password costs, as libsodium counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) work: u64,
    pub(super) memory_bytes: u64,
}

impl Cost {
    /// What a new key takes: N = 2^17, r = 8, p = 1, in 128 MiB and less than a second.
    pub(super) const NEW: Self = Self { work: 1 << 22, memory_bytes: 1 << 27 };

    /// scrypt's parameters as libsodium chooses them (`pickparams`); none beyond its largest preset.
    fn parameters(self) -> Option<scrypt::Params> {
        const BLOCK: u64 = 8;
        let Self { work, memory_bytes } = self;
        if work > WORK_MAX || memory_bytes > MEMORY_MAX_BYTES {
            return None;
        }
        let work = work.max(32_768);
        // The smallest power of two above the half of the most.
        let log2 = |most: u64| (1..63).find(|log2| 1_u64 << log2 > most / 2).unwrap_or(63);
        let (log2_n, parallel) = if work < memory_bytes / 32 {
            (log2(work / (BLOCK * 4)), 1)
        } else {
            let log2_n = log2(memory_bytes / (BLOCK * 128));
            (log2_n, ((work / 4) >> log2_n).min(0x3fff_ffff) / BLOCK)
        };
        let parallel = u32::try_from(parallel).ok()?;
        scrypt::Params::new(u8::try_from(log2_n).ok()?, 8, parallel).ok()
    }
}

/// Fills `key` with what `password` and `salt` give; `None` where the cost is beyond what minisign asks for.
pub(super) fn stretch(password: &[u8], salt: &[u8], cost: Cost, key: &mut [u8]) -> Option<()> {
    scrypt::scrypt(password, salt, &cost.parameters()?, key).ok()
}
