//! Quantities of resources (`apimachinery/pkg/api/resource`): `10m`, `275Mi`, `1e3`.

/// Suffixes and what they stand for; two letters come before their first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The number that a quantity stands for, in its base unit (bytes, cores, pieces); nothing where it is none.
pub fn quantity(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let (digits, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))?;
    let number: f64 = digits.parse().ok()?;
    // 10m is 0.01, which 10 × 0.001 is not quite.
    let value = if *factor < 1.0 { number / (1.0 / factor).round() } else { number * factor };
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn quantities_are_numbers() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("8", Some(8.0)),
            ("10m", Some(0.01)),
            ("112m", Some(0.112)),
            ("275Mi", Some(288_358_400.0)),
            ("32Gi", Some(34_359_738_368.0)),
            ("1.5k", Some(1500.0)),
            ("1e3", Some(1000.0)),
            ("2E", Some(2e18)),
            ("100n", Some(1e-7)),
            ("", None),
            ("Mi", None),
            ("10 Mi", None),
            ("inf", None),
            ("ten", None),
        ] {
            assert_eq!(quantity(text), expected, "{text}");
        }
    }
}
