//! What a device keeps: the replica in redb ([`store`]), and everything that touches a location's files
//! ([`disk`]). Nothing here decides what is to be done; nothing here talks to another device.

pub mod disk;
pub mod store;
