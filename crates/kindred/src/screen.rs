//! A block of lines that is drawn over itself, for a terminal that is tall enough; otherwise it just goes on below.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Draws on standard output.
pub struct Screen {
    rows: usize,
    columns: usize,
    // Rows that the last block took, for the next one to cover.
    drawn: usize,
}

impl Screen {
    /// Asks the terminal for its size; 24 by 80 if it does not say.
    pub fn new() -> Self {
        let asked = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
        let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok()).filter(|n| *n > 0);
        let (rows, columns) = (numbers.next().unwrap_or(24), numbers.next().unwrap_or(80));
        Self { rows, columns, drawn: 0 }
    }

    /// Draws `text` over the last block. If either does not fit the terminal, below it.
    pub fn draw(&mut self, text: &str) {
        let rows = text.lines().map(|line| visible(line).max(1).div_ceil(self.columns)).sum::<usize>();
        let over = if self.drawn < self.rows { self.drawn } else { 0 };
        let up = if over > 0 { format!("\x1b[{over}F\x1b[J") } else { String::new() };
        print!("{up}{text}");
        // A terminal that is gone is noticed elsewhere.
        let _ = std::io::stdout().flush();
        self.drawn = rows;
    }

    /// Replaces the last line of the block, which is the one that changes each second.
    pub fn replace_last(&mut self, line: &str) {
        println!("\x1b[1F\x1b[2K{line}");
        let _ = std::io::stdout().flush();
    }

    /// Removes the block, if it can be reached.
    pub fn clear(&mut self) {
        if (1..self.rows).contains(&self.drawn) {
            print!("\x1b[{}F\x1b[J", self.drawn);
            let _ = std::io::stdout().flush();
        }
        self.drawn = 0;
    }
}

/// Characters that take room: all but the colour sequences.
fn visible(line: &str) -> usize {
    let mut count = 0;
    let mut in_sequence = false;
    for c in line.chars() {
        match (in_sequence, c) {
            (false, '\x1b') => in_sequence = true,
            (false, _) => count += 1,
            (true, 'm') => in_sequence = false,
            (true, _) => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_take_no_room() {
        assert_eq!(super::visible("\x1b[97;40m██\x1b[0m"), 2);
    }
}
