//! A subscriber of `tracing` that keeps what the crate tells it: spans with their parents and links, and events.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    thread::{self, ThreadId},
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, NoSubscriber},
};

/// The target of a test's own spans.
pub const TEST: &str = "test";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<&'static str, String>);

#[derive(Clone, Debug)]
pub struct Span {
    pub id: u64,
    pub name: &'static str,
    pub level: Level,
    pub parent: Option<u64>,
    /// Those whose work it is linked to.
    pub follows: Vec<u64>,
    pub fields: Fields,
    pub closed: bool,
    metadata: &'static Metadata<'static>,
    handles: usize,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub span: Option<u64>,
    pub fields: Fields,
}

#[derive(Default)]
struct Inside {
    spans: Vec<Span>,
    lines: Vec<Line>,
    entered: HashMap<ThreadId, Vec<u64>>,
}

/// What was told so far. Clones share it.
#[derive(Clone, Default)]
pub struct Traces(Arc<Mutex<Inside>>);

impl Fields {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Line {
    pub fn text(&self) -> &str {
        self.fields.get("message").unwrap_or_default()
    }
}

/// While there is one subscriber only, `tracing` asks the thread that comes to a span first whether it is wanted, and remembers
/// that for all: a thread without a subscriber would switch it off for the test's. With others beside it, all are asked.
static OTHERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::default())));

impl Traces {
    /// Begins to take in what this thread tells.
    #[must_use]
    pub fn here() -> (Self, DefaultGuard) {
        LazyLock::force(&OTHERS);
        let traces = Self::default();
        let guard = tracing::subscriber::set_default(traces.clone());
        (traces, guard)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no panic")
    }

    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// The spans of this name, in the order in which they began.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.lock().spans.iter().filter(|span| span.name == name).cloned().collect()
    }

    /// The lines whose text begins so.
    pub fn said(&self, text: &str) -> Vec<Line> {
        self.lock().lines.iter().filter(|line| line.text().starts_with(text)).cloned().collect()
    }

    /// A span and what is below it, one to a line, each with those of the fields that it has.
    pub fn tree(&self, root: u64, fields: &[&str]) -> String {
        let (spans, mut text) = (self.spans(), String::new());
        branch(&spans, root, "", "", fields, &mut text);
        text
    }

    /// Everything, to be searched for what must not be in it.
    pub fn printed(&self) -> String {
        let inside = self.lock();
        format!("{:#?} {:#?}", inside.spans, inside.lines)
    }
}

fn branch(spans: &[Span], of: u64, first: &str, rest: &str, fields: &[&str], text: &mut String) {
    let span = spans.iter().find(|span| span.id == of).expect("a span");
    *text += first;
    *text += span.name;
    for name in fields {
        if let Some(value) = span.fields.get(name) {
            *text += &format!("  {name}={value}");
        }
    }
    *text += "\n";
    let below: Vec<_> = spans.iter().filter(|span| span.parent == Some(of)).collect();
    for (number, child) in below.iter().enumerate() {
        let last = number + 1 == below.len();
        let (first, next) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(spans, child.id, &format!("{rest}{first}"), &format!("{rest}{next}"), fields, text);
    }
}

impl Inside {
    fn span(&mut self, id: &Id) -> &mut Span {
        &mut self.spans[id.into_u64() as usize - 1]
    }

    fn current(&self) -> Option<u64> {
        self.entered.get(&thread::current().id())?.last().copied()
    }

    fn parent(&self, given: Option<&Id>, contextual: bool) -> Option<u64> {
        given.map(Id::into_u64).or_else(|| self.current().filter(|_| contextual))
    }
}

impl Subscriber for Traces {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        [TEST, "infinityvm_sdk"].contains(&metadata.target())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut inside = self.lock();
        let id = inside.spans.len() as u64 + 1;
        let (parent, metadata) =
            (inside.parent(attributes.parent(), attributes.is_contextual()), attributes.metadata());
        let (name, level) = (metadata.name(), *metadata.level());
        let follows = Vec::new();
        inside.spans.push(Span { id, name, level, parent, follows, fields, closed: false, metadata, handles: 1 });
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.lock().span(span).fields.0.extend(fields.0);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.lock().span(span).follows.push(follows.into_u64());
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut inside = self.lock();
        let span = inside.parent(event.parent(), event.is_contextual());
        inside.lines.push(Line { level: *event.metadata().level(), span, fields });
    }

    fn enter(&self, span: &Id) {
        self.lock().entered.entry(thread::current().id()).or_default().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut inside = self.lock();
        let entered = inside.entered.entry(thread::current().id()).or_default();
        if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(at);
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.lock().span(span).handles += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut inside = self.lock();
        let span = inside.span(&span);
        span.handles -= 1;
        span.closed = span.handles == 0;
        span.closed
    }

    fn current_span(&self) -> tracing_core::span::Current {
        let mut inside = self.lock();
        match inside.current() {
            Some(id) => {
                let id = Id::from_u64(id);
                let metadata = inside.span(&id).metadata;
                tracing_core::span::Current::new(id, metadata)
            }
            None => tracing_core::span::Current::none(),
        }
    }
}
