//! Mangled bytes for the decoders of every crate. Included by path, so that it takes no arrow between crates. It draws from
//! a fixed seed: a failure repeats. `FUZZ_ROUNDS=50 FUZZ_SEED=7` makes a run longer and another one (`make fuzz`).
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

/// splitmix64.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// `base`, times FUZZ_ROUNDS.
pub fn rounds(base: usize) -> usize {
    base * number("FUZZ_ROUNDS").unwrap_or(1)
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Lengths and numbers at which decoders have been wrong elsewhere.
const EDGES: [u64; 9] = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX];
/// Nothing grows beyond this.
const BYTES_MAX: usize = 64 * 1024;

/// Makes bad bytes of good ones.
pub struct Mutator {
    random: Random,
    samples: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, samples: Vec<Vec<u8>>) -> Self {
        assert!(!samples.is_empty());
        let run = u64::try_from(number("FUZZ_SEED").unwrap_or(0)).unwrap();
        Self { random: Random(seed ^ run.wrapping_mul(0x2545_F491_4F6C_DD1D)), samples }
    }

    /// One of the samples with one to four changes.
    pub fn mutated(&mut self) -> Vec<u8> {
        let mut bytes = self.sample();
        for _ in 0..=self.random.below(4) {
            self.change(&mut bytes);
            bytes.truncate(BYTES_MAX);
        }
        bytes
    }

    fn sample(&mut self) -> Vec<u8> {
        let at = self.random.below(self.samples.len());
        self.samples[at].clone()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (at, len) = (self.random.below(bytes.len()), bytes.len());
        match self.random.below(9) {
            0 if len > 0 => bytes[at] ^= 1 << self.random.below(8),
            1 if len > 0 => bytes[at] = self.random.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(..at)),
            4 => {
                let end = (at + 1 + self.random.below(16)).min(len);
                let copy = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = self.sample();
                let from = self.random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from.min(other.len())..]);
            }
            6 => self.edge(bytes, at),
            7 => {
                let edge = EDGES[self.random.below(EDGES.len())];
                bytes.splice(at..(at + 1).min(len), varint(edge));
            }
            _ => {
                let noise: Vec<_> = (0..self.random.below(24)).map(|_| self.random.next().to_le_bytes()[0]).collect();
                bytes.splice(at..at, noise);
            }
        }
    }

    /// Writes an edge over what is there, in 1, 2, 4 or 8 bytes, in either order.
    fn edge(&mut self, bytes: &mut [u8], at: usize) {
        let width = 1 << self.random.below(4);
        let edge = EDGES[self.random.below(EDGES.len())].to_be_bytes();
        let (is_big, rest) = (self.random.below(2) == 0, &edge[8 - width..]);
        for (n, byte) in bytes.iter_mut().skip(at).take(width).enumerate() {
            *byte = if is_big { rest[n] } else { rest[width - 1 - n] };
        }
    }
}

/// As protobuf writes a number.
fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
    out
}

/// Gives `check` so many mutations of `samples`.
pub fn run(seed: u64, samples: Vec<Vec<u8>>, base: usize, mut check: impl FnMut(&[u8])) {
    let mut mutator = Mutator::new(seed, samples);
    for _ in 0..rounds(base) {
        check(&mutator.mutated());
    }
}

/// The same for text: what is not UTF-8 is replaced.
pub fn run_text(seed: u64, samples: &[&str], base: usize, mut check: impl FnMut(&str)) {
    let samples = samples.iter().map(|text| text.as_bytes().to_vec()).collect();
    run(seed, samples, base, |bytes| check(&String::from_utf8_lossy(bytes)));
}
