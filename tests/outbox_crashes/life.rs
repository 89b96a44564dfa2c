//! What the parent tells a service, in words of a command line.

use crate::orders::After;

/// Where and how the service's jobs run.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The State revision, or else Relay.
    pub state: bool,
    /// REST, or else gRPC.
    pub rest: bool,
    pub ordered: bool,
    pub after: After,
    /// The service reads the chain, which reorganises.
    pub chain: bool,
    /// The store is in a PostgreSQL database, or else in a SQLite file.
    pub postgres: bool,
}

/// One life of the service.
#[derive(Clone, Debug)]
pub struct Life {
    pub world: World,
    /// A file, or the URL of a database.
    pub store: String,
    pub url: String,
    /// The chain's RPC; not used if the world has no chain.
    pub rpc: String,
    pub job_manager: String,
    pub key: String,
    pub operator: String,
    /// Each with a lane of its own.
    pub consumers: Vec<String>,
    pub program: String,
    /// Orders of each task.
    pub each: u64,
    /// Stops at this point, the so-manieth time it comes there.
    pub point: String,
    pub times: u64,
    /// Errors of the store are told, and not a failure of the test.
    pub tolerant: bool,
    /// One of several services, by its number, and how many there are: each takes the orders of its part of the tasks, and
    /// tries again what the database refuses.
    pub part: Option<(u64, u64)>,
    /// How long it has a lane without being heard of, in milliseconds.
    pub lease: u64,
}

impl Life {
    pub fn write(&self) -> Vec<String> {
        let World { state, rest, ordered, after, chain, .. } = self.world;
        let after = match after {
            After::Replace => "replace",
            After::Fill => "fill",
            After::Renumber => "renumber",
        };
        let flags = [state, rest, ordered, chain, self.tolerant].map(|flag| flag.to_string());
        let Self { store, url, rpc, job_manager, key, operator, program, point, .. } = self;
        let consumers = &self.consumers.join(",");
        let texts = [store, url, rpc, job_manager, key, operator, consumers, program, point].map(Clone::clone);
        let numbers = [self.each, self.times].map(|number| number.to_string());
        let (part, of) = self.part.unwrap_or_default();
        let last = [after.to_owned(), part.to_string(), of.to_string(), self.lease.to_string()];
        flags.into_iter().chain(texts).chain(numbers).chain(last).collect()
    }

    /// Whose the jobs of a task are.
    pub fn consumer_of(&self, task: u64) -> &str {
        &self.consumers[task as usize % self.consumers.len()]
    }

    /// Whether this service takes the orders of a task.
    pub fn takes(&self, task: u64) -> bool {
        self.part.is_none_or(|(part, of)| task % of == part)
    }

    pub fn read(words: &[String]) -> Self {
        let flag = |at: usize| words[at].parse::<bool>().unwrap();
        let text = |at: usize| words[at].clone();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let after = match words[16].as_str() {
            "replace" => After::Replace,
            "fill" => After::Fill,
            _ => After::Renumber,
        };
        Self {
            world: World {
                state: flag(0),
                rest: flag(1),
                ordered: flag(2),
                after,
                chain: flag(3),
                postgres: words[5].starts_with("postgres:"),
            },
            tolerant: flag(4),
            store: text(5),
            url: text(6),
            rpc: text(7),
            job_manager: text(8),
            key: text(9),
            operator: text(10),
            consumers: words[11].split(',').map(str::to_owned).collect(),
            program: text(12),
            point: text(13),
            each: number(14),
            times: number(15),
            part: Some((number(17), number(18))).filter(|(_, of)| *of > 0),
            lease: number(19),
        }
    }
}
