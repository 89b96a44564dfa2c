//! The node that the example talks to: a running one, or a development node in a process of its own.

use std::{
    env, fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use infinityvm_sdk::{
    LocalSigner, ProgramId, Revision,
    devnode::{ConsumerRules, DevNode, ProgramError},
    primitives::{Address, Bytes, SolValue, U256, address, hex},
};

use super::AnyError;

const CONSUMER: Address = address!("c0ffee254729296a45a3885639AC7E10F9d54979");

/// Whom the service works for, and with.
pub struct World {
    pub url: String,
    pub signer: LocalSigner,
    pub operator: Address,
    pub consumer: Address,
    pub program: ProgramId,
}

impl World {
    /// What the arguments say; else a development node, started if none is left from before.
    pub async fn of(file: &str, arguments: &[String]) -> Result<Self, AnyError> {
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let Some(url) = value("--node") else { return Self::own(file).await };
        let needed = |name: &'static str| value(name).ok_or(format!("{name} is missing"));
        Ok(Self {
            url,
            signer: LocalSigner::from_hex(fs::read_to_string(needed("--key-file")?)?.trim())?,
            operator: needed("--operator")?.parse()?,
            consumer: needed("--consumer")?.parse()?,
            program: ProgramId::new(needed("--program")?.parse::<Bytes>()?),
        })
    }

    async fn own(file: &str) -> Result<Self, AnyError> {
        let notes = format!("{file}.node");
        if let Some(world) = Self::noted(&notes)
            && tokio::net::TcpStream::connect(world.url.trim_start_matches("http://")).await.is_ok()
        {
            return Ok(world);
        }
        if fs::exists(file)? || fs::exists(&notes)? {
            return Err(format!(
                "the development node of {file} is gone, and its chain with it: remove {file}*, and the tables"
            )
            .into());
        }
        // Not waited for: it outlives the service, and holds none of its pipes open.
        Command::new(env::current_exe()?)
            .args(["node", &notes])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(world) = Self::noted(&notes) {
                return Ok(world);
            }
        }
    }

    fn noted(notes: &str) -> Option<Self> {
        let text = fs::read_to_string(notes).ok()?;
        let mut words = text.split_whitespace();
        let (url, key) = (words.next()?.to_owned(), words.next()?);
        let (operator, program) = (words.next()?.parse().ok()?, words.next()?.parse::<Bytes>().ok()?);
        let signer = LocalSigner::from_hex(key).ok()?;
        Some(Self { url, signer, operator, consumer: CONSUMER, program: ProgramId::new(program) })
    }
}

/// A development node with one program, until it is killed. The second line of its notes is its process id.
pub async fn serve(arguments: &[String]) -> Result<(), AnyError> {
    let notes = arguments.first().ok_or("where to note the address?")?;
    // A key for a chain that exists in this process only.
    let key = [0x42; 32];
    let rules = ConsumerRules::signed_by(LocalSigner::from_bytes(key)?.address());
    let anywhere: SocketAddr = "127.0.0.1:0".parse()?;
    let node = DevNode::builder(Revision::Relay).grpc_address(anywhere).consumer(CONSUMER, rules).start().await?;
    let program = node.register_program(|input| match U256::abi_decode(input.onchain) {
        Ok(number) => Ok(number.root(2).abi_encode()),
        Err(error) => Err(ProgramError::new(error.to_string())),
    });
    let text =
        format!("{} {} {} {}\n{}\n", node.grpc_url(), hex::encode(key), node.operator(), program, std::process::id());
    fs::write(format!("{notes}.new"), text)?;
    fs::rename(format!("{notes}.new"), notes)?;
    std::future::pending().await
}
