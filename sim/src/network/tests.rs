//! What the node's network tests ask of the real network, asked of this one.

use std::collections::BTreeSet;

use tidegate::env::Stream;
use tidegate_protocol::limits::FRAME_BYTES_MAX;

use super::*;
use crate::executor::{Executor, Group, Nanos, Ran, SECOND};

struct Room {
    executor: Executor,
    net: Net,
    devices: Vec<(SimNetwork, Arc<Mutex<Vec<String>>>)>,
}

fn id(index: u32) -> DeviceId {
    DeviceId::from_bytes([index as u8 + 1; 32])
}

fn library() -> LibraryId {
    LibraryId::from_bytes([9; 16])
}

impl Room {
    fn new(count: u32, weather: Weather) -> Self {
        let draws = Draws::new(11);
        let executor = Executor::new(draws);
        let net = Net::new(executor.group(Group::WORLD), draws, weather, Ear::default());
        let mut room = Self { executor, net, devices: Vec::new() };
        for index in 0..count {
            room.net.add(id(index));
            let device = room.start(index, 0);
            room.devices.push(device);
        }
        for device in 0..count {
            room.devices[device as usize].0.allow(library(), &(0..count).map(id).collect());
        }
        room.run(2 * SECOND);
        room
    }

    /// Starts a device that answers every frame with the same frame, and notes what happens.
    fn start(&self, device: u32, incarnation: u32) -> (SimNetwork, Arc<Mutex<Vec<String>>>) {
        let handle = self.executor.group(Group { device, incarnation });
        let (network, events) = self.net.start(device, &handle);
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (noted, inner) = (Arc::clone(&notes), handle.clone());
        handle.spawn(async move {
            while let Ok(event) = events.recv().await {
                match event {
                    NetworkEvent::PeerUp { device, .. } => lock(&noted).push(format!("up {}", device.as_bytes()[0])),
                    NetworkEvent::PeerDown { device } => lock(&noted).push(format!("down {}", device.as_bytes()[0])),
                    NetworkEvent::Announcement(bytes) => lock(&noted).push(format!("heard {bytes:?}")),
                    NetworkEvent::Incoming(mut stream) => inner.spawn(async move {
                        while let Ok(Some(frame)) = stream.receive().await {
                            let _ = stream.send(frame).await;
                        }
                        let _ = stream.finish().await;
                    }),
                }
            }
        });
        (network, notes)
    }

    fn run(&mut self, span: Nanos) {
        let until = self.executor.now() + span;
        while self.executor.step(until) != Ran::Nothing {}
    }

    fn notes(&self, device: usize) -> Vec<String> {
        std::mem::take(&mut *lock(&self.devices[device].1))
    }

    /// Sends frames of these sizes from 0 to 1 and gives what came back.
    fn echo(&mut self, sizes: &[usize], span: Nanos) -> Option<Result<Vec<usize>, NetworkError>> {
        let answer = Arc::new(Mutex::new(None));
        let (network, sizes, into) = (self.devices[0].0.clone(), sizes.to_vec(), Arc::clone(&answer));
        network.handle.clone().spawn(async move {
            let asked = async {
                let mut stream = network.open(id(1)).await?;
                for size in sizes {
                    stream.send(Bytes::from(vec![7; size])).await?;
                }
                stream.finish().await?;
                let mut back = Vec::new();
                while let Some(frame) = stream.receive().await? {
                    back.push(frame.len());
                }
                Ok(back)
            };
            let result = asked.await;
            *lock(&into) = Some(result);
        });
        self.run(span);
        lock(&answer).take()
    }
}

#[test]
fn frames_arrive_whole_in_order_and_then_the_end() {
    for weather in [Weather::FAIR, Weather { reset_ppm: 0, ..Weather::FOUL }] {
        let mut room = Room::new(2, weather);
        let sizes = [1, 4096, 70_000, FRAME_BYTES_MAX, 3];
        assert_eq!(room.echo(&sizes, 60 * SECOND), Some(Ok(sizes.to_vec())));
        assert!(matches!(room.echo(&[0], SECOND), Some(Err(NetworkError::Protocol(_)))));
        assert!(matches!(room.echo(&[FRAME_BYTES_MAX + 1], SECOND), Some(Err(NetworkError::Protocol(_)))));
        room.run(SECOND);
        assert_eq!(room.net.streams(), 0, "nothing is left of a stream");
    }
}

#[test]
fn who_is_no_member_is_not_connected() {
    let mut room = Room::new(3, Weather::FAIR);
    let mut up = room.notes(0);
    up.sort();
    assert_eq!(up, ["up 2", "up 3"]);
    room.devices[0].0.allow(library(), &BTreeSet::from([id(2)]));
    room.run(2 * SECOND);
    assert_eq!((room.notes(0), room.notes(1).pop()), (vec!["down 2".to_owned()], Some("down 1".to_owned())));
    assert_eq!(room.echo(&[1], SECOND), Some(Err(NetworkError::Disconnected)));
}

#[test]
fn a_cut_holds_frames_up_and_ends_the_connection_when_it_lasts() {
    let mut room = Room::new(2, Weather::FAIR);
    room.notes(0);
    room.net.cut(1, 0);
    assert_eq!(room.echo(&[5], 10 * SECOND), None);
    room.net.mend(1, 0);
    room.run(12 * SECOND);
    assert_eq!((room.notes(0), room.net.streams()), (Vec::new(), 0));
    room.net.cut(1, 0);
    assert_eq!(room.echo(&[5], 40 * SECOND), Some(Err(NetworkError::TimedOut)));
    assert_eq!(room.notes(0), ["down 2"]);
    room.run(60 * SECOND);
    room.net.mend(1, 0);
    room.run(8 * SECOND);
    assert_eq!(room.notes(0), ["up 2"]);
    assert_eq!(room.echo(&[5], SECOND), Some(Ok(vec![5])));
}

#[test]
fn a_power_cut_is_noticed_late_and_a_good_bye_at_once() {
    let mut room = Room::new(2, Weather::FAIR);
    room.notes(0);
    room.net.end(1, Ending::PowerCut);
    room.executor.end(Group { device: 1, incarnation: 0 });
    room.run(29 * SECOND);
    assert!(room.notes(0).is_empty());
    room.run(2 * SECOND);
    assert_eq!(room.notes(0), ["down 2"]);
    room.devices[1] = room.start(1, 1);
    room.devices[1].0.allow(library(), &BTreeSet::from([id(0)]));
    room.run(8 * SECOND);
    assert_eq!((room.notes(0), room.notes(1)), (vec!["up 2".to_owned()], vec!["up 1".to_owned()]));
    room.net.end(1, Ending::Told);
    room.executor.end(Group { device: 1, incarnation: 1 });
    room.run(SECOND);
    assert_eq!(room.notes(0), ["down 2"]);
}

#[test]
fn gossip_reaches_over_others_and_bad_weather_loses_repeats_and_delays_it() {
    let mut room = Room::new(3, Weather::FAIR);
    room.net.cut(0, 2);
    room.net.cut(2, 0);
    room.run(40 * SECOND);
    room.notes(2);
    room.devices[0].0.publish(Bytes::from_static(b"x"));
    room.run(SECOND);
    assert_eq!(room.notes(2), ["heard b\"x\""]);

    let mut room = Room::new(2, Weather { reset_ppm: 0, loss_ppm: 300_000, repeat_ppm: 300_000, ..Weather::FOUL });
    room.run(20 * SECOND);
    room.notes(1);
    for _ in 0..60 {
        room.devices[0].0.publish(Bytes::from_static(b"y"));
        room.run(SECOND);
    }
    let heard = room.notes(1).len();
    assert!((30..=85).contains(&heard), "{heard}");
    room.run(400 * SECOND);
    assert!(!room.notes(1).is_empty(), "something comes late");
}
