//! All rows, by theme.

mod absent;
mod answers;
mod asking;
mod callers;
mod keys;
mod load;
mod lookups;
mod names;
mod operators;
mod outcomes;
mod processes;
mod redis;
mod resends;
mod strategies;

use crate::row::Row;

/// The rows that may be played beside others.
pub(crate) fn together() -> impl Iterator<Item = &'static Row> {
    let themes = [
        answers::ROWS,
        lookups::ROWS,
        strategies::ROWS,
        resends::ROWS,
        absent::ROWS,
        outcomes::ROWS,
        callers::ROWS,
        keys::ROWS,
        names::ROWS,
        asking::ROWS,
        processes::ROWS,
        redis::ROWS,
        operators::ROWS,
    ];
    themes.into_iter().flatten()
}

/// The rows that measure time.
pub(crate) fn alone() -> impl Iterator<Item = &'static Row> {
    processes::TIMED.iter().chain(load::ROWS)
}
