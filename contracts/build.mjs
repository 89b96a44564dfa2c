// Compiles src/ with solc from npm, and writes one artifact, ABI and creation bytecode, for each concrete contract.
// With --check it compares instead, and fails where an artifact differs, lacks or is left over.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)(join(here, "../target/tools/node_modules/solc"));

const files = (folder, ending) =>
  (existsSync(folder) ? readdirSync(folder, { recursive: true }) : [])
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))
    .sort();

// Paths are relative and there is no metadata: the bytecode depends on the code and the compiler alone.
const sources = {};
for (const path of files(join(here, "src"), ".sol")) {
  sources[relative(here, path)] = { content: readFileSync(path, "utf8") };
}
const input = {
  language: "Solidity",
  sources,
  settings: {
    evmVersion: "cancun",
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
if (output.errors?.length) process.exit(1);

const artifacts = new Map();
for (const [source, contracts] of Object.entries(output.contracts)) {
  for (const [name, { abi, evm }] of Object.entries(contracts)) {
    // Abstract contracts have no bytecode; libraries are inlined, and have no ABI.
    if (evm.bytecode.object === "" || abi.length === 0) continue;
    const path = join(here, "artifacts", relative("src", dirname(source)), `${name}.json`);
    // One line for each entry of the ABI, so that a change can be read.
    const entries = abi.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n");
    const text = `{\n  "abi": [\n${entries}\n  ],\n  "bytecode": "0x${evm.bytecode.object}"\n}\n`;
    artifacts.set(path, text);
  }
}

const left = files(join(here, "artifacts"), ".json").filter((path) => !artifacts.has(path));
if (process.argv.includes("--check")) {
  const stale = [...artifacts].filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text);
  const names = [...stale.map(([path]) => path), ...left].map((path) => relative(here, path));
  if (names.length) {
    console.error(`not what ${solc.version()} makes of src/: ${names.join(", ")}\nrun \`node contracts/build.mjs\``);
    process.exit(1);
  }
} else {
  left.forEach((path) => rmSync(path));
  for (const [path, text] of artifacts) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}
console.log(`${artifacts.size} contracts, ${solc.version()}`);
