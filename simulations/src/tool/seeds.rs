//! Which seeds: `7`, or `1..50`, both ends included.

use std::str::FromStr;

/// Most seeds of one command.
pub const SEEDS_MAX: u64 = 10_000_000;

/// A range of seeds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Seeds {
    /// How many there are.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

impl std::fmt::Display for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim()
                .parse::<u64>()
                .map_err(|_| format!("`{text}` is no range of seeds: write 7, or 1..50 (both ends run)"))
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (number(text)?, number(text)?),
        };
        if last < first {
            return Err(format!("`{text}` ends before it begins"));
        }
        if last - first >= SEEDS_MAX {
            return Err(format!("`{text}` has more than {SEEDS_MAX} seeds"));
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_range_run() {
        let seeds: Seeds = "3..5".parse().expect("a range");
        assert_eq!(seeds.iter().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(seeds.count(), 3);
        assert_eq!("3..=5".parse(), Ok(seeds));
        assert_eq!("7".parse(), Ok(Seeds { first: 7, last: 7 }));
    }

    #[test]
    fn what_is_no_range_is_refused_with_a_hint() {
        for bad in ["", "a", "5..3", "1..", "..", "0..18446744073709551615"] {
            let error = bad.parse::<Seeds>().expect_err(bad);
            assert!(error.contains(bad), "{error}");
        }
    }
}
