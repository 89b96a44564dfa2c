//! What a command prints: one JSON document, or lines for people, with colours where a terminal shows them.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use indicatif::ProgressBar;
use infinityvm_sdk::{Error, Result};
use serde::Serialize;
use serde_json::json;

use crate::{exit, input, text::refused, words};

const LABEL: Style = AnsiColor::Cyan.on_default();
const WRONG: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Where answers and errors go. Standard output has answers only.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// Why an answer was not written.
    lost: Mutex<Option<io::Error>>,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json, lost: Mutex::default() }
    }

    /// Prints an answer: the value as one line of JSON, or the text.
    pub fn answer(&self, value: &impl Serialize, text: impl fmt::Display) {
        if self.json {
            self.document(value);
        } else {
            self.note(line(&mut anstream::stdout(), format_args!("{text}")));
        }
    }

    /// Prints advice of the library's, which names its functions: here they are commands.
    pub fn advice(&self, value: &impl Serialize, text: impl fmt::Display) {
        self.answer(&words::of_json(value), words::of_commands(&text.to_string()));
    }

    /// Whether nobody reads the answers any more.
    pub fn is_unread(&self) -> bool {
        matches!(&*self.lost(), Some(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The error of an answer that could not be written. Whoever reads may be gone, as `head` is, which is none.
    pub fn failure(&self) -> Option<Error> {
        let error = self.lost().take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)?;
        Some(refused("the answer cannot be written to standard output").with_source(error))
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.lost().get_or_insert(error);
        }
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a value as one line of JSON, whatever was asked for.
    pub fn document(&self, value: &impl Serialize) {
        // Only maps with keys that are no text fail, and there are none.
        let text = serde_json::to_string(value).unwrap_or_else(|error| json!({ "bug": error.to_string() }).to_string());
        self.note(line(&mut io::stdout(), format_args!("{text}")));
    }

    /// Writes a value that other commands read: to the file, and then says what it is; or to standard output,
    /// also if the file is `-`.
    pub fn file(&self, value: &impl Serialize, path: Option<&Path>, page: Page) -> Result<()> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            self.document(value);
            return Ok(());
        };
        let text = serde_json::to_string(value)
            .map_err(|error| refused("the value cannot be written as JSON").with_source(error))?;
        input::write(path, &(text + "\n"))?;
        self.answer(&json!({ "file": path.display().to_string() }), page.row("file", path.display()));
        Ok(())
    }

    /// Shows what is being waited for: a spinner on a terminal, lines elsewhere, nothing beside JSON.
    pub fn progress(&self, what: impl Into<String>) -> Progress {
        let begun = Instant::now();
        if self.json || !io::stderr().is_terminal() {
            return Progress { bar: None, silent: self.json, begun };
        }
        let bar = ProgressBar::new_spinner().with_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar: Some(bar), silent: false, begun }
    }

    /// Prints why the command failed.
    pub fn error(&self, error: &Error) {
        if self.json {
            let text = json!({ "error": words::of_json(error), "exit_code": exit::code(error) as u8 });
            aside(&mut io::stderr(), format_args!("{text}"));
        } else {
            let text = words::of_commands(&error.report().to_string());
            aside(&mut anstream::stderr(), format_args!("{WRONG}error:{WRONG:#} {text}"));
        }
    }

    /// Says something that is no error and no answer.
    pub fn warn(&self, text: impl fmt::Display) {
        if self.json {
            aside(&mut io::stderr(), format_args!("{}", json!({ "warning": text.to_string() })));
        } else {
            aside(&mut anstream::stderr(), format_args!("{WARNING}warning:{WARNING:#} {text}"));
        }
    }
}

fn line(stream: &mut dyn io::Write, text: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(stream, "{text}").and_then(|()| stream.flush())
}

/// A line of standard error. Where that is closed nobody reads it.
fn aside(stream: &mut dyn io::Write, text: fmt::Arguments<'_>) {
    _ = line(stream, text);
}

/// What a person is shown who waits; made by [`Output::progress`].
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    silent: bool,
    begun: Instant,
}

impl Progress {
    /// Says that something was reached.
    pub fn step(&self, what: &str) {
        let text = format!("{:>8.3} s  {what}", self.begun.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.silent => {}
            None => aside(&mut io::stderr(), format_args!("{text}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Lines of a label and a value each.
#[derive(Debug, Default)]
pub struct Page(Vec<(&'static str, String)>);

impl Page {
    pub fn row(mut self, label: &'static str, value: impl fmt::Display) -> Self {
        self.0.push((label, value.to_string()));
        self
    }

    /// As [`row`](Self::row), if there is a value.
    pub fn maybe(self, label: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.row(label, value),
            None => self,
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (index, (label, value)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{LABEL}{label:width$}{LABEL:#}  {value}")?;
        }
        Ok(())
    }
}
