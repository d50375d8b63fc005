//! Codes and numbers in letters that can be read from across a table.

/// Rows of a glyph.
const HEIGHT: usize = 5;

/// Five rows of five pixels each, the leftmost in the highest bit.
const GLYPHS: &[(char, [u8; HEIGHT])] = &[
    ('B', [0b11110, 0b10001, 0b11110, 0b10001, 0b11110]),
    ('C', [0b01111, 0b10000, 0b10000, 0b10000, 0b01111]),
    ('D', [0b11110, 0b10001, 0b10001, 0b10001, 0b11110]),
    ('F', [0b11111, 0b10000, 0b11110, 0b10000, 0b10000]),
    ('G', [0b01111, 0b10000, 0b10011, 0b10001, 0b01111]),
    ('H', [0b10001, 0b10001, 0b11111, 0b10001, 0b10001]),
    ('J', [0b00111, 0b00010, 0b00010, 0b10010, 0b01100]),
    ('K', [0b10001, 0b10010, 0b11100, 0b10010, 0b10001]),
    ('L', [0b10000, 0b10000, 0b10000, 0b10000, 0b11111]),
    ('M', [0b10001, 0b11011, 0b10101, 0b10001, 0b10001]),
    ('N', [0b10001, 0b11001, 0b10101, 0b10011, 0b10001]),
    ('P', [0b11110, 0b10001, 0b11110, 0b10000, 0b10000]),
    ('Q', [0b01110, 0b10001, 0b10101, 0b10010, 0b01101]),
    ('R', [0b11110, 0b10001, 0b11110, 0b10010, 0b10001]),
    ('S', [0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    ('T', [0b11111, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('V', [0b10001, 0b10001, 0b10001, 0b01010, 0b00100]),
    ('W', [0b10001, 0b10001, 0b10101, 0b11011, 0b10001]),
    ('X', [0b10001, 0b01010, 0b00100, 0b01010, 0b10001]),
    ('Z', [0b11111, 0b00010, 0b00100, 0b01000, 0b11111]),
    ('0', [0b01110, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b11110, 0b00001, 0b01110, 0b10000, 0b11111]),
    ('3', [0b11110, 0b00001, 0b01110, 0b00001, 0b11110]),
    ('4', [0b10010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b11110]),
    ('6', [0b01110, 0b10000, 0b11110, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b00100]),
    ('8', [0b01110, 0b10001, 0b01110, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b01111, 0b00001, 0b01110]),
    ('-', [0b00000, 0b00000, 0b01110, 0b00000, 0b00000]),
];

/// Draws letters of codes, digits and dashes; anything else is left out. Each row ends with a line break.
pub fn draw(text: &str) -> String {
    let glyphs: Vec<_> = text.chars().filter_map(|c| GLYPHS.iter().find(|(glyph, _)| *glyph == c)).collect();
    let row = |at: usize| {
        let line: String = glyphs.iter().map(|(_, rows)| pixels(rows[at]) + "  ").collect();
        format!("  {}\n", line.trim_end())
    };
    (0..HEIGHT).map(row).collect()
}

fn pixels(row: u8) -> String {
    (0..5).rev().map(|bit| if row & (1 << bit) == 0 { ' ' } else { '█' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_a_code_and_every_digit_can_be_drawn_and_told_apart() {
        let letters = kindred_core::code::ALPHABET.iter().map(|letter| char::from(*letter)).chain('0'..='9');
        let drawn: std::collections::BTreeSet<_> = letters.map(|letter| draw(&letter.to_string())).collect();
        assert_eq!(drawn.len(), 30);
        assert!(drawn.iter().all(|glyph| glyph.lines().count() == HEIGHT && glyph.contains('█')));
        assert!(draw("BCDF-GHJK").lines().all(|line| line.chars().count() <= 2 + 9 * 7));
    }
}
