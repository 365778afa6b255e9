//! How a file system tells names from one another: byte by byte, without regard to case, or to how an accent is
//! spelled. The spelling under which a name was made is kept; the key is what it is found by.

use std::sync::Arc;

use tidegate_protocol::file_sync::NameRules;

/// What a name is found by.
pub(super) type Key = Arc<[u8]>;

/// What a file system takes for the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Naming {
    /// `README` and `readme` are one name.
    pub ignores_case: bool,
    /// A letter with its accent is the same whether it is one code point or two.
    pub normalises: bool,
    /// Names that Windows cannot store are refused.
    pub refuses: bool,
}

impl Naming {
    /// Whether a name can be given.
    pub(super) fn stores(self, name: &[u8]) -> bool {
        !self.refuses || NameRules { windows: true, ..NameRules::POSIX }.stores(name)
    }

    /// The key of `name`. Bytes that are no text are their own key.
    pub(super) fn key(self, name: &[u8]) -> Key {
        if !self.ignores_case && (!self.normalises || name.is_ascii()) {
            return name.into();
        }
        let Ok(text) = std::str::from_utf8(name) else { return name.into() };
        let composed = if self.normalises { compose(text) } else { text.to_owned() };
        let folded = if self.ignores_case { composed.to_lowercase() } else { composed };
        folded.into_bytes().into()
    }
}

/// Letters with an accent, their letters, and their accents as code points of their own: those of Latin-1, which
/// is what it takes to meet the problem.
const ACCENTED: &str = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöùúûüýÿ";
const PLAIN: &str = "AAAAAACEEEEIIIINOOOOOUUUUYaaaaaaceeeeiiiinooooouuuuyy";
const ACCENTS: &str = "\u{300}\u{301}\u{302}\u{303}\u{308}\u{30a}\u{327}\u{300}\u{301}\u{302}\u{308}\u{300}\u{301}\u{302}\u{308}\u{303}\u{300}\u{301}\u{302}\u{303}\u{308}\u{300}\u{301}\u{302}\u{308}\u{301}\u{300}\u{301}\u{302}\u{303}\u{308}\u{30a}\u{327}\u{300}\u{301}\u{302}\u{308}\u{300}\u{301}\u{302}\u{308}\u{303}\u{300}\u{301}\u{302}\u{303}\u{308}\u{300}\u{301}\u{302}\u{308}\u{301}\u{308}";

fn compose(text: &str) -> String {
    let mut composed = String::with_capacity(text.len());
    for c in text.chars() {
        let pair = composed.chars().next_back().map(|plain| (plain, c));
        let table = PLAIN.chars().zip(ACCENTS.chars()).zip(ACCENTED.chars());
        match pair.and_then(|pair| table.into_iter().find(|(parts, _)| *parts == pair)) {
            Some((_, whole)) => {
                composed.pop();
                composed.push(whole);
            }
            None => composed.push(c),
        }
    }
    composed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_as_the_file_system_says() {
        let (case, form) =
            (Naming { ignores_case: true, ..Naming::default() }, Naming { normalises: true, ..Naming::default() });
        let both = Naming { ignores_case: true, normalises: true, refuses: true };
        assert!(!both.stores(b"NUL.txt") && both.stores(b"nil.txt") && case.stores(b"NUL.txt"));
        let same = |naming: Naming, a: &str, b: &str| naming.key(a.as_bytes()) == naming.key(b.as_bytes());
        assert!(same(case, "README", "readme") && same(case, "Ärger", "ärger") && !same(form, "README", "readme"));
        assert!(same(form, "caf\u{e9}", "cafe\u{301}") && !same(case, "caf\u{e9}", "cafe\u{301}"));
        assert!(same(both, "CAFE\u{301}", "caf\u{e9}") && !same(both, "cafe", "caf\u{e9}"));
        assert!(!same(Naming::default(), "a", "A"));
        assert_eq!(both.key(b"\xff\xfeA").as_ref(), b"\xff\xfeA");
        assert_eq!((ACCENTED.chars().count(), ACCENTS.chars().count()), (PLAIN.len(), PLAIN.len()));
    }
}
