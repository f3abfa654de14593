//! The Merkle tree of RFC 9162 section 2.1 with SHA-256: growing it, its proofs, and checking them.
//! Knows nothing of what its leaves mean.

use aws_lc_rs::digest;

/// A SHA-256 digest: of a leaf, of an inner node, or the root of a tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256 of 0x00 and its bytes.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    sha256(&[&[0], bytes])
}

/// The hash of an inner node: SHA-256 of 0x01 and its two children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A tree that only grows, as little of it as growing takes: the roots of its complete subtrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for every bit that is set in `size`, the largest subtree first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves; `None` if so many peaks do not make one.
    pub fn new(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(peaks.len())).then_some(Self { size, peaks })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Every complete subtree of the same size merges with the new one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree; SHA-256 of nothing if it is empty.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return sha256(&[]) };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The ranges of leaves whose roots prove that leaf `index` (from 0) is in the tree of the first
/// `size` leaves (RFC 9162 section 2.1.3.1). Nothing if it is not one of them.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    if index >= size {
        return ranges;
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges of leaves whose roots prove that the first `old` leaves of a tree of `new` are as they
/// were when there were no more (RFC 9162 section 2.1.4.1).
pub fn consistency_ranges(old: u64, new: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    if old == 0 || old >= new {
        return ranges;
    }
    let (mut start, mut end, mut whole) = (0, new, true);
    loop {
        if old == end {
            // The verifier knows this root already if it is the old tree's.
            if !whole {
                ranges.push((start, end));
            }
            break;
        }
        let middle = start + split(end - start);
        if old <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
            whole = false;
        }
    }
    ranges.reverse();
    ranges
}

/// Checks that a leaf is in a tree (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut position, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(sibling, &hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Checks that one tree is the beginning of another (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    (old_size, old_root): (u64, &Hash),
    (new_size, new_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old_size == 0 || old_size > new_size {
        return old_size == 0 && proof.is_empty();
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let mut hashes = proof.iter();
    // Where the old tree is a complete subtree, its root is not repeated in the proof.
    let first = if old_size.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut position, mut last) = (old_size - 1, new_size - 1);
    while position & 1 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}

/// The largest power of two smaller than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    /// The definition of RFC 9162 section 2.1.1, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&root_by_definition(&leaves[..k]), &root_by_definition(&leaves[k..]))
            }
        }
    }

    fn roots(leaves: &[Hash], ranges: &[(u64, u64)]) -> Vec<Hash> {
        let part = |from: u64, to: u64| {
            root_by_definition(
                &leaves[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()],
            )
        };
        ranges.iter().map(|(from, to)| part(*from, *to)).collect()
    }

    fn root_of(leaves: &[Hash]) -> Hash {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(*leaf);
        }
        frontier.root()
    }

    #[test]
    fn the_vectors_of_certificate_transparency() {
        // The test data that implementations of RFC 6962 and 9162 share: eight leaves.
        let inputs: [&str; 8] = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
                .collect()
        };
        let mut frontier = Frontier::default();
        assert_eq!(
            frontier.root().to_vec(),
            hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        for input in inputs {
            frontier.push(leaf_hash(&hex(input)));
        }
        assert_eq!(
            frontier.root().to_vec(),
            hex("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_no_other_does() {
        for size in 1..=33 {
            let all = leaves(size);
            let root = root_of(&all);
            assert_eq!(root, root_by_definition(&all));
            for index in 0..size {
                let proof = roots(&all, &inclusion_ranges(index, size));
                let leaf = &all[usize::try_from(index).unwrap()];
                assert!(verify_inclusion(leaf, index, size, &proof, &root), "{index} of {size}");
                assert!(!verify_inclusion(&root_of(&[]), index, size, &proof, &root));
                if size > 1 {
                    let other = (index + 1) % size;
                    assert!(!verify_inclusion(leaf, other, size, &proof, &root));
                }
            }
            for old in 1..=size {
                let before = root_of(&all[..usize::try_from(old).unwrap()]);
                let proof = roots(&all, &consistency_ranges(old, size));
                assert!(verify_consistency((old, &before), (size, &root), &proof), "{old} {size}");
                let forged = node_hash(&before, &before);
                assert!(!verify_consistency((old, &forged), (size, &root), &proof));
                if old < size {
                    assert!(!verify_consistency((old, &before), (size, &forged), &proof));
                }
            }
        }
    }

    #[test]
    fn a_frontier_is_taken_up_where_it_was_left() {
        let all = leaves(100);
        let mut frontier = Frontier::default();
        for (count, leaf) in all.iter().enumerate() {
            let again = Frontier::new(count as u64, frontier.peaks().to_vec()).unwrap();
            assert_eq!(again, frontier);
            frontier.push(*leaf);
        }
        assert_eq!(frontier.root(), root_by_definition(&all));
        assert_eq!(Frontier::new(3, vec![[0; 32]]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn proofs_of_anything_never_panic(
            numbers in (any::<u64>(), any::<u64>()),
            proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let (one, other) = numbers;
            let hash = [3; 32];
            prop_assert!(!verify_inclusion(&hash, one, other, &proof, &[4; 32]));
            let forged = verify_consistency((one.max(1), &hash), (other, &[4; 32]), &proof);
            prop_assert!(!forged);
        }
    }
}
