//! Outlines: the chunk hashes of a large content, which merge to its ordinary content hash.
//!
//! A chunk is a BLAKE3 subtree of [`chunk_bytes`], so its chaining value proves a range of the file against the
//! content hash with nothing else at hand: ranges can be fetched from any source, in any order, and resumed.
//! A content of a single chunk has no subtree below its root; its one chunk hash is the content hash itself.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::limits::chunk_bytes;

/// Chunk hashes that do not belong to the content they were announced for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk hashes do not merge to the content hash")]
pub struct WrongOutline;

/// The chunk hashes of one content. Whoever holds one knows that they merge to [`Outline::content`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    content: ContentHash,
    size: u64,
    chunks: Vec<[u8; 32]>,
}

impl Outline {
    /// Checks chunk hashes from elsewhere against the content they are said to be of.
    pub fn new(content: ContentHash, size: u64, chunks: Vec<[u8; 32]>) -> Result<Self, WrongOutline> {
        let right = chunks.len() as u64 == chunk_count(size) && merge(size, &chunks) == content;
        if right { Ok(Self { content, size, chunks }) } else { Err(WrongOutline) }
    }

    /// Of a content whose chunks were hashed one by one, with [`begun`] and [`ended`].
    pub(super) fn of_chunks(size: u64, chunks: Vec<[u8; 32]>) -> Self {
        Self { content: merge(size, &chunks), size, chunks }
    }

    /// Of content that is in memory.
    pub fn of(content: &[u8]) -> Self {
        let size = content.len() as u64;
        let hash = |index: u64| {
            let begin = index * chunk_bytes(size);
            let end = (begin + chunk_bytes(size)).min(size);
            let mut hasher = begun(begin);
            hasher.update(&content[begin as usize..end as usize]);
            ended(&hasher, chunk_count(size) == 1)
        };
        Self::of_chunks(size, (0..chunk_count(size)).map(hash).collect())
    }

    /// The hash of the whole content.
    pub const fn content(&self) -> ContentHash {
        self.content
    }

    /// The length of the content in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The chunk hashes in order; one for an empty content.
    pub fn chunks(&self) -> &[[u8; 32]] {
        &self.chunks
    }

    /// Where chunk `index` begins, and its length; `None` beyond the last.
    pub fn range(&self, index: u64) -> Option<(u64, usize)> {
        let begin = index.checked_mul(chunk_bytes(self.size))?;
        let inside = index < self.chunks.len() as u64;
        inside.then(|| (begin, chunk_bytes(self.size).min(self.size - begin) as usize))
    }

    /// Whether `bytes` are chunk `index`, whole and right.
    pub fn verify(&self, index: u64, bytes: &[u8]) -> bool {
        let Some(mut hasher) = self.hasher(index) else { return false };
        hasher.push(bytes);
        hasher.is_right(self)
    }

    /// Checks chunk `index` while it comes in pieces; `None` beyond the last.
    pub fn hasher(&self, index: u64) -> Option<ChunkHasher> {
        let (begin, _) = self.range(index)?;
        Some(ChunkHasher { index, begin, length: 0, single: self.chunks.len() == 1, hasher: begun(begin) })
    }
}

/// One chunk of an outline on its way in.
#[derive(Debug, Clone)]
pub struct ChunkHasher {
    index: u64,
    begin: u64,
    length: usize,
    single: bool,
    hasher: Hasher,
}

impl ChunkHasher {
    /// Adds the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len();
    }

    /// Which chunk it is.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Where in the content the next bytes belong.
    pub const fn offset(&self) -> u64 {
        self.begin + self.length as u64
    }

    /// How many bytes of the chunk are still to come.
    pub fn left(&self, outline: &Outline) -> usize {
        outline.range(self.index).map_or(0, |(_, length)| length.saturating_sub(self.length))
    }

    /// Whether all that was added is the chunk, whole and right.
    pub fn is_right(&self, outline: &Outline) -> bool {
        let Some((_, length)) = outline.range(self.index) else { return false };
        self.length == length && ended(&self.hasher, self.single) == outline.chunks[self.index as usize]
    }
}

/// How many chunk hashes a content of `size` bytes has.
pub const fn chunk_count(size: u64) -> u64 {
    if size == 0 { 1 } else { size.div_ceil(chunk_bytes(size)) }
}

/// Begins the hash of the chunk at this place of a content.
pub(super) fn begun(begin: u64) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(begin);
    hasher
}

/// The hash of a chunk; `single` if it is the whole content.
pub(super) fn ended(hasher: &Hasher, single: bool) -> [u8; 32] {
    if single { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() }
}

fn merge(size: u64, chunks: &[[u8; 32]]) -> ContentHash {
    if let [single] = chunks {
        return ContentHash::from_bytes(*single);
    }
    let (left, right) = halves(size, chunks);
    merge_subtrees_root(&left, &right, Mode::Hash).into()
}

fn subtree(size: u64, chunks: &[[u8; 32]]) -> [u8; 32] {
    if let [single] = chunks {
        return *single;
    }
    let (left, right) = halves(size, chunks);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

fn halves(size: u64, chunks: &[[u8; 32]]) -> ([u8; 32], [u8; 32]) {
    // A power of two of at least one chunk, as there is more than one; the left half has a power of two of them.
    let left_bytes = left_subtree_len(size);
    let (left, right) = chunks.split_at(chunks.len().next_power_of_two() / 2);
    (subtree(left_bytes, left), subtree(size - left_bytes, right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_protocol::limits::{CHUNK_BYTES, FILE_BYTES_MAX};

    use super::*;

    fn content(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn check(size: usize, seed: u64) {
        let bytes = content(size, seed);
        let outline = Outline::of(&bytes);
        assert_eq!(outline.content(), ContentHash::of(&bytes), "{size} bytes");
        assert_eq!(outline.size(), size as u64);
        for (index, chunk) in bytes.chunks(CHUNK_BYTES as usize).enumerate() {
            assert!(outline.verify(index as u64, chunk));
            let mut wrong = chunk.to_vec();
            wrong[chunk.len() / 2] ^= 1;
            assert!(!outline.verify(index as u64, &wrong));
            assert!(!outline.verify(index as u64, &chunk[1..]));
        }
        assert!(!outline.verify(outline.chunks().len() as u64, b""));
        let again = Outline::new(outline.content(), size as u64, outline.chunks().to_vec());
        assert_eq!(again, Ok(outline));
    }

    #[test]
    fn outlines_merge_to_the_content_hash_at_every_edge() {
        let chunk = CHUNK_BYTES as usize;
        for size in [0, 1, 1023, 1024, 1025, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk - 1, 5 * chunk + 7] {
            check(size, 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn outlines_merge_to_the_content_hash(size in 0..9 * CHUNK_BYTES as usize, seed: u64) {
            check(size, seed);
        }
    }

    #[test]
    fn an_outline_of_another_content_is_refused() {
        let outline = Outline::of(&content(3 << 20, 1));
        let other = Outline::of(&content(3 << 20, 2));
        let chunks = other.chunks().to_vec();
        assert_eq!(Outline::new(outline.content(), 3 << 20, chunks), Err(WrongOutline));
        let fewer = outline.chunks()[..2].to_vec();
        assert_eq!(Outline::new(outline.content(), 3 << 20, fewer), Err(WrongOutline));
        assert_eq!(Outline::new(outline.content(), u64::MAX, Vec::new()), Err(WrongOutline));
    }

    #[test]
    fn the_largest_files_have_fewer_and_larger_chunks() {
        for (size, chunks) in [(16_u64 << 30, 16_384), ((16 << 30) + 1, 8_193), (FILE_BYTES_MAX, 16_384)] {
            assert_eq!(chunk_count(size), chunks, "{size}");
            let hashes = vec![[7; 32]; usize::try_from(chunks).expect("it is small")];
            let content = merge(size, &hashes);
            let outline = Outline::new(content, size, hashes).expect("it merges to what it merged to");
            let (begin, length) = outline.range(chunks - 1).expect("the last chunk");
            assert_eq!(begin + length as u64, size);
        }
    }
}
