//! Guesses what somebody meant to type.

/// The candidate that `typed` is a slip of, if one is near enough to be worth saying.
pub(crate) fn nearest<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if typed.len() > TYPED_BYTES_MAX {
        return None;
    }
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    let tolerance = (typed.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&typed, &candidate.replace('-', "_")), candidate))
        .filter(|&(distance, _)| distance <= tolerance)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many slips lie between two words: a byte too many, missing, wrong, or two neighbours swapped.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// Nobody mistypes a key into something this long; the cost of comparing grows with the length.
const TYPED_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_in_a_word_is_recognised() {
        for (typed, meant) in
            [("listne", "listen"), ("worker", "workers"), ("Queue", "queue"), ("kill-after", "kill_after")]
        {
            assert_eq!(nearest(typed, ["listen", "workers", "queue", "kill_after"]), Some(meant));
        }
    }

    #[test]
    fn another_word_is_not_a_slip() {
        assert_eq!(nearest("banana", ["listen", "workers"]), None);
        assert_eq!(nearest("", ["listen"]), None);
        assert_eq!(nearest(&"listen".repeat(100), ["listen"]), None);
    }
}
