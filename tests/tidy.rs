//! The house rules that a machine can check: imports point down, `protocol` is pure, files are
//! short and say what they are, words that mislead are not used, links lead somewhere, figures are
//! those that were measured.
//!
//! The arrows are those of the table in ARCHITECTURE.md, no more and no fewer: a new one is a
//! decision, written there in the same commit. Functions' lengths are clippy's.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest file, in lines.
const LINES_MAX: usize = 600;

/// Modules that would be named for what nobody could name.
const MODULES_BANNED: [&str; 5] = ["utils", "common", "types", "helpers", "core"];

/// Parts of type names that say nothing.
const TYPE_PARTS_BANNED: [&str; 10] = [
    "Manager",
    "Handler",
    "Helper",
    "Util",
    "Processor",
    "Data",
    "Info",
    "Wrapper",
    "Context",
    "Impl",
];

/// What `protocol` must not touch: runtime, clock, chance, machine.
const IMPURE: [&str; 10] = [
    "tokio",
    "Instant",
    "SystemTime",
    "rand::",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tracing::",
];

/// A file of the repository.
struct Text {
    /// From the repository's root, with slashes.
    name: String,
    content: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", ".git", "semel-data"].contains(&name.as_str()) {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// All files below `folder` whose names end with one of these.
fn files(folder: &str, endings: &[&str]) -> Vec<Text> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        endings.iter().any(|ending| name.ends_with(ending)).then(|| Text {
            content: String::from_utf8(fs::read(&path).unwrap()).unwrap_or_default(),
            name,
        })
    };
    found.into_iter().filter_map(named).collect()
}

fn code() -> Vec<Text> {
    let mut code = files("src", &[".rs"]);
    code.extend(files("tests", &[".rs"]));
    code
}

fn pages() -> Vec<Text> {
    files("", &[".md"])
}

/// Everything that people wrote.
fn written() -> Vec<Text> {
    files("", &[".rs", ".md", ".toml", ".yaml", ".sh", ".lua", ".lock", "Makefile", "run"])
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Every place that `wrong` has something to say about.
fn lines(files: &[Text], wrong: impl Fn(&Text, &str) -> Option<String>) -> Vec<String> {
    let mut places = Vec::new();
    for file in files {
        for (number, line) in file.content.lines().enumerate() {
            if let Some(why) = wrong(file, line) {
                places.push(format!("{}:{}: {why}", file.name, number + 1));
            }
        }
    }
    places
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The name that starts this text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// `proxy` for `src/proxy/claim.rs`, `task` for `src/task.rs`.
fn module(file: &Text) -> &str {
    word(file.name.strip_prefix("src/").unwrap_or(&file.name))
}

/// The modules that a path `crate::…` leads to, groups included.
fn targets(line: &str) -> Vec<&str> {
    let paths = line.match_indices("crate::").filter(|(at, _)| {
        // Neither `this_crate::` nor `$crate::`.
        !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
    });
    paths.map(|(at, prefix)| word(&line[at + prefix.len()..])).collect()
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn arrows_in_code() -> (Arrows, Vec<String>) {
    let (mut arrows, mut odd) = (Arrows::new(), Vec::new());
    for file in files("src", &[".rs"]) {
        let from = module(&file).to_owned();
        if ["lib", "main"].contains(&from.as_str()) {
            continue;
        }
        let to = arrows.entry(from.clone()).or_default();
        for line in file.content.lines().filter(|line| !is_comment(line)) {
            for target in targets(line) {
                if target.is_empty() {
                    odd.push(format!("{}: one `use` per parent, not {line}", file.name));
                } else if target != from {
                    to.insert(target.to_owned());
                }
            }
        }
        let depth = file.name.matches('/').count() - usize::from(file.name.ends_with("/mod.rs"));
        let up = format!("use {}", "super::".repeat(depth));
        if file.content.lines().any(|line| line.starts_with(&up)) {
            odd.push(format!("{}: reaches the root by super, where arrows go unseen", file.name));
        }
    }
    (arrows, odd)
}

/// The rows of the import table: `| `module` | `a` `b` | … |`.
fn arrows_in_the_table() -> Arrows {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = page.split("<!-- imports -->").nth(1).expect("the table is marked");
    let ticked = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (ticked(cells[1]).pop_first().unwrap(), ticked(cells[2]))
    })
    .collect()
}

#[test]
fn imports_are_those_of_the_table() {
    let (code, mut wrong) = arrows_in_code();
    let table = arrows_in_the_table();
    for (from, to) in &code {
        for missing in to.difference(table.get(from).unwrap_or(&BTreeSet::new())) {
            wrong.push(format!("{from} → {missing} is not in ARCHITECTURE.md's table"));
        }
        if !table.contains_key(from) {
            wrong.push(format!("{from} has no row in ARCHITECTURE.md's table"));
        }
    }
    for (from, to) in &table {
        for gone in to.difference(code.get(from).unwrap_or(&BTreeSet::new())) {
            wrong.push(format!("{from} → {gone} is in ARCHITECTURE.md's table only"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn imports_point_down() {
    let arrows = arrows_in_the_table();
    // Rows stand in the order of the path, so what counts is that there is no way back.
    for start in arrows.keys() {
        let (mut reached, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(at) = next.pop() {
            for to in arrows.get(at).into_iter().flatten() {
                assert_ne!(to, start, "{start} imports itself, by way of {at}");
                if reached.insert(to) {
                    next.push(to);
                }
            }
        }
    }
}

#[test]
fn the_protocol_is_pure() {
    let wrong = lines(&files("src/protocol", &[".rs"]), |_, line| {
        if is_comment(line) {
            return None;
        }
        let impure = IMPURE.iter().find(|name| line.contains(*name));
        let ours = targets(line).into_iter().find(|target| *target != "protocol");
        impure.copied().or(ours).map(|name| format!("{name} in what must be pure"))
    });
    assert_none(&wrong);
}

#[test]
fn every_file_says_what_lives_in_it_and_is_short() {
    let mut wrong = Vec::new();
    for file in code() {
        if !file.content.starts_with("//!") {
            wrong.push(format!("{}: begins without //!", file.name));
        }
        let lines = file.content.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines; {LINES_MAX} are the most", file.name));
        }
    }
    assert_none(&wrong);
}

/// The name of the type that a line declares at the level of its module.
fn declared(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        // What stands between `pub` and its kind says how far it is seen.
        Some(rest) => rest.trim_start_matches(|c| c != ' ').trim_start(),
        None => line,
    };
    let kinds = ["struct ", "enum ", "trait ", "type "];
    kinds.iter().find_map(|kind| line.strip_prefix(kind)).map(word)
}

/// `SharedStore` → `Shared`, `Store`.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> =
        name.char_indices().filter(|(_, c)| c.is_uppercase()).map(|(at, _)| at).collect();
    let ends: Vec<usize> = starts.iter().copied().skip(1).chain([name.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &name[start..end])
}

#[test]
fn names_say_what_a_thing_is() {
    let code = code();
    let mut wrong = lines(&code, |_, line| {
        let name = declared(line)?;
        let banned = parts(name).find(|part| TYPE_PARTS_BANNED.contains(part))?;
        Some(format!("{name}: {banned} says nothing"))
    });
    for file in &code {
        let banned = |part: &str| MODULES_BANNED.contains(&part.trim_end_matches(".rs"));
        if file.name.split('/').any(banned) {
            wrong.push(format!("{}: name the module for what it is about", file.name));
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["unimplemented", "!("]]
        .map(|halves| halves.concat());
    let ignored = ["#[", "ignore"].concat();
    let wrong = lines(&written(), |file, line| {
        // A test may be left to another one that runs it, in a process of its own.
        let left_out = line.contains(&ignored)
            && !(line.contains(" = \"") && file.content.contains("--ignored"));
        let mark = marks.iter().find(|mark| line.contains(*mark));
        mark.cloned().or(left_out.then(|| ignored.clone()))
    });
    assert_none(&wrong);
}

#[test]
fn nobody_claims_what_cannot_be_had() {
    let claims = [" ", "-"].map(|between| ["exactly", "once"].join(between));
    let wrong = lines(&written(), |_, line| {
        let line = line.to_lowercase();
        let claimed = claims.iter().any(|claim| line.contains(claim)) && !line.contains("never");
        claimed.then(|| "nobody can promise that".to_owned())
    });
    assert_none(&wrong);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let places = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/tm", "p/"], ["../sha", "red"]]
        .map(|halves| halves.concat());
    let wrong =
        lines(&written(), |_, line| places.iter().find(|place| line.contains(*place)).cloned());
    assert_none(&wrong);
}

/// What a heading's anchor is on the usual hosts.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page without its code blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// Text and target of every link.
fn links(page: &str) -> Vec<(&str, &str)> {
    let ends = page.match_indices("](");
    ends.filter_map(|(at, _)| {
        let text = &page[page[..at].rfind('[')? + 1..at];
        let target = &page[at + 2..];
        Some((text, &target[..target.find(')')?]))
    })
    .collect()
}

/// Says why a link leads nowhere, if so. A link to a source file whose text is one name in
/// backticks, like [`Ledger::claim`](src/ledger/claim.rs), promises that the file has that name.
fn broken(page: &Text, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, part) = target.split_once('#').unwrap_or((target, ""));
    let here = root().join(&page.name);
    let file = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
    if !file.exists() {
        return Some(format!("{target} does not exist"));
    }
    let content = fs::read_to_string(&file).unwrap_or_default();
    if !part.is_empty() && !content.lines().any(|l| l.starts_with('#') && anchor(l) == part) {
        return Some(format!("{target}: no such heading"));
    }
    let name = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'))?;
    let name = name.rsplit("::").next().unwrap_or(name);
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let has = content.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == name);
    (path.ends_with(".rs") && plain && !has).then(|| format!("{path} has no {name}"))
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (text, target) in links(&prose(&page.content)) {
            wrong.extend(broken(&page, text, target).map(|why| format!("{}: {why}", page.name)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_that_pages_name_exist() {
    let folders = ["src/", "tests/", "config/", "docs/", "bench/", "scripts/"];
    let mut wrong = Vec::new();
    for page in pages() {
        let prose = prose(&page.content);
        let names = prose.split('`').skip(1).step_by(2);
        for name in names.filter(|name| folders.iter().any(|folder| name.starts_with(folder))) {
            if !name.contains(['*', '{', ' ', '…']) && !root().join(name).exists() {
                wrong.push(format!("{}: {name} does not exist", page.name));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn what_make_offers_is_what_pages_name() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .collect();
    let wrong = lines(&pages(), |_, line| {
        let (_, rest) = line.split_once("make ").filter(|(before, _)| {
            before.is_empty() || before.ends_with('`') || before.ends_with("$ ")
        })?;
        let target = rest.split(|c: char| !(c.is_alphanumeric() || c == '-')).next()?;
        (!targets.contains(target)).then(|| format!("there is no make {target}"))
    });
    assert_none(&wrong);
}

/// The bench is reported by a script with tests of its own, one of which is this claim.
#[test]
fn the_figures_on_the_pages_are_those_that_were_measured() {
    let told = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s", "bench/load"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
