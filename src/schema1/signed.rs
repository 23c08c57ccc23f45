//! What a signed manifest signs: its bytes without the signatures (JSON Web Signature, in the form of Docker's libtrust).

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::error::InvalidSchema1;

/// The alphabet of JSON Web Signatures; padding is left out by the specification, and taken where it is there.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signature. Of what it says, only how it was put into the manifest is of interest.
#[derive(Deserialize)]
pub(super) struct Signature {
    protected: Option<String>,
}

#[derive(PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    /// How many of the manifest's first bytes are signed.
    format_length: usize,
    /// What comes behind these.
    format_tail: String,
}

/// The bytes that all of `signatures` in `raw` sign. None are verified.
pub(super) fn payload(raw: &[u8], signatures: &[Signature]) -> Result<Vec<u8>, InvalidSchema1> {
    let mut signed: Option<Protected> = None;
    for signature in signatures {
        let protected = read(signature).ok_or(InvalidSchema1::Signature("one cannot be read"))?;
        match &signed {
            None => signed = Some(protected),
            Some(first) if *first == protected => {}
            Some(_) => return Err(InvalidSchema1::Signature("they contradict each other")),
        }
    }
    let signed = signed.ok_or(InvalidSchema1::Signature("there are none in the list"))?;
    let beginning = raw.get(..signed.format_length);
    let beginning =
        beginning.ok_or(InvalidSchema1::Signature("it would be more than the manifest has"))?;
    let tail = BASE64.decode(&signed.format_tail);
    let tail = tail.map_err(|_| InvalidSchema1::Signature("its end is not base64"))?;
    Ok([beginning, &tail].concat())
}

fn read(signature: &Signature) -> Option<Protected> {
    let json = BASE64.decode(signature.protected.as_ref()?).ok()?;
    serde_json::from_slice(&json).ok()
}
