//! The one encoder and the one strict decoder for everything that is stored or sent.
//!
//! postcard alone accepts trailing bytes and non-minimal integers, so two byte strings could mean one
//! value. Here a decoded value must encode to exactly the bytes it came from; anything else is refused.
//! Wire types have no maps and no recursion, and callers bound the input length before they call.

use std::io::{self, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not a value of the type.
    #[error("malformed value")]
    Malformed,
    /// Bytes remain after the value.
    #[error("trailing bytes after the value")]
    Trailing,
    /// The value has a shorter encoding than the one received.
    #[error("non-canonical encoding")]
    NonCanonical,
}

/// Encodes `value` canonically.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our types have no unsized sequences and memory is infallible")
}

/// Encodes `value` into a hasher or a file, for values too large to encode in memory first.
pub fn encode_to<T: Serialize + ?Sized>(value: &T, into: &mut impl Write) -> io::Result<()> {
    // postcard writes field by field, and a hasher is slow on single bytes.
    let mut buffered = io::BufWriter::with_capacity(64 << 10, into);
    postcard::to_io(value, &mut buffered).map_err(io::Error::other)?;
    buffered.flush()
}

/// Decodes a value that fills `bytes` exactly and canonically.
#[expect(clippy::disallowed_methods, reason = "this is the strict decoder")]
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing);
    }
    if encode(&value) != bytes {
        return Err(DecodeError::NonCanonical);
    }
    Ok(value)
}

/// Decodes bytes that this device itself wrote and stored: canonical by construction, so not re-encoded.
#[expect(clippy::disallowed_methods, reason = "this is the decoder of what is stored")]
pub fn decode_stored<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_bytes_of_a_value_are_accepted() {
        assert_eq!(decode::<u32>(&[1]), Ok(1));
        assert_eq!(decode::<u32>(&[1, 0]), Err(DecodeError::Trailing));
        assert_eq!(decode::<u32>(&[0x81, 0x00]), Err(DecodeError::NonCanonical));
        assert_eq!(decode::<Vec<u8>>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::Malformed));
        assert_eq!(decode::<bool>(&[2]), Err(DecodeError::Malformed));
    }
}
