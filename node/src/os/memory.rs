//! What the allocator does with large buffers. Nothing here knows what they are for.

use std::hint::black_box;

/// Buffers up to this size are kept for the next one: frames and chunks have 1 MiB.
const KEPT_BYTES: usize = 4 << 20;

/// Has the allocator keep the memory of freed buffers, up to twice [`KEPT_BYTES`] for each of its heaps.
///
/// glibc maps a large block anew each time it is asked for one and unmaps it when it is freed, and the kernel
/// then clears every page of every frame: with a file of 1 GiB 650,000 page faults and almost half of the
/// receiver's work. Its threshold for that grows to the largest such block that was ever freed, so one is, here,
/// which was never touched. To other allocators it means nothing.
pub fn keep_buffers() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}
