//! Random choices of tests: from a seed that is printed and can be given again.

use std::env;

/// A small generator (xorshift64*), good enough to vary a test.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Seeded from `SEED` if set, else from this process; prints what it is.
    pub fn new(what: &str) -> Dice {
        let given = env::var("SEED")
            .ok()
            .map(|seed| seed.parse().expect("SEED is a number"));
        let seed = given
            .unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        eprintln!("{what}: SEED={seed}");
        Dice::from_seed(seed)
    }

    /// From this seed.
    pub fn from_seed(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// Another, independent one.
    pub fn fork(&mut self) -> Dice {
        Dice::from_seed(self.number())
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// Any 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// This many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}
