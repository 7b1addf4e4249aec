//! All rows, by theme.

mod answers;
mod callers;
mod keys;
mod load;
mod lookups;
mod operators;
mod processes;
mod redis;

use crate::row::Row;

/// The rows that may be played beside others.
pub(crate) fn together() -> impl Iterator<Item = &'static Row> {
    let themes = [
        answers::ROWS,
        lookups::ROWS,
        callers::ROWS,
        keys::ROWS,
        processes::ROWS,
        redis::ROWS,
        operators::ROWS,
    ];
    themes.into_iter().flatten()
}

/// The rows that measure time.
pub(crate) fn alone() -> impl Iterator<Item = &'static Row> {
    load::ROWS.iter()
}
