//! What others packed: gzip (RFC 1952), bare DEFLATE (RFC 1951) and zstd (RFC 8878), unpacked by
//! libraries. Exact reproduction is [`crate::gzip`]'s; here only the plain bytes count.

use std::io::{self, BufReader, Cursor, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::read::DeflateDecoder;
use flate2::write::GzEncoder;

use crate::delta::zstd_reader;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// How many packed bytes are read at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// What is around a blob's plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Nothing.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Packing {
    /// The packing of a blob that begins so; four bytes tell.
    pub fn of(beginning: &[u8]) -> Self {
        if beginning.starts_with(GZIP_MAGIC) {
            Self::Gzip
        } else if beginning.starts_with(ZSTD_MAGIC) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// The plain bytes of a blob, however it is packed.
///
/// # Errors
/// Whatever reading its first bytes runs into; what is wrong with the packing shows while reading.
pub fn plain_reader<'a>(mut blob: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut beginning = Vec::new();
    blob.by_ref().take(4).read_to_end(&mut beginning)?;
    let packing = Packing::of(&beginning);
    let blob = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(beginning).chain(blob));
    Ok(match packing {
        Packing::Plain => Box::new(blob),
        Packing::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Packing::Zstd => Box::new(zstd_reader(blob)?),
    })
}

/// Packs plain bytes with gzip, the same for the same bytes.
pub(crate) type GzipWriter<W> = GzEncoder<W>;

pub(crate) fn gzip_writer<W: Write>(packed: W) -> GzipWriter<W> {
    GzEncoder::new(packed, Compression::default())
}

/// The plain bytes of a DEFLATE stream.
pub(crate) type DeflateReader<R> = DeflateDecoder<R>;

pub(crate) fn deflate_reader<R: Read>(packed: R) -> DeflateReader<R> {
    DeflateDecoder::new(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        plain_reader(blob)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn every_packing_gives_the_same_plain_bytes() {
        let content = b"a layer ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).expect("packed");
        let gzip = gzip.finish().expect("packed");
        let zstd = zstd::bulk::compress(&content, 3).expect("packed");
        for blob in [content.as_slice(), &gzip, &zstd] {
            assert_eq!(plain(blob).expect("plain bytes"), content);
        }
        assert_eq!(plain(&gzip.repeat(2)).expect("two members"), content.repeat(2));
        for short in [&b""[..], b"a", b"\x1f"] {
            assert_eq!(plain(short).expect("plain bytes"), short);
        }
        assert!(plain(&gzip[..gzip.len() - 9]).is_err());
        assert!(plain(&zstd[..zstd.len() - 9]).is_err());
    }
}
