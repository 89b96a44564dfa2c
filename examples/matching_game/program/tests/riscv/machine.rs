//! A machine for RV32IM: memory, registers, and one cycle for each instruction. It ends with `ecall`.

const MEMORY: usize = 0x1000_0000;
const INPUT: usize = 0x0800_0000;
const OUTPUT: usize = 0x0c00_0000;

pub struct Machine {
    memory: Vec<u8>,
    registers: [u32; 32],
    at: u32,
    cycles: u64,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

impl Machine {
    /// With a program, an ELF file of 32 bits.
    pub fn new(elf: &[u8]) -> Self {
        assert_eq!(&elf[..6], b"\x7fELF\x01\x01", "an ELF file of 32 bits, lowest byte first");
        assert_eq!(half(elf, 18), 243, "for RISC-V");
        let mut memory = vec![0; MEMORY];
        let (headers, size, count) = (word(elf, 28) as usize, half(elf, 42) as usize, half(elf, 44) as usize);
        for header in (0..count).map(|index| headers + index * size) {
            if word(elf, header) == 1 {
                let [offset, address, length] = [4, 8, 16].map(|field| word(elf, header + field) as usize);
                memory[address..address + length].copy_from_slice(&elf[offset..offset + length]);
            }
        }
        Self { memory, registers: [0; 32], at: word(elf, 24), cycles: 0 }
    }

    /// Puts the inputs where the guest reads them, runs it, and returns its output, or why it has none, and the cycles.
    pub fn run(mut self, inputs: [Option<&[u8]>; 3], most: u64) -> (Result<Vec<u8>, String>, u64) {
        let mut at = INPUT;
        for input in inputs {
            let length = input.map_or(u32::MAX, |input| u32::try_from(input.len()).expect("fits"));
            self.memory[at..at + 4].copy_from_slice(&length.to_le_bytes());
            let bytes = input.unwrap_or_default();
            self.memory[at + 4..at + 4 + bytes.len()].copy_from_slice(bytes);
            at += 4 + bytes.len();
        }
        while self.step() {
            assert!(self.cycles <= most, "more than {most} cycles");
        }
        let length = word(&self.memory, OUTPUT + 4) as usize;
        let bytes = self.memory[OUTPUT + 8..OUTPUT + 8 + length].to_vec();
        let taken = word(&self.memory, OUTPUT) == 1;
        (if taken { Ok(bytes) } else { Err(String::from_utf8(bytes).expect("text")) }, self.cycles)
    }

    /// One instruction. Returns whether there is another.
    fn step(&mut self) -> bool {
        self.cycles += 1;
        let code = word(&self.memory, self.at as usize);
        let (opcode, rd, kind) = (code & 0x7f, (code >> 7 & 0x1f) as usize, code >> 12 & 7);
        let (one, two) = (self.registers[(code >> 15 & 0x1f) as usize], self.registers[(code >> 20 & 0x1f) as usize]);
        let immediate = (code as i32 >> 20) as u32;
        let mut next = self.at.wrapping_add(4);
        let value = match opcode {
            0x37 => Some(code & 0xffff_f000),
            0x17 => Some(self.at.wrapping_add(code & 0xffff_f000)),
            0x6f => {
                let offset =
                    (code as i32 >> 31 << 20) as u32 | code & 0xf_f000 | code >> 9 & 0x800 | code >> 20 & 0x7fe;
                let back = next;
                next = self.at.wrapping_add(offset);
                Some(back)
            }
            0x67 => {
                let back = next;
                next = one.wrapping_add(immediate) & !1;
                Some(back)
            }
            0x63 => {
                let taken = match kind {
                    0 => one == two,
                    1 => one != two,
                    4 => (one as i32) < two as i32,
                    5 => one as i32 >= two as i32,
                    6 => one < two,
                    7 => one >= two,
                    _ => panic!("instruction {code:#010x} at {:#x}", self.at),
                };
                if taken {
                    let offset =
                        (code as i32 >> 31 << 12) as u32 | code << 4 & 0x800 | code >> 20 & 0x7e0 | code >> 7 & 0x1e;
                    next = self.at.wrapping_add(offset);
                }
                None
            }
            0x03 => {
                let at = one.wrapping_add(immediate) as usize;
                Some(match kind {
                    0 => self.memory[at] as i8 as u32,
                    1 => half(&self.memory, at) as i16 as u32,
                    2 => word(&self.memory, at),
                    4 => self.memory[at].into(),
                    5 => half(&self.memory, at).into(),
                    _ => panic!("instruction {code:#010x} at {:#x}", self.at),
                })
            }
            0x23 => {
                let offset = immediate & !0x1f | code >> 7 & 0x1f;
                let at = one.wrapping_add(offset) as usize;
                let length = 1 << kind;
                self.memory[at..at + length].copy_from_slice(&two.to_le_bytes()[..length]);
                None
            }
            0x13 => Some(calculate(kind, one, immediate, kind == 5 && code >> 30 & 1 == 1)),
            0x33 if code >> 25 == 1 => Some(multiply(kind, one, two)),
            0x33 if kind == 0 && code >> 30 & 1 == 1 => Some(one.wrapping_sub(two)),
            0x33 => Some(calculate(kind, one, two, code >> 30 & 1 == 1)),
            // Memory is in order.
            0x0f => None,
            0x73 => return false,
            _ => panic!("instruction {code:#010x} at {:#x}", self.at),
        };
        if let Some(value) = value
            && rd != 0
        {
            self.registers[rd] = value;
        }
        self.at = next;
        true
    }
}

fn calculate(kind: u32, one: u32, two: u32, signed: bool) -> u32 {
    match kind {
        0 => one.wrapping_add(two),
        1 => one.wrapping_shl(two),
        2 => ((one as i32) < two as i32).into(),
        3 => (one < two).into(),
        4 => one ^ two,
        5 if signed => (one as i32).wrapping_shr(two) as u32,
        5 => one.wrapping_shr(two),
        6 => one | two,
        _ => one & two,
    }
}

fn multiply(kind: u32, one: u32, two: u32) -> u32 {
    let (signed_one, signed_two) = (one as i32, two as i32);
    match kind {
        0 => one.wrapping_mul(two),
        1 => ((i64::from(signed_one) * i64::from(signed_two)) >> 32) as u32,
        2 => ((i64::from(signed_one) * i64::from(two)) >> 32) as u32,
        3 => ((u64::from(one) * u64::from(two)) >> 32) as u32,
        4 if two == 0 => u32::MAX,
        4 => signed_one.wrapping_div(signed_two) as u32,
        5 => one.checked_div(two).unwrap_or(u32::MAX),
        6 if two == 0 => one,
        6 => signed_one.wrapping_rem(signed_two) as u32,
        _ => one.checked_rem(two).unwrap_or(one),
    }
}
