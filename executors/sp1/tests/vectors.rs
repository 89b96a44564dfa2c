//! The command against values that real nodes gave for the program in `vectors/`, by the protocol's own bytes: what is
//! encoded here is what its description says, and no code of the library's.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

const RELAY: u8 = 1;

/// What the command says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Id(Vec<u8>),
    Output { cycles: u64, bytes: Vec<u8> },
    Exit(String),
    Failed(String),
}

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/guest.elf")
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Writes a message to the command and reads its answer.
fn ask(elf: &Path, body: &[u8]) -> Answer {
    let request = field(body);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ivm-sp1"))
        .arg(elf)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = thread::spawn(move || stdin.write_all(&request).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let (length, body) = output.stdout.split_first_chunk().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, body.len());
    let [1, kind, fields @ ..] = body else { panic!("{body:?} is no answer of version 1") };
    let bytes = |fields: &[u8]| {
        let (length, bytes) = fields.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, bytes.len());
        bytes.to_vec()
    };
    let text = |fields| String::from_utf8(bytes(fields)).unwrap();
    match kind {
        1 => Answer::Id(bytes(fields)),
        2 => {
            let (cycles, rest) = fields.split_first_chunk().unwrap();
            Answer::Output { cycles: u64::from_be_bytes(*cycles), bytes: bytes(rest) }
        }
        3 => Answer::Exit(text(fields)),
        4 => Answer::Failed(text(fields)),
        other => panic!("no answer has kind {other}"),
    }
}

fn run_as(revision: u8, elf: &Path, max_cycles: u64, onchain: &[u8], offchain: &[u8]) -> Answer {
    let head = [&[1, 2, revision], max_cycles.to_be_bytes().as_slice()].concat();
    ask(elf, &[head, field(onchain), field(offchain), field(&[])].concat())
}

/// The cycles and the output of a run that comes to one.
fn output(onchain: &[u8], offchain: &[u8]) -> (u64, Vec<u8>) {
    match run_as(RELAY, &guest(), 100_000_000, onchain, offchain) {
        Answer::Output { cycles, bytes } => (cycles, bytes),
        other => panic!("{other:?}"),
    }
}

/// Numbers as `abi.encode` has them.
fn words(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| [[0; 24].as_slice(), &number.to_be_bytes()].concat()).collect()
}

fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(16_777_619))
}

/// What the program commits for inputs of no other meaning.
fn reversed(onchain: &[u8], offchain: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = onchain.iter().rev().copied().collect();
    for number in [u32::try_from(offchain.len()).unwrap(), fnv(offchain), 0, 0x811c_9dc5] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

#[test]
fn the_id_is_the_node_s() {
    let Answer::Id(id) = ask(&guest(), &[1, 1]) else { panic!("no id") };
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, "069967c028fd66524d54d3ff7550f0a355f705aa12730b74044145c401d99eb9");
}

#[test]
fn outputs_are_the_node_s() {
    for (number, root) in [(144, 12), (81, 9), (0, 0), (u64::MAX, u32::MAX.into())] {
        assert_eq!(output(&words(&[number]), &[]).1, words(&[number, root]), "{number}");
    }
    // A stateful job: (offset, root, offset, length, amount) and the sum so far; the next root, and the next sum.
    assert_eq!(output(&words(&[32, 1000, 64, 32, 5]), &words(&[37])).1, words(&[32, 1005, 64, 32, 42]));
    for (onchain, offchain) in [(b"".as_slice(), b"".as_slice()), (b"abc", b"defg"), (b"", b"x")] {
        assert_eq!(output(onchain, offchain).1, reversed(onchain, offchain));
    }
}

#[test]
fn an_input_of_a_mebibyte_arrives_whole() {
    let offchain: Vec<u8> = (0..1_u32 << 20).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    assert_eq!(output(b"large", &offchain).1, reversed(b"large", &offchain));
}

#[test]
fn another_exit_code_than_zero_is_told_apart() {
    assert_eq!(
        run_as(RELAY, &guest(), 1_000_000, b"F", &[]),
        Answer::Exit("execution failed with exit code 1".to_owned())
    );
}

#[test]
fn the_cycle_limit_holds() {
    let over = |limit| Answer::Failed(format!("exceeded cycle limit of {limit}"));
    assert_eq!(run_as(RELAY, &guest(), 200_000, b"L", &[]), over(200_000));
    // The cycles of a run are those that the limit counts.
    let input = words(&[144]);
    let (cycles, bytes) = output(&input, &[]);
    assert_eq!(run_as(RELAY, &guest(), cycles + 1, &input, &[]), Answer::Output { cycles, bytes });
    for limit in [0, 1, cycles - 1] {
        assert_eq!(run_as(RELAY, &guest(), limit, &input, &[]), over(limit));
    }
}

/// An ELF of these instructions and nothing else.
fn elf(instructions: &[u32]) -> Vec<u8> {
    let size = u32::try_from(instructions.len() * 4).unwrap();
    let (entry, headers) = (0x0020_0800_u32, 84_u32);
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0".to_vec();
    let shorts = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let longs = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    elf.extend(longs(&[1, entry, 52, 0, 0]));
    elf.extend(shorts(&[52, 32, 1, 40, 0, 0]));
    elf.extend(longs(&[1, headers, entry, entry, size, size, 5, 4]));
    elf.extend(longs(instructions));
    elf
}

#[test]
fn what_the_machine_cannot_run_is_an_answer_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    // Loads immediates and calls SYSHINTREAD three times, where there are two inputs: SP1 panics.
    let greedy = elf(&[0x0f10_0293, 0x1000_0537, 0x0000_0593, 0x73, 0x73, 0x73]);
    for (path, why) in [
        (folder.path().join("nothing"), "cannot be read"),
        (file("text", b"no ELF at all"), "no program of SP1"),
        (file("cut", &std::fs::read(guest()).unwrap()[..1000]), "no program of SP1"),
        (file("greedy", &greedy), "the virtual machine stopped: hint input stream exhausted"),
    ] {
        let Answer::Failed(text) = run_as(RELAY, &path, 1000, &[], &[]) else { panic!("{why}") };
        assert!(text.contains(why), "{text}");
    }
    let Answer::Failed(text) = ask(&folder.path().join("text"), &[1, 1]) else { panic!("an id") };
    assert!(text.contains("no program of SP1"), "{text}");
    let Answer::Failed(text) = run_as(0, &guest(), 1000, &[], &[]) else { panic!("the State revision") };
    assert!(text.contains("State revision"), "{text}");
    let Answer::Failed(text) = ask(&guest(), &[2, 1]) else { panic!("version 2") };
    assert!(text.contains("version 2"), "{text}");
}

#[test]
fn arguments_are_explained() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ivm-sp1")).args(args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    for args in [&[][..], &["a", "b"], &["--fast"]] {
        let (code, text) = run(args);
        assert!(code == Some(2) && text.contains("Usage: ivm-sp1 ELF"), "{args:?}: {text}");
    }
    assert!(matches!(run(&["--help"]), (Some(0), text) if text.contains("Usage: ivm-sp1 ELF")));
    assert!(matches!(run(&["--version"]), (Some(0), text) if text.contains("SP1 4.1.2")));
}
