//! Walks through the README as a reader would: every command of "Five minutes", typed into a shell,
//! against the real binary and the practice payment API, says what the page says; the lines of the
//! load test go where the page says that they do.

#![expect(clippy::unwrap_used, reason = "a tour whose processes do not start has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const SEMEL: &str = env!("CARGO_BIN_EXE_semel");

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What the page says is typed, and what is then seen.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The console blocks between the page's two marks.
fn tour(page: &str) -> Vec<Step> {
    let marked = page.split("<!-- tour -->").nth(1).unwrap();
    let blocks = marked.split("```").skip(1).step_by(2);
    let mut steps = Vec::new();
    for line in blocks.flat_map(|block| block.lines().skip(1)) {
        match line.strip_prefix("$ ") {
            Some(command) => {
                steps.push(Step { command: command.to_owned(), expected: Vec::new() });
            }
            None => steps.last_mut().unwrap().expected.push(line.to_owned()),
        }
    }
    steps
}

/// Whether a line is as the pattern says, in which `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Waits until a process says on this stream that it is there, and reads on so that it never blocks.
fn until_said(stream: impl std::io::Read + Send + 'static, ready: &str) {
    let mut lines = BufReader::new(stream).lines();
    let said = lines.by_ref().map(Result::unwrap).find(|line| line.contains(ready));
    assert!(said.is_some(), "it ended without saying: {ready}");
    std::thread::spawn(move || lines.for_each(drop));
}

#[test]
fn the_tour_is_as_the_readme_tells_it() {
    let folder = TempDir::new().unwrap();
    let [practice, data, admin] = [free_port(), free_port(), free_port()];
    let config = repository("config/practice.yaml").replace(":9000", &format!(":{practice}"));
    fs::write(folder.path().join("practice.yaml"), config).unwrap();
    let mut provider = Running(
        Command::new(SEMEL)
            .args(["demo", "provider", "--listen", &format!("127.0.0.1:{practice}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    until_said(provider.0.stdout.take().unwrap(), "practice payment API");
    let mut semel = Running(
        Command::new(SEMEL)
            .args(["run", "--config", "practice.yaml"])
            .args(["--listen", &format!("127.0.0.1:{data}")])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    until_said(semel.0.stderr.take().unwrap(), "ready");

    // One shell for all, because the page sets a variable on the way.
    let mut typed = String::new();
    let mark = "-- next --";
    let steps = tour(&repository("README.md"));
    assert!(steps.len() > 10, "the page has its tour");
    for step in &steps {
        typed += &format!("{}\necho; echo '{mark}'\n", step.command);
    }
    for (theirs, ours) in [(7411, data), (7412, admin), (9000, practice)] {
        typed = typed.replace(&format!("localhost:{theirs}"), &format!("localhost:{ours}"));
    }
    let shell =
        Command::new("sh").args(["-euc", &typed]).current_dir(folder.path()).output().unwrap();
    let output = String::from_utf8(shell.stdout).unwrap();

    assert!(shell.status.success(), "{output}");
    for (step, said) in steps.iter().zip(output.split(mark)) {
        for expected in &step.expected {
            assert!(
                said.lines().any(|line| fits(expected, line.trim_end())),
                "$ {}\nshould say: {expected}\nsays: {said}",
                step.command
            );
        }
    }
}

#[test]
fn the_load_test_is_guarded_by_a_key_in_the_query_and_goes_to_the_practice_api() {
    let page = repository("README.md");
    let marked = page.split("<!-- load-test -->").nth(1).unwrap();
    let (_, config) = marked.split_once("```yaml\n").unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("semel.yaml");
    fs::write(&file, config.split("```").next().unwrap()).unwrap();

    // The URL comes last, in quotes; where it is a pattern, its question mark is in brackets.
    let urls: Vec<String> = marked
        .lines()
        .filter(|line| line.starts_with("$ oha "))
        .map(|line| line.split('\'').nth_back(1).unwrap().replace(['[', ']'], ""))
        .map(|url| format!("{}key=1", url.split("key=").next().unwrap()))
        .collect();
    assert_eq!(urls.len(), 3, "unique keys, one hot key, a mix");
    for url in urls {
        let told = Command::new(SEMEL)
            .args(["explain", file.to_str().unwrap(), "POST", &url])
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        for expected in ["upstream     load-test", "guarded      yes", "from query parameter key"] {
            assert!(told.contains(expected), "{url} should have {expected}: {told}");
        }
    }
}
