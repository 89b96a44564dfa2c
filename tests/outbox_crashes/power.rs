//! Power cuts and broken disks: a library in C (`power.c`) between the service and its files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Full,
    FailsToSync,
    ReadOnly,
}

/// A disk, and what a program sees of it.
pub struct Disk {
    folder: PathBuf,
    library: PathBuf,
}

impl Disk {
    /// Builds the library, with the C compiler that the crate needs anyway.
    pub fn new(folder: &Path) -> Self {
        // As the system names it: the library compares names.
        let folder = folder.canonicalize().unwrap();
        let library = folder.join("power.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outbox_crashes/power.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().expect("a C compiler").success(), "the library does not compile");
        let disk = Self { folder, library };
        fs::create_dir(disk.seen()).unwrap();
        fs::create_dir(disk.kept()).unwrap();
        disk.set(Fault::None);
        disk
    }

    /// What the program sees.
    pub fn seen(&self) -> PathBuf {
        self.folder.join("seen")
    }

    /// What a power cut leaves.
    fn kept(&self) -> PathBuf {
        self.folder.join("kept")
    }

    fn fault(&self) -> PathBuf {
        self.folder.join("fault")
    }

    /// From now on, also for a program that runs.
    pub fn set(&self, fault: Fault) {
        let word = match fault {
            Fault::None => b'-',
            Fault::Full => b'f',
            Fault::FailsToSync => b's',
            Fault::ReadOnly => b'r',
        };
        // In place, as a program has it mapped.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.fault()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[word], 0).unwrap();
    }

    /// Puts the library before a program. The power goes at the so-manieth write or sync; never, if that is 0.
    pub fn under(&self, program: &mut Command, cut: usize, seed: u64) {
        program
            .env("LD_PRELOAD", &self.library)
            .env("POWER_FILES", self.seen())
            .env("POWER_DISK", self.kept())
            .env("POWER_FAULT", self.fault())
            .env("POWER_CUT", cut.to_string())
            .env("POWER_SEED", seed.to_string());
    }

    /// The power is back: what is seen is what the disk has.
    pub fn power_on(&self) {
        fs::remove_dir_all(self.seen()).unwrap();
        fs::create_dir(self.seen()).unwrap();
        for file in fs::read_dir(self.kept()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), self.seen().join(file.file_name())).unwrap();
        }
    }
}
