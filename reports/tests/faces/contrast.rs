//! Colours that can be read: each of the pairs in which text or a sign stands on a ground has the contrast that WCAG 2.2
//! asks for at level AA, in both themes.

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../../src/html/style.css");
/// Of text on its ground.
const TEXT: f64 = 4.5;
/// Of signs and the edges of what can be used.
const SIGN: f64 = 3.0;

/// The colours of each block of the style that sets some: light, dark by choice, dark by the system.
fn themes() -> Vec<BTreeMap<&'static str, [f64; 3]>> {
    let blocks = STYLE.split(" color-scheme: ").skip(1).map(|block| {
        let block = block.split_once('}').map_or(block, |(block, _)| block);
        let settings = block
            .split(';')
            .filter_map(|one| one.trim().strip_prefix("--"));
        let settings = settings.filter_map(|one| one.split_once(": #"));
        settings.map(|(name, hex)| (name, colour(hex))).collect()
    });
    blocks.collect()
}

fn colour(hex: &str) -> [f64; 3] {
    [0, 2, 4].map(|at| {
        let part = u8::from_str_radix(&hex[at..at + 2], 16).expect("a colour of six digits");
        f64::from(part) / 255.0
    })
}

/// As WCAG defines it.
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = colour.map(|part| match part <= 0.04045 {
        true => part / 12.92,
        false => ((part + 0.055) / 1.055).powf(2.4),
    });
    linear[0].mul_add(0.2126, linear[1].mul_add(0.7152, linear[2] * 0.0722))
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn black_on_white_is_the_most_there_is() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    assert!((contrast([1.0; 3], [1.0; 3]) - 1.0).abs() < 1e-9);
}

#[test]
fn every_text_and_every_sign_can_be_read_in_both_themes() {
    let themes = themes();
    assert_eq!(themes.len(), 3);
    assert_eq!(themes[1], themes[2], "dark is dark, whoever chose it");
    let texts = [
        ("ink", &["ground", "raised", "chosen"][..]),
        ("faint", &["ground", "raised", "chosen"]),
        ("good", &["ground", "good-fill"]),
        ("warn", &["ground"]),
        ("bad", &["ground", "chosen"]),
        ("call", &["ground"]),
        ("fault", &["ground"]),
        // The label of a violation.
        ("ground", &["bad"]),
    ];
    for theme in &themes {
        for (text, grounds) in texts {
            for ground in grounds {
                let found = contrast(theme[text], theme[ground]);
                assert!(found >= TEXT, "{text} on {ground}: {found:.2}");
            }
        }
        for sign in ["good", "warn", "bad", "fault", "call", "faint"] {
            let found = contrast(theme[sign], theme["ground"]);
            assert!(found >= SIGN, "{sign}: {found:.2}");
        }
    }
}
