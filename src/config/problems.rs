//! What is wrong with a config, all of it at once, each with its line. Never a value: a value may
//! be a secret.

use std::collections::BTreeMap;
use std::fmt;

/// Where each thing in a file is: lines by path, like `routes[0].lease`.
#[derive(Debug, Clone, Default)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Notes where a path is.
    pub fn insert(&mut self, path: String, line: usize) {
        self.0.insert(path, line);
    }

    /// Notes where a path is, unless that is known.
    pub fn insert_new(&mut self, path: &str, line: usize) {
        self.0.entry(path.to_owned()).or_insert(line);
    }

    /// The line of a path, or of the nearest thing around it.
    pub fn of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }
}

/// The path of something in a mapping.
pub fn member(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// One thing that is wrong, or strange.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    line: Option<usize>,
    place: String,
    message: String,
}

/// Everything that is wrong with a config, and what is legal but strange.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    file: Option<String>,
    lines: Lines,
    flags: BTreeMap<&'static str, &'static str>,
    faults: Vec<Problem>,
    /// Places with faults of form: what they and what is in them mean is not asked.
    formless: Vec<String>,
    warnings: Vec<Problem>,
    news: Vec<String>,
}

impl Problems {
    /// None yet, about this file.
    pub fn new(file: Option<&str>) -> Self {
        Self { file: file.map(str::to_owned), ..Self::default() }
    }

    /// From now on, problems get their lines from here.
    pub fn locate(&mut self, lines: Lines) {
        self.lines = lines;
    }

    /// From now on, problems at `place` are those of a flag.
    pub fn blame(&mut self, place: &'static str, flag: &'static str) {
        self.flags.insert(place, flag);
    }

    /// Takes the value, or notes why there is none.
    pub fn note<T, E: fmt::Display>(&mut self, place: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(place, error)).ok()
    }

    /// From now on, nothing is noted of the places that are faulty already, nor of what is in them:
    /// it would only follow from what is known.
    pub fn judge_the_rest(&mut self) {
        self.formless = self.faults.iter().map(|fault| fault.place.clone()).collect();
    }

    fn follows(&self, place: &str) -> bool {
        self.formless.iter().any(|faulty| {
            let rest = place.strip_prefix(faulty.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes what is wrong.
    pub fn fault(&mut self, place: &str, message: impl fmt::Display) {
        if self.follows(place) {
            return;
        }
        let problem = self.problem(place, &message);
        self.faults.push(problem);
    }

    /// Notes what is wrong in a line that has no path.
    pub fn fault_in_line(&mut self, line: usize, message: impl fmt::Display) {
        let (place, message) = (String::new(), message.to_string());
        self.faults.push(Problem { line: Some(line), place, message });
    }

    /// Notes what is legal, but that somebody should know.
    pub fn warn(&mut self, place: &str, message: impl fmt::Display) {
        let problem = self.problem(place, &message);
        self.warnings.push(problem);
    }

    /// Notes what was done meanwhile.
    pub fn say(&mut self, news: String) {
        self.news.push(news);
    }

    /// What was done meanwhile.
    pub fn news(&self) -> &[String] {
        &self.news
    }

    fn problem(&self, place: &str, message: &impl fmt::Display) -> Problem {
        let place = self.flags.get(place).copied().unwrap_or(place);
        // What comes from the command line or the environment is in no line.
        let line = self.lines.of(place).filter(|_| !place.starts_with("--"));
        Problem { line, place: place.to_owned(), message: message.to_string() }
    }

    /// Whether nothing is wrong; there may be warnings.
    pub const fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many things are wrong.
    pub const fn len(&self) -> usize {
        self.faults.len()
    }

    /// What is legal but strange, a line of text each.
    pub fn warnings(&self) -> Vec<String> {
        self.sorted(&self.warnings)
    }

    /// What is wrong, a line of text each: `FILE:LINE: path: message`.
    pub fn faults(&self) -> Vec<String> {
        self.sorted(&self.faults)
    }

    fn sorted(&self, problems: &[Problem]) -> Vec<String> {
        let mut problems = problems.to_vec();
        problems.sort();
        problems.dedup();
        problems.iter().map(|problem| self.text(problem)).collect()
    }

    fn text(&self, problem: &Problem) -> String {
        let mut text = String::new();
        if let (Some(file), false) = (&self.file, problem.place.starts_with("--")) {
            text += file;
            text += ":";
            if let Some(line) = problem.line {
                text += &format!("{line}:");
            }
            text += " ";
        }
        if !problem.place.is_empty() {
            text += &problem.place;
            text += ": ";
        }
        text + &problem.message
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults().join("\n"))
    }
}

impl std::error::Error for Problems {}

/// The candidate that was probably meant, if one is near enough.
pub fn meant<'a>(said: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// A longer word has no near candidate, and comparing takes its length squared.
    const WORD_BYTES_MAX: usize = 64;

    if said.len() > WORD_BYTES_MAX {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(said, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, exchanged, or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let exchanged = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = exchanged.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_line_of_what_is_around_it() {
        let mut lines = Lines::default();
        lines.insert(String::new(), 1);
        lines.insert("routes[0]".to_owned(), 7);
        let mut problems = Problems::new(Some("semel.yaml"));
        problems.locate(lines);

        problems.fault("routes[0].lease", "too short");
        problems.fault("listen", "no address");
        problems.fault("--store", "no store");

        assert_eq!(
            problems.faults(),
            [
                "--store: no store",
                "semel.yaml:1: listen: no address",
                "semel.yaml:7: routes[0].lease: too short",
            ]
        );
    }

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        assert_eq!(meant("lese", ["name", "lease", "limits"]), Some("lease"));
        assert_eq!(meant("lsiten", ["listen", "log"]), Some("listen"));
        assert_eq!(meant("business_key", ["listen", "log"]), None);
    }
}
