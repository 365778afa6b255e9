//! Identifiers. Each is its own type; none can be mistaken for another.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::limits::LABEL_CHARS_MAX;

/// Text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: {text:?}")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

/// A device: its Ed25519 public key. The text form is 52 letters of base32; people see [`DeviceId::short`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId([u8; 32]);

impl DeviceId {
    /// Wraps the 32 bytes of a public key. Whether they are a point is checked when a signature is.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The form people see, `FX4K-9QTM`: the first eight letters of the full text.
    pub fn short(&self) -> String {
        let text = BASE32_NOPAD.encode(&self.0[..5]);
        format!("{}-{}", &text[..4], &text[4..])
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.short())
    }
}

impl FromStr for DeviceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { kind: "device id", text: text.chars().take(80).collect() };
        let plain: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(plain.as_bytes()).map_err(|_| error())?;
        Ok(Self(bytes.try_into().map_err(|_| error())?))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 16 random bytes, drawn by the caller.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError { kind: $kind, text: text.chars().take(80).collect() })
            }
        }
    };
}

random_id!(
    /// A library: the devices that trust one another and the index they share.
    LibraryId, "library id"
);
random_id!(
    /// One directory tree on one device, indexed whole.
    LocationId, "location id"
);
random_id!(
    /// A durable link between two roots.
    ConduitId, "conduit id"
);
random_id!(
    /// A number used once, drawn for one request.
    Nonce, "nonce"
);

/// Drawn at random when a device's database is created, restored or cloned; sequence numbers count within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Position in the log of one (device, epoch). The first row has 1; 0 means "nothing".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first row.
    pub const ZERO: Self = Self(0);

    /// The next position. The last one has none after it; a device that counts its own rows does not get there.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A name that a person gave to a device, location or conduit: 1 to 64 characters, none of them a control,
/// bidirectional or zero-width character, no `:` or `/` (they separate names on the command line), not
/// starting with `-` or a blank.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, ParseIdError> {
        let fine = !text.is_empty()
            && text.chars().count() <= LABEL_CHARS_MAX
            && !text.starts_with(['-', ' '])
            && !text.ends_with(' ')
            && text.chars().all(|c| !is_unprintable(c) && c != ':' && c != '/');
        if fine {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError { kind: "name", text: text.chars().take(80).collect() })
        }
    }

    /// The nearest valid label to text from outside (a host name, a directory name).
    pub fn lossy(text: &str) -> Self {
        let kept: String =
            text.chars().filter(|c| !is_unprintable(*c) && *c != ':' && *c != '/').take(LABEL_CHARS_MAX).collect();
        let trimmed = kept.trim_matches(|c| c == ' ' || c == '-');
        Self(if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that could rewrite a terminal line or hide in a name: controls, bidirectional and zero-width.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
}

impl TryFrom<String> for Label {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        Self::new(&text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_survives_its_text_form() {
        let id = DeviceId::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().parse::<DeviceId>().unwrap(), id);
        assert!(id.to_string().starts_with(&id.short().replace('-', "")));
        assert!("AB".parse::<DeviceId>().is_err());
    }

    #[test]
    fn labels_hold_no_character_that_could_mislead_a_reader() {
        for bad in ["", "-rf", " a", "a ", "a:b", "a/b", "a\u{1b}[31m", "a\u{202e}b", "a\u{200b}", &"x".repeat(65)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
            assert!(Label::new(Label::lossy(bad).as_str()).is_ok(), "{bad:?}");
        }
        assert!(Label::new("Ana's laptop").is_ok());
    }
}
