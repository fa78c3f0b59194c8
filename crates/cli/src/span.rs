//! Spans of time on the command line: the same forms for every option.

use std::time::Duration;

use farrier_proto::Owner;

/// The shortest span but none.
pub(crate) const MS: Duration = Duration::from_millis(1);

/// The longest that most options take.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The longest that a server keeps with a znode, 2^40-1 ms.
pub(crate) const TTL_MAX: Duration = Duration::from_millis(Owner::TTL_MAX.cast_unsigned());

/// What a bare number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bare {
    Seconds,
    /// As zkCli has it.
    Milliseconds,
}

/// A parser of seconds, or of a number with its unit, from `min` to `max`.
pub(crate) fn seconds(
    min: Duration,
    max: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| within(parse(text, Bare::Seconds)?, min, max)
}

/// A span, if it is from `min` to `max`.
pub(crate) fn within(span: Duration, min: Duration, max: Duration) -> Result<Duration, String> {
    if (min..=max).contains(&span) {
        return Ok(span);
    }
    // Two units say enough.
    let max = humantime::format_duration(max).to_string();
    let mut units = max.split(' ');
    let shown = units.by_ref().take(2).collect::<Vec<_>>().join(" ");
    let about = if units.next().is_some() { "about " } else { "" };
    Err(format!("it has to be from {} to {about}{shown}", humantime::format_duration(min)))
}

/// Reads `90`, `500ms`, `10s`, `5m`, `1h`, or several of them in a row.
pub(crate) fn parse(text: &str, bare: Bare) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // What is too long for a number is too long to wait for, and told as that.
        let number = text.parse().unwrap_or(u64::MAX);
        return Ok(match bare {
            Bare::Seconds => Duration::from_secs(number),
            Bare::Milliseconds => Duration::from_millis(number),
        });
    }
    humantime::parse_duration(text).map_err(|_| {
        let what = match bare {
            Bare::Seconds => "seconds",
            Bare::Milliseconds => "milliseconds",
        };
        format!("expected a number of {what}, or one with its unit: 500ms, 10s, 5m, 1h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_unit_or_the_options_own() {
        let s = Duration::from_secs;
        for (text, span) in [
            ("0", s(0)),
            ("90", s(90)),
            ("10s", s(10)),
            ("5m", s(300)),
            ("1h", s(3600)),
            ("1h 30m", s(5400)),
            ("5sec", s(5)),
        ] {
            assert_eq!(parse(text, Bare::Seconds), Ok(span), "{text}");
        }
        assert_eq!(parse("500ms", Bare::Seconds), Ok(Duration::from_millis(500)));
        assert_eq!(parse("500", Bare::Milliseconds), Ok(Duration::from_millis(500)));
        assert_eq!(parse("5s", Bare::Milliseconds), Ok(s(5)));
        for text in ["", "abc", "-1", "s", "1.5.5", "5 parsecs"] {
            let said = parse(text, Bare::Seconds).expect_err(text);
            assert!(said.starts_with("expected a number of seconds, or one with its unit"), "{text}: {said}");
        }
    }

    #[test]
    fn bounds_are_named() {
        let read = seconds(MS, HOUR);
        assert_eq!(read("3600"), Ok(Duration::from_secs(3600)));
        for text in ["0", "3601", "2h", "99999999999999999999999"] {
            assert_eq!(read(text), Err("it has to be from 1ms to 1h".to_owned()), "{text}");
        }
        let ttl = seconds(MS, TTL_MAX);
        assert_eq!(ttl("1099511627775ms"), Ok(TTL_MAX));
        for text in ["0", "1099511627776ms", "35y"] {
            assert_eq!(ttl(text), Err("it has to be from 1ms to about 34years 10months".to_owned()), "{text}");
        }
    }
}
