//! The proof that both ends know the code: SPAKE2, and a confirmation in each direction. No sockets here.
//!
//! The key that comes out depends on the secret words and on both device ids; the confirmations also bind the
//! rendezvous number, both SPAKE2 messages and the TLS channel. So a relay between two honest ends, which has two
//! channels and its own device id, gets two different transcripts and proves nothing. The joining end
//! confirms first: whoever only listens at the door learns nothing from which a guess could be checked.

use spake2::{Ed25519Group, Identity, Password, Spake2};
use tidegate_protocol::id::DeviceId;

use super::code::{PairingCode, word};

/// A SPAKE2 message without its side, which is known from the role.
pub type Point = [u8; 32];
/// A confirmation.
pub type Confirmation = [u8; 32];

/// Which end of the conversation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where the code was typed.
    Joining,
    /// Where the code is shown.
    Door,
}

/// What both ends must agree on beside the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// The device that joins, as TLS proved it.
    pub joining: DeviceId,
    /// The device that shows the code, as TLS proved it.
    pub door: DeviceId,
    /// Keying material exported from the TLS session.
    pub exporter: [u8; 32],
}

/// A proof that failed. There is one kind, so that the failure tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code was not proved")]
pub struct NotProved;

/// A proof that has begun.
#[derive(Debug)]
pub struct Begun {
    role: Role,
    number: u16,
    channel: Channel,
    spake: Spake2<Ed25519Group>,
    point: Point,
}

/// A key on which both ends agree if, and only if, both know the code. Not proved yet.
#[derive(Debug)]
pub struct Keyed {
    role: Role,
    key: [u8; 32],
}

/// Evidence that the other end knows the code.
#[derive(Debug)]
pub struct Proved {
    check_words: [&'static str; 2],
}

impl Begun {
    /// Begins; the point is for the other end.
    pub fn new(role: Role, code: &PairingCode, channel: Channel) -> (Self, Point) {
        let password = Password::new(code.secret());
        let (joining, door) = (Identity::new(channel.joining.as_bytes()), Identity::new(channel.door.as_bytes()));
        let (spake, message) = match role {
            Role::Joining => Spake2::start_a(&password, &joining, &door),
            Role::Door => Spake2::start_b(&password, &joining, &door),
        };
        let point = message[1..].try_into().expect("an Ed25519 message is a side and a point");
        (Self { role, number: code.number(), channel, spake, point }, point)
    }

    /// Takes the point of the other end.
    pub fn receive(self, point: Point) -> Result<Keyed, NotProved> {
        // SPAKE2 itself refuses neither points of small order nor its own point.
        let is_weak = ed25519_dalek::VerifyingKey::from_bytes(&point).map_err(|_| NotProved)?.is_weak();
        if is_weak || point == self.point {
            return Err(NotProved);
        }
        let side: u8 = match self.role {
            Role::Joining => b'B',
            Role::Door => b'A',
        };
        let secret = self.spake.finish(&[&[side], &point[..]].concat()).map_err(|_| NotProved)?;
        let (from_joining, from_door) = match self.role {
            Role::Joining => (self.point, point),
            Role::Door => (point, self.point),
        };
        let mut transcript = blake3::Hasher::new_derive_key("tidegate 1 pairing transcript");
        // Every part has a fixed length, so their order alone separates them.
        transcript.update(&secret);
        transcript.update(&self.number.to_be_bytes());
        transcript.update(self.channel.joining.as_bytes());
        transcript.update(self.channel.door.as_bytes());
        transcript.update(&self.channel.exporter);
        transcript.update(&from_joining);
        transcript.update(&from_door);
        Ok(Keyed { role: self.role, key: *transcript.finalize().as_bytes() })
    }
}

impl Keyed {
    /// What proves to the other end that this end knows the code.
    pub fn confirmation(&self) -> Confirmation {
        *confirmation(&self.key, self.role).as_bytes()
    }

    /// Checks the other end's confirmation.
    pub fn check(self, theirs: Confirmation) -> Result<Proved, NotProved> {
        let other = match self.role {
            Role::Joining => Role::Door,
            Role::Door => Role::Joining,
        };
        // BLAKE3 hashes compare in constant time.
        if confirmation(&self.key, other) != theirs {
            return Err(NotProved);
        }
        let words = blake3::keyed_hash(&self.key, b"check words");
        let index = |at: usize| u16::from_be_bytes([words.as_bytes()[at], words.as_bytes()[at + 1]]);
        Ok(Proved { check_words: [word(index(0)), word(index(2))] })
    }
}

impl Proved {
    /// Two words that people can compare: the same at both ends.
    pub fn check_words(&self) -> [&'static str; 2] {
        self.check_words
    }
}

fn confirmation(key: &[u8; 32], role: Role) -> blake3::Hash {
    let tag: &[u8] = match role {
        Role::Joining => b"joining",
        Role::Door => b"door",
    };
    blake3::keyed_hash(key, tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOINING: DeviceId = DeviceId::from_bytes([1; 32]);
    const DOOR: DeviceId = DeviceId::from_bytes([2; 32]);
    const CHANNEL: Channel = Channel { joining: JOINING, door: DOOR, exporter: [3; 32] };

    fn code(number: u16, first: u16) -> PairingCode {
        PairingCode::from_parts(number, [first, 2])
    }

    fn run(
        joining: (&PairingCode, Channel),
        door: (&PairingCode, Channel),
    ) -> Result<[[&'static str; 2]; 2], NotProved> {
        let (a, from_a) = Begun::new(Role::Joining, joining.0, joining.1);
        let (b, from_b) = Begun::new(Role::Door, door.0, door.1);
        let (a, b) = (a.receive(from_b)?, b.receive(from_a)?);
        let (proof_a, proof_b) = (a.confirmation(), b.confirmation());
        Ok([b.check(proof_a)?.check_words(), a.check(proof_b)?.check_words()])
    }

    #[test]
    fn the_same_code_over_one_channel_is_proved_both_ways_with_equal_check_words() {
        let words = run((&code(7, 1), CHANNEL), (&code(7, 1), CHANNEL)).unwrap();
        assert_eq!(words[0], words[1]);
    }

    #[test]
    fn any_difference_between_the_ends_is_not_proved() {
        let mallory = DeviceId::from_bytes([9; 32]);
        let cases = [
            ("other words", code(7, 2), CHANNEL),
            ("other number", code(8, 1), CHANNEL),
            ("other channel", code(7, 1), Channel { exporter: [4; 32], ..CHANNEL }),
            ("other door", code(7, 1), Channel { door: mallory, ..CHANNEL }),
            ("other joining device", code(7, 1), Channel { joining: mallory, ..CHANNEL }),
        ];
        for (what, other, channel) in cases {
            assert!(run((&code(7, 1), CHANNEL), (&other, channel)).is_err(), "{what}");
        }
    }

    #[test]
    fn an_echo_a_reflection_and_points_of_small_order_are_refused() {
        let begin = |role| Begun::new(role, &code(7, 1), CHANNEL);
        for role in [Role::Joining, Role::Door] {
            let (begun, own) = begin(role);
            assert!(begun.receive(own).is_err(), "echo to {role:?}");

            let mut identity = [0; 32];
            identity[0] = 1;
            for point in [identity, [0; 32]] {
                assert!(begin(role).0.receive(point).is_err(), "{point:?} to {role:?}");
            }
        }

        // A confirmation sent back is not the other end's confirmation.
        let (a, _) = begin(Role::Joining);
        let (_, from_b) = begin(Role::Door);
        let keyed = a.receive(from_b).unwrap();
        let own = keyed.confirmation();
        assert!(keyed.check(own).is_err());
    }
}
