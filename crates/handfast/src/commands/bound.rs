//! Lists of at most so many rows. One more is asked for, so that it is known when rows were left off, and said.

use handfast_telemetry::keep::MOST_LISTED;

/// How many rows are listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    limit: usize,
    /// What is answered at most, however many are asked for.
    most: usize,
}

impl Bound {
    /// As many as the user says.
    pub(super) fn of(limit: u32) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), most: usize::MAX }
    }

    /// The same of a list that is found in a store, which gives no more than [`MOST_LISTED`].
    pub(super) fn of_store(limit: u32) -> Self {
        Self { most: MOST_LISTED, ..Self::of(limit) }
    }

    /// The same of a list of which there are pages of at most so many.
    pub(super) fn of_pages(limit: u32, page: usize) -> Self {
        Self { most: page, ..Self::of(limit) }
    }

    /// How many to ask for.
    pub(super) fn asked(self) -> usize {
        self.limit.saturating_add(1)
    }

    /// Asks page by page for as many, the newest first. `page` is told how many it is to answer, `most` at most, and what
    /// came last.
    pub(super) async fn newest_first<T>(
        self,
        most: u32,
        mut page: impl AsyncFnMut(u32, Option<&T>) -> anyhow::Result<Vec<T>>,
    ) -> anyhow::Result<Vec<T>> {
        let mut rows: Vec<T> = Vec::new();
        loop {
            let missing = self.asked().saturating_sub(rows.len());
            let wanted = u32::try_from(missing).unwrap_or(u32::MAX).min(most);
            let older = page(wanted, rows.last()).await?;
            let is_last = older.len() < wanted as usize || wanted as usize == missing;
            rows.extend(older);
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// Whether rows were left off what was answered; takes the one away that was only asked for to know that.
    pub(super) fn cut<T>(self, rows: &mut Vec<T>) -> Cut {
        if rows.len() > self.limit {
            rows.truncate(self.limit);
            return Cut::Limit(self.limit);
        }
        if rows.len() >= self.most { Cut::Most(rows.len()) } else { Cut::Nothing }
    }
}

/// Why a list is not all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cut {
    /// There are more than was asked for.
    Limit(usize),
    /// There may be more than are ever listed.
    Most(usize),
    /// It is all of it.
    Nothing,
}

impl Cut {
    /// What is said of it: `which` ones are shown, and by what the list can be narrowed.
    pub(super) fn note(self, which: &str, narrow: &str) -> Option<String> {
        match self {
            Self::Limit(count) => Some(format!(
                "showing the {which} {count}, and there are more: narrow with {narrow}, or raise --limit"
            )),
            Self::Most(count) => Some(format!(
                "showing the {which} {count}, the most that are listed, and there may be more: narrow with {narrow}"
            )),
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_when_rows_were_left_off_and_never_without() {
        let answered =
            |bound: Bound, there: usize| vec![(); there.min(bound.asked()).min(bound.most)];
        for (limit, there, cut) in [
            (20, 0, Cut::Nothing),
            (20, 20, Cut::Nothing),
            (20, 21, Cut::Limit(20)),
            (1, 100_000, Cut::Limit(1)),
            (u32::MAX, MOST_LISTED - 1, Cut::Nothing),
            (u32::MAX, MOST_LISTED + 1, Cut::Most(MOST_LISTED)),
        ] {
            let bound = Bound::of_store(limit);
            let mut rows = answered(bound, there);
            assert_eq!(bound.cut(&mut rows), cut, "{there} of {limit}");
            assert!(rows.len() <= usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let many = Bound::of(u32::MAX);
        assert_eq!(many.cut(&mut answered(many, 3 * MOST_LISTED)), Cut::Nothing);
        let note = Cut::Limit(20).note("newest", "--service").unwrap_or_default();
        assert!(note.starts_with("showing the newest 20") && note.contains("--service"), "{note}");
    }

    #[tokio::test]
    async fn pages_are_put_together_and_no_more_is_asked_than_is_needed() {
        for (limit, there, asked, cut) in [
            (5, 0, &[3][..], Cut::Nothing),
            (5, 5, &[3, 3], Cut::Nothing),
            (5, 6, &[3, 3], Cut::Limit(5)),
            (6, 100, &[3, 3, 1], Cut::Limit(6)),
            (1, 100, &[2], Cut::Limit(1)),
            (u32::MAX, 7, &[3, 3, 3], Cut::Nothing),
        ] {
            let mut said = Vec::new();
            let bound = Bound::of(limit);
            let page = async |wanted: u32, last: Option<&u32>| {
                said.push(wanted);
                let first = last.map_or(0, |last| last + 1);
                Ok((first..there).take(wanted as usize).collect())
            };
            let mut rows = bound.newest_first(3, page).await.expect("no page fails");
            assert_eq!(bound.cut(&mut rows), cut, "{there} of {limit}");
            assert_eq!(rows, (0..there.min(limit)).collect::<Vec<_>>());
            assert_eq!(said, asked, "{there} of {limit}");
        }
    }
}
