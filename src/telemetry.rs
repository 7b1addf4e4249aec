//! Structured logs on stderr, and what a panic may say.
//!
//! It knows nothing of requests; the rule that no body, credential or raw key is logged is kept
//! where lines are written. Here it is kept for panics, whose text nobody has written with care.

use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged if nothing was said.
const FILTER_DEFAULT: &str = "info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("not a log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// This process logs already.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Logs to stderr from now on, panics included. `filter` is as in `semel=debug,info`.
///
/// # Errors
/// If the filter cannot be read, or this was done before.
pub fn init(format: Format, filter: Option<&str>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(filter.unwrap_or(FILTER_DEFAULT))?;
    let colours = if io::stderr().is_terminal() { Colours::On } else { Colours::Off };
    subscriber(format, colours, filter, io::stderr).try_init()?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether lines are coloured: only terminals understand that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

fn subscriber<W>(
    format: Format,
    colours: Colours,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours == Colours::On)
        .with_span_events(FmtSpan::NONE)
        .with_writer(writer);
    match format {
        Format::Json => Box::new(lines.json().flatten_event(true).finish()),
        Format::Text => Box::new(lines.finish()),
    }
}

/// Logs where it happened and, only if it is part of the program's text, what was said: a text that
/// was put together at run time may have a request's data in it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let said = panic.payload().downcast_ref::<&'static str>().copied();
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        at = at.as_deref().unwrap_or("unknown"),
        said = said.unwrap_or("withheld: put together at run time"),
        thread = thread.name().unwrap_or("unnamed"),
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(format: Format, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            subscriber(format, Colours::Off, EnvFilter::new("info"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        lines.text()
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let text = logged(Format::Json, || tracing::info!(status = 200, "answered"));

        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();

        assert_eq!(text.lines().count(), 1);
        assert_eq!(line["message"], "answered");
        assert_eq!(line["status"], 200);
    }

    #[test]
    fn text_is_one_line_too() {
        let text = logged(Format::Text, || tracing::info!("answered"));

        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("answered"));
        assert!(!text.contains('\u{1b}'), "colours outside a terminal: {text:?}");
    }

    #[test]
    fn a_panic_tells_where_but_never_what_it_had_in_hand() {
        let card = "4242424242424242";
        panic::set_hook(Box::new(log_panic));

        let text = logged(Format::Json, || {
            let _ = panic::catch_unwind(|| panic!("cannot charge {card}"));
            let _ = panic::catch_unwind(|| panic!("said in the program"));
        });
        drop(panic::take_hook());

        assert!(text.contains("src/telemetry.rs:"), "{text}");
        assert!(text.contains("withheld"), "{text}");
        assert!(text.contains("said in the program"), "{text}");
        assert!(!text.contains(card), "{text}");
    }
}
