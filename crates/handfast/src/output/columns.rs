//! How many columns of a terminal a text takes.
//!
//! Not every character takes one: names come from everywhere, and tables and drawings have to stay aligned.

use std::io;

/// The columns of a text that holds nothing a terminal would obey.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// What a terminal takes for a character: two columns for those of East Asia and pictures.
pub(crate) fn columns_of(character: char) -> usize {
    match u32::from(character) {
        0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How wide the terminal is that standard output goes to. Some do not know it of themselves.
pub(super) fn of_terminal() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wide_takes_two_columns_and_what_stands_above_none() {
        assert_eq!(
            [columns("shop"), columns("订单"), columns("e\u{301}"), columns("")],
            [4, 4, 1, 0]
        );
    }
}
