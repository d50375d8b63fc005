//! QR codes for a terminal: two modules per character, dark on light, with the quiet zone that scanners need.

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Draws `payload`: light modules are drawn, dark ones left blank, because most terminals are light on dark.
pub fn draw(payload: &str) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(payload, qrcode::EcLevel::L).context("QR payload is too long")?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).quiet_zone(true).build())
}

/// The same in black and white whatever the terminal's colours are.
pub fn draw_in_colour(payload: &str) -> anyhow::Result<String> {
    Ok(draw(payload)?.lines().map(|line| format!("\x1b[97;40m{line}\x1b[0m\n")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_payload_is_drawn_as_a_square() {
        let drawn = super::draw("kindred://link/1?r=abc&k=def&g=eu").unwrap();
        let lines: Vec<_> = drawn.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|l| l.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
    }
}
