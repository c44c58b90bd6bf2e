//! Sorting texts that begin alike for a long way.

/// The byte at a depth; nothing comes before every byte.
fn at(text: &[u8], depth: usize) -> i32 {
    text.get(depth).map_or(-1, |byte| i32::from(*byte))
}

/// Sorts by bytes: quicksort on one byte at a time in three parts, so that what all have in common is looked at once and not in every
/// comparison (Bentley and Sedgewick, "Fast Algorithms for Sorting and Searching Strings", 1997).
pub(crate) fn sort<T: Copy>(texts: &mut [(&[u8], T)]) {
    let mut left = vec![(0, texts.len(), 0)];
    while let Some((from, to, mut depth)) = left.pop() {
        let part = &mut texts[from..to];
        if part.len() < 16 {
            part.sort_unstable_by(|(a, _), (b, _)| a[depth.min(a.len())..].cmp(&b[depth.min(b.len())..]));
            continue;
        }
        // What all have in common is passed at once.
        let first = part[0].0;
        let common = |(other, _): &(&[u8], T)| {
            let rest = first[depth..].iter().zip(&other[depth..]);
            rest.take_while(|(a, b)| a == b).count()
        };
        let passed = part.iter().map(common).min().unwrap_or_default();
        depth += passed;
        let middle = {
            let mut three = [at(part[0].0, depth), at(part[part.len() / 2].0, depth), at(part[part.len() - 1].0, depth)];
            three.sort_unstable();
            three[1]
        };
        let (mut low, mut high, mut index) = (0, part.len(), 0);
        while index < high {
            match at(part[index].0, depth).cmp(&middle) {
                std::cmp::Ordering::Less => {
                    part.swap(low, index);
                    low += 1;
                    index += 1;
                }
                std::cmp::Ordering::Greater => {
                    high -= 1;
                    part.swap(index, high);
                }
                std::cmp::Ordering::Equal => index += 1,
            }
        }
        left.push((from, from + low, depth));
        left.push((from + high, to, depth));
        if middle >= 0 {
            left.push((from + low, from + high, depth + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_sorted_as_bytes_are(mut texts in prop::collection::vec("(aaaaaaaaaa|b)[a-c]{0,4}", 0..60)) {
            let mut sorted: Vec<(&[u8], ())> = texts.iter().map(|text| (text.as_bytes(), ())).collect();
            sort(&mut sorted);
            let found: Vec<Vec<u8>> = sorted.into_iter().map(|(text, ())| text.to_vec()).collect();
            texts.sort();
            prop_assert_eq!(found, texts.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }
    }
}
