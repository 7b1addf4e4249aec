//! What must not change unnoticed: the config schema, the help, the words of problems. `make golden`
//! writes the files anew.

mod config;
mod metrics;
mod presets;
mod problems;
mod support;

#[test]
fn the_help_is_the_published_one() {
    support::assert_golden("tests/golden/help.txt", &semel::cli::help());
}
