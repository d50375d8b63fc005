//! QR codes for a terminal: two modules per character, dark on light, with the quiet zone that scanners need.

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Draws `payload`.
pub fn draw(payload: &str) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(payload, qrcode::EcLevel::L).context("QR payload is too long")?;
    // Inverted, because most terminals are light on dark and scanners want dark on light.
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build())
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
