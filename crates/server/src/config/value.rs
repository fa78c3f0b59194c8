//! Text to typed values, with the text of every range.

use std::time::Duration;

use super::keys::Kind;

/// A value within its range.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parsed {
    Bool(bool),
    Int(i64),
    Real(f64),
    /// `None` is off.
    Period(Option<Duration>),
    Text(String),
}

/// Reads `text` as `kind` demands.
///
/// # Errors
/// What is wrong with it; [`allowed`] says what would be right.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Parsed, String> {
    match kind {
        Kind::Bool => parse_bool(text).map(Parsed::Bool).ok_or_else(|| "not a boolean".to_owned()),
        Kind::Word(acts) => {
            parse_bool(text).ok_or_else(|| "not a boolean".to_owned())?;
            Ok(Parsed::Bool(is_word(acts, text) != (acts == "no")))
        }
        Kind::Int { min, max } => {
            let value = parse_int(text)?;
            if (min..=max).contains(&value) { Ok(Parsed::Int(value)) } else { Err("out of range".to_owned()) }
        }
        Kind::Raised { min, max } => {
            let value = parse_int(text)?;
            if value <= max { Ok(Parsed::Int(value.max(min))) } else { Err("out of range".to_owned()) }
        }
        Kind::Real { min, max } => {
            let value = text.parse::<f64>().map_err(|_| "not a number".to_owned())?;
            if (min..=max).contains(&value) { Ok(Parsed::Real(value)) } else { Err("out of range".to_owned()) }
        }
        Kind::Port => {
            let value = parse_int(text)?;
            if (-1..=65535).contains(&value) { Ok(Parsed::Int(value)) } else { Err("out of range".to_owned()) }
        }
        Kind::Period => parse_period(text).map(Parsed::Period),
        Kind::Choice(choices) => {
            let choice = choices.iter().find(|c| c.eq_ignore_ascii_case(text));
            choice.map(|c| Parsed::Text((*c).to_owned())).ok_or_else(|| "not one of the choices".to_owned())
        }
        Kind::Path if text.is_empty() => Err("empty".to_owned()),
        Kind::Path | Kind::Host | Kind::Words | Kind::Text | Kind::Opaque => Ok(Parsed::Text(text.to_owned())),
    }
}

/// What [`parse`] accepts, in words.
pub(super) fn allowed(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true, false, yes or no".to_owned(),
        Kind::Word("true") => "true or false".to_owned(),
        Kind::Word(_) => "yes or no".to_owned(),
        Kind::Int { min, max } if min == max => format!("{min}"),
        Kind::Int { min, max } => format!("an integer from {min} to {max}"),
        Kind::Raised { min, max } => format!("an integer up to {max}; less than {min} counts as {min}"),
        Kind::Real { min, max } => format!("a decimal number from {min} to {max}"),
        Kind::Port => "a port from 1 to 65535; 0 or -1 means none".to_owned(),
        Kind::Period => "hours as an integer, or a number with a suffix ms, s, m, h or d; 0 means off".to_owned(),
        Kind::Choice(choices) => {
            let quoted: Vec<String> =
                choices.iter().map(|c| if c.is_empty() { "\"\"".into() } else { (*c).into() }).collect();
            quoted.join(", ")
        }
        Kind::Path => "a path".to_owned(),
        Kind::Host => "a host name or address".to_owned(),
        Kind::Words => "four-letter words joined by commas, or *".to_owned(),
        Kind::Text | Kind::Opaque => "any text".to_owned(),
    }
}

/// The bound that `text` was raised to, if it was.
pub(super) fn raised(kind: Kind, text: &str) -> Option<i64> {
    let Kind::Raised { min, .. } = kind else { return None };
    parse_int(text).ok().filter(|&value| value < min).map(|_| min)
}

/// The only word that acts, if `text` looks as if it did the same.
pub(super) fn inert(kind: Kind, text: &str) -> Option<&'static str> {
    let Kind::Word(acts) = kind else { return None };
    let meant = parse_bool(text) == parse_bool(acts);
    (meant && !is_word(acts, text)).then_some(acts)
}

/// Apache asks `equals` for yes and no, and `Boolean.getBoolean`, to which case does not matter, for true.
fn is_word(acts: &str, text: &str) -> bool {
    text == acts || (acts == "true" && text.eq_ignore_ascii_case(acts))
}

fn parse_bool(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") || is("yes") {
        Some(true)
    } else if is("false") || is("no") {
        Some(false)
    } else {
        None
    }
}

/// Decimal, or hexadecimal with `0x` as Java's property readers take it.
fn parse_int(text: &str) -> Result<i64, String> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let parsed = match hex {
        Some(digits) if digits.starts_with(['+', '-']) => return Err("not an integer".to_owned()),
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "out of range".to_owned(),
        _ => "not an integer".to_owned(),
    })
}

/// Longest period: far beyond any use, and safely added to any clock.
const PERIOD_MAX_MS: u64 = 100 * 366 * 24 * 3_600_000;

fn parse_period(text: &str) -> Result<Option<Duration>, String> {
    const HOUR: u64 = 3_600_000;
    let suffixes = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", HOUR), ("d", 24 * HOUR)];
    let suffix = suffixes.iter().find_map(|&(s, ms)| text.strip_suffix(s).map(|number| (number.trim_end(), ms)));
    let (number, unit) = suffix.unwrap_or((text, HOUR));
    let value = number.parse::<i64>().map_err(|_| "not a period".to_owned())?;
    let Ok(value) = u64::try_from(value) else { return Ok(None) };
    let ms = value.checked_mul(unit).filter(|&ms| ms <= PERIOD_MAX_MS).ok_or("longer than a hundred years")?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_in_every_spelling() {
        for (text, value) in [("true", true), ("TRUE", true), ("yes", true), ("False", false), ("nO", false)] {
            assert_eq!(parse(Kind::Bool, text), Ok(Parsed::Bool(value)));
        }
        for text in ["", "1", "on", "tru", "true "] {
            assert!(parse(Kind::Bool, text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_apache_looks_for_one_word_no_other_acts() {
        for (text, skip, force, trust) in [
            ("yes", true, true, false),
            ("YES", false, true, false),
            ("Yes", false, true, false),
            ("no", false, false, false),
            ("NO", false, true, false),
            ("true", false, true, true),
            ("TRUE", false, true, true),
            ("false", false, true, false),
        ] {
            assert_eq!(parse(Kind::Word("yes"), text), Ok(Parsed::Bool(skip)), "skipACL={text}");
            assert_eq!(parse(Kind::Word("no"), text), Ok(Parsed::Bool(force)), "forceSync={text}, leaderServes={text}");
            assert_eq!(parse(Kind::Word("true"), text), Ok(Parsed::Bool(trust)), "snapshot.trust.empty={text}");
        }
        assert!(parse(Kind::Word("yes"), "1").is_err());
        for (acts, text) in [("yes", "true"), ("yes", "YES"), ("no", "FALSE"), ("no", "No"), ("true", "yes")] {
            assert_eq!(inert(Kind::Word(acts), text), Some(acts), "{acts} {text}");
        }
        for (acts, text) in [
            ("yes", "yes"),
            ("yes", "false"),
            ("yes", "NO"),
            ("no", "no"),
            ("no", "true"),
            ("no", "yes"),
            ("true", "True"),
            ("true", "no"),
        ] {
            assert_eq!(inert(Kind::Word(acts), text), None, "{acts} {text}");
        }
    }

    #[test]
    fn integers_and_their_bounds() {
        let kind = Kind::Int { min: -1, max: 100 };
        for (text, value) in [("-1", -1), ("0", 0), ("+7", 7), ("007", 7), ("0x64", 100), ("0XA", 10)] {
            assert_eq!(parse(kind, text), Ok(Parsed::Int(value)), "{text}");
        }
        for text in ["", "x", "1.5", "-2", "101", "0x", "0x-1", "99999999999999999999", "1 2", "5s"] {
            assert!(parse(kind, text).is_err(), "{text}");
        }
        let kind = Kind::Raised { min: 3, max: 10 };
        assert_eq!(parse(kind, "-5"), Ok(Parsed::Int(3)));
        assert_eq!(raised(kind, "2"), Some(3));
        assert_eq!(raised(kind, "3"), None);
        assert!(parse(kind, "11").is_err());
    }

    #[test]
    fn reals_and_choices() {
        let kind = Kind::Real { min: 0.0, max: 1.0 };
        assert_eq!(parse(kind, "0.02"), Ok(Parsed::Real(0.02)));
        for text in ["", "NaN", "inf", "-0.1", "1.01", "x"] {
            assert!(parse(kind, text).is_err(), "{text}");
        }
        let kind = Kind::Choice(&["", "gz"]);
        assert_eq!(parse(kind, "GZ"), Ok(Parsed::Text("gz".to_owned())));
        assert_eq!(parse(kind, ""), Ok(Parsed::Text(String::new())));
        assert!(parse(kind, "zip").is_err());
        assert_eq!(allowed(kind), "\"\", gz");
    }

    #[test]
    fn periods() {
        let ms = |ms| Ok(Parsed::Period(Some(Duration::from_millis(ms))));
        for (text, expected) in [
            ("1", ms(3_600_000)),
            ("24", ms(86_400_000)),
            ("500ms", ms(500)),
            ("30s", ms(30_000)),
            ("5m", ms(300_000)),
            ("2h", ms(7_200_000)),
            ("1d", ms(86_400_000)),
            ("1 d", ms(86_400_000)),
            ("0", Ok(Parsed::Period(None))),
            ("0s", Ok(Parsed::Period(None))),
            ("-1", Ok(Parsed::Period(None))),
        ] {
            assert_eq!(parse(Kind::Period, text), expected, "{text}");
        }
        for text in ["", "h", "1w", "1.5h", "999999999999d"] {
            assert!(parse(Kind::Period, text).is_err(), "{text}");
        }
    }
}
