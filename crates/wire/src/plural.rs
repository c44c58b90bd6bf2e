//! Numbers with their nouns, as people read them.

/// A number and a noun whose plural ends in s: `1 run`, `2 runs`.
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A number and what follows it, where the plural is made in another way: `1 pod runs`, `2 pods run`.
pub fn counted_as(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_zero_is_plural() {
        let runs = |count| counted(count, "run");
        assert_eq!([runs(0), runs(1), runs(2)], ["0 runs", "1 run", "2 runs"]);
        let series = |count| counted_as(count, "series is", "series are");
        assert_eq!([series(0), series(1), series(2)], ["0 series are", "1 series is", "2 series are"]);
    }
}
