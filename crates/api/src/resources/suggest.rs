//! "Did you mean ...": the nearest known word.

/// The candidate nearest to `word`, if one is near enough to be meant. Case and separators do not
/// count, so `routing_key` finds `routingKey`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(word: &str) -> String {
    // Longer input than any known word cannot be near one; the bound keeps the comparison cheap.
    word.chars()
        .filter(|character| character.is_alphanumeric())
        .take(64)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_found_and_strangers_are_not() {
        let known = ["host", "port", "routingKey", "tlsCredentials"];
        assert_eq!(nearest("routing_key", known), Some("routingKey"));
        assert_eq!(nearest("tlsCredential", known), Some("tlsCredentials"));
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("replicas", known), None);
    }
}
