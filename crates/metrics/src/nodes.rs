//! Numbers for nodes: the same ones whatever the nodes are called.
//!
//! A node is known by the series in which it occurs. Series are sorted with nodes' names blanked out, and the node whose series come
//! first is `[node-1]`. Series that name two nodes (a migration's source and target) tell nodes apart by their partners, as colour
//! refinement does with the vertices of a graph. Nodes that are still alike can be swapped without a difference to the text, but for
//! regular structures that no exporter has; of those the order of names decides.

use std::collections::{BTreeMap, BTreeSet};

/// A series in which nodes occur.
struct Occurrence {
    /// The rank of the series among all, sorted without nodes' names; those that are the same without them have the same rank.
    context: u32,
    /// The nodes, in order of the labels that have them.
    nodes: Vec<u32>,
}

/// Nodes and the series in which they occur.
pub(crate) struct Nodes<K> {
    names: BTreeMap<Vec<u8>, u32>,
    keyed: Vec<(K, Vec<u32>)>,
}

impl<K> Default for Nodes<K> {
    fn default() -> Self {
        Self { names: BTreeMap::new(), keyed: Vec::new() }
    }
}

impl<K: Ord> Nodes<K> {
    /// Takes a node in.
    pub(crate) fn add(&mut self, name: &[u8]) {
        if !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), 0);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Takes a series in, when all nodes are there: its labels in order, and of each whether it may have a node. `key` gets the labels
    /// with nodes blanked out, each name and value ended by 0.
    pub(crate) fn occur<'a>(&mut self, pairs: impl Iterator<Item = (&'a [u8], &'a [u8], bool)>, key: impl FnOnce(Vec<u8>) -> K) {
        if self.keyed.is_empty() {
            self.names.values_mut().zip(0..).for_each(|(index, number)| *index = number);
        }
        let (mut text, mut nodes) = (Vec::new(), Vec::new());
        for (label, value, may_be) in pairs {
            text.extend_from_slice(label);
            text.push(0);
            match self.names.get(value).filter(|_| may_be) {
                Some(node) => nodes.push(*node),
                None => text.extend_from_slice(value),
            }
            text.push(0);
        }
        if !nodes.is_empty() {
            self.keyed.push((key(text), nodes));
        }
    }

    /// What stands for each node: `[node-1]` and so on.
    pub(crate) fn numbers(mut self) -> BTreeMap<Vec<u8>, String> {
        self.keyed.sort();
        let mut context = 0;
        let mut occurrences = Vec::with_capacity(self.keyed.len());
        for index in 0..self.keyed.len() {
            if index > 0 && self.keyed[index].0 != self.keyed[index - 1].0 {
                context += 1;
            }
            occurrences.push(Occurrence { context, nodes: std::mem::take(&mut self.keyed[index].1) });
        }
        let names: Vec<&[u8]> = self.names.keys().map(Vec::as_slice).collect();
        let ranks = ranks(&names, &occurrences);
        self.names.into_keys().zip(ranks).map(|(name, rank)| (name, format!("[node-{}]", rank + 1))).collect()
    }
}

/// What is known of a node: per series its context, its place in it, and the ranks of all nodes there.
type Signature = Vec<(u32, u32, Vec<u32>)>;

/// Ranks from 0 for so many nodes, all different. `names` decides where nothing else does.
fn ranks(names: &[&[u8]], occurrences: &[Occurrence]) -> Vec<u32> {
    let mut ranks = refine(&vec![0; names.len()], occurrences);
    // Only series of several nodes say more when more is known of the others.
    let shared: Vec<&Occurrence> = occurrences.iter().filter(|occurrence| occurrence.nodes.len() > 1).collect();
    let mut has_partner = vec![false; names.len()];
    shared.iter().flat_map(|occurrence| &occurrence.nodes).for_each(|node| has_partner[*node as usize] = true);
    let mut count = 0;
    loop {
        while !shared.is_empty() {
            let classes = ranks.iter().collect::<BTreeSet<_>>().len();
            if classes <= count {
                break;
            }
            count = classes;
            ranks = refine(&ranks, shared.iter().copied());
        }
        let Some(mut tied) = first_tie(&ranks) else { return ranks };
        // Shorter ones first: `[node-9]` before `[node-10]`.
        tied.sort_by_key(|node| (names[*node].len(), names[*node]));
        // Of nodes with partners only the first is told apart: what follows from that is seen before the next.
        let told = if tied.iter().any(|node| has_partner[*node]) { 1 } else { tied.len() };
        for (place, node) in tied.into_iter().enumerate() {
            ranks[node] += place.min(told) as u32;
        }
    }
}

/// Ranks by what is known of each node now; nodes of different ranks keep their order.
fn refine<'a>(ranks: &[u32], occurrences: impl IntoIterator<Item = &'a Occurrence>) -> Vec<u32> {
    let mut signatures: Vec<(u32, Signature)> = ranks.iter().map(|rank| (*rank, Vec::new())).collect();
    for occurrence in occurrences {
        // A node alone says nothing of others.
        let partners: Vec<u32> = if occurrence.nodes.len() > 1 {
            occurrence.nodes.iter().map(|node| ranks[*node as usize]).collect()
        } else {
            Vec::new()
        };
        for (place, node) in occurrence.nodes.iter().enumerate() {
            signatures[*node as usize].1.push((occurrence.context, place as u32, partners.clone()));
        }
    }
    signatures.iter_mut().for_each(|(_, signature)| signature.sort_unstable());
    let mut order: BTreeMap<&(u32, Signature), u32> = signatures.iter().map(|signature| (signature, 0)).collect();
    // Each class takes as many ranks as it has nodes, so that dividing one leaves the others as they are.
    let mut sizes: BTreeMap<&(u32, Signature), u32> = BTreeMap::new();
    signatures.iter().for_each(|signature| *sizes.entry(signature).or_default() += 1);
    let mut next = 0;
    for (signature, rank) in &mut order {
        *rank = next;
        next += sizes[signature];
    }
    signatures.iter().map(|signature| order[signature]).collect()
}

/// The nodes of the lowest rank that several have.
fn first_tie(ranks: &[u32]) -> Option<Vec<usize>> {
    let mut by_rank: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (node, rank) in ranks.iter().enumerate() {
        by_rank.entry(*rank).or_default().push(node);
    }
    by_rank.into_values().find(|nodes| nodes.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(names: &[&str], occurrences: &[(u32, &[u32])]) -> Vec<u32> {
        let occurrences: Vec<Occurrence> =
            occurrences.iter().map(|(context, nodes)| Occurrence { context: *context, nodes: nodes.to_vec() }).collect();
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        ranks(&names, &occurrences)
    }

    #[test]
    fn the_node_whose_series_come_first_is_first() {
        for (occurrences, expected) in [
            // One series each.
            (vec![(1, &[0][..]), (0, &[1][..])], [1, 0]),
            // The same first series, another second.
            (vec![(0, &[0][..]), (0, &[1][..]), (5, &[0][..]), (3, &[1][..])], [1, 0]),
            // Source and target.
            (vec![(0, &[1, 0][..])], [1, 0]),
            // Known by the partner alone.
            (vec![(0, &[0][..]), (0, &[1][..]), (4, &[0, 1][..])], [0, 1]),
        ] {
            assert_eq!(ranked(&["a", "b"], &occurrences), expected);
        }
    }

    #[test]
    fn partners_of_partners_count() {
        // A chain of migrations: 2 to 0, 0 to 3, 3 to 1.
        let found = ranked(&["a", "b", "c", "d"], &[(0, &[2, 0]), (0, &[0, 3]), (0, &[3, 1])]);
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
        // The same with other names.
        let other = ranked(&["x", "w", "v", "u"], &[(0, &[0, 1]), (0, &[1, 2]), (0, &[2, 3])]);
        assert_eq!([found[2], found[0], found[3], found[1]], [other[0], other[1], other[2], other[3]]);
    }

    #[test]
    fn nodes_that_are_alike_are_told_apart_by_name() {
        assert_eq!(ranked(&["[node-10]", "[node-9]"], &[(0, &[0]), (0, &[1])]), [1, 0]);
        assert_eq!(ranked(&["one"], &[]), [0]);
        assert_eq!(ranked(&[], &[]), [] as [u32; 0]);
    }
}
