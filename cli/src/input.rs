//! What arguments name: bytes, files, standard input.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use infinityvm_sdk::{
    Result,
    primitives::{Bytes, hex},
};
use serde::de::DeserializeOwned;

use crate::text::{refused, unreadable};

/// The most that is read of a file or of standard input. No job is that large.
const MOST: u64 = 64 << 20;

/// A file, or standard input where the argument is `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Stdin,
    File(PathBuf),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(text.into()) }
    }
}

impl Source {
    /// Everything that it holds.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = match self {
            Self::Stdin => io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes),
            Self::File(path) => fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)),
        };
        read.map_err(|error| unreadable(&self.name(), error))?;
        if bytes.len() as u64 > MOST {
            return Err(refused(format!("{} is larger than {} MiB", self.name(), MOST >> 20))
                .with_hint("no node takes a job or a program that large"));
        }
        Ok(bytes)
    }

    /// The value that is written there as JSON.
    pub fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        parsed(&self.read()?, &self.name(), what)
    }

    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// The value that such bytes hold as JSON, which an earlier command has written.
pub fn parsed<T: DeserializeOwned>(bytes: &[u8], name: &str, what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        refused(format!("{name} does not hold {what}"))
            .with_source(error)
            .with_hint("give the file that an earlier command has written, as it is")
    })
}

/// Bytes: `0x` and hex digits, `abi:TYPE=VALUE`, `@FILE`, or `-` for standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BytesArg {
    Given(Bytes),
    From(Source),
}

impl BytesArg {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::From(Source::Stdin));
        }
        if let Some(path) = text.strip_prefix('@') {
            return Ok(Self::From(Source::File(path.into())));
        }
        if let Some(typed) = text.strip_prefix("abi:") {
            return crate::abi::encode(typed).map(Self::Given);
        }
        let digits = text.strip_prefix("0x");
        let digits = digits.ok_or("use 0x and hex digits, abi:TYPE=VALUE, @FILE, or - for standard input")?;
        hex::decode(digits).map(|bytes| Self::Given(bytes.into())).map_err(|error| error.to_string())
    }

    pub fn read(&self) -> Result<Bytes> {
        match self {
            Self::Given(bytes) => Ok(bytes.clone()),
            Self::From(source) => source.read().map(Bytes::from),
        }
    }
}

/// Writes a file that holds no key, whole or not at all: what is there already is replaced only once the new one is on
/// the disk. A pipe, a terminal or a device is written to as it is.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let written = match place_of(path) {
        Place::File(path) => replace(&path, text),
        Place::Stream => {
            fs::OpenOptions::new().write(true).create(true).truncate(true).open(path).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.flush()
            })
        }
    };
    written.map_err(|error| unwritable(path, error))
}

/// Refuses a file that [`write`] could not write, long before it is to be written.
pub fn check_writable(path: &Path) -> Result<()> {
    let Place::File(file) = place_of(path) else { return Ok(()) };
    let beside = unfinished(&file);
    let made = fs::File::create(&beside).and_then(|_| fs::remove_file(&beside));
    made.map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: io::Error) -> infinityvm_sdk::Error {
    refused(format!("{} cannot be written", path.display()))
        .with_source(error)
        .with_hint("check that the folder is there, and that you may write to it")
}

enum Place {
    /// A file that can be replaced, or none yet. No link leads further.
    File(PathBuf),
    Stream,
}

fn place_of(path: &Path) -> Place {
    match fs::canonicalize(path) {
        Ok(file) if file.is_file() => Place::File(file),
        Ok(_) => Place::Stream,
        // A link that leads to no name, as /dev/stdout does before a pipe.
        Err(_) if path.is_symlink() => Place::Stream,
        Err(_) => Place::File(path.to_owned()),
    }
}

/// The file beside another with this behind its name.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Where what is to replace a file is written first.
fn unfinished(path: &Path) -> PathBuf {
    beside(path, &format!(".{}.new", std::process::id()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = unfinished(path);
    let written = fs::File::create(&beside).and_then(|mut file| {
        if let Ok(there) = fs::metadata(path) {
            file.set_permissions(there.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        // It may be that there is none.
        _ = fs::remove_file(&beside);
    })
}
