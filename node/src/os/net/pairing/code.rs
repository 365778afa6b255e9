//! The code that a person reads at one device and types at the other: `4821-otter-violet`.
//!
//! The number is public and says which open door is meant. The two words are the secret: 22 bits, enough
//! because three wrong proofs drop the code. Words are checked against the list where they are typed, so a
//! slip of the finger costs no try.

use std::fmt;

use super::PairError;

/// 2,048 English words of 3 to 8 letters, one a line, sorted. Their places in the list are the secret. No two
/// are one slip apart, so a slip is never another word.
const WORDS: &str = include_str!("words.txt");
/// Words in the list: 11 bits each.
const WORD_COUNT: usize = 2048;
/// Words in a code.
const SECRET_WORDS: usize = 2;
/// Rendezvous numbers.
const NUMBERS: u16 = 10_000;

/// A pairing code.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode {
    number: u16,
    words: [u16; SECRET_WORDS],
}

impl PairingCode {
    /// Draws a code.
    pub fn draw() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the kernel has entropy");
        let at = |index: usize| u16::from_be_bytes([random[index], random[index + 1]]);
        // The public number may be slightly uneven; the words are even, 2,048 being a power of two.
        Self::from_parts(at(0), [at(2), at(4)])
    }

    /// The code of a number and two places in the list, each reduced to its range.
    pub(super) fn from_parts(number: u16, words: [u16; SECRET_WORDS]) -> Self {
        Self { number: number % NUMBERS, words: words.map(|word| word % WORD_COUNT as u16) }
    }

    /// Reads a code as people type it: blanks or hyphens, capitals or not.
    pub fn parse(text: &str) -> Result<Self, PairError> {
        let text = text.trim().to_lowercase();
        let parts: Vec<&str> = text.split(|c: char| c == '-' || c.is_whitespace()).filter(|p| !p.is_empty()).collect();
        let [number, first, second] = parts[..] else { return Err(PairError::Malformed) };
        if number.len() != 4 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PairError::Malformed);
        }
        let number = number.parse().map_err(|_| PairError::Malformed)?;
        Ok(Self { number, words: [place(first)?, place(second)?] })
    }

    /// The public number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The secret words, as SPAKE2 takes them.
    pub(super) fn secret(&self) -> String {
        format!("{}-{}", word(self.words[0]), word(self.words[1]))
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{}", self.number, self.secret())
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairingCode({:04}-...)", self.number)
    }
}

/// The word at a place in the list, counted round.
pub(super) fn word(place: u16) -> &'static str {
    WORDS.lines().nth(usize::from(place) % WORD_COUNT).expect("the list has as many words as its test says")
}

fn place(typed: &str) -> Result<u16, PairError> {
    if let Some(place) = WORDS.lines().position(|word| word == typed) {
        return Ok(place as u16);
    }
    // What was typed may be anything; it is cut before it is compared and shown.
    let typed: String = typed.chars().filter(|c| c.is_alphanumeric()).take(16).collect();
    let nearest = WORDS.lines().min_by_key(|word| distance(word, &typed)).expect("the list is not empty");
    Err(PairError::TypoInWord { word: typed, nearest })
}

/// Slips that make one word the other: a letter put in, left out or changed, or two neighbours swapped.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut slips = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            slips[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = slips[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                changed.min(slips[i - 1][j] + 1).min(slips[i][j - 1] + 1)
            };
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                slips[i][j] = slips[i][j].min(slips[i - 2][j - 2] + 1);
            }
        }
    }
    slips[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_2048_different_short_words_in_order() {
        let list: Vec<&str> = WORDS.lines().collect();
        assert_eq!(list.len(), WORD_COUNT);
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "sorted, and none twice");
        for word in &list {
            let near = list.iter().find(|other| *other > word && distance(word, other) <= 1);
            assert_eq!(near, None, "{word}");
            assert!((3..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn a_code_survives_being_typed() {
        for _ in 0..100 {
            let code = PairingCode::draw();
            let shown = code.to_string();
            for typed in [shown.clone(), shown.replace('-', " "), shown.to_uppercase(), format!("  {shown}\n")] {
                assert_eq!(PairingCode::parse(&typed).unwrap(), code, "{typed}");
            }
            assert!(!format!("{code:?}").contains(word(code.words[0])), "the secret is not in logs");
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_found_where_it_was_typed() {
        let cases = [
            ("4821-ottre-violet", Some(("ottre", "otter"))),
            ("4821-otter-violett", Some(("violett", "violet"))),
            ("4821-otter", None),
            ("482-otter-violet", None),
            ("48211-otter-violet", None),
            ("+821-otter-violet", None),
            ("", None),
        ];
        for (typed, typo) in cases {
            match (PairingCode::parse(typed), typo) {
                (Err(PairError::TypoInWord { word, nearest }), Some(expected)) => {
                    assert_eq!((word.as_str(), nearest), expected);
                }
                (Err(PairError::Malformed), None) => {}
                (other, _) => panic!("{typed}: {other:?}"),
            }
        }
    }
}
