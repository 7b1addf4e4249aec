//! From YAML text to a tree of values and the line of each.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

use super::problems::{Lines, Problems, member};

/// The largest config file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// How deep values may lie in one another.
const DEPTH_MAX: usize = 64;

/// Reads YAML. Problems are noted, and from then on have lines; `None`: there is no tree.
pub fn read(text: &str, problems: &mut Problems) -> Option<Value> {
    if let Some(line) = too_deep(text) {
        problems.fault_in_line(line, "values lie too deep in one another");
        return None;
    }
    let documents = match MarkedYaml::load_from_str(text) {
        Ok(documents) => documents,
        Err(error) => {
            problems.fault_in_line(error.marker().line(), format!("not YAML: {}", error.info()));
            return None;
        }
    };
    if let Some(second) = documents.get(1) {
        problems.fault_in_line(second.span.start.line(), "a config is one YAML document, not more");
        return None;
    }
    let mut reader = Reader { lines: Lines::default(), faults: Vec::new() };
    let value = match documents.first() {
        None => Value::Object(Map::new()),
        // A file of comments only is an empty one.
        Some(root) if root.data.is_null() => Value::Object(Map::new()),
        Some(root) => reader.value(root, "", 0),
    };
    problems.locate(reader.lines);
    for (place, message) in &reader.faults {
        problems.fault(place, message);
    }
    reader.faults.is_empty().then_some(value)
}

/// A line that opens more levels than any config has. The parser below calls itself per level, so
/// that this is to be known before.
fn too_deep(text: &str) -> Option<usize> {
    let opens = |line: &str| {
        let levels = line.split(' ').take_while(|word| matches!(*word, "" | "-" | "?" | ":"));
        let flow = line.bytes().filter(|byte| matches!(byte, b'[' | b'{'));
        levels.count().max(flow.count())
    };
    text.lines().position(|line| opens(line) > 4 * DEPTH_MAX).map(|line| line + 1)
}

struct Reader {
    lines: Lines,
    faults: Vec<(String, &'static str)>,
}

impl Reader {
    fn value(&mut self, node: &MarkedYaml<'_>, at: &str, depth: usize) -> Value {
        self.lines.insert_new(at, node.span.start.line());
        if depth > DEPTH_MAX {
            return self.fault(at, "values lie too deep in one another");
        }
        match &node.data {
            YamlData::Value(scalar) => self.scalar(scalar, at),
            YamlData::Sequence(items) => {
                let items = items.iter().enumerate();
                items.map(|(i, item)| self.value(item, &format!("{at}[{i}]"), depth + 1)).collect()
            }
            YamlData::Mapping(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let Some(name) = key_text(key) else {
                        self.fault(at, "a key that is no text");
                        continue;
                    };
                    let place = member(at, &name);
                    // The line of the key, so that an empty or folded value is found too.
                    self.lines.insert(place.clone(), key.span.start.line());
                    let value = self.value(value, &place, depth + 1);
                    map.insert(name, value);
                }
                Value::Object(map)
            }
            YamlData::Tagged(..) => self.fault(at, "tags (!) have no meaning here"),
            YamlData::Alias(_) | YamlData::BadValue | YamlData::Representation(..) => {
                self.fault(at, "a value that cannot be read")
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar<'_>, at: &str) -> Value {
        match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => Value::Bool(*value),
            Scalar::Integer(value) => Value::Number((*value).into()),
            Scalar::FloatingPoint(value) => match Number::from_f64(f64::from(*value)) {
                Some(number) => Value::Number(number),
                None => self.fault(at, "a number that is none"),
            },
            Scalar::String(value) => Value::String(value.to_string()),
        }
    }

    fn fault(&mut self, at: &str, message: &'static str) -> Value {
        self.faults.push((at.to_owned(), message));
        Value::Null
    }
}

fn key_text(key: &MarkedYaml<'_>) -> Option<String> {
    match &key.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::Null | Scalar::FloatingPoint(_))
        | YamlData::Sequence(_)
        | YamlData::Mapping(_)
        | YamlData::Tagged(..)
        | YamlData::Alias(_)
        | YamlData::BadValue
        | YamlData::Representation(..) => None,
    }
}
